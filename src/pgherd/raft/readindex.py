"""Linearizable reads without a log entry (dissertation 6.4).

A read may be answered from the state at the commit index it arrived at, once a quorum confirmed
that this node still led *after* it arrived. Owns that confirmation: reads are numbered, each
heartbeat carries the highest number waiting, and a quorum that answered number n confirmed all
reads up to n. Valid within one term only; a new term starts a new queue.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pgherd.raft.majority import committed_index
from pgherd.raft.types import ConfState

READS_WAITING_MAX = 4096
"""Reads beyond this are dropped, as if their message had been lost: the asker tries again."""
NUMBER_BYTES = 8


class Read(NamedTuple):
    """Who asked, with what context, and (once known) the index it must see applied."""

    asker: int
    context: bytes
    at: int = 0


class ReadQueue:
    """Reads of one leader in one term."""

    def __init__(self) -> None:
        self._early: list[Read] = []
        self._waiting: list[Read] = []
        self._confirmed = 0
        self._acks: dict[int, int] = {}

    def is_full(self) -> bool:
        """Whether a further read must be dropped."""
        return len(self._early) + len(self._waiting) >= READS_WAITING_MAX

    def postpone(self, read: Read) -> None:
        """Keep a read until an entry of the own term is committed: commit may be too low."""
        self._early.append(read)

    def take_postponed(self) -> list[Read]:
        """The reads that were kept, once."""
        early, self._early = self._early, []
        return early

    def add(self, read: Read) -> None:
        """Wait for a quorum from now on."""
        self._waiting.append(read)

    def context(self) -> bytes:
        """What a heartbeat has to carry; empty when nothing waits."""
        if not self._waiting:
            return b""
        return (self._confirmed + len(self._waiting)).to_bytes(NUMBER_BYTES, "big")

    def acknowledge(self, node: int, context: bytes) -> None:
        """A node returned the context of a heartbeat."""
        if len(context) == NUMBER_BYTES:
            number = int.from_bytes(context, "big")
            self._acks[node] = max(self._acks.get(node, 0), number)

    def take_confirmed(self, conf: ConfState) -> list[Read]:
        """The reads that a quorum has confirmed, once."""
        if not self._waiting:
            return []
        reached = committed_index(conf, self._acks_known()) or 0
        count = reached - self._confirmed
        if count <= 0:
            return []
        done, self._waiting = self._waiting[:count], self._waiting[count:]
        self._confirmed = reached
        return done

    def _acks_known(self) -> Mapping[int, int]:
        """Acknowledgements, none of them above what was ever sent."""
        sent = self._confirmed + len(self._waiting)
        return {node: min(number, sent) for node, number in self._acks.items()}
