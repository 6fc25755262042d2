"""The WAL of the PostgreSQL model: records, and the data directory that holds them.

Every record has the same size, so that two servers that write apart reach the same LSNs: what
tells their logs apart is the identity of the records, which only the checks may look at.
"""

from __future__ import annotations

from pgherd.model.ids import Lsn, Position, Term, Timeline

RECORD_BYTES = 100
CHECKPOINTS = ("checkpoint", "shutdown")


class Record:
    """One WAL record. epoch: of the last epoch record up to and with this one · demand: how much of
    what it must match a standby needs from here on, 0: as before."""

    __slots__ = ("data", "demand", "depth", "epoch", "kind", "timeline")

    def __init__(
        self,
        *,
        depth: int,
        epoch: Term,
        timeline: Timeline,
        kind: str,
        data: int = 0,
        demand: int = 0,
    ) -> None:
        self.depth = depth
        self.epoch = epoch
        self.timeline = timeline
        self.kind = kind
        self.data = data
        self.demand = demand

    @property
    def end(self) -> Lsn:
        return Lsn((self.depth + 1) * RECORD_BYTES)

    def __repr__(self) -> str:
        return f"{self.kind}{self.data or ''}@{self.depth}/e{self.epoch}/t{self.timeline}"


class Directory:
    """A data directory: what is on disk, and how much of it a crash of the host leaves.

    flushed = records that are durable · branches = the timeline history (timeline, first depth) ·
    known = the highest timeline whose history file was ever seen · control = the timeline in
    pg_control, as of the last checkpoint · production = what that says the server was last: a
    primary · needs = records to replay before it takes connections · half_rewound = files of two
    histories lie in it · demands = records with a demand, by depth · replayed = how much ever was.
    """

    def __init__(self, system_id: str, incarnation: str) -> None:
        first = Record(depth=0, epoch=Term(0), timeline=Timeline(1), kind="checkpoint")
        self.system_id = system_id
        self.incarnation = incarnation
        self.wal: list[Record] = [first]
        self.flushed = 1
        self.branches: list[tuple[Timeline, int]] = [(Timeline(1), 0)]
        self.known = Timeline(1)
        self.control = Timeline(1)
        self.needs = 0
        self.oldest = 0
        self.half_rewound = False
        self.production = False
        self.slots: tuple[str, ...] = ()
        self.demands: list[tuple[int, int]] = []
        self.replayed = 0

    @property
    def timeline(self) -> Timeline:
        return self.wal[-1].timeline

    def position(self, count: int) -> Position:
        """The position after that many records."""
        last = self.wal[count - 1]
        return Position(last.epoch, last.end)

    def holds(self, record: Record) -> bool:
        """Whether this very record is durable here."""
        return record.depth < self.flushed and self.wal[record.depth] is record

    def extend(self, records: list[Record]) -> None:
        """Take records over, with the timelines that they open."""
        for record in records:
            if record.timeline != self.wal[-1].timeline:
                self.branches.append((record.timeline, record.depth))
                self.known = max(self.known, record.timeline)
            if record.kind in CHECKPOINTS:
                self.control = record.timeline
            if record.demand:
                self.demands.append((record.depth, record.demand))
            self.wal.append(record)

    def cut(self, count: int) -> None:
        """Lose everything behind that many records."""
        del self.wal[count:]
        self.flushed = min(self.flushed, count)
        self.branches = [(t, first) for t, first in self.branches if first < count]
        self.demands = [(depth, demand) for depth, demand in self.demands if depth < count]

    def demanded(self) -> int:
        """What pg_control says that a standby needs, as of what was ever replayed here."""
        seen = (demand for depth, demand in reversed(self.demands) if depth < self.replayed)
        return next(seen, 0)

    def branch_end(self, timeline: Timeline) -> int | None:
        """How many records this history has up to the end of a timeline; None if not in it."""
        for (mine, _), following in zip(self.branches, [*self.branches[1:], None], strict=True):
            if mine == timeline:
                return following[1] if following is not None else len(self.wal)
        return None

    def last_checkpoint(self, before: int) -> int:
        """The count of records up to and with the last checkpoint below a count."""
        for record in reversed(self.wal[:before]):
            if record.kind in CHECKPOINTS:
                return record.depth + 1
        return 1

    def copy(self, *, incarnation: str) -> Directory:
        """A base backup: what is durable now, under a new incarnation."""
        twin = Directory(self.system_id, incarnation)
        twin.wal = self.wal[: self.flushed]
        twin.flushed = twin.needs = len(twin.wal)
        twin.branches = [(t, first) for t, first in self.branches if first < twin.flushed]
        twin.known, twin.control = self.known, self.control
        twin.demands, twin.replayed = list(self.demands), self.flushed
        return twin
