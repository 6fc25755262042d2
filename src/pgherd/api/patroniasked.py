"""What Patroni's clients ask for: bodies read whatever their type is called, answers as plain text.

`curl -d` calls everything a form and Patroni never minded, so bodies are read as JSON in any case.
Owns the shapes of bodies, and the form in which a refusal is told on these paths.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import AliasChoices, ConfigDict, Field, ValidationError
from starlette.responses import PlainTextResponse, Response

from pgherd.api.failures import Problem, problem_of
from pgherd.api.shape import Model, NodeName
from pgherd.model.errors import PgherdError

IN_OUR_FORM = (400, 401, 403, 413, 429)
"""Refusals of the call itself, not of what it asks for: as everywhere in this API."""
DEPTH_MAX = 32
Asked = TypeVar("Asked", bound=Model)


class SwitchoverAsked(Model):
    """From whom, to whom, when; whoever is the leader by then must be the one that is named."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    leader: NodeName | None = Field(default=None, max_length=64)
    candidate: NodeName | None = Field(
        default=None, max_length=64, validation_alias=AliasChoices("candidate", "member")
    )
    scheduled_at: str | None = Field(default=None, max_length=64)


class RestartAsked(Model):
    """When, and only on which conditions. timeout: seconds to wait, as a number or as in `30s`."""

    schedule: str | None = Field(default=None, max_length=64)
    role: str | None = Field(default=None, max_length=32)
    postgres_version: str | None = Field(default=None, max_length=16)
    timeout: int | str | None = None
    restart_pending: bool = False


class ReinitAsked(Model):
    """force: also where commits need this copy · from_leader: from the primary in any case."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    force: bool = False
    from_leader: bool = Field(
        default=False, validation_alias=AliasChoices("from_leader", "from-leader")
    )


class TextRoute(APIRoute):
    """A route whose refusals are a line of text, with the status code that Patroni's has."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with what it raises told as text."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await handle(request)
            except Problem as problem:
                if problem.status in IN_OUR_FORM:
                    raise
                return line(request, problem)
            except PgherdError as error:
                return line(request, problem_of(error))

        return handler


def line(request: Request, problem: Problem) -> PlainTextResponse:
    """A refusal as one line; its word stays with the request, for the audit record."""
    request.state.refusal = problem.code
    text = f"{problem.message}; {problem.hint}" if problem.hint else problem.message
    return PlainTextResponse(text, status_code=problem.status, headers=problem.headers)


def refuse(status: int, text: str, *, hint: str = "") -> Problem:
    """A refusal of what was asked for; 400 in the form of all others."""
    return Problem(status, "bad_request" if status == 400 else "refused", text, hint=hint)


async def read_json(request: Request, *, optional: bool) -> dict[str, Any]:
    """The body as a JSON object, {} where there may be none."""
    try:
        raw = await request.body()
    except ValueError as error:
        raise refuse(413, "the body is too large", hint="send less") from error
    if not raw.strip() and optional:
        return {}
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise refuse(400, "the body is not JSON", hint='write {"leader": "n1"}') from error
    if not isinstance(found, dict) or (not found and not optional):
        raise refuse(400, "the body is not a JSON object with something in it")
    return found


def body_of(
    shape: type[Asked], *, optional: bool = False
) -> Callable[[Request], Coroutine[Any, Any, Asked]]:
    """A dependency that reads a body of this shape."""

    async def read(request: Request) -> Asked:
        found = await read_json(request, optional=optional)
        try:
            return shape.model_validate(found)
        except ValidationError as error:
            told = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
            raise refuse(400, "; ".join(told)) from error

    return read


def described(shape: type[Model], *, required: bool = True) -> dict[str, Any]:
    """The body's part of the contract, for a route that reads it by itself."""
    content = {"application/json": {"schema": shape.model_json_schema()}}
    return {"requestBody": {"content": content, "required": required}}
