"""What a kind of fault is: its name, its rows of the catalogue, how it is done, and to whom.

Owns the words that all kinds share, and the scene in which they strike: the herd, one draw of
chance, and who is who at that moment. Leaves the table to `catalogue` and the doing to each
primitive's module.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from random import Random

import msgspec

from pgherd.chaos.disks import Disk
from pgherd.chaos.groups import Group
from pgherd.chaos.herd import Loopback
from pgherd.chaos.networks import Network

Undo = Callable[[], None]
THAW_SLACK_S = 15.0
"""A timer thaws so long after the run should have."""


SOON_S = 4.0
"""How long the second of two faults waits for a primary that the first one took away."""
NO_PRIMARY = "there is no primary"


class NotNow(Exception):
    """The fault cannot strike at this moment: whom it is for is not there."""


class Primitive(StrEnum):
    """By what a fault is done; the letters of the catalogue, and O for an operator's wish."""

    KILL = "K"
    PAUSE = "P"
    NETWORK = "N"
    DISK = "D"
    MEMORY = "M"
    SQL = "S"
    FILES = "F"
    OPERATOR = "O"


class Needs(StrEnum):
    """What of the ground a fault needs."""

    NOTHING = ""
    NETWORK = "a network per node"
    DISKS = "a file system per node"
    GROUPS = "control groups per node"


class Scene:
    """One strike: the herd, chance, how long it lasts. struck: whom, for the record."""

    def __init__(self, herd: Loopback, rng: Random, *, hold_s: float) -> None:
        self.herd = herd
        self.rng = rng
        self.hold_s = hold_s
        self.struck: list[str] = []

    @property
    def at_most_s(self) -> float:
        """When a timer undoes what nobody has undone."""
        return self.hold_s + THAW_SLACK_S

    def aim(self, name: str) -> str:
        """Note who is struck."""
        if name not in self.struck:
            self.struck.append(name)
        return name

    def primary(self) -> str:
        """The primary now; while there is none, whoever becomes it soon."""
        return self.aim(self._soon(self.herd.primary, NO_PRIMARY))

    def standby(self) -> str:
        """A data member that runs and does not lead."""
        primary = self._soon(self.herd.primary, NO_PRIMARY)
        running = [name for name in self.herd.data if self.herd.is_running(name)]
        names = [name for name in running if name != primary]
        if not names:
            raise NotNow("there is no standby")
        return self.aim(self.rng.choice(names))

    def _soon(self, ask: Callable[[], str | None], otherwise: str) -> str:
        """The name of a node that runs, asked for until there is one."""
        until = time.monotonic() + SOON_S
        while True:
            name = ask()
            if name is not None and self.herd.is_running(name):
                return name
            if time.monotonic() > until:
                raise NotNow(otherwise)
            time.sleep(0.1)

    def anybody(self) -> str:
        """A node that runs."""
        names = [name for name in self.herd.nodes if self.herd.is_running(name)]
        if not names:
            raise NotNow("nobody runs")
        return self.aim(self.rng.choice(names))

    def raft_leader(self) -> str:
        """Who leads consensus; while nobody does, whoever comes to."""
        return self.aim(self._soon(self.herd.raft_leader, "nobody leads consensus"))

    def others(self, *names: str) -> list[str]:
        """All nodes but these."""
        return [name for name in self.herd.nodes if name not in names]

    def network(self) -> Network:
        """The network between the nodes."""
        assert self.herd.network is not None
        return self.herd.network

    def group(self, name: str) -> Group:
        """A node's control groups."""
        return self.herd.groups[name]

    def disk(self, name: str, what: str) -> Disk:
        """A node's file system: `data` or `store`."""
        return self.herd.disks[name][what]

    def postmaster(self, name: str) -> int:
        """A node's postmaster, which lives."""
        try:
            return self.herd.postmaster_pid(name)
        except (OSError, ValueError, AssertionError) as error:
            raise NotNow(f"the server of {name} is down") from error

    def wait(self, condition: Callable[[], bool], what: str, *, seconds: float = 10.0) -> None:
        """Wait until something has come about that the fault needs."""
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                raise NotNow(f"{what} did not come about")
            time.sleep(0.05)


Strike = Callable[[Scene], Undo | None]


class Kind(msgspec.Struct, frozen=True):
    """One row of the table. rows: of the catalogue; none: it is beyond the catalogue.

    hold_s: for how long, drawn between these · fails_over: it usually costs the primary its place ·
    alone: it never strikes together with another, because what it leaves cannot be killed, or
    because it is many faults in itself.
    """

    name: str
    primitive: Primitive
    rows: tuple[int, ...]
    target: str
    how: str
    undone: str
    strike: Strike
    needs: Needs = Needs.NOTHING
    hold_s: tuple[float, float] = (1.0, 5.0)
    fails_over: bool = False
    alone: bool = False
