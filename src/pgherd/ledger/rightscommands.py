"""The commands about who may do what on the API, for `commands`, which has all.

Owns their shape. What they do is `ledger.rights`'s.
"""

from __future__ import annotations

from pgherd.ledger.command import Command
from pgherd.model.rights import AuditEntry, Role


class MakeToken(Command, frozen=True, tag=True):
    """A new token of the API, by its hash. ends_at_ms: Unix time, 0: it does not end."""

    id: str
    name: str
    role: Role
    sha256: str
    author: str
    ends_at_ms: int = 0


class RevokeToken(Command, frozen=True, tag=True):
    """A token of the API is worth nothing any more, on every node."""

    id: str
    author: str


class RecordAudit(Command, frozen=True, tag=True):
    """What was asked for on one node's API since its last word about it, the oldest first."""

    entries: tuple[AuditEntry, ...]
