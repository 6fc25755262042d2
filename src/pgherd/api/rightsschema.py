"""The public contract of tokens and the audit record. Owns shapes only; part of what `schema`
promises.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pgherd.api.shape import Model, NodeName

RoleWord = Literal["viewer", "operator", "admin"]


class TokenWanted(Model):
    """A token to make. ttl: how long it is good for, as in 90d; none: until it is revoked."""

    role: RoleWord
    name: str | None = Field(default=None, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]*$")
    ttl: str | None = Field(default=None, max_length=32)


class Token(Model):
    """A token as the cluster, or this node's file, knows it: never the token itself.

    id: what revokes it; null: of this node's file, where it has to be removed.
    """

    id: str | None
    name: str
    role: RoleWord
    made_at: str | None = None
    made_by: str = ""
    expires_at: str | None = None
    is_expired: bool = False


class TokenMade(Token):
    """A token that was made; it is shown once and never kept."""

    token: str


class Tokens(Model):
    """All tokens: the cluster's, and those of the file of the node that answers."""

    node: NodeName
    tokens: list[Token]


class AuditRecord(Model):
    """A change that was asked for. who: of which token or certificate; result: the word of a
    refusal, "done" without one.
    """

    at: str | None
    who: str
    address: str
    node: NodeName
    what: str
    status: int
    result: str
    request_id: str


class Audit(Model):
    """The newest changes that were asked for, the newest first."""

    audit: list[AuditRecord]


class SignWanted(Model):
    """A member's request for a new certificate (PEM); of it only the key is used."""

    node: NodeName = Field(max_length=64)
    csr: str = Field(max_length=16_384)
    days: int | None = Field(default=None, ge=1, le=3650)


class Signed(Model):
    """The new certificate and the authority's, as PEM."""

    certificate: str
    ca: str
