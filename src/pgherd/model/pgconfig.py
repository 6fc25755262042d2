"""PostgreSQL's parameters as the cluster agreed on them: numbered versions, the newest counts.

Owns their shape, and which parameters a standby must match. How versions come about is `ledger`'s,
what a server makes of them `postgres`'s (docs/adr/0045-configuration-in-consensus.md).
"""

from __future__ import annotations

from typing import Any

import msgspec

from pgherd.model.ids import NodeId, Term

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


class Access(msgspec.Struct, frozen=True):
    """Lines of pg_hba.conf and pg_ident.conf for all members, behind pgherd's own.

    whole: they are all that follows pgherd's own; else each node's own lines come before them, and
    the line that lets every role in with its password behind.
    """

    hba: tuple[str, ...] = ()
    ident: tuple[str, ...] = ()
    whole: bool = False


class Content(msgspec.Struct, frozen=True):
    """What a version says, in PostgreSQL's own words.

    parameters: for every member, always · primary, replica: while it is one, in their place ·
    nodes: on one member, in their place · hba, ident, hba_whole: see Access.
    """

    parameters: dict[str, str] = {}
    primary: dict[str, str] = {}
    replica: dict[str, str] = {}
    nodes: dict[NodeId, dict[str, str]] = {}
    hba: tuple[str, ...] = ()
    ident: tuple[str, ...] = ()
    hba_whole: bool = False

    def of(self, node: NodeId, *, leads: bool) -> dict[str, str]:
        """One member's parameters."""
        role = self.primary if leads else self.replica
        return {**self.parameters, **role, **self.nodes.get(node, {})}

    @property
    def access(self) -> Access:
        """Who may log in."""
        return Access(hba=self.hba, ident=self.ident, whole=self.hba_whole)

    def fields(self) -> dict[str, Any]:
        """What it says by name, to make something else that says the same."""
        return {name: getattr(self, name) for name in Content.__struct_fields__}

    def content(self) -> Content:
        """What it says and nothing else, to be compared."""
        return Content(**self.fields())


class Trial(msgspec.Struct, frozen=True):
    """A version that goes back by itself unless somebody confirms it.

    until_ms: on the Raft leader's wall clock · term: in which it began · streamed: the standbys
    that streamed then.
    """

    until_ms: int
    term: Term
    streamed: tuple[NodeId, ...] = ()


class ConfigVersion(Content, frozen=True, kw_only=True):
    """One version.

    restores: the version that this one says the same as, 0 for none · failed_on, failed: the member
    whose server did not come up with it, and the server's words; or why its trial failed · trial:
    None when it is in force for good.
    """

    version: int
    at_ms: int
    author: str
    reason: str
    restores: int = 0
    failed_on: NodeId | None = None
    failed: str = ""
    trial: Trial | None = None


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
    """Parameters to be looked at by the primary's server. names: more that only change back.

    others: sets of them that count together in some role or on some node, by its name · access:
    None where who may log in does not change.
    """

    parameters: dict[str, str]
    names: tuple[str, ...] = ()
    others: dict[str, dict[str, str]] = {}
    access: Access | None = None


class ConfigChecked(msgspec.Struct, frozen=True):
    """What the primary's server says. problems: why it does not take them, one sentence each.

    contexts: per known name, when PostgreSQL lets it change (pg_settings.context) · running: what
    it has now · overridden: which of them the primary's own file sets otherwise.
    """

    problems: tuple[str, ...] = ()
    contexts: dict[str, str] = {}
    running: dict[str, str] = {}
    overridden: tuple[str, ...] = ()
