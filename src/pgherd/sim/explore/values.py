"""What a state of the exploration consists of: small immutable tuples, and plain facts about WAL.

A record of WAL is a number: the epoch in force times 1000, plus 0 for an epoch record (with the
checkpoint that follows a promotion), 900 and more for the start of a timeline, or the number of the
client's transaction. So two logs agree exactly where their numbers do.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from pgherd.model.ids import CLOSED_NAMES, Lsn, MemberKey, NodeId, Position, Term
from pgherd.model.observation import Server

Wal = tuple[int, ...]
Pos = tuple[int, int]
"""Epoch and LSN; an LSN is a count of records."""

EPOCH = 1000
TIMELINE = 900
BASE: Wal = (0,)


class Names(NamedTuple):
    """A value of synchronous_standby_names. k: -1 closed, 0 empty; term, generation: for checks."""

    k: int
    members: tuple[tuple[int, int], ...] = ()
    term: int = 0
    generation: int = 0

    def counts(self, sender: Sender) -> bool:
        """Whether a walsender that reads these names is a synchronous standby's."""
        return sender.term == self.term and (sender.to, sender.copy) in self.members


CLOSED = Names(-1)


class Sender(NamedTuple):
    """A walsender: to which node, copy and token term; its own reading of the names.

    flush: what the standby has confirmed here · sent: what it has confirmed, arrived or not.
    """

    to: int
    copy: int
    term: int
    names: Names
    flush: int
    sent: int


class Upstream(NamedTuple):
    """What primary_conninfo names: a node, and the token; on loan, in an election, of term 0."""

    node: int
    term: int
    copy: int


class Disk(NamedTuple):
    """Promises as the disk has them, where they are not what the agent believes."""

    promise: int
    elector: int
    adopted: int
    frozen: Pos | None
    floor: tuple[int, int, int] | None


DOWN = -1
"""What an agent that is not there knows, or one that has just come and must ask first."""

NEWEST = -2
"""Of a member that acts on the ledger as it is: only a primary can do harm with an older one."""


class Node(NamedTuple):
    """One data member. seen: the ledger that its agent knows, or DOWN, or NEWEST.

    copy: the incarnation's number · real: how many copies it had, whatever they are called ·
    waiting: commits whose sessions wait · cp: the names that the checkpointer has read, of which it
    matters only whether they are empty; closed stands for all others · doing: an act in several
    steps · checked: the term since whose promotion a checkpoint is done · lent: to whom it lends.
    """

    server: Server
    wal: Wal
    seen: int
    promise: int = 0
    elector: int = -1
    adopted: int = 0
    frozen: Pos | None = None
    floor: tuple[int, int, int] | None = None
    dirty: bool = False
    copy: int = 1
    real: int = 1
    upstream: Upstream | None = None
    receiver: Upstream | None = None
    senders: tuple[Sender, ...] = ()
    names: Names = CLOSED
    cp: Names = CLOSED
    generation: int = 0
    settled: int = 0
    waiting: tuple[int, ...] = ()
    checked: int = 0
    handed: bool = False
    doing: tuple[object, ...] | None = None
    dead_end: bool = False
    disk: Disk | None = None
    lent: int = -1


class State(NamedTuple):
    """Everything. nodes: numbers of nodes in the explorer's table · flight: a proposal under way.

    acked: transactions acknowledged, a bit each · spent: how often each limited event happened.
    """

    facts: int
    nodes: tuple[int, ...]
    acked: int
    written: int
    elector: int
    flight: int
    spent: tuple[int, ...]


def node_name(index: int) -> NodeId:
    """The first node is n1."""
    return NodeId(f"n{index + 1}")


@cache
def key_of(index: int, copy: int) -> MemberKey:
    """The ledger's name for a copy; 0 has none."""
    return MemberKey(node_name(index), f"c{copy}" if copy else "")


@cache
def index_of(key: MemberKey) -> tuple[int, int]:
    """The reverse of `key_of`."""
    return int(key.node[1:]) - 1, int(key.incarnation[1:] or 0)


@cache
def names_text(names: Names) -> str:
    """As PostgreSQL shows them."""
    if names.k < 0:
        return CLOSED_NAMES
    listed = ", ".join(f'"{key_of(*one).token(Term(names.term))}"' for one in names.members)
    return f"ANY {names.k} ({listed})" if names.k else ""


# -- WAL -----------------------------------------------------------------------------------------


def epoch(wal: Wal) -> int:
    """The term of the last epoch record."""
    return wal[-1] // EPOCH


def position(wal: Wal) -> Pos:
    """Where a log ends."""
    return wal[-1] // EPOCH, len(wal)


def as_position(pos: Pos) -> Position:
    """The product's value."""
    return Position(Term(pos[0]), Lsn(pos[1]))


def with_timeline(wal: Wal, term: int) -> Wal:
    """A promotion: a timeline begins, still under the old epoch."""
    return (*wal, epoch(wal) * EPOCH + TIMELINE + term % 97)


def with_epoch(wal: Wal, term: int) -> Wal:
    """The epoch record of a term."""
    return (*wal, term * EPOCH)


def with_write(wal: Wal, number: int) -> Wal:
    """A client's row."""
    return (*wal, epoch(wal) * EPOCH + number)


@cache
def held(wal: Wal) -> int:
    """Which transactions a log has, a bit each."""
    return sum(1 << code % EPOCH for code in wal if 0 < code % EPOCH < TIMELINE)


def lsn_of(wal: Wal, number: int) -> int:
    """Where a transaction of this log ends."""
    return next(at for at, code in enumerate(wal, 1) if code % EPOCH == number)


@cache
def branches(wal: Wal) -> tuple[tuple[int, int], ...]:
    """The timeline history: number and first record of each. Numbers collide as PostgreSQL's do."""
    starts = [at for at, code in enumerate(wal) if code % EPOCH >= TIMELINE]
    return ((1, 0), *((number, at) for number, at in enumerate(starts, 2)))


def timeline(wal: Wal) -> int:
    """The number of the last timeline."""
    return branches(wal)[-1][0]


def branch_end(wal: Wal, number: int) -> int | None:
    """How many records a log has up to the end of a timeline; None when it is not in it."""
    known = branches(wal)
    for place, (mine, _) in enumerate(known):
        if mine == number:
            return known[place + 1][1] if place + 1 < len(known) else len(wal)
    return None


def fork(mine: Wal, theirs: Wal) -> int:
    """Where pg_rewind sees two logs part: by their timeline histories alone."""
    at = 0
    for a, b in zip(branches(mine), branches(theirs), strict=False):
        if a != b:
            break
        at = min(branch_end(mine, a[0]) or 0, branch_end(theirs, b[0]) or 0)
    return at


def last_checkpoint(wal: Wal, before: int) -> int:
    """The count of records up to and with the last checkpoint below a count."""
    return max(at for at in range(1, before + 1) if wal[at - 1] % EPOCH == 0)
