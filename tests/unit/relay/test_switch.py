"""Proves what a change of primary does to sessions: who is cut, how, and how soon.

Against fake servers, with the real proxy process and the real channel.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import Any

import msgspec
import pytest

from pgherd.route.choose import Backend, Route

CUT_LIMIT_S = 1.0


def test_a_new_reign_cuts_the_old_primarys_sessions(rig: Any, fakes: Any, raw: Any) -> None:
    """An idle session gets 57P01 and the end of its stream within a second; the next goes on."""

    async def scenario() -> None:
        async with rig() as it, fakes("n1", "n2") as (one, two):
            it.publish(one.backend, term=1)
            client = await raw.connect(it.port())
            await client.until_ready()
            assert (await client.query("who"))[0] == (b"C", b"n1\0")
            began = time.monotonic()
            it.publish(two.backend, term=2)
            error = raw.fields(await client.rest())
            assert time.monotonic() - began < CUT_LIMIT_S
            assert error["C"] == "57P01"
            assert error["M"] == "pgherd: n1 is no longer the primary"
            counters = await it.until(lambda now: now.cut_total == 1)
            assert counters.term == 2
            again = await raw.connect(it.port())
            await again.until_ready()
            assert (await again.query("who"))[0] == (b"C", b"n2\0")
            assert one.open == 0
            again.close()

    asyncio.run(scenario())


def test_an_election_cuts_before_it_has_a_winner(rig: Any, fakes: Any, raw: Any) -> None:
    """No primary in a higher term cuts; no primary in the same term does not."""

    async def scenario() -> None:
        async with rig() as it, fakes("n1") as (one,):
            it.publish(one.backend, term=1)
            client = await raw.connect(it.port())
            await client.until_ready()
            it.publish(None, term=1)
            await it.until_term(1)
            assert (await client.query("who"))[0] == (b"C", b"n1\0")
            it.publish(None, term=2)
            assert raw.fields(await client.rest())["C"] == "57P01"

    asyncio.run(scenario())


@pytest.mark.parametrize("engine", ["uvloop", "pump"])
def test_sessions_leave_a_replica_in_maintenance(
    rig: Any, fakes: Any, raw: Any, engine: str
) -> None:
    """No new one at once, open ones at `drain_timeout`, whoever carries them; not its primary's."""
    if engine == "pump":
        pytest.importorskip("pgherd.relay._pump", reason="needs the engine in C")

    async def scenario() -> None:
        async with rig(engine=engine, drain_ms=2_000) as it, fakes("n1", "n2") as (one, two):
            it.publish(one.backend, replicas=(two.backend,))
            await it.until(lambda now: now.engine == engine)
            idle, writes = await raw.connect(it.port(Route.REPLICA)), await raw.connect(it.port())
            for client in (idle, writes):
                await client.until_ready()
            began = time.monotonic()
            spared = msgspec.structs.replace(two.backend, usable=False, tended=True)
            it.publish(one.backend, replicas=(spared,))
            async with asyncio.timeout(10):  # until the snapshot is there
                new = await raw.connect(it.port(Route.REPLICA))
                await new.until_ready()
                while (await new.query("who"))[0] != (b"C", b"n1\0"):
                    new.close()
                    new = await raw.connect(it.port(Route.REPLICA))
                    await new.until_ready()
            error = raw.fields(await idle.rest())
            assert time.monotonic() - began >= 2
            assert (error["C"], error["M"]) == ("57P01", "pgherd: n2 is in maintenance")
            for client in (new, writes):
                assert (await client.query("who"))[0] == (b"C", b"n1\0")
                client.close()

    asyncio.run(scenario())


def test_a_running_statement_is_said_to_be_of_unknown_outcome(
    rig: Any, fakes: Any, raw: Any
) -> None:
    """The client had spoken since: 08007, because nobody here knows what became of it."""

    async def scenario() -> None:
        async with rig() as it, fakes("n1", "n2") as (one, two):
            it.publish(one.backend, term=1)
            client = await raw.connect(it.port())
            await client.until_ready()
            client.send_query("hang")
            await eventually(lambda: b"hang" in one.received)
            it.publish(two.backend, term=2)
            error = raw.fields(await client.rest())
            assert error["C"] == "08007"
            assert "not known" in error["M"]

    asyncio.run(scenario())


def test_inside_a_message_nothing_is_added(rig: Any, fakes: Any, raw: Any) -> None:
    """A stream cut in the middle of a row ends there: no error bytes that look like data."""

    async def scenario() -> None:
        async with rig() as it, fakes("n1", "n2") as (one, two):
            it.publish(one.backend, term=1)
            client = await raw.connect(it.port())
            await client.until_ready()
            half = b"D\x00\x00\x10\x00half a row"
            one.writers[-1].write(half)
            assert await client.reader.readexactly(len(half)) == half
            it.publish(two.backend, term=2)
            assert await client.rest() == b""

    asyncio.run(scenario())


