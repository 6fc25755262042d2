"""What the relay's tests stand on: a proxy process with its control, fake servers, a real server.

Every process and port is the test's own and is gone when it ends. The real server is Debian's
PostgreSQL 15 with TLS on; tests that need it are skipped where it is not installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pgherd.model.ids import Instant, NodeId, Term
from pgherd.relay.control import ProxyControl
from pgherd.relay.messages import ListenerSettings, ProxyCounters, ProxySettings
from pgherd.route.choose import PREFERENCE, Backend, Preference, Route, Snapshot

BIN = Path("/usr/lib/postgresql/15/bin")
AUTH_OK = b"R\x00\x00\x00\x08\x00\x00\x00\x00"
READY = b"Z\x00\x00\x00\x05I"


def free_port() -> int:
    """A loopback port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def boottime_ms() -> Instant:
    return Instant(time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000)


def startup(user: str = "u") -> bytes:
    body = (196608).to_bytes(4, "big") + b"user\0" + user.encode() + b"\0\0"
    return (4 + len(body)).to_bytes(4, "big") + body


SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")


class Rig:
    """A proxy process and the agent's end of its channel."""

    def __init__(self, folder: Path, settings: ProxySettings) -> None:
        self.settings = settings
        self.loop = "auto"
        self.program = ("-m", "pgherd.relay.main")
        self.path = folder / "proxy.sock"
        self.control = ProxyControl(self.path, settings)
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "proxy.log"
        self._snapshot: Snapshot | None = None

    def port(self, route: Route = Route.PRIMARY) -> int:
        return next(one.port for one in self.settings.listeners if one.route is route)

    def launch(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, *self.program, "--control", str(self.path), "--loop", self.loop]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        return self.process

    async def start(self) -> None:
        await self.control.start()
        self.launch()
        await self.until(lambda _: self.control.healthy())

    async def stop(self) -> None:
        await self.control.stop()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                await asyncio.to_thread(self.process.wait, 5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        log = self.log.read_text()
        assert "proxy.broken" not in log, log
        assert "Traceback" not in log, log

    def publish(
        self,
        primary: Backend | None,
        *,
        term: int = 1,
        replicas: tuple[Backend, ...] = (),
        lives_ms: int = 60_000,
    ) -> None:
        self.control.publish(
            Snapshot(
                generation=term,
                term=Term(term),
                expires_at=Instant(boottime_ms() + lives_ms),
                primary=primary,
                replicas=replicas,
            )
        )

    def configure(self, preference: Preference | None = None, **options: Any) -> None:
        """Change settings while the proxy runs."""
        if preference is not None:
            options["listeners"] = tuple(
                msgspec.structs.replace(one, preference=preference)
                for one in self.settings.listeners
            )
        self.settings = msgspec.structs.replace(self.settings, **options)
        self.control.configure(self.settings)

    async def until_refused(self, route: Route, code: str, text: str, user: str = "u") -> None:
        """Until new clients are sent away with this error."""
        deadline = time.monotonic() + 8
        while True:
            client = await RawClient.connect(self.port(route), startup(user))
            kind, body = await asyncio.wait_for(client.message(), 8)
            client.close()
            if kind == b"E":
                found = fields(b"E\0\0\0\0" + body)
                assert found["C"] == code, found
                assert text in found["M"], found
                return
            assert time.monotonic() < deadline, "clients are still taken"
            await asyncio.sleep(0.02)

    async def until(
        self, holds: Callable[[ProxyCounters], bool], limit_s: float = 8.0
    ) -> ProxyCounters:
        """Wait for a condition on the counters, or fail with what there is."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            counters = self.control.counters()
            if counters is not None and holds(counters):
                return counters
            await asyncio.sleep(0.02)
        log = self.log.read_text() if self.log.exists() else ""
        raise AssertionError(f"not in time: {self.control.counters()}\n{log}")

    async def until_term(self, term: int) -> ProxyCounters:
        return await self.until(lambda counters: counters.term == term)


class FakeServer:
    """Speaks just enough of the protocol: starts sessions and answers every query with its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = free_port()
        self.startups: list[bytes] = []
        self.cancels: list[bytes] = []
        self.received = bytearray()
        self.writers: list[asyncio.StreamWriter] = []
        self.open = 0
        self.key = os.urandom(8)
        self.answer = b"N"
        self._server: asyncio.Server | None = None

    @property
    def backend(self) -> Backend:
        return Backend(NodeId(self.name), "127.0.0.1", self.port)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self.writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.writers.append(writer)
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(4), "big")
                body = await reader.readexactly(length - 4)
                code = int.from_bytes(body[:4], "big")
                if code == 80877102:
                    self.cancels.append(body[4:])
                    return
                if code != 80877103:
                    self.startups.append(body)
                    break
                writer.write(self.answer)
                if self.answer == b"S":
                    await reader.read(-1)
                    return
            writer.write(AUTH_OK + b"K\x00\x00\x00\x0c" + self.key + READY)
            await self.talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            kind = await reader.readexactly(1)
            length = int.from_bytes(await reader.readexactly(4), "big")
            text = await reader.readexactly(length - 4)
            self.received += text
            if kind == b"X":
                return
            if text.startswith(b"hang"):
                continue
            name = self.name.encode() + b"\0"
            writer.write(b"C" + (4 + len(name)).to_bytes(4, "big") + name + READY)


