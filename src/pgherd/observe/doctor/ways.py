"""Tries every port of every member from here, all beside each other, each within a deadline.

A connection is opened and closed; no protocol is spoken. Who refuses, who says nothing, and whose
name is not known, are told apart.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Mapping

from pgherd.model.checkup import Reached, Way
from pgherd.model.facts import Address
from pgherd.model.ids import NodeId

DEADLINE_S = 2.0


def channels(address: Address) -> dict[str, tuple[str, int]]:
    """Every port of a member, by channel, without those that it does not have."""
    found = {
        "raft": address.raft(),
        "api": address.api(),
        "postgresql": address.postgres(),
        "proxy": address.proxy(),
        "proxy-replica": address.proxy(replica=True),
    }
    return {name: where for name, where in found.items() if where[1]}


async def try_all(members: Mapping[NodeId, Address]) -> tuple[Way, ...]:
    """Every channel of each of these."""
    tries = [
        attempt(node, channel, host, port)
        for node, address in sorted(members.items())
        for channel, (host, port) in channels(address).items()
    ]
    return tuple(await asyncio.gather(*tries))


async def attempt(node: str, channel: str, host: str, port: int) -> Way:
    """One port."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(DEADLINE_S):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        problem = f"no answer in {DEADLINE_S:g} s"
        return Way(node, channel, host, port, Reached.SILENT, problem=problem)
    except ConnectionRefusedError:
        return Way(node, channel, host, port, Reached.REFUSED, problem="nothing listens there")
    except (socket.gaierror, UnicodeError) as error:
        problem = str(getattr(error, "strerror", error))
        return Way(node, channel, host, port, Reached.UNRESOLVED, problem=problem)
    except OSError as error:
        problem = error.strerror or str(error)
        return Way(node, channel, host, port, Reached.FAILED, problem=problem)
    writer.close()
    return Way(node, channel, host, port, Reached.OK, took_ms=(time.monotonic() - began) * 1000)
