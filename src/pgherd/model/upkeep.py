"""What operators have in hand with the herd: pauses, servers at rest, work that takes a while.

Owns the shape of these facts. How they change is `ledger.upkeep`'s, what follows from them the
deciders'. Times are the wall clock of whoever proposed, in ms since 1970.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from pgherd.model.ids import NodeId, Term


class Pause(msgspec.Struct, frozen=True):
    """Nobody fails over and nothing is repaired by itself. until_ms: 0 where it has no end."""

    id: str
    requested_by: str
    reason: str
    since_ms: int
    until_ms: int = 0

    @property
    def sentence(self) -> str:
        """For people: that it is so, by whom and why."""
        why = f" ({self.reason})" if self.reason else ""
        return f"the cluster is paused by {self.requested_by}{why}"


class Stopped(msgspec.Struct, frozen=True):
    """A server that an operator stopped: it stays so until it is started by hand."""

    requested_by: str
    since_ms: int


class Care(msgspec.Struct, frozen=True):
    """A node in maintenance: commits, reads and elections do without it where they can.

    allow_failover: it may lead all the same · until_ms: 0 where it has no end.
    """

    requested_by: str
    reason: str
    since_ms: int
    allow_failover: bool = False
    until_ms: int = 0

    @property
    def sentence(self) -> str:
        """For people: that it is so, by whom and why."""
        why = f" ({self.reason})" if self.reason else ""
        return f"in maintenance by {self.requested_by}{why}"


class Verb(StrEnum):
    """What takes a while: with PostgreSQL on nodes, one after the other, or with the herd."""

    RESTART = "restart"
    RELOAD = "reload"
    STOP = "stop"
    START = "start"
    REINIT = "reinitialize"
    SWITCHOVER = "switchover"
    MAINTENANCE = "maintenance"

    @property
    def by_turns(self) -> bool:
        """Whether it takes nodes in hand."""
        return self not in (Verb.SWITCHOVER, Verb.MAINTENANCE)


class WorkState(StrEnum):
    """Where work stands; the last three are ends."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Work(msgspec.Struct, frozen=True):
    """Something that an operator asked for and that takes a while, node by node.

    nodes: all that it is about · finished: those that have done their part · node: who is in hand,
    None between two · mark: what its server was when it was taken in hand (the id of a postmaster,
    the incarnation of a directory), so that it is seen to be another one · step: how often it went
    on, for commands that come late · text: what it does or waits for · not_before_ms: when it is
    due · rolling: the primary hands over before its turn, else it is restarted in place · force:
    also where it costs · cancelling: it ends after the node in hand · only_pending: a node whose
    server waits for no restart when its turn comes is passed over · only_outdated: likewise one
    whose server is not older than what is on its disk: a minor upgrade · source, from_leader: from
    whom a copy is taken; neither: from who is best asked then · term: in which it was asked for, 0
    where older programs wrote it down.

    A switchover names its candidate, or nobody, and never takes a node in hand.
    """

    id: str
    verb: Verb
    nodes: tuple[NodeId, ...]
    requested_by: str
    asked_at_ms: int
    reason: str = ""
    not_before_ms: int = 0
    rolling: bool = False
    force: bool = False
    state: WorkState = WorkState.PENDING
    node: NodeId | None = None
    mark: str = ""
    step: int = 0
    text: str = ""
    finished: tuple[NodeId, ...] = ()
    stepped_at_ms: int = 0
    ended_at_ms: int = 0
    cancelling: bool = False
    source: NodeId | None = None
    from_leader: bool = False
    only_pending: bool = False
    term: Term = Term(0)
    only_outdated: bool = False

    @property
    def what(self) -> str:
        """For people: what is done, and with whom."""
        if self.verb is Verb.SWITCHOVER:
            return f"switchover to {', '.join(self.nodes) or 'the best candidate'}"
        if self.only_outdated:
            return f"minor upgrade of {', '.join(self.nodes)}"
        return f"{self.verb.value} of {', '.join(self.nodes)}"

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.state in (WorkState.PENDING, WorkState.RUNNING)


class Upkeep(msgspec.Struct, frozen=True):
    """All of it. works: the newest last; only so many that ended are kept."""

    pause: Pause | None = None
    stopped: dict[NodeId, Stopped] = {}
    works: tuple[Work, ...] = ()
    maintenance: dict[NodeId, Care] = {}

    def spares(self, node: NodeId) -> bool:
        """Whether no new session is led to a node, for somebody works on it."""
        work = self.in_hand(node)
        return node in self.maintenance or (work is not None and work.verb is not Verb.RELOAD)

    def open_works(self) -> tuple[Work, ...]:
        """What has not ended, in the order in which it was asked for."""
        return tuple(work for work in self.works if work.is_open)

    def in_hand(self, node: NodeId) -> Work | None:
        """The work that has this node in hand."""
        return next((work for work in self.open_works() if work.node == node), None)

    def scheduled(self) -> tuple[Work, ...]:
        """What is for later, the earliest first."""
        later = [w for w in self.works if w.state is WorkState.PENDING and w.not_before_ms]
        return tuple(sorted(later, key=lambda work: work.not_before_ms))

    def at_work(self, beside: Work) -> Work | None:
        """Other work that has begun with some of the same nodes."""
        begun = (w for w in self.works if w.state is WorkState.RUNNING and w.verb.by_turns)
        nodes = set(beside.nodes)
        return next((w for w in begun if w.id != beside.id and nodes & set(w.nodes)), None)

    def work(self, id: str) -> Work | None:
        """The work of this id, as far as it is kept."""
        return next((work for work in self.works if work.id == id), None)
