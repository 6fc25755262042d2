"""The contract at `/openapi.json`: what routes declare, with the errors and rights of each.

Owns what FastAPI cannot know: that every error has one form, which statuses a call can have because
of who asks, and which role it takes. Made when somebody asks for it, and kept from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from pgherd.api.deps import admin, admin_looks, operator, operator_looks, viewer
from pgherd.api.schema import Failure

ROLES = {
    viewer: "viewer",
    operator_looks: "operator",
    operator: "operator",
    admin_looks: "admin",
    admin: "admin",
}
ERRORS = {
    400: "The request cannot be read.",
    401: "No token, or one that is not known.",
    403: "The token's role does not reach.",
    404: "There is no such thing.",
    409: "It is so already, or something else is under way.",
    412: "Something that it needs is not so.",
    413: "The body is too large.",
    422: "The request says what cannot be.",
    429: "Too many changes from this address, or too many who follow.",
    503: "No quorum, no primary, or not in time.",
}
REF = {"$ref": "#/components/schemas/Failure"}
BEARER = "bearer"
LOOKS = (400, 413, 422, 503)
NAMES = (404,)
RIGHTS = (401, 403)
CHANGES = (409, 412, 429)
MORE = {
    "/metrics": {404},
    "/join/ca": {404},
    "/api/v1/join/ca": {404},
    "/api/v1/events": {429},
}
"""What else single calls can answer."""

ABOUT = """The API of one pgherd daemon; every daemon answers every call, wherever it arrives.

Times are ISO 8601 in UTC, units stand last in names, `epoch` is the number of a reign. Errors have
one form, with a `code` for programs and a `hint` that says what to do. `X-Request-ID` is taken and
given back. What was read from the ledger carries `as_of`, its index in consensus;
`?consistent=1` asks a quorum first."""


def install(
    app: FastAPI, routers: Iterable[APIRouter], more: Callable[[], list[BaseRoute]]
) -> None:
    """Have the app tell its whole contract, which is that of these routers. more: of routes that
    are only shown."""
    known = [one for router in routers for one in router.routes]

    def contract() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = whole(app, [*known, *more()])
        return app.openapi_schema

    app.openapi = contract  # type: ignore[method-assign] # FastAPI's own way to extend it


def whole(app: FastAPI, shown: list[BaseRoute]) -> dict[str, Any]:
    """The contract of an app."""
    routes = [one for one in shown if isinstance(one, APIRoute)]
    found = get_openapi(
        title=app.title,
        version=app.version,
        description=ABOUT,
        routes=shown,
        separate_input_output_schemas=False,
    )
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    schemas["Failure"] = Failure.model_json_schema()
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    bearer = {
        "type": "http",
        "scheme": "bearer",
        "description": "A token; PGHERD_TOKEN of the CLI.",
    }
    found["components"]["securitySchemes"] = {BEARER: bearer}
    for route, operation in operations(routes, found):
        complete(route, operation)
    return found


def operations(
    routes: list[APIRoute], found: dict[str, Any]
) -> Iterator[tuple[APIRoute, dict[str, Any]]]:
    """Every route that is shown, with what is said of it."""
    for route in routes:
        if not route.include_in_schema:
            continue
        for method in sorted(route.methods or ()):
            operation = found["paths"][route.path_format].get(method.lower())
            if operation is not None:
                yield route, operation


def complete(route: APIRoute, operation: dict[str, Any]) -> None:
    """Add rights and errors to one operation."""
    role = role_of(route.dependant)
    answers = operation.setdefault("responses", {})
    answers.pop("422", None)
    if role is not None:
        operation["security"] = [{BEARER: []}]
        operation["description"] = f"{operation.get('description', '')}\n\nRole: {role}.".strip()
        operation["x-role"] = role
    for status in sorted(errors_of(route, role)):
        answers.setdefault(str(status), answer(route, status))


def errors_of(route: APIRoute, role: str | None) -> set[int]:
    """Which errors a call can have."""
    found = {*LOOKS}
    if role is not None:
        found |= {*RIGHTS, *NAMES}
    if (route.methods or set()) - {"GET", "HEAD", "OPTIONS"}:
        found |= {*CHANGES, *NAMES}
    return found | MORE.get(route.path, set())


def answer(route: APIRoute, status: int) -> dict[str, Any]:
    """One error. Calls that were made for Patroni's clients tell theirs as a line of text too."""
    content: dict[str, Any] = {"application/json": {"schema": REF}}
    if route.operation_id is not None and route.operation_id.startswith("patroni_"):
        content["text/plain"] = {"schema": {"type": "string"}}
    return {"description": ERRORS[status], "content": content}


def role_of(dependant: Dependant) -> str | None:
    """The role that a route asks for, itself or through what it stands on."""
    if dependant.call in ROLES:
        return ROLES[dependant.call]
    found = [role_of(one) for one in dependant.dependencies]
    order = [None, *ROLES.values()]
    return max(found, key=order.index, default=None)
