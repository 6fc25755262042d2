"""Proves that an engine that cannot be had is said to be missing, and that clients are served."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

WITHOUT = Path(__file__).with_name("without.py")


def told(log: str, event: str) -> list[str]:
    """The lines of a proxy's log that tell of this."""
    return [line for line in log.splitlines() if event in line]


async def serves(it: Any, fakes: Any, raw: Any, engine: str) -> str:
    """A client is served by this engine; what the proxy said meanwhile."""
    async with fakes("n1") as (one,):
        it.publish(one.backend)
        await it.until(lambda now: now.term == 1 and now.engine == engine)
        client = await raw.connect(it.port())
        await client.until_ready()
        assert (await client.query("who"))[0] == (b"C", b"n1\0")
        client.close()
        return str(it.log.read_text())


@pytest.mark.parametrize(
    ("wanted", "missing", "why"),
    [
        ("pump", "extension", "the extension is not there"),
        ("uring", "extension", "the extension is not there"),
        ("auto", "extension", ""),
        ("auto", "io_uring", ""),
        ("uring", "io_uring", "Operation not permitted"),
    ],
)
def test_what_is_missing_is_said_and_clients_are_served(
    rig: Any, fakes: Any, raw: Any, need: Any, wanted: str, missing: str, why: str
) -> None:
    """uring without io_uring is the pump on epoll; without the extension it is the loop."""
    chosen = "uvloop" if missing == "extension" else "pump"
    need(chosen)

    async def scenario() -> None:
        async with rig(engine=wanted, program=(str(WITHOUT), missing)) as it:
            log = await serves(it, fakes, raw, chosen)
        lines = told(log, "engine.missing")
        assert len(lines) == (1 if why else 0), log
        if why:
            assert why in lines[0]
            assert f"{wanted}" in lines[0]
            assert "proxy.engine: " in lines[0], "what to type next"
        assert chosen in told(log, "engine.chosen")[0]

    asyncio.run(scenario())


def test_engines_change_while_the_proxy_runs(rig: Any, fakes: Any, raw: Any, need: Any) -> None:
    """Sessions that are open stay with theirs, whose bytes are still counted; new ones change."""
    for name in ("pump", "uring"):
        need(name)

    async def scenario() -> None:
        async with rig(engine="pump") as it, fakes("n1") as (one,):
            it.publish(one.backend)
            clients = []
            for name in ("pump", "uring", "auto", "uvloop", "uring"):
                it.configure(engine=name)
                carried = "pump" if name == "auto" else name
                await it.until(lambda now, name=carried: now.term == 1 and now.engine == name)
                clients.append(await raw.connect(it.port()))
                await clients[-1].until_ready()
            for client in clients:
                assert (await client.query("who"))[0] == (b"C", b"n1\0")
            said = len(clients) * len(raw.startup() + b"Q\x00\x00\x00\x08who\0")
            await it.until(lambda now: now.bytes_from_clients == said)
            for client in clients:
                client.close()
            await it.until(lambda now: not now.sessions)

    asyncio.run(scenario())
