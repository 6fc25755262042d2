"""Proves the limits of connections on real sockets, with and without TLS: number, time, roles.

Whoever is slow on purpose loses its connection, and never somebody else's health check.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import selectors
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest

from pgherd.api import connections
from pgherd.api.guard import Access, ApiToken, Role
from pgherd.api.serve import ApiServer, ServeTls, serve
from pgherd.model.ids import NodeId
from pgherd.pki.authority import (
    Authority,
    Issued,
    make_ca,
    make_client_certificate,
    make_node_certificate,
)

DEADLINE_S = 20.0
NOBODY = ApiToken("nobody", Role.ADMIN, "0" * 64)
REQUEST = b"GET /primary HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def app(make_client, herd):
    access = Access(
        clients={"ann@example.org": Role.VIEWER, "mallory": None}, takes_certificates=True
    )
    return make_client(herd, tokens=(NOBODY,), access=access).app


def during(server: ApiServer, story: Callable[[], Awaitable[None]]) -> None:
    """Play a story while a server serves."""

    async def both() -> None:
        task = asyncio.create_task(server.run())
        await server.started.wait()
        try:
            async with asyncio.timeout(DEADLINE_S):
                await story()
        finally:
            server.stop()
            await task

    asyncio.run(both())


async def answers(server: ApiServer) -> bool:
    """Whether a health check gets through on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(REQUEST)
    line = await reader.readline()
    writer.close()
    return line.startswith(b"HTTP/1.1 200")


async def cut(reader: asyncio.StreamReader) -> bytes:
    """What comes until the other side ends the connection."""
    with contextlib.suppress(ConnectionError):
        return await reader.read()
    return b""


def test_slow_heads_are_cut(app, monkeypatch):
    """Half a request, one letter a moment, and nothing at all: each has so long, not more."""
    monkeypatch.setattr(connections, "WAIT_S", 0.5)
    server = serve(app, "127.0.0.1", 0)

    async def drip(writer: asyncio.StreamWriter) -> None:
        for letter in REQUEST[:-2] * 9:
            writer.write(bytes([letter]))
            await asyncio.sleep(0.1)

    async def story() -> None:
        streams = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
        streams[0][1].write(REQUEST[:20])
        dripping = asyncio.create_task(drip(streams[1][1]))
        for reader, _ in streams:
            assert await cut(reader) == b""
        dripping.cancel()
        assert await answers(server)

    during(server, story)


def test_slow_bodies_are_cut(app, monkeypatch):
    """A body that does not come is not waited for for ever."""
    monkeypatch.setattr(connections, "BODY_S", 0.5)
    server = serve(app, "127.0.0.1", 0)

    async def story() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = b"POST /api/v1/join HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        writer.write(head + b"Content-Length: 999\r\n\r\n{")
        assert await cut(reader) == b""

    during(server, story)


def test_the_longest_waiting_goes_when_there_are_too_many(app, monkeypatch):
    """Not the newcomer: health checks get in, however many sit there."""
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 5)
    server = serve(app, "127.0.0.1", 0)

    async def story() -> None:
        streams = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(5)]
        streams[0][1].write(REQUEST)
        assert (await streams[0][0].readline()).startswith(b"HTTP/1.1 200")
        for _ in range(3):
            assert await answers(server)
        streams += [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(4)]
        for reader, _ in streams[1:4]:
            assert await cut(reader) == b""
        assert await answers(server)

    during(server, story)


def test_a_crowd_that_comes_at_once_is_no_larger(app, monkeypatch):
    """However many are let in within one turn of the loop."""
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 5)
    server = serve(app, "127.0.0.1", 0)

    async def story() -> None:
        crowd = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(60)]
        for one in crowd:
            one.setblocking(False)
        with selectors.DefaultSelector() as ended:
            for one in crowd:
                ended.register(one, selectors.EVENT_READ)
            for _ in range(1000):
                if len(ended.select(timeout=0)) >= 55:
                    break
                await asyncio.sleep(0.01)
            assert len(ended.select(timeout=0)) == 55
        assert await answers(server)
        for one in crowd:
            one.close()

    during(server, story)


def test_a_reader_that_takes_nothing_is_cut():
    """And one that works, streams or reads is not: the rule itself, by the clock."""
    connection = object.__new__(connections.Connection)
    unsent = 0
    connection.transport = SimpleNamespace(get_write_buffer_size=lambda: unsent)  # type: ignore[assignment]
    connection.cycle = SimpleNamespace(response_complete=False, more_body=False)  # type: ignore[assignment]
    connection.since_s, connection._known, connection._unsent = 0.0, None, (0, 0.0)
    assert not connection.is_overdue(1e6), "work has no limit"
    unsent = 7
    assert not connection.is_overdue(1e6 + 1)
    assert not connection.is_overdue(1e6 + connections.WRITE_S)
    unsent = 6
    assert not connection.is_overdue(1e6 + 2 * connections.WRITE_S), "it took a byte"
    assert connection.is_overdue(1e6 + 3 * connections.WRITE_S + 1)


# --- TLS -----------------------------------------------------------------------------------------