class RawClient:
    """A client at the level of bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int, first: bytes | None = None) -> RawClient:
        client = cls(*await asyncio.open_connection("127.0.0.1", port))
        client.writer.write(startup() if first is None else first)
        return client

    async def message(self) -> tuple[bytes, bytes]:
        kind = await self.reader.readexactly(1)
        length = int.from_bytes(await self.reader.readexactly(4), "big")
        return kind, await self.reader.readexactly(length - 4)

    async def until_ready(self) -> list[tuple[bytes, bytes]]:
        found = []
        while not found or found[-1][0] != b"Z":
            found.append(await asyncio.wait_for(self.message(), 8))
        return found

    def send_query(self, text: str) -> None:
        body = text.encode() + b"\0"
        self.writer.write(b"Q" + (4 + len(body)).to_bytes(4, "big") + body)

    async def query(self, text: str) -> list[tuple[bytes, bytes]]:
        self.send_query(text)
        return await self.until_ready()

    async def rest(self) -> bytes:
        """Everything up to the end of the stream."""
        return await asyncio.wait_for(self.reader.read(-1), 12)

    def close(self) -> None:
        self.writer.close()


def fields(error: bytes) -> dict[str, str]:
    """The fields of an ErrorResponse."""
    assert error[:1] == b"E", error
    parts = error[5:].split(b"\0")
    return {part[:1].decode(): part[1:].decode() for part in parts if part}


RigFactory = Callable[..., contextlib.AbstractAsyncContextManager[Rig]]


class Raw:
    """The tools of byte-level tests, as one fixture (test modules cannot import each other)."""

    ssl_request = SSL_REQUEST
    startup = staticmethod(startup)
    connect = RawClient.connect
    client = RawClient
    fields = staticmethod(fields)
    fake = FakeServer
    node = NodeId
    free_port = staticmethod(free_port)


@pytest.fixture
def raw() -> type[Raw]:
    return Raw


@pytest.fixture
def rig() -> Iterator[RigFactory]:
    """Make a running proxy: `async with rig(connect_timeout_ms=...) as it:`."""
    folder = Path(tempfile.mkdtemp(prefix="pgherd-relay-"))

    @contextlib.asynccontextmanager
    async def make(
        loop: str = "auto",
        preference: Preference = PREFERENCE,
        program: tuple[str, ...] = (),
        **options: Any,
    ) -> AsyncIterator[Rig]:
        listeners = tuple(
            ListenerSettings("127.0.0.1", free_port(), route, preference=preference)
            for route in (Route.PRIMARY, Route.REPLICA)
        )
        made = Rig(folder, ProxySettings(listeners=listeners, **options))
        made.loop = loop
        made.program = program or made.program
        made.log.unlink(missing_ok=True)
        try:
            await made.start()
            yield made
        finally:
            await made.stop()

    yield make
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def _fakes(*names: str) -> AsyncIterator[list[FakeServer]]:
    made = [FakeServer(name) for name in names]
    try:
        for one in made:
            await one.start()
        yield made
    finally:
        for one in made:
            await one.stop()


@pytest.fixture
def fakes() -> Callable[..., contextlib.AbstractAsyncContextManager[list[FakeServer]]]:
    """Make running fake servers: `async with fakes("n1", "n2") as (one, two):`."""
    return _fakes


class RealServer:
    """A PostgreSQL of the test's own, TLS on, trust for everybody on loopback."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def backend(self) -> Backend:
        return Backend(NodeId("n1"), "127.0.0.1", self.port)

    def dsn(self, port: int | None = None) -> str:
        where = port or self.port
        return f"host=127.0.0.1 port={where} user=postgres dbname=postgres connect_timeout=10"

    def start(self) -> None:
        who = "postgres" if os.geteuid() == 0 else None
        if who:
            shutil.chown(self.folder, who)
        initdb = [BIN / "initdb", "-D", self.data, "-A", "trust", "-U", "postgres", "-N"]
        subprocess.run(initdb, user=who, check=True, capture_output=True, cwd=self.folder)
        make_certificate(self.data, who)
        options = {
            "port": self.port, "listen_addresses": "127.0.0.1", "fsync": "off", "ssl": "on",
            "unix_socket_directories": self.folder, "max_connections": 60,
            "shared_buffers": "16MB", "logging_collector": "off",
        }  # fmt: skip
        command = [BIN / "postgres", "-D", self.data]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                command, user=who, stdout=log, stderr=log, cwd=self.folder
            )
        self._await_ready()

    def _await_ready(self) -> None:
        deadline = time.monotonic() + 30
        ready = [BIN / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready).returncode != 0:
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.1)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(2)
            self.process.wait(30)


def make_certificate(data: Path, who: str | None) -> None:
    """A self-signed certificate where PostgreSQL looks for it."""
    key, certificate = data / "server.key", data / "server.crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    for path in (key, certificate):
        path.chmod(0o600)
        if who:
            shutil.chown(path, who)


@pytest.fixture(scope="session")
def real() -> Iterator[RealServer]:
    """A running PostgreSQL 15 with TLS."""
    if not (BIN / "postgres").exists() or shutil.which("openssl") is None:
        pytest.skip("needs PostgreSQL 15 and openssl")
    folder = Path(tempfile.mkdtemp(prefix="pgherd-real-"))
    folder.chmod(0o755)
    server = RealServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
