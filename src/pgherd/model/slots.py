"""Replication slots: what a server was seen to have, and those that the cluster keeps for people.

Owns their shape and their names. Which ones a node has is `plan.slotkeeping`'s, how the list of
kept ones changes `ledger.slots`'s (docs/adr/0049-slots-and-what-a-commit-waits-for.md).
"""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from pgherd.model.ids import Lsn, Term

OURS = "pgherd_"
"""What the name of every slot of a member begins with; nobody else's does."""
NAME = re.compile(r"[a-z0-9_]{1,63}")
SYNCED_FROM_MAJOR = 17
"""From here on PostgreSQL itself copies logical slots to standbys (failover slots)."""


class SlotKind(StrEnum):
    """What is read through a slot: WAL as it is, or changes decoded from it."""

    PHYSICAL = "physical"
    LOGICAL = "logical"


class KeptSlot(msgspec.Struct, frozen=True):
    """A slot that exists on whoever is primary, until somebody drops it.

    database, plugin: of a logical one · asked_in: the term in which it was asked for, the last
    time: a logical slot is made in that term only, for one that is made anew has a gap before it ·
    dropping: it is to go, and stays listed until no member has it.
    """

    name: str
    kind: SlotKind
    requested_by: str
    asked_at_ms: int
    asked_in: Term
    database: str = ""
    plugin: str = ""
    dropping: bool = False


class SlotSeen(msgspec.Struct, frozen=True):
    """One slot as its server shows it.

    lsn: the oldest WAL that it keeps, 0 where it keeps none · lost: what it stood for is gone for
    good · active: somebody reads through it · failover: PostgreSQL copies it to standbys ·
    synced: it is such a copy · temporary: it goes with its session.
    """

    name: str
    kind: SlotKind
    lsn: Lsn = Lsn(0)
    active: bool = False
    lost: bool = False
    database: str = ""
    plugin: str = ""
    failover: bool = False
    synced: bool = False
    temporary: bool = False

    @property
    def is_ours(self) -> bool:
        """Whether it is a member's."""
        return self.kind is SlotKind.PHYSICAL and self.name.startswith(OURS)

    def kept_bytes(self, end: Lsn) -> int:
        """How much WAL it keeps of a server whose WAL ends there."""
        return max(0, end - self.lsn) if self.lsn and not self.lost else 0


def malformed(name: str) -> str:
    """Why a slot of somebody's own cannot have this name; "" when it can."""
    if NAME.fullmatch(name) is None:
        return "a slot's name has 1 to 63 lower-case letters, digits and underscores"
    if name.startswith(OURS):
        return f"names that begin with {OURS} are those of the members' slots"
    return ""
