"""The words of a pool: its limits, the steps that it asks for, and what people see of it.

Owns the values alone; when a step is due is `pooling`'s, and how it is taken `relay`'s.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from pgherd.wire.answer import Refusal


class PoolLimits(msgspec.Struct, frozen=True):
    """What the operator allows one pool.

    size: servers at most, and reserve: so many more once a client has waited for reserve_after_ms ·
    min_size: so many are kept open though nobody needs them · queue: clients that wait at most, 0 =
    no limit · wait_ms: how long one waits, idle_ms, lifetime_ms: see the module's text; 0 = no end.
    """

    size: int = 20
    min_size: int = 0
    reserve: int = 0
    reserve_after_ms: int = 5_000
    queue: int = 0
    wait_ms: int = 120_000
    idle_ms: int = 600_000
    lifetime_ms: int = 3_600_000


class Open(msgspec.Struct, frozen=True, tag=True):
    """Dial and log in one more server, and say what came of it: `opened`, `not_opened`."""

    ticket: int


class Lend(msgspec.Struct, frozen=True, tag=True):
    """This client has that server until it is given back, lost, or the client leaves."""

    server: int
    client: int


class Close(msgspec.Struct, frozen=True, tag=True):
    """End a server that nobody has. The pool has forgotten it: nothing is to be told of it."""

    server: int
    why: str


class Refuse(msgspec.Struct, frozen=True, tag=True):
    """This client waits no more."""

    client: int
    refusal: Refusal


Step = Open | Lend | Close | Refuse


class Seen(msgspec.Struct, frozen=True):
    """A pool as people are told of it.

    resetting: given up by a client and not lendable yet · longest_wait_ms: of those that wait now ·
    the rest: totals since the pool began; waited_ms: of all that got a server after a wait.
    """

    clients_active: int
    clients_waiting: int
    servers_active: int
    servers_idle: int
    servers_opening: int
    servers_resetting: int
    longest_wait_ms: int
    is_paused: bool
    lent: int
    waited: int
    waited_ms: int
    opened: int
    not_opened: int
    closed: int
    refused: int

    def with_another(self, other: Seen) -> Seen:
        """Two pools as one."""
        mine, others = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        both = Seen(*(one + another for one, another in zip(mine, others, strict=True)))
        return msgspec.structs.replace(
            both,
            longest_wait_ms=max(self.longest_wait_ms, other.longest_wait_ms),
            is_paused=self.is_paused and other.is_paused,
        )


class ServerSeen(msgspec.Struct, frozen=True):
    """One server. state: active, idle or resetting · client: who has it · born: when it was opened
    (BOOTTIME ms).
    """

    number: int
    state: str
    client: int | None
    born: int


class Room(Protocol):
    """Limits across pools. A place is taken for a server before it is opened."""

    def take(self) -> bool:
        """Take one more place, if there is one."""

    def give(self) -> None:
        """Give a place back."""


class Boundless:
    """Room without limits."""

    def take(self) -> bool:
        return True

    def give(self) -> None:
        pass
