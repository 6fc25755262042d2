"""The HTTP server of the agent: uvicorn inside the agent's own loop.

Owns the sockets, TLS and the end of the server; the connections are `connections`'s. No signal
handlers (the supervisor owns signals), no access log, h11 only, no lifespan. Certificates are read
again when their files change.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from pathlib import Path

import msgspec
from starlette.types import ASGIApp
from uvicorn import Config, Server

from pgherd.api.connections import Connections
from pgherd.model.errors import OperatorError
from pgherd.peer.listener import Listener
from pgherd.telemetry.boottime import until_next

BACKLOG = 128
HEAD_BYTES_MAX = 32 << 10
KEEP_ALIVE_S = 15
GRACE_S = 2
TICK_S = 1.0


class ServeTls(msgspec.Struct, frozen=True):
    """The files of HTTPS. ca: authorities whose client certificates are taken, None: none are."""

    cert: Path
    key: Path
    ca: Path | None = None


class ApiServer:
    """One HTTP server. `run` ends when `stop` was called or its task is cancelled."""

    def __init__(self, app: ASGIApp, *, sockets: list[socket.socket], tls: ServeTls | None) -> None:
        config = Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            loop="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=HEAD_BYTES_MAX,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
            backlog=BACKLOG,
        )
        config.load()
        self._context = _context(tls) if tls is not None else None
        self.app = app
        self._tls = tls
        self._stamp = _stamp(tls)
        self._sockets = sockets
        self._server = Server(config)
        self._connections = Connections(config, self._server.server_state, lambda: self._context)
        self._stopping = asyncio.Event()
        self.started = asyncio.Event()
        self.port = int(sockets[0].getsockname()[1])
        """The port it listens on, also when 0 was asked for."""

    async def run(self) -> None:
        """Serve until stopped."""
        server = self._server
        server.lifespan = server.config.lifespan_class(server.config)
        server.servers = []
        for one in self._sockets:
            one.listen(BACKLOG)
        listener = Listener(self._sockets, self._connections.admit)
        self.started.set()
        try:
            while not self._stopping.is_set():
                await server.on_tick(0)
                self._refresh()
                self._connections.look()
                try:
                    async with asyncio.timeout(until_next(TICK_S)):
                        await self._stopping.wait()
                except TimeoutError:
                    pass
        finally:
            listener.close()
            await self._connections.close()
            await server.shutdown(sockets=self._sockets)

    def stop(self) -> None:
        """Let `run` finish open requests for a moment and end."""
        self._stopping.set()

    def configure(self, tls: ServeTls | None) -> None:
        """Take other files for new connections. Raises OperatorError and keeps what was."""
        self._context = _context(tls) if tls is not None else None
        self._tls, self._stamp = tls, _stamp(tls)

    def _refresh(self) -> None:
        """Take changed certificates for new connections; while they do not fit, keep the old."""
        stamp = _stamp(self._tls)
        if self._tls is None or stamp == self._stamp:
            return
        try:
            self._context = _context(self._tls)
        except (OperatorError, OSError):
            return
        self._stamp = stamp


def serve(
    app: ASGIApp, host: str, port: int, tls: ServeTls | None = None, *, keys: str = "api"
) -> ApiServer:
    """Bind now, so that a taken port is told at once; serve when `run` is awaited.

    keys: the section of the configuration that names the port.
    """
    return ApiServer(app, sockets=_bind(host, port, keys), tls=tls)


def _bind(host: str, port: int, keys: str) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            one = socket.socket(family, kind, protocol)
            sockets.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
            one.setblocking(False)
    except OSError as error:
        for one in sockets:
            one.close()
        raise OperatorError(
            f"{keys} cannot listen on {host}:{port}: {error.strerror or error}",
            f"choose another with {keys}.port or {keys}.bind, or stop what uses it",
        ) from error
    return sockets


def _context(tls: ServeTls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.cert, tls.key)
    except (ssl.SSLError, OSError) as error:
        raise OperatorError(
            f"the API's certificate {tls.cert} and key {tls.key} cannot be used: {error}",
            "check both files, or make them anew: pgherd pki renew",
        ) from error
    if tls.ca is not None:
        context.verify_mode = ssl.CERT_OPTIONAL
        try:
            context.load_verify_locations(tls.ca)
        except (ssl.SSLError, OSError) as error:
            raise OperatorError(
                f"api.tls.ca: {tls.ca} cannot be used: {error}", "name a PEM file of authorities"
            ) from error
    return context


def _stamp(tls: ServeTls | None) -> tuple[int, ...]:
    if tls is None:
        return ()
    try:
        files = [path for path in (tls.cert, tls.key, tls.ca) if path is not None]
        return tuple(os.stat(path).st_mtime_ns for path in files)
    except OSError:
        return ()
