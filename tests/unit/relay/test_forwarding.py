"""Proves what balancers in front may say, on the real proxy process and with a real HAProxy."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from pgherd.route.entry import Limits, Network

LOOPBACK = Network(bytes((127, 0, 0, 0)), 8)
ELSEWHERE = Network(bytes((10, 9, 9, 0)), 24)
DOCUMENTATION = Network(bytes((203, 0, 113, 0)), 24)
BINARY = (
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"  # version 2, PROXY, IPv4 over TCP, 12 bytes
    b"\xcb\x00\x71\x07\x0a\x00\x00\x01\xd4\x31\x15\x38"  # 203.0.113.7 to 10.0.0.1
)
LINE = b"PROXY TCP4 203.0.113.7 10.0.0.1 54321 5432\r\n"
ITSELF = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"


def behind(rig: Any, *balancers: Network) -> None:
    """Have all listeners believe these, from the next connection on."""
    rig.configure(
        listeners=tuple(
            msgspec.structs.replace(one, balancers=balancers) for one in rig.settings.listeners
        )
    )


async def until_in(rig: Any, raw: Any, header: bytes) -> Any:
    """A session of a client behind a balancer, once the settings are in force."""
    deadline = time.monotonic() + 8
    while True:
        client = await raw.connect(rig.port(), header + raw.startup())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await client.until_ready()
            return client
        client.close()
        assert time.monotonic() < deadline, rig.log.read_text()


async def until_told(rig: Any, text: str) -> None:
    deadline = time.monotonic() + 8
    while text not in rig.log.read_text():
        assert time.monotonic() < deadline, rig.log.read_text()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("loop", ["auto", "asyncio"])
def test_the_client_is_whom_the_balancer_names(rig: Any, fakes: Any, raw: Any, loop: str) -> None:
    """For limits, the allow list and the log; both versions, in pieces, with the first packet."""

    async def scenario() -> None:
        options = {"limits": Limits(address=1), "loop": loop}
        async with rig(**options) as it, fakes("n1") as (one,):
            it.publish(one.backend)
            behind(it, LOOPBACK)
            first = await until_in(it, raw, BINARY)
            second = await raw.connect(it.port(), LINE + raw.startup())
            error = raw.fields(await second.rest())
            assert error["C"] == "53300"
            assert error["M"] == 'pgherd: address "203.0.113.7" has 1 sessions open already'
            own = await until_in(it, raw, ITSELF)
            first.close()
            line = await until_in(it, raw, LINE)
            it.configure(allow=(ELSEWHERE,), limits=Limits())
            while True:
                barred = await raw.connect(it.port(), BINARY + raw.startup())
                if not await barred.reader.read(1):
                    break
                barred.close()
            await until_told(it, "client.barred address=203.0.113.7")
            it.configure(allow=(DOCUMENTATION,))
            again = await until_in(it, raw, BINARY)
            slow = await raw.connect(it.port(), b"")
            for byte in LINE + raw.ssl_request:
                slow.writer.write(bytes((byte,)))
                await asyncio.sleep(0)
            assert await slow.reader.readexactly(1) == b"N"
            slow.writer.write(raw.startup())
            await slow.until_ready()
            assert (await slow.query("who"))[0] == (b"C", b"n1\0")
            for client in (own, line, slow, again):
                client.close()

    asyncio.run(scenario())


def test_only_who_is_listed_is_believed_and_has_to_speak(rig: Any, fakes: Any, raw: Any) -> None:
    """A balancer without a header is left; a header from elsewhere is a protocol violation."""

    async def scenario() -> None:
        async with rig() as it, fakes("n1") as (one,):
            it.publish(one.backend)
            forged = await raw.connect(it.port(), BINARY + raw.startup())
            error = raw.fields(await forged.rest())
            assert error["M"] == "pgherd: a PROXY header from an address that may not send one"
            behind(it, ELSEWHERE)
            client = await raw.connect(it.port())
            await client.until_ready()
            behind(it, LOOPBACK)
            label = f"primary:{it.port()}"
            while True:
                mute = await raw.connect(it.port())
                with contextlib.suppress(ConnectionError):
                    if not await mute.reader.read(1):
                        break
                mute.close()
            await until_told(it, "header.refused")
            assert 'why="no PROXY header, which this address has to send"' in it.log.read_text()
            check = await raw.connect(it.port(), b"")
            check.close()  # a balancer's look at the port is no event
            await it.until(lambda now: now.opened[label].get("violated") == 2)
            assert (await client.query("who"))[0] == (b"C", b"n1\0")
            client.close()

    asyncio.run(scenario())


@contextlib.contextmanager
def haproxy(folder: Path, port: int, to: int, send: str) -> Iterator[None]:
    """A real one in TCP mode, which sends its header to one server."""
    program = shutil.which("haproxy") or "/usr/sbin/haproxy"
    if not Path(program).exists():
        pytest.skip("needs haproxy (apt-get install haproxy)")
    file = folder / "haproxy.cfg"
    file.write_text(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 1m\n timeout server 1m\n"
        f"frontend in\n bind 127.0.0.1:{port}\n default_backend out\n"
        f"backend out\n server one 127.0.0.1:{to} {send}\n"
    )
    process = subprocess.Popen([program, "-db", "-f", str(file)])
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2 proxy-v2-options crc32c,unique-id"])
def test_a_real_haproxy_in_front(rig: Any, real: Any, raw: Any, tmp_path: Path, send: str) -> None:
    """A real client through it to a real server; TLS too; its cancel request finds its way."""

    async def scenario() -> None:
        async with rig() as it:
            it.publish(real.backend)
            behind(it, LOOPBACK)
            port = raw.free_port()
            with haproxy(tmp_path, port, it.port(), send):
                await asyncio.to_thread(_use, real.dsn(port))

    asyncio.run(scenario())


def _use(dsn: str) -> None:
    deadline = time.monotonic() + 8
    while True:
        try:
            one = psycopg.connect(dsn, sslmode="require", autocommit=True)
            break
        except psycopg.OperationalError:  # before the settings are in force
            assert time.monotonic() < deadline
    with one:
        assert one.execute("SELECT 41 + 1").fetchone() == (42,)
        one.execute("SET statement_timeout = '8s'")
        with psycopg.connect(dsn, sslmode="disable", autocommit=True) as other:
            other.execute("SELECT 1")
            other.cancel()
            other.execute("SELECT 1")
        size = one.execute("SELECT length(repeat('x', 3000000))").fetchone()
        assert size == (3000000,)
