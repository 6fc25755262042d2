"""The contract of engines: what sessions of `pool: none` rely on, whoever carries their bytes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
import struct
import threading
import time
from typing import Any

import psycopg

BULK_BYTES_MIN = 300_000_000
BULK = "copy (select repeat(md5(i::text), 30) from generate_series(1, 313000) i) to stdout"
HALF = 16 * 1024 * 1024
IDLE = 600
IDLE_BYTES_MAX = 12_000
READY = b"Z\x00\x00\x00\x05I"


def row(size: int) -> bytes:
    """A DataRow's bytes, as far as a relay looks at them."""
    return b"D" + (size + 4).to_bytes(4, "big") + bytes(size)


async def enter(raw: Any, it: Any, count: int) -> list[Any]:
    """Clients whose logins are over, in the order in which the server has them."""
    clients = []
    for _ in range(count):
        clients.append(await raw.connect(it.port()))
        await clients[-1].until_ready()
    return clients


async def until_heard(server: Any, texts: bytes) -> None:
    """Until a server has had these queries, in whatever order."""
    while len(server.received) < len(texts):  # noqa: ASYNC110 -- it tells nobody
        await asyncio.sleep(0.02)


def digest(dsn: str, *, pauses: int) -> tuple[str, int]:
    """MD5 and size of the bulk copy, by a reader that stops so often."""
    found, size, step = hashlib.md5(), 0, 0
    options = "sslmode=disable"
    with psycopg.connect(f"{dsn} {options}") as connection, connection.cursor().copy(BULK) as copy:
        for data in copy:
            found.update(data)
            size += len(data)
            if pauses and size > step:
                step += BULK_BYTES_MIN // pauses
                time.sleep(0.5)
    return found.hexdigest(), size


def test_300_mb_past_a_reader_that_pauses_are_the_same_bytes(
    rig: Any, real: Any, engine: str
) -> None:
    async def scenario() -> None:
        async with rig(engine=engine) as it:
            it.publish(real.backend)
            await it.until(lambda now: now.term == 1 and now.engine == engine)
            direct = await asyncio.to_thread(digest, real.dsn(), pauses=0)
            assert direct[1] >= BULK_BYTES_MIN
            assert await asyncio.to_thread(digest, real.dsn(it.port()), pauses=3) == direct
            counters = await it.until(lambda now: now.bytes_from_servers > direct[1])
            assert counters.bytes_from_clients > 0

    asyncio.run(scenario())


class Exchange:
    """Both ends of one session, at the level of sockets."""

    def __init__(self, it: Any, raw: Any, door: socket.socket) -> None:
        self.client = socket.create_connection(("127.0.0.1", it.port()), timeout=20)
        self.client.sendall(raw.startup())
        self.server, _ = door.accept()
        self.server.settimeout(20)
        self.server.recv(4096)
        self.greet(self.server, self.client)

    @staticmethod
    def greet(server: socket.socket, client: socket.socket) -> None:
        server.sendall(b"R\x00\x00\x00\x08\x00\x00\x00\x00" + READY)
        while not client.recv(4096).endswith(READY):
            pass

    def close(self) -> None:
        self.client.close()
        self.server.close()


def read_all(sock: socket.socket, into: Any) -> int:
    size = 0
    while data := sock.recv(1 << 20):
        into.update(data)
        size += len(data)
    return size


def both_ways(one: Exchange) -> None:
    """Both sides send at once, each into the other's full buffers, and end with a half-close."""
    sent = {side: os.urandom(1 << 20) * (HALF >> 20) for side in ("client", "server")}

    def send(sock: socket.socket, data: bytes) -> None:
        sock.sendall(data)
        if sock is one.client:
            sock.shutdown(socket.SHUT_WR)

    senders = [
        threading.Thread(target=send, args=(one.client, sent["client"])),
        threading.Thread(target=send, args=(one.server, sent["server"])),
    ]
    for sender in senders:
        sender.start()
    time.sleep(0.3)  # until nothing fits any more
    heard: dict[str, Any] = {"client": hashlib.md5(), "server": hashlib.md5()}
    reader = threading.Thread(target=read_all, args=(one.client, heard["server"]))
    reader.start()
    read_all(one.server, heard["client"])
    for sender in senders:
        sender.join(30)
    one.server.close()  # it had the client's end and has said all
    reader.join(30)
    for side, data in sent.items():
        assert heard[side].digest() == hashlib.md5(data).digest(), side


def resets(one: Exchange, *, side: str) -> None:
    """A reset of one side ends the other, which gets what was under way before."""
    here, there = (one.client, one.server) if side == "client" else (one.server, one.client)
    here.sendall(row(300_000))
    with there.makefile("rb") as stream:
        arrived = stream.read(300_005) == row(300_000)
    assert arrived
    here.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    here.close()
    assert read_all(there, hashlib.md5()) == 0
    there.close()


def farewell(one: Exchange) -> None:
    """A server that speaks and goes at once is heard to its end by a slow client."""
    one.client.sendall(b"Q\x00\x00\x00\x05\x00")
    one.server.recv(100)
    sender = threading.Thread(target=one.server.sendall, args=(row(HALF),))
    sender.start()
    time.sleep(0.2)
    found = hashlib.md5()
    first = one.client.recv(1000)
    found.update(first)
    closer = threading.Thread(target=lambda: (sender.join(20), one.server.close()))
    closer.start()
    assert len(first) + read_all(one.client, found) == HALF + 5
    closer.join(20)
    assert found.digest() == hashlib.md5(row(HALF)).digest()
    one.client.close()


