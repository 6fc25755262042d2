"""Proves when `read_timeout` and `write_timeout` end a session, and when they do not."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import psycopg
import pytest

SHORT_MS = 2_000
LONG_S = 5.0
"""Longer than the limit, the pause between two looks, and then some."""


@pytest.fixture(params=["uvloop", "pump"])
def engine(request: pytest.FixtureRequest) -> str:
    """Who carries the bytes."""
    if request.param == "pump":
        pytest.importorskip("pgherd.relay._pump", reason="needs the engine in C")
    return str(request.param)


def test_a_client_that_says_nothing_on_its_turn_is_ended(
    rig: Any, fakes: Any, raw: Any, engine: str
) -> None:
    """57P05 outside a transaction, one that was open before the limit came too; a statement that
    runs goes on however long it takes."""

    async def scenario() -> None:
        async with rig(engine=engine) as it, fakes("n1") as (one,):
            it.publish(one.backend)
            await it.until(lambda now: now.engine == engine)
            idle, runs = await raw.connect(it.port()), await raw.connect(it.port())
            for client in (idle, runs):
                await client.until_ready()
            assert (await idle.query("who"))[0] == (b"C", b"n1\0")
            runs.send_query("hang")
            it.configure(read_timeout_ms=SHORT_MS)
            error = raw.fields(await idle.rest())
            assert (error["C"], error["H"]) == ("57P05", "The limit is proxy.read_timeout.")
            await asyncio.sleep(LONG_S)
            counters = await it.until(lambda now: now.errors.get("read_timeout") == 1)
            assert sum(counters.sessions[f"primary:{it.port()}"].values()) == 1
            runs.close()

    asyncio.run(scenario())


def test_a_client_that_speaks_in_time_stays(rig: Any, fakes: Any, raw: Any) -> None:
    """The clock begins anew with each word, and 0 is never."""

    async def scenario() -> None:
        async with rig(read_timeout_ms=3_000) as it, fakes("n1") as (one,):
            it.publish(one.backend)
            client = await raw.connect(it.port())
            await client.until_ready()
            for _ in range(5):
                await asyncio.sleep(1)
                assert (await client.query("who"))[0] == (b"C", b"n1\0")
            it.configure(read_timeout_ms=0)
            await asyncio.sleep(5.5)
            assert (await client.query("who"))[0] == (b"C", b"n1\0")
            client.close()

    asyncio.run(scenario())


def test_a_client_that_takes_nothing_is_ended(rig: Any, fakes: Any, raw: Any) -> None:
    """It has megabytes waiting for it; one that reads on, slowly, stays."""

    async def scenario() -> None:
        async with rig(write_timeout_ms=2_000) as it, fakes("n1") as (one,):
            it.publish(one.backend)
            stopped, slow = await raw.connect(it.port()), await raw.connect(it.port())
            for client in (stopped, slow):
                await client.until_ready()
            body = b"x" * 4_000_000
            message = b"D" + (len(body) + 4).to_bytes(4, "big") + body
            for writer in one.writers:
                for _ in range(8):
                    writer.write(message)
            task = asyncio.create_task(read_slowly(slow))
            await it.until(lambda now: now.errors.get("write_timeout", 0) > 0, 12)
            await asyncio.sleep(2.5)
            counters = await it.until(lambda now: bool(now.sessions))
            assert counters.errors["write_timeout"] == 1
            assert sum(counters.sessions[f"primary:{it.port()}"].values()) == 1
            task.cancel()
            slow.close()
            stopped.close()

    asyncio.run(scenario())


def test_who_listens_stays_and_a_stalled_copy_does_not(rig: Any, real: Any, engine: str) -> None:
    """A notification finds its session after the limit; COPY without data ends in time."""

    async def scenario() -> None:
        async with rig(read_timeout_ms=SHORT_MS, engine=engine) as it:
            it.publish(real.backend)
            await it.until(lambda now: now.engine == engine)
            await asyncio.to_thread(_listen_and_stall, real.dsn(it.port()))
            counters = await it.until(lambda now: now.errors.get("read_timeout") == 1)
            assert counters.errors == {"read_timeout": 1}

    asyncio.run(scenario())


def _listen_and_stall(dsn: str) -> None:
    plain = f"{dsn} sslmode=disable"
    with psycopg.connect(plain, autocommit=True) as listens:
        listens.execute("LISTEN news")
        with psycopg.connect(plain, autocommit=True) as copies:
            copies.execute("CREATE TEMP TABLE t (n int)")
            with pytest.raises(psycopg.OperationalError):
                _stall(copies)
        with psycopg.connect(plain, autocommit=True) as tells:
            tells.execute("NOTIFY news, 'late'")
        [told] = listens.notifies(timeout=8, stop_after=1)
        assert told.payload == "late"


def _stall(client: psycopg.Connection[Any]) -> None:
    with client.cursor().copy("COPY t FROM STDIN") as data:
        data.write("1\n")
        time.sleep(LONG_S)
        for _ in range(100):
            data.write("2\n" * 10_000)


async def read_slowly(client: Any) -> None:
    while await client.reader.read(200_000):  # noqa: ASYNC110 -- the pause is the point
        await asyncio.sleep(0.15)
