"""The public contract of changed passwords. Owns shapes only; part of what `schema` promises."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pgherd.api.shape import Model, NodeName

Whose = Literal["replication", "rewind", "superuser"]


class PasswordWanted(Model):
    """overlap: how long the former one stays valid too, as in 10m; the superuser has none.

    verifier: the superuser's new password as PostgreSQL keeps it (SCRAM-SHA-256$...).
    """

    which: Whose
    overlap: str = "5m"
    verifier: str | None = Field(default=None, max_length=500, pattern=r"^SCRAM-SHA-256\$")


class PasswordEnd(Model):
    """Whose former password is to end as soon as all members have the new one."""

    which: Whose


class Password(Model):
    """One of them. stage: made: all members have it, the primary's server not yet · both: the
    former one is valid too · ended: only this one is.
    """

    which: Whose
    generation: int
    stage: Literal["made", "both", "ended"]
    changed_at: str | None
    author: str
    former_valid_until: str | None


class Passwords(Model):
    """Those that were changed as the cluster ran. waits_for: nodes that lack one, or are silent."""

    passwords: list[Password]
    waits_for: list[NodeName]
