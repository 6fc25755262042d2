"""Whether other nodes are reached, channel by channel, and how long a round trip takes.

Opens a connection to each port that is asked for and closes it again, all beside each other, each
within a deadline. Owns the counting of failures in a row. What is known without a connection of its
own (the peer channel, a stream of WAL) is the caller's to say.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from pgherd.model.ids import NodeId
from pgherd.model.vitals import PeerSeen

DEADLINE_S = 2.0
Place = tuple[NodeId, str]


class Reach:
    """What was seen of each (node, channel), the newest look at a time."""

    def __init__(self) -> None:
        self._seen: dict[Place, PeerSeen] = {}

    def seen(self) -> tuple[PeerSeen, ...]:
        """Everything, by name and channel."""
        return tuple(one for _, one in sorted(self._seen.items()))

    def keep(self, places: set[Place]) -> None:
        """Forget who is no member any more."""
        for gone in set(self._seen) - places:
            del self._seen[gone]

    def note(self, place: Place, *, problem: str, rtt_ms: float = -1.0) -> None:
        """One look at a channel; problem: "" for one that works."""
        node, channel = place
        before = self._seen.get(place)
        failures = (before.failures if before is not None else 0) + 1 if problem else 0
        self._seen[place] = PeerSeen(
            node, channel, is_up=not problem, rtt_ms=rtt_ms, failures=failures, problem=problem
        )

    async def try_all(self, targets: Mapping[Place, tuple[str, int]]) -> None:
        """Open a connection to each of these."""
        await asyncio.gather(*(self._try(place, *where) for place, where in targets.items()))

    async def _try(self, place: Place, host: str, port: int) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(DEADLINE_S):
                _, writer = await asyncio.open_connection(host, port)
        except TimeoutError:
            self.note(place, problem=f"{host} port {port} gives no answer in {DEADLINE_S:g} s")
        except OSError as error:
            self.note(place, problem=f"{host} port {port}: {error.strerror or error}")
        else:
            self.note(place, problem="", rtt_ms=(time.monotonic() - began) * 1000)
            writer.close()
