"""How a node itself is, beside its server: its memory, and whom it reaches by which channel.

Owns the shape, and from where on people are warned. It is asked for and shown; no decision rests
on it.
"""

from __future__ import annotations

import msgspec

from pgherd.model.ids import NodeId

MEMORY_LOW_PERCENT = 5
"""With less of its memory available a machine begins to throw out what it needs."""
SWAP_USED_PERCENT = 50
OOM_SAID_MS = 3_600_000
UNREACHED_TRIES = 3
"""A channel that is not reached so often in a row is told of; less may be a restart."""
RTT_MS_MAX = 100
"""A round trip as long as the heartbeat: every commit and every decision waits for it."""


class Memory(msgspec.Struct, frozen=True):
    """Memory of this machine, or of the control group that this node may use, if that is less.

    oom_kills: processes that the kernel has killed here for want of it, since the machine's start.
    """

    size_bytes: int
    available_bytes: int
    swap_size_bytes: int = 0
    swap_used_bytes: int = 0
    oom_kills: int = 0


class PeerSeen(msgspec.Struct, frozen=True):
    """Another node as it is reached from here by one channel (raft, api, postgresql).

    rtt_ms: -1 where none was measured · failures: tries in a row that did not reach it · problem:
    of the last of them.
    """

    node: NodeId
    channel: str
    is_up: bool
    rtt_ms: float = -1.0
    failures: int = 0
    problem: str = ""


class Vitals(msgspec.Struct, frozen=True):
    """One look. oom_kills: of the last hour · process_bytes: resident memory of our processes."""

    memory: Memory | None = None
    peers: tuple[PeerSeen, ...] = ()
    oom_kills: int = 0
    process_bytes: dict[str, int] = {}

    def warnings(self, *, expected: frozenset[tuple[NodeId, str]]) -> list[str]:
        """What people should know. expected: who should be reached, by which channel."""
        found = memory_warnings(self.memory, self.oom_kills) if self.memory is not None else []
        for peer in self.peers:
            if peer.failures >= UNREACHED_TRIES and (peer.node, peer.channel) in expected:
                found.append(f"it does not reach {peer.node} by {peer.channel}: {peer.problem}")
            elif peer.is_up and peer.rtt_ms > RTT_MS_MAX:
                took = f"{peer.rtt_ms:.0f} ms, more than {RTT_MS_MAX} ms"
                found.append(f"a round trip to {peer.node} by {peer.channel} takes {took}")
        return found


def memory_warnings(memory: Memory, oom_kills: int) -> list[str]:
    """What is wrong with a machine's memory."""
    found = []
    if memory.available_bytes * 100 < memory.size_bytes * MEMORY_LOW_PERCENT:
        left, size = memory.available_bytes >> 20, memory.size_bytes >> 20
        found.append(f"only {left} MB of its {size} MB of memory are available")
    if memory.swap_used_bytes * 100 > memory.swap_size_bytes * SWAP_USED_PERCENT:
        used, size = memory.swap_used_bytes >> 20, memory.swap_size_bytes >> 20
        found.append(f"{used} MB of its {size} MB of swap are in use")
    if oom_kills:
        what = "a process" if oom_kills == 1 else f"{oom_kills} processes"
        found.append(f"the kernel killed {what} for want of memory within the last hour (dmesg)")
    return found
