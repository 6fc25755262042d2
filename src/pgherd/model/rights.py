"""Who may do what on the API, and who did what: tokens, roles, and the audit record.

The ledger keeps a token by its hash only. Owns the roles' order. Tokens of a node's own file are no
facts (docs/adr/0058-tokens-in-the-ledger.md).
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

API_TOKENS_MAX = 200
AUDIT_MAX = 300
"""How many of the newest changes the ledger keeps; the log has all."""


class Role(IntEnum):
    """What a caller may do; each includes those before it."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        """The role as people write it."""
        return self.name.lower()


class KeptToken(msgspec.Struct, frozen=True):
    """A token of the API that the cluster made. ends_at_ms: Unix time, 0: it does not end."""

    id: str
    name: str
    role: Role
    sha256: str
    author: str
    made_at_ms: int
    ends_at_ms: int = 0

    def is_over(self, unix_ms: int) -> bool:
        """Whether its time is over."""
        return bool(self.ends_at_ms) and unix_ms >= self.ends_at_ms


class AuditEntry(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A change that was asked for on the API of a node, and what was answered.

    id: unique · who: the name of token or certificate · what: method and path, never a body ·
    status: of HTTP · code: the word of a refusal, "" where it was done · request: the request's id,
    which the caller may choose.
    """

    id: str
    node: str
    at_ms: int
    who: str
    address: str
    what: str
    status: int
    code: str = ""
    request: str = ""


class Rights(msgspec.Struct, frozen=True):
    """All of it. audit: the newest last."""

    tokens: tuple[KeptToken, ...] = ()
    audit: tuple[AuditEntry, ...] = ()

    def token(self, word: str) -> KeptToken | None:
        """The token of this id or name."""
        return next((one for one in self.tokens if word in (one.id, one.name)), None)
