"""Passwords that were changed while the cluster ran: which one counts, and how far a change is.

The secrets themselves are no facts: each data member keeps them in a file of its own, and the
ledger knows their fingerprints (docs/adr/0051-access-and-passwords.md). Owns the names of the two
roles that take turns, so that two passwords can be valid at once.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

SECOND = "_2"
"""What the second of two roles that take turns is called behind the first one's name."""


class Which(StrEnum):
    """Whose password: of the role that streams, that rewinds, or of the superuser."""

    REPLICATION = "replication"
    REWIND = "rewind"
    SUPERUSER = "superuser"


class Stage(StrEnum):
    """MADE: the members have it, the primary's server not yet · BOTH: the former one is valid too ·
    ENDED: only the new one is.
    """

    MADE = "made"
    BOTH = "both"
    ENDED = "ended"


class Credential(msgspec.Struct, frozen=True):
    """The newest password of a role. generation: 1 for the first that is not from a node's file.

    fingerprint, former: of this secret and of the one before, "" for the file's · overlap_ms: for
    how long both are to be valid · until_ms: when that ends, on the Raft leader's wall clock.
    """

    generation: int
    fingerprint: str
    former: str = ""
    stage: Stage = Stage.MADE
    overlap_ms: int = 0
    until_ms: int = 0
    at_ms: int = 0
    author: str = ""


Credentials = dict[Which, Credential]


def role_of(base: str, generation: int) -> str:
    """The role that a generation's password is of."""
    return base if generation % 2 == 0 else base + SECOND


def turns(base: str) -> tuple[str, str]:
    """Both roles that take turns."""
    return base, base + SECOND


def mark(credentials: Credentials) -> str:
    """All of it in a word, so that members can say how far they are; "" before any change."""
    return " ".join(
        f"{which.value}:{one.generation}:{one.stage.value}"
        for which, one in sorted(credentials.items())
    )
