"""Errors as the API tells them: one form, one table from what happened to code and status.

Owns `Problem`, which routes raise, and the handlers that turn every exception into the form of
`schema.Failure`. Leaves exit codes to the CLI, which reads `code` and the HTTP status.
"""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from pgherd.api.herd import JoinRefused, NoQuorum, TimedOut
from pgherd.ledger.commands import Refused
from pgherd.model.errors import OperatorError, PgherdError

log = logging.getLogger("pgherd.api")

STATUS_HINT = "look at it with: pgherd status"

REFUSAL_STATUS = {
    "unknown_node": 404,
    "unknown_slot": 404,
    "unknown_token": 404,
    "already": 409,
    "already_leader": 409,
    "busy": 409,
    "name_taken": 409,
    "address_taken": 409,
    "not_stable": 409,
    "stale": 409,
    "too_late": 409,
}
"""The ledger's refusals; any other word is a precondition that failed, 412."""

REFUSAL_HINTS = {
    "is_primary": "hand the lead over first: pgherd switchover",
    "too_few_copies": "add a node first: pgherd add-node; or leave mode strict",
    "standby_cluster": "see docs/operate/standby-cluster.md for what can be done in one",
    "not_stable": "wait until pgherd status says operational",
    "unknown_slot": "see which there are: pgherd slots list",
}
"""What to do about a refusal, where it is more than to look."""

JOIN_STATUS = {
    "token_unknown": 403,
    "token_expired": 403,
    "token_used": 403,
    "name_taken": 409,
    "address_taken": 409,
    "invalid_name": 422,
    "invalid_address": 422,
    "invalid_request": 422,
}
"""Why a node may not join; any other word is a precondition that failed, 412."""

CODES = {
    400: "bad_request",
    401: "unauthenticated",
    403: "not_authorised",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    422: "invalid",
    429: "too_many_requests",
    503: "unavailable",
}


class Problem(Exception):
    """An answer that is an error. code: a word for programs, hint: the next thing to do."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        hint: str = "",
        details: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.hint = hint
        self.details = details or {}
        self.headers = headers or {}

    def response(self) -> JSONResponse:
        """The answer itself."""
        body = {
            "status": "error",
            "code": self.code,
            "message": self.message,
            "details": self.details,
            "hint": self.hint,
        }
        return JSONResponse(body, status_code=self.status, headers=self.headers)


def refused(outcome: Refused) -> Problem:
    """The ledger said no."""
    status = REFUSAL_STATUS.get(outcome.code, 412)
    hint = REFUSAL_HINTS.get(outcome.code, STATUS_HINT)
    return Problem(status, outcome.code, outcome.reason, hint=hint)


def install(app: FastAPI) -> None:
    """Have the app answer every error in our form."""
    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(PgherdError, on_pgherd)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(Exception, on_bug)


async def on_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return told(request, error)


def told(request: Request, problem: Problem) -> JSONResponse:
    """The answer; its word stays with the request, for the audit record."""
    request.state.refusal = problem.code
    return problem.response()


async def on_pgherd(request: Request, error: Exception) -> JSONResponse:
    """What the port raises: no quorum, too late, a join refused."""
    assert isinstance(error, PgherdError)
    return told(request, problem_of(error, path=request.url.path))


def problem_of(error: PgherdError, *, path: str = "") -> Problem:
    """The answer that an exception of the port is; what nobody expects is told in the log too."""
    hint = error.hint
    match error:
        case NoQuorum():
            return Problem(503, "no_quorum", error.message, hint=hint or STATUS_HINT)
        case TimedOut():
            return Problem(503, "timed_out", error.message, hint=hint or STATUS_HINT)
        case JoinRefused():
            status = JOIN_STATUS.get(error.code, 412)
            return Problem(status, error.code, error.message, hint=hint)
        case OperatorError():
            return Problem(400, "bad_request", error.message, hint=hint)
        case _:
            log.error("api.failed", extra={"path": path}, exc_info=error)
            return Problem(503, "unavailable", error.message, hint=hint)


async def on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = error.status_code
    message = str(error.detail)
    hint = ""
    if status == 404:
        message, hint = f"there is nothing at {request.url.path}", "the paths are in /openapi.json"
    headers = dict(error.headers or {})
    if status == 405:
        message = f"{request.method} is not possible at {request.url.path}"
        hint = f"possible: {headers.get('allow', headers.get('Allow', 'see /openapi.json'))}"
    problem = Problem(status, CODES.get(status, "failed"), message, hint=hint, headers=headers)
    return told(request, problem)


async def on_invalid(request: Request, error: Exception) -> JSONResponse:
    """A body or parameter of the wrong form: say each place, never repeat the input itself."""
    assert isinstance(error, RequestValidationError)
    found = {
        ".".join(str(step) for step in one["loc"] if step != "body") or "body": one["msg"]
        for one in error.errors()
    }
    message = "; ".join(f"{place}: {said}" for place, said in found.items())
    status = 400 if any(one["type"] == "json_invalid" for one in error.errors()) else 422
    return told(request, Problem(status, CODES[status], message, details=found))


async def on_bug(request: Request, error: Exception) -> JSONResponse:
    """Our own fault: told in the log with its trace, and to the caller without one."""
    log.error("api.failed", extra={"path": request.url.path}, exc_info=error)
    return Problem(
        500, "bug", "pgherd made a mistake while it answered", hint="please report it with the log"
    ).response()
