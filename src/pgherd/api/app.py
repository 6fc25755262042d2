"""The application: routes, errors and request ids put together around a `Herd`.

Owns the assembly only. `build_app` is called once by the agent; `/openapi.json` is the contract.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from fastapi import FastAPI, HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pgherd.api import (
    bare,
    changes,
    checks,
    configuring,
    connecting,
    contract,
    dashboard,
    doctor,
    drills,
    events,
    explaining,
    failures,
    gate,
    joins,
    localcluster,
    membership,
    nodetelling,
    passwords,
    patroni,
    patroniacts,
    pools,
    progress,
    proxies,
    reads,
    replication,
    slots,
    standbycluster,
    switchoverplan,
    upgrading,
    upkeep,
    viewer,
    whoami,
)
from pgherd.api import (
    pki as pkiroutes,
)
from pgherd.api import (
    tokens as tokenroutes,
)
from pgherd.api.deps import Services
from pgherd.api.failures import Problem
from pgherd.api.guard import Access, ApiToken, Guard
from pgherd.api.herd import Herd
from pgherd.api.views import ELECTION_MS, FRESH_MS
from pgherd.model.policy import Policy
from pgherd.telemetry import trace

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
    policy: Callable[[], Policy] = Policy,
    election_ms: int = ELECTION_MS,
    ca_pem: Callable[[], bytes | None] = lambda: None,
    metrics: Metrics | None = None,
    on_request: OnRequest | None = None,
    local: localcluster.Run | None = None,
    on_change: gate.OnChange | None = None,
    access: Access = Access(),  # noqa: B008 - a frozen value
    knows: Callable[[], bool] = lambda: True,
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
    guard = Guard(
        tokens,
        access=access,
        kept=lambda: herd.facts().rights.tokens,
        knows=knows,
        unix_s=unix_s,
    )
    app.state.services = Services(
        herd,
        guard,
        version=version,
        policy=policy,
        election_ms=election_ms,
        ca_pem=ca_pem,
        metrics=metrics,
        local=local,
        fresh_ms=fresh_ms,
        clock=clock,
        unix_s=unix_s,
    )
    rooms = (
        *(reads, progress, changes, membership, replication, slots),
        *(configuring, passwords, upkeep, upgrading, checks, joins, standbycluster),
        *(bare, patroni, patroniacts, localcluster, viewer),
        *(events, connecting, pools, proxies),
        *(whoami, switchoverplan, dashboard),
        *(explaining, drills),
        *(nodetelling, doctor),
        *(tokenroutes, pkiroutes),
    )
    for room in rooms:  # the routes themselves: FastAPI would make all of them a second time
        app.router.routes.extend(room.router.routes)
    failures.install(app)
    contract.install(app, (room.router for room in rooms), checks.shown)
    app.add_middleware(gate.Gate, guard=guard, on_change=on_change)
    app.add_middleware(Envelope, on_request=on_request, clock=clock)
    return app


class Envelope:
    """Around every request: its ids in and out, and a word to whoever measures."""

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
        traced = trace.begin(header(scope, b"traceparent"))
        trace.enter(traced)
        request_id = given_id(scope) or traced.id
        scope["pgherd.request_id"] = request_id
        code = 500

        async def send_with_id(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                told = ((b"x-request-id", request_id), (b"traceparent", traced.header))
                headers = [*message.get("headers", []), *((k, v.encode()) for k, v in told)]
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
    """Bodies that do not say their size end at the limit."""
    total = 0

    async def receive_counted() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > BODY_BYTES_MAX:
            raise HTTPException(413, f"the body is larger than {BODY_BYTES_MAX} bytes")
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
    text = header(scope, b"x-request-id")
    return text if REQUEST_ID.fullmatch(text) else ""


def header(scope: Scope, wanted: bytes) -> str:
    """The first header of this name; "" where there is none."""
    found = (value for name, value in scope["headers"] if name == wanted)
    return next(found, b"").decode("latin-1")


def route_of(scope: Scope) -> str:
    """The route's template, never the raw path: the number of series stays bounded."""
    return str(getattr(scope.get("route"), "path", "unknown"))