def test_inside_tls_nothing_is_added(rig: Any, fakes: Any, raw: Any) -> None:
    """An opaque session is closed without a word, even if its bytes end like ReadyForQuery."""

    async def scenario() -> None:
        async with rig() as it, fakes("n1", "n2") as (one, two):
            one.answer = b"S"
            it.publish(one.backend, term=1)
            client = await raw.connect(it.port(), raw.ssl_request)
            assert await client.reader.readexactly(1) == b"S"
            one.writers[-1].write(b"Z\x00\x00\x00\x05I")
            assert await client.reader.readexactly(6)
            it.publish(two.backend, term=2)
            assert await client.rest() == b""

    asyncio.run(scenario())


def test_a_client_that_reads_nothing_is_cut_in_time(rig: Any, fakes: Any, raw: Any) -> None:
    """Its server connection ends at once, and its own within the second."""

    async def scenario() -> None:
        async with rig() as it, fakes("n1", "n2") as (one, two):
            it.publish(one.backend, term=1)
            await it.until_term(1)
            files = open_files(it.process.pid)
            client = await raw.connect(it.port())
            await client.until_ready()
            client.writer.transport.pause_reading()
            for _ in range(400):
                one.writers[-1].write(bytes(65_536))
            await it.until(lambda now: now.bytes_from_servers > 1_000_000)
            it.publish(two.backend, term=2)
            began = time.monotonic()
            await eventually(lambda: one.open == 0 or one.writers[-1].transport.is_closing())
            await it.until(lambda now: now.cut_total == 1 and not now.sessions)
            await eventually(lambda: open_files(it.process.pid) == files)
            assert time.monotonic() - began < CUT_LIMIT_S + 0.5
            client.close()

    asyncio.run(scenario())


def test_replica_sessions_outlive_a_reign(rig: Any, fakes: Any, raw: Any) -> None:
    """Reads stay where they are; a promoted replica's sessions end with the next reign."""

    async def scenario() -> None:
        async with rig() as it, fakes("n1", "n2", "n3") as (one, two, three):
            it.publish(one.backend, term=1, replicas=(two.backend,))
            client = await raw.connect(it.port(Route.REPLICA))
            await client.until_ready()
            it.publish(two.backend, term=2, replicas=(three.backend,))
            await it.until_term(2)
            assert (await client.query("who"))[0] == (b"C", b"n2\0")
            it.publish(three.backend, term=3)
            assert raw.fields(await client.rest())["C"] == "57P01"

    asyncio.run(scenario())


def test_an_older_term_is_refused(rig: Any, fakes: Any, raw: Any) -> None:
    """An agent that is behind cannot send anybody back to an old primary."""

    async def scenario() -> None:
        async with rig() as it, fakes("n1", "n2") as (one, two):
            it.publish(two.backend, term=5)
            await it.until_term(5)
            it.publish(one.backend, term=4)
            await it.until(lambda now: now.snapshots_refused == 1)
            client = await raw.connect(it.port())
            await client.until_ready()
            assert (await client.query("who"))[0] == (b"C", b"n2\0")
            client.close()

    asyncio.run(scenario())


def test_a_waiting_client_gets_the_new_primary_at_once(rig: Any, fakes: Any, raw: Any) -> None:
    """Held through the election, woken by the snapshot, long before its time is over."""

    async def scenario() -> None:
        async with rig() as it, fakes("n2") as (two,):
            it.publish(None, term=1)
            await it.until_term(1)
            client = await raw.connect(it.port())
            await it.until(lambda now: now.held == 1)
            began = time.monotonic()
            it.publish(two.backend, term=2)
            await client.until_ready()
            assert time.monotonic() - began < 0.5
            assert (await client.query("who"))[0] == (b"C", b"n2\0")
            client.close()

    asyncio.run(scenario())


def test_an_attempt_at_the_wrong_server_ends_with_the_news(rig: Any, fakes: Any, raw: Any) -> None:
    """A primary that swallows connections does not hold a client once another one leads."""

    async def scenario() -> None:
        with black_hole() as hole:
            async with rig(attempt_ms=20_000) as it, fakes("n2") as (two,):
                it.publish(Backend(raw.node("n1"), "127.0.0.1", hole), term=1)
                await it.until_term(1)
                client = await raw.connect(it.port())
                await it.until(lambda now: now.held == 1)
                it.publish(two.backend, term=2)
                await asyncio.wait_for(client.until_ready(), 2)
                client.close()

    asyncio.run(scenario())


def test_a_refusing_primary_is_tried_until_it_takes_the_client(
    rig: Any, fakes: Any, raw: Any
) -> None:
    """Its server starts late: the same client gets in without asking again."""

    async def scenario() -> None:
        async with rig() as it, fakes() as _:
            late = raw.fake("n1")
            it.publish(late.backend)
            await it.until_term(1)
            client = await raw.connect(it.port())
            await it.until(lambda now: now.errors.get("connect_failed", 0) > 0)
            await late.start()
            await client.until_ready()
            client.close()
            await late.stop()

    asyncio.run(scenario())


class black_hole:
    """A port whose queue of connections is full: further ones hang."""

    def __enter__(self) -> int:
        self._server = socket.socket()
        self._server.bind(("127.0.0.1", 0))
        self._server.listen(0)
        self._fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(self._server.getsockname())
            self._fillers.append(filler)
        return int(self._server.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        for one in (*self._fillers, self._server):
            one.close()


def open_files(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


async def eventually(holds: Any, limit_s: float = 5.0) -> None:
    deadline = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail("not in time")
        await asyncio.sleep(0.02)