def test_bytes_and_ends_arrive_whole(rig: Any, raw: Any, engine: str) -> None:
    """Both ways at once, half-closed, reset by either side, and a last word before the end."""

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as door:
            door.settimeout(20)
            where = raw.fake("n1")
            where.port = door.getsockname()[1]
            async with rig(engine=engine) as it:
                it.publish(where.backend)
                await it.until(lambda now: now.term == 1 and now.engine == engine)
                for act, options in (
                    (both_ways, {}),
                    (resets, {"side": "client"}),
                    (resets, {"side": "server"}),
                    (farewell, {}),
                ):
                    one = await asyncio.to_thread(Exchange, it, raw, door)
                    await asyncio.to_thread(act, one, **options)
                    await it.until(lambda now: not now.sessions, 20)
                    one.close()

    asyncio.run(scenario())


def test_a_cut_says_only_what_would_be_understood(
    rig: Any, fakes: Any, raw: Any, engine: str
) -> None:
    """Idle: 57P01. Asked and not answered: 08007. Amid rows: nothing but the end."""

    async def scenario() -> None:
        async with rig(engine=engine) as it, fakes("n1", "n2") as (one, two):
            it.publish(one.backend)
            idle, busy, amid = await enter(raw, it, 3)
            await it.until(lambda now: now.engine == engine)
            assert (await idle.query("who"))[0] == (b"C", b"n1\0")
            busy.send_query("hang")
            amid.send_query("hang amid")
            await until_heard(one, b"who\0hang\0hang amid\0")
            one.writers[2].write(row(1000)[:500])
            assert await amid.reader.readexactly(500) == row(1000)[:500]
            it.publish(two.backend, term=2)
            assert raw.fields(await idle.rest())["C"] == "57P01"
            assert raw.fields(await busy.rest())["C"] == "08007"
            assert await amid.rest() == b""
            counters = await it.until(lambda now: not now.sessions and now.cut_total == 3)
            assert counters.engine == engine
            fresh = await raw.connect(it.port())
            await fresh.until_ready()
            assert (await fresh.query("who"))[0] == (b"C", b"n2\0")
            fresh.close()

    asyncio.run(scenario())


def test_silence_ends_sessions(rig: Any, fakes: Any, raw: Any, engine: str) -> None:
    """`read_timeout` with its word, `write_timeout` without: the client is amid rows."""

    async def scenario() -> None:
        options = {"read_timeout_ms": 1500, "write_timeout_ms": 1500}
        async with rig(engine=engine, **options) as it, fakes("n1") as (one,):
            it.publish(one.backend)
            idle, stopped = await enter(raw, it, 2)
            one.writers[1].write(row(HALF))
            assert raw.fields(await idle.rest())["C"] == "57P05"
            wanted = {"read_timeout": 1, "write_timeout": 1}
            await it.until(lambda now: now.errors == wanted and not now.sessions, 20)
            idle.close()
            stopped.close()

    asyncio.run(scenario())


def test_draining_lets_the_busy_finish(rig: Any, fakes: Any, raw: Any, engine: str) -> None:
    """The idle go at once, the busy with their answer, and the process ends well."""

    async def scenario() -> None:
        async with rig(engine=engine, drain_ms=20_000) as it, fakes("n1") as (one,):
            it.publish(one.backend)
            idle, busy = await enter(raw, it, 2)
            busy.send_query("hang")
            await until_heard(one, b"hang\0")
            it.process.send_signal(signal.SIGTERM)
            assert raw.fields(await idle.rest())["C"] == "57P01"
            assert it.process.poll() is None
            answer = b"C\x00\x00\x00\x08ok!\0" + READY
            one.writers[1].write(answer)
            rest = await busy.rest()
            assert rest.startswith(answer)
            assert raw.fields(rest[len(answer) :])["C"] == "57P01"
            assert await asyncio.to_thread(it.process.wait, 10) == 0

    asyncio.run(scenario())


def test_idle_sessions_and_stopped_readers_cost_little(
    rig: Any, fakes: Any, raw: Any, engine: str
) -> None:
    """Hundreds of idle sessions, and ten clients that take nothing: bounded memory for each."""

    async def scenario() -> None:
        async with rig(engine=engine) as it, fakes("n1") as (one,):
            it.publish(one.backend)
            first = await enter(raw, it, 20)
            label = f"primary:{it.port()}"
            before = await it.until(lambda now: sum(now.sessions.get(label, {}).values()) == 20)
            idle = await enter(raw, it, IDLE)
            after = await it.until(
                lambda now: sum(now.sessions.get(label, {}).values()) == 20 + IDLE
            )
            grown = after.rss_bytes - before.rss_bytes
            assert grown < IDLE * IDLE_BYTES_MAX, f"{grown / IDLE:.0f} bytes for an idle session"
            for writer in one.writers[:10]:
                writer.write(row(HALF))
            seen = after.bytes_from_servers
            while (now := it.control.counters()).bytes_from_servers != seen:
                seen = now.bytes_from_servers
                await asyncio.sleep(2.2)
            grown = now.rss_bytes - after.rss_bytes
            assert grown < 10 * 300_000, f"{grown} bytes for 10 stopped readers"
            for client in first + idle:
                client.close()
            await it.until(lambda now: not now.sessions, 20)

    asyncio.run(scenario())