class Files:
    """A server's files, and clients with certificates of its authority or another."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ca = folder, make_ca("test")
        issued = make_node_certificate(self.ca, NodeId("n1"), ["127.0.0.1"])
        self.tls = ServeTls(*(folder / name for name in ("crt", "key", "ca")))
        assert self.tls.ca is not None
        self.tls.cert.write_bytes(issued.certificate_pem)
        self.tls.key.write_bytes(issued.key_pem)
        self.tls.ca.write_bytes(self.ca.certificate_pem)
        self.node = issued

    def client(
        self, name: str, role: str, *, ca: Authority | None = None, days: int = 1, ago: int = 0
    ) -> Issued:
        now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=ago)
        return make_client_certificate(ca or self.ca, name, role, days=days, now=now)

    def showing(self, shown: Issued | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.ca.certificate_pem.decode())
        if shown is not None:
            cert, key = self.folder / "own.crt", self.folder / "own.key"
            cert.write_bytes(shown.certificate_pem)
            key.write_bytes(shown.key_pem)
            context.load_cert_chain(cert, key)
        return context


@pytest.fixture
def files(tmp_path) -> Files:
    return Files(tmp_path)


async def ask(server: ApiServer, context: ssl.SSLContext, method: str, path: str) -> int:
    async with httpx2.AsyncClient(verify=context, trust_env=False) as client:
        answer = await client.request(method, f"https://127.0.0.1:{server.port}{path}")
        return answer.status_code


def test_certificates_have_roles(app, files):
    """By the mark of `pki issue`, or by the file's word, which may also be no; a node has none.

    A browser that another site sends shows one too, and gets nowhere.
    """
    server = serve(app, "127.0.0.1", 0, files.tls)
    look, change, key = (
        ("GET", "/api/v1/nodes"),
        ("POST", "/api/v1/failover/plan"),
        "/api/v1/tokens",
    )
    cases = [
        (None, (401, 401, 401)),
        (files.node, (401, 401, 401)),
        (files.client("bob", "viewer"), (200, 403, 403)),
        (files.client("bob", "operator"), (200, 200, 403)),
        (files.client("bob", "admin"), (200, 200, 200)),
        (files.client("bob", "god"), (401, 401, 401)),
        (files.client("ann@example.org", "admin"), (200, 403, 403)),
        (files.client("mallory", "admin"), (401, 401, 401)),
    ]

    async def story() -> None:
        for shown, wanted in cases:
            context = files.showing(shown)
            found = [await ask(server, context, *one) for one in (look, change, ("GET", key))]
            assert tuple(found) == wanted
            assert await ask(server, context, "GET", "/primary") == 200
        bob = files.showing(files.client("bob", "admin"))
        for origin, wanted in (("https://evil.example.org", 401), ("", 200)):
            async with httpx2.AsyncClient(verify=bob, trust_env=False) as browser:
                url = f"https://127.0.0.1:{server.port}"
                headers = {"Origin": origin or url}
                assert (await browser.get(url + look[1], headers=headers)).status_code == wanted

    during(server, story)


@pytest.mark.fault(75)
def test_bad_certificates_are_refused_and_said_once(app, files, caplog):
    """Expired or of another authority: no connection, one line; others go on."""
    server = serve(app, "127.0.0.1", 0, files.tls)
    strangers = [files.client("bob", "admin", ca=make_ca("x")), files.client("b", "admin", ago=9)]

    async def story() -> None:
        async with httpx2.AsyncClient(
            verify=files.showing(files.client("bob", "viewer")), trust_env=False
        ) as good:
            url = f"https://127.0.0.1:{server.port}/api/v1/nodes"
            assert (await good.get(url)).status_code == 200
            for stranger in strangers * 2:
                with pytest.raises(httpx2.TransportError):
                    await ask(server, files.showing(stranger), "GET", "/primary")
            assert (await good.get(url)).status_code == 200

    with caplog.at_level("WARNING", logger="pgherd.api"):
        during(server, story)
    told = [record.getMessage() for record in caplog.records if "handshake" in record.getMessage()]
    assert len(told) == 2
    assert any("expired" in text for text in told)


def test_handshakes_are_limited(app, files, monkeypatch):
    """Those that do not end make room for those that do, and end in time."""
    monkeypatch.setattr(connections, "HANDSHAKES_MAX", 3)
    monkeypatch.setattr(connections, "HANDSHAKE_S", 2.0)
    server = serve(app, "127.0.0.1", 0, files.tls)

    async def story() -> None:
        silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(6)]
        assert await ask(server, files.showing(None), "GET", "/primary") == 200
        for reader, _ in silent:
            assert await cut(reader) == b""

    during(server, story)


def test_connections_outlive_a_change_of_files(app, files):
    """One that is open goes on; the next one sees the new certificate."""
    server = serve(app, "127.0.0.1", 0, files.tls)

    async def story() -> None:
        old = files.showing(None)
        async with httpx2.AsyncClient(verify=old, trust_env=False) as kept:
            url = f"https://127.0.0.1:{server.port}/primary"
            assert (await kept.get(url)).status_code == 200
            files.__init__(files.folder)  # type: ignore[misc] # another authority altogether
            server.configure(files.tls)
            assert (await kept.get(url)).status_code == 200
            with pytest.raises(httpx2.ConnectError):
                await ask(server, old, "GET", "/primary")
            assert await ask(server, files.showing(None), "GET", "/primary") == 200

    during(server, story)
