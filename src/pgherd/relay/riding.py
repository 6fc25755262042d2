"""What is told of clients and servers that ride (`carrying`), and what stands in for a client.

Owns the values, in the order in which the extension gives them (_shuttle.pyi), and the seat.
"""

from __future__ import annotations

import asyncio
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from pgherd.route.poolsteps import Seen

K = TypeVar("K")

RESTING, ASKING, WAITING, RUNNING, OPEN = range(5)
"""States of a client; see _shuttle.h."""


class HandedOver(msgspec.Struct, frozen=True):
    """A client that comes back, in the order of the news.

    server: 0 = it has none · status: of its transaction before what was `said`, which is under way
    if is_running; nothing of the answer has passed if is_tried · unnamed: what it parsed without a
    name, if that is there and is_other than before · heard: what changes a session, of the answer
    so far · kept: what it said besides · rest: what the server said last, and nobody heard · left:
    bytes of a server's message whose beginning has passed.
    """

    client: int
    pool: int
    why: int
    server: int
    status: int
    is_running: bool
    is_tried: bool
    unnamed: bytes | None
    unnamed_is_other: bool
    said: bytes
    heard: bytes
    kept: bytes
    rest: bytes
    client_out: bytes
    server_out: bytes
    left: int
    simple: int
    extended: int
    waited_ms: int


class Look(msgspec.Struct, frozen=True):
    """A client that rides. server: 0 = it has none."""

    state: int
    server: int
    stirred: bool
    out_bytes: int
    server_out_bytes: int
    kept_bytes: int
    simple: int
    extended: int
    waits_ms: int

    @property
    def is_idle(self) -> bool:
        """Whether it has no server, and said nothing that needs one."""
        return self.state == RESTING and not self.kept_bytes

    @property
    def is_busy(self) -> bool:
        """Whether it said something that is not answered."""
        return self.state in (ASKING, WAITING, RUNNING) or bool(self.kept_bytes)


class Counts(msgspec.Struct, frozen=True):
    """What rides of one pool, and what was done."""

    clients: int = 0
    servers: int = 0
    idle: int = 0
    waiting: int = 0
    longest_wait_ms: int = 0
    lent: int = 0
    waited: int = 0
    waited_ms: int = 0
    tried: int = 0
    classes: tuple[int, ...] = ()


class Numbers(Generic[K]):
    """A number for each thing, from 1 on: the same for the same one. So many are remembered;
    beyond that all are forgotten, and no number is given twice.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: dict[K, int] = {}
        self._last = 0

    def of(self, thing: K) -> int:
        """Its number."""
        number = self._found.get(thing)
        if number is None:
            if len(self._found) >= self._most:
                self._found.clear()
            self._last += 1
            number = self._found[thing] = self._last
        return number


class Rider(Protocol):
    """What a seat does for whom it is kept."""

    def come_back(self) -> None:
        """Have it here again."""


class Seat(asyncio.Transport):
    """In place of a riding client's transport: whatever is done to it, it comes back first."""

    __slots__ = ("_rider", "transport")

    def __init__(self, transport: asyncio.Transport, rider: Rider) -> None:
        self.transport = transport
        self._rider = rider

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self.transport.is_closing()

    def is_reading(self) -> bool:
        return True

    def write(self, data: Any) -> None:
        self._back().write(data)

    def can_write_eof(self) -> bool:
        return self._back().can_write_eof()

    def write_eof(self) -> None:
        self._back().write_eof()

    def close(self) -> None:
        self._back().close()

    def abort(self) -> None:
        self._back().abort()

    def pause_reading(self) -> None:
        self._back().pause_reading()

    def resume_reading(self) -> None:
        """It is read already, elsewhere."""

    def get_write_buffer_size(self) -> int:
        return self._back().get_write_buffer_size()

    def _back(self) -> asyncio.Transport:
        self._rider.come_back()
        return self.transport


def with_riding(seen: Seen, counts: Counts, *, fetching: int, fetched: int) -> Seen:
    """A pool as people are told of it, where some of its servers ride."""
    return msgspec.structs.replace(
        seen,
        clients_active=max(0, seen.clients_active - counts.idle),
        servers_active=max(0, seen.servers_active - counts.idle),
        servers_idle=seen.servers_idle + counts.idle,
        clients_waiting=max(0, seen.clients_waiting - fetching) + counts.waiting,
        longest_wait_ms=max(seen.longest_wait_ms, counts.longest_wait_ms),
        lent=max(0, seen.lent - fetched) + counts.lent,
        waited=seen.waited + counts.waited,
        waited_ms=seen.waited_ms + counts.waited_ms,
    )


def added(one: Counts, other: Counts) -> Counts:
    """The totals of two alone."""
    return with_totals(with_totals(Counts(), one), other)


def with_totals(seen: Counts, before: Counts) -> Counts:
    """What rides now, with what was done before."""
    longer = max(len(seen.classes), len(before.classes))
    mine, its = ((*one.classes, *[0] * (longer - len(one.classes))) for one in (seen, before))
    return msgspec.structs.replace(
        seen,
        lent=seen.lent + before.lent,
        waited=seen.waited + before.waited,
        waited_ms=seen.waited_ms + before.waited_ms,
        classes=tuple(one + another for one, another in zip(mine, its, strict=True)),
    )
