"""Proves the limits of `pool: none` on the real proxy process: what a client hears, and counts."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from pgherd.route.choose import Route
from pgherd.route.entry import Limits, Network

LOOPBACK, ELSEWHERE = Network(bytes((127, 0, 0, 0)), 8), Network(bytes((192, 0, 2, 0)), 24)


def test_users_and_databases_have_their_places(rig: Any, fakes: Any, raw: Any) -> None:
    """53300 before or after a request for TLS; whoever leaves makes room; limits change live."""

    async def scenario() -> None:
        options = {"limits": Limits(user=1, users={"many": 0})}
        async with rig(**options) as it, fakes("n1") as (one,):
            it.publish(one.backend)
            first = await raw.connect(it.port(), raw.startup("ann"))
            await first.until_ready()
            at_once = await raw.connect(it.port(), raw.startup("ann"))
            error = raw.fields(await at_once.rest())
            assert (error["C"], error["S"]) == ("53300", "FATAL")
            assert error["M"] == 'pgherd: user "ann" has 1 sessions open already'
            asked = await raw.connect(it.port(), raw.ssl_request)
            assert await asked.reader.readexactly(1) == b"N"
            asked.writer.write(raw.startup("ann"))
            assert raw.fields(await asked.rest())["C"] == "53300"
            assert len(one.startups) == 1, "the server was bothered"
            others = [await raw.connect(it.port(), raw.startup(name)) for name in ("bob", "many")]
            others.append(await raw.connect(it.port(), raw.startup("many")))
            for client in others:
                await client.until_ready()
            counters = await it.until(lambda now: now.errors.get("limit_user") == 2)
            assert counters.opened[f"primary:{it.port()}"]["rejected"] == 1
            first.close()
            label = f"primary:{it.port()}"
            await it.until(lambda now: sum(now.sessions.get(label, {}).values()) == 3)
            again = await raw.connect(it.port(), raw.startup("ann"))
            await again.until_ready()
            it.configure(limits=Limits(databases={"many": 2}))
            await it.until_refused(Route.PRIMARY, "53300", 'database "many"', user="many")
            for client in (*others, again):
                client.close()

    asyncio.run(scenario())


def test_a_listener_has_its_own_limit(rig: Any, fakes: Any, raw: Any) -> None:
    """The other listener goes on."""

    async def scenario() -> None:
        async with rig() as it, fakes("n1") as (one,):
            it.publish(one.backend)
            reads, writes = it.settings.listeners[::-1]
            assert reads.route is Route.REPLICA
            it.configure(listeners=(writes, msgspec.structs.replace(reads, limit=1)))
            client = await raw.connect(it.port(Route.REPLICA))
            await client.until_ready()
            await it.until_refused(Route.REPLICA, "53300", "listener")
            other = await raw.connect(it.port())
            await other.until_ready()
            client.close()
            other.close()

    asyncio.run(scenario())


def test_a_full_listener_hears_cancels(rig: Any, fakes: Any, raw: Any) -> None:
    """They need no place; sessions are told that there is none, after a request for TLS too."""

    async def scenario() -> None:
        async with rig() as it, fakes("n1") as (one,):
            it.publish(one.backend)
            writes = next(each for each in it.settings.listeners if each.route is Route.PRIMARY)
            it.configure(listeners=(msgspec.structs.replace(writes, limit=1),))
            client = await raw.connect(it.port())
            await client.until_ready()
            await it.until_refused(Route.PRIMARY, "53300", "listener")
            request = (16).to_bytes(4, "big") + (80877102).to_bytes(4, "big") + one.key
            assert await (await raw.connect(it.port(), request)).rest() == b""
            assert one.cancels == [one.key]
            asked = await raw.connect(it.port(), raw.ssl_request)
            assert await asked.reader.readexactly(1) == b"N"
            asked.writer.write(raw.startup())
            assert raw.fields(await asked.rest())["C"] == "53300"
            counters = await it.until(lambda now: now.cancels_total == 1)
            found = counters.opened[f"primary:{it.port()}"]
            assert (found["cancelled"], found["opened"]) == (1, 1)
            assert len(one.startups) == 1
            client.close()

    asyncio.run(scenario())


def test_who_may_not_come_gets_no_answer(rig: Any, fakes: Any, raw: Any) -> None:
    """Not a byte; counted each time, told once; open sessions go on; a reload lets in again."""

    async def scenario() -> None:
        async with rig(allow=(LOOPBACK,)) as it, fakes("n1") as (one,):
            it.publish(one.backend)
            client = await raw.connect(it.port())
            await client.until_ready()
            it.configure(allow=(ELSEWHERE,))
            label = f"primary:{it.port()}"
            while True:
                barred = await raw.connect(it.port())
                if await silent(barred):
                    break
            for _ in range(5):
                assert await silent(await raw.connect(it.port()))
            await it.until(lambda now: now.opened[label].get("barred") == 6)
            told = [line for line in it.log.read_text().splitlines() if "client.barred" in line]
            assert len(told) == 1, told
            assert "address=127.0.0.1" in told[0]
            assert (await client.query("who"))[0] == (b"C", b"n1\0")
            it.configure(allow=(ELSEWHERE, LOOPBACK))
            while await silent(again := await raw.connect(it.port())):
                pass
            again.close()
            client.close()

    asyncio.run(scenario())


async def silent(client: Any) -> bool:
    """Whether the connection ends without a byte."""
    try:
        return not await asyncio.wait_for(client.reader.read(1), 8)
    except ConnectionError:
        return True
