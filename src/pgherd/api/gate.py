"""Before the routes: who may call at all, how long a head may be, and a word about every change.

Owns the refusal by address, the limit of headers, and what the audit record says of a request;
never its body, nor its query. Leaves keeping that record to whoever is told. Health checks are open
to everybody.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pgherd.api import checks
from pgherd.api.failures import Problem
from pgherd.api.guard import Caller, Guard, client_address

HEADER_BYTES_MAX = 16 << 10
WHAT_CHARACTERS_MAX = 200
LOOKS = ("GET", "HEAD", "OPTIONS")
PLAN = "/plan"
"""How the path of a question ends that is asked with POST and changes nothing."""

ALWAYS_OPEN = frozenset(route.path for route in checks.router.routes) - {"/metrics"}  # type: ignore[attr-defined] # all are paths


class Asked(msgspec.Struct, frozen=True):
    """A change that was asked for, and what was answered. caller: None where it is not known."""

    request_id: str
    caller: Caller | None
    address: str
    what: str
    status: int
    code: str


OnChange = Callable[[Asked], None]


class Gate:
    """Around the routes, inside of the envelope, which gives requests their ids."""

    def __init__(self, app: ASGIApp, *, guard: Guard, on_change: OnChange | None) -> None:
        self._app = app
        self._guard = guard
        self._on_change = on_change

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        problem = self._refusal(scope)
        app: ASGIApp = problem.response() if problem is not None else self._app
        if scope["method"] in LOOKS or self._on_change is None:
            await app(scope, receive, send)
            return
        status = 500

        async def send_and_see(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await app(scope, receive, send_and_see)
        finally:
            if not template(scope).endswith(PLAN):
                self._on_change(asked(scope, status, problem))

    def _refusal(self, scope: Scope) -> Problem | None:
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES_MAX:
            text = f"the headers are larger than {HEADER_BYTES_MAX} bytes"
            return Problem(431, "too_large", text, hint="send less")
        address = client_address(Request(scope))
        if scope["path"] in ALWAYS_OPEN or self._guard.lets_in(address):
            return None
        return Problem(
            403, "not_allowed", f"{address} may not call this API", hint="add it to api.allow"
        )


def template(scope: Scope) -> str:
    """The route's, once it was found: a node or a slot may be called "plan" as well."""
    return str(getattr(scope.get("route"), "path", ""))


def asked(scope: Scope, status: int, problem: Problem | None) -> Asked:
    """What is told of a change."""
    state = Request(scope).state
    return Asked(
        request_id=scope.get("pgherd.request_id", ""),
        caller=getattr(state, "caller", None),
        address=client_address(Request(scope)),
        what=f"{scope['method']} {scope['path']}"[:WHAT_CHARACTERS_MAX],
        status=status,
        code=problem.code if problem is not None else getattr(state, "refusal", ""),
    )
