"""PostgreSQL's parameters as the cluster agreed on them: numbered versions, the newest counts.

Owns their shape, and which parameters a standby must match. How versions come about is `ledger`'s,
what a server makes of them `postgres`'s (docs/adr/0045-configuration-in-consensus.md).
"""

from __future__ import annotations

import msgspec

from pgherd.model.ids import NodeId

MATCHED = (
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
)
"""Of these a standby must have at least what its primary has (PostgreSQL: hot standby)."""

Running = tuple[int, ...]
"""What a server runs with of MATCHED, in that order; empty where it is not known."""


class ConfigVersion(msgspec.Struct, frozen=True):
    """One version. parameters: all of the cluster's, in PostgreSQL's own words.

    restores: the version that this one has the parameters of again, 0 for none · failed_on, failed:
    the member whose server did not come up with it, and the server's words.
    """

    version: int
    at_ms: int
    author: str
    reason: str
    parameters: dict[str, str] = {}
    restores: int = 0
    failed_on: NodeId | None = None
    failed: str = ""


EMPTY = ConfigVersion(version=0, at_ms=0, author="", reason="")


class Pending(msgspec.Struct, frozen=True):
    """A parameter that waits for a restart of its server."""

    name: str
    old: str
    new: str


class ConfigFailed(msgspec.Struct, frozen=True):
    """A version with which a server did not come up, and came up with the one it had run with."""

    version: int
    why: str
    ran: int


class ConfigAsked(msgspec.Struct, frozen=True):
    """Parameters to be looked at by the primary's server. names: more that only change back."""

    parameters: dict[str, str]
    names: tuple[str, ...] = ()


class ConfigChecked(msgspec.Struct, frozen=True):
    """What the primary's server says. problems: why it does not take them, one sentence each.

    contexts: per known name, when PostgreSQL lets it change (pg_settings.context) · running: what
    it has now · overridden: which of them the primary's own file sets otherwise.
    """

    problems: tuple[str, ...] = ()
    contexts: dict[str, str] = {}
    running: dict[str, str] = {}
    overridden: tuple[str, ...] = ()
