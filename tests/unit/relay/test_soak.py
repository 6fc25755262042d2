"""Proves that clients who behave badly leave nothing behind.

A few hundred connections that break off in every phase, with FIN and with RST, while reigns change.
Afterwards no session, no descriptor and no error of ours remains.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
from typing import Any

import pytest

CLIENTS = 300
AT_ONCE = 40
ROUNDS = 3
IN_THE_MIDST_S = 0.04
"""Longer than a client waits for a primary, shorter than most stay."""


async def misbehave(raw: Any, port: int, dice: random.Random) -> None:
    """One client that ends somewhere, somehow."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client = raw.client(reader, writer)
    steps = [
        lambda: writer.write(dice.choice([raw.startup(), raw.ssl_request, dice.randbytes(40)])),
        lambda: writer.write(raw.startup()),
        lambda: client.send_query(dice.choice(["hang", "who", "x" * 100_000])),
        lambda: writer.write(dice.randbytes(dice.randrange(1, 3000))),
        lambda: writer.write_eof(),
    ]
    try:
        for step in steps[: dice.randrange(len(steps) + 1)]:
            step()
            if dice.random() < 0.6:
                await asyncio.sleep(dice.random() / 50)
        if dice.random() < 0.3:
            await asyncio.wait_for(reader.read(1000), 0.05)
    except (ConnectionError, TimeoutError):
        pass
    if dice.random() < 0.5:
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.close()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_bad_clients_leave_nothing_behind(rig: Any, fakes: Any, raw: Any, loop: str) -> None:
    """Sessions and descriptors return to what they were; memory stays within a few megabytes."""
    dice = random.Random(loop)

    async def scenario() -> None:
        async with rig(loop=loop, connect_timeout_ms=20) as it, fakes("n1", "n2") as servers:
            it.publish(servers[0].backend)
            await it.until_term(1)
            pid, term = it.process.pid, 1
            files = len(os.listdir(f"/proc/{pid}/fd"))
            sizes = []
            for _ in range(ROUNDS):
                for _ in range(CLIENTS // AT_ONCE):
                    some = [misbehave(raw, it.port(), dice) for _ in range(AT_ONCE)]
                    ended = asyncio.gather(*some, return_exceptions=True)
                    await asyncio.sleep(IN_THE_MIDST_S)
                    term += 1
                    it.publish(
                        dice.choice([servers[0].backend, servers[1].backend, None]), term=term
                    )
                    await ended
                term += 1
                it.publish(servers[term % 2].backend, term=term)
                await until_files(pid, files)
                await it.until_term(term)
                now = await it.until(lambda now: now.held == 0 and not now.sessions)
                sizes.append(now.rss_bytes)
            assert sizes[-1] - sizes[0] < 3_000_000, sizes
            results = now.opened[f"primary:{it.port()}"]
            assert results["opened"] > CLIENTS // 4, results
            assert results["refused"] > 0, results
            assert results["violated"] > 0, results
            assert now.cut_total > 0

    asyncio.run(scenario())


async def until_files(pid: int, wanted: int) -> None:
    found = wanted
    for _ in range(1000):
        found = len(os.listdir(f"/proc/{pid}/fd"))
        if found <= wanted:
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"{found} descriptors are open, {wanted} were before")
