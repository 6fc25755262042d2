"""Identities and positions: who a node is, and how far a write-ahead log reaches.

Distinct types for distinct things, so that a term is never passed where a timeline is meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NewType

import msgspec

NodeId = NewType("NodeId", str)
"""A node's configured name; its id everywhere."""

RaftId = NewType("RaftId", int)
"""The consensus core's number for (name, incarnation of the store); never re-used."""

Term = NewType("Term", int)
"""The number of a reign, given by the ledger at every election. 0 = before the first."""

Timeline = NewType("Timeline", int)
"""PostgreSQL's timeline id. Never compared to order positions (PROTOCOL.md 0.6)."""

Lsn = NewType("Lsn", int)
"""A WAL position in bytes (PostgreSQL docs, pg_lsn)."""

Instant = NewType("Instant", int)
"""Milliseconds of a monotonic clock that counts suspend (BOOTTIME); comparable on one node only."""

NODE_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
CLOSED_NAME = "pgherd-closed"
"""The standby name that no connection may carry: under it no commit is acknowledged."""

CLOSED_NAMES = f'"{CLOSED_NAME}"'
"""synchronous_standby_names that hold it alone; quoted, it has a hyphen."""

APPLICATION_NAME_BYTES_MAX = 63


def listed(keys: Iterable[MemberKey]) -> str:
    """The nodes of some copies, by name, for people."""
    return ", ".join(sorted({key.node for key in keys}))


def parse_lsn(text: str) -> Lsn:
    """Read PostgreSQL's `X/Y` form."""
    high, _, low = text.partition("/")
    return Lsn((int(high, 16) << 32) | int(low, 16))


def format_lsn(lsn: Lsn) -> str:
    """Write PostgreSQL's `X/Y` form."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def name_is_valid(name: str) -> bool:
    """Whether a text may be a node's name."""
    return NODE_NAME.fullmatch(name) is not None and name != CLOSED_NAME


class Position(msgspec.Struct, frozen=True, order=True):
    """How far a node's WAL reaches: compared by epoch first, then by LSN (PROTOCOL.md 1).

    epoch = the term of the last epoch record in the WAL; lsn = end of the last complete record.
    """

    epoch: Term
    lsn: Lsn

    def __str__(self) -> str:
        return f"{self.epoch}:{format_lsn(self.lsn)}"


class MemberKey(msgspec.Struct, frozen=True, order=True):
    """A member for the safety protocol: a node's name and the incarnation of its data directory."""

    node: NodeId
    incarnation: str

    def token(self, term: Term) -> str:
        """The application_name under which this member streams in a term."""
        text = f"{self.node}.{self.incarnation}@{term}"
        assert len(text.encode()) <= APPLICATION_NAME_BYTES_MAX, text
        return text

    def __str__(self) -> str:
        return f"{self.node}.{self.incarnation}"


def parse_token(text: str) -> tuple[MemberKey, Term] | None:
    """Read `name.incarnation@term`; None for anything else."""
    who, at, term = text.rpartition("@")
    node, dot, incarnation = who.rpartition(".")
    if not at or not dot or not term.isdigit() or not name_is_valid(node):
        return None
    return MemberKey(NodeId(node), incarnation), Term(int(term))


def slot_name(node: NodeId) -> str:
    """The physical replication slot that serves a node (letters, digits and underscore only)."""
    return "pgherd_" + node.replace("-", "_")


FORWARD_SLOT = "pgherd__forward_"
"""What a slot for a fast-forward begins with; no node's own slot does, for names begin so: `n`."""


LENT_SLOT = "pgherd__"
"""What the slot of every standby that feeds another one begins with, whatever it is for."""

FEED_SLOT = "pgherd__feed_"
"""What a slot begins with through which a standby feeds a cascading replica, for one term."""


def feed_slot(node: NodeId, term: Term) -> str:
    """The slot through which a standby feeds a replica while both are of this term.

    Its name says the term, so that nobody is fed any longer once the standby has left it.
    """
    return f"{FEED_SLOT}{term}_" + node.replace("-", "_")


def forward_slot(node: NodeId) -> str:
    """The slot through which a sealed holder lends its WAL to a node, while an election lasts."""
    return FORWARD_SLOT + node.replace("-", "_")
