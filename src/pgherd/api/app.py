"""The application: routes, errors and request ids put together around a `Herd`.

Owns the assembly only. `build_app` is called once by the agent; `/openapi.json` is the contract.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pgherd.api import (
    changes,
    checks,
    configuring,
    failures,
    joins,
    membership,
    passwords,
    progress,
    reads,
    replication,
    slots,
    upkeep,
)
from pgherd.api.deps import Services
from pgherd.api.failures import Problem
from pgherd.api.guard import ApiToken, Guard
from pgherd.api.herd import Herd
from pgherd.api.views import FRESH_MS

if TYPE_CHECKING:
    from pgherd.telemetry.metrics import Metrics

BODY_BYTES_MAX = 64 << 10
REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")

OnRequest = Callable[[str, str, int, float], None]
"""Told after each request: route template, method, status code, seconds."""


def build_app(
    herd: Herd,
    *,
    tokens: Iterable[ApiToken] = (),
    version: str,
    failover_enabled: Callable[[], bool] = lambda: True,
    ca_pem: Callable[[], bytes | None] = lambda: None,
    metrics: Metrics | None = None,
    on_request: OnRequest | None = None,
    fresh_ms: int = FRESH_MS,
    clock: Callable[[], float] = time.monotonic,
    unix_s: Callable[[], float] = time.time,
) -> FastAPI:
    """Make the application. `app.state.services.guard.replace(tokens)` takes new tokens."""
    app = FastAPI(
        title="pgherd",
        version=version,
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
    )
    app.state.services = Services(
        herd,
        Guard(tokens),
        version=version,
        failover_enabled=failover_enabled,
        ca_pem=ca_pem,
        metrics=metrics,
        fresh_ms=fresh_ms,
        clock=clock,
        unix_s=unix_s,
    )
    rooms = (
        *(reads, progress, changes, membership, replication, slots),
        *(configuring, passwords, upkeep, checks, joins),
    )
    for room in rooms:
        app.include_router(room.router)
    failures.install(app)
    app.add_middleware(Envelope, on_request=on_request, clock=clock)
    return app


class Envelope:
    """Around every request: an id in and out, and a word to whoever measures."""

    def __init__(
        self, app: ASGIApp, *, on_request: OnRequest | None, clock: Callable[[], float]
    ) -> None:
        self._app = app
        self._on_request = on_request
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = self._clock()
        request_id = given_id(scope) or secrets.token_hex(8)
        code = 500

        async def send_with_id(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                headers = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
                message = {**message, "headers": headers}
            await send(message)

        try:
            app: ASGIApp = TOO_LARGE if body_bytes(scope) > BODY_BYTES_MAX else self._app
            await app(scope, counted(receive), send_with_id)
        finally:
            if self._on_request is not None:
                self._on_request(route_of(scope), scope["method"], code, self._clock() - began)


TOO_LARGE = Problem(
    413, "too_large", f"the body is larger than {BODY_BYTES_MAX} bytes", hint="send less"
).response()


def counted(receive: Receive) -> Receive:
    """Bodies that do not say their size end at the limit; FastAPI makes that a 400."""
    total = 0

    async def receive_counted() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > BODY_BYTES_MAX:
            raise ValueError("the body is too large")
        return message

    return receive_counted


def body_bytes(scope: Scope) -> int:
    """What the request says of its size."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def given_id(scope: Scope) -> str:
    """The caller's own id, if it is one that can be repeated safely."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text = value.decode("latin-1")
            return text if REQUEST_ID.fullmatch(text) else ""
    return ""


def route_of(scope: Scope) -> str:
    """The route's template, never the raw path: the number of series stays bounded."""
    return str(getattr(scope.get("route"), "path", "unknown"))
