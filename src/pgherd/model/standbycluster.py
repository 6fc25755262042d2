"""A standby cluster: one that follows a primary of another site and writes nothing of its own.

Owns the shape of what is followed, and of what a server says of whom it streams from then. It has
no term: nobody is promoted, and nothing is acknowledged, until the cluster is.
"""

from __future__ import annotations

import msgspec

from pgherd.model.ids import Instant, Lsn, NodeId, Timeline

NAME = "pgherd-standby-"
"""What the application_name of a stream within a standby cluster begins with; no token does."""
SSLMODES = ("disable", "prefer", "require")
HOSTS_MAX = 9


class Remote(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A primary in another site, as host and port. Of several hosts the one that is primary.

    slot: a physical one there, "" = none · sslmode: as libpq has it.
    """

    hosts: tuple[tuple[str, int], ...]
    slot: str = ""
    sslmode: str = "prefer"

    def __str__(self) -> str:
        return ", ".join(f"{host}:{port}" for host, port in self.hosts)


class Following(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """That this is a standby cluster. leader: its standby leader, which alone streams from remote.

    number: grows with every change · reason: of the last one.
    """

    remote: Remote
    number: int = 1
    leader: NodeId | None = None
    reason: str = ""

    @property
    def sentence(self) -> str:
        """What this cluster does, for people."""
        return f"follows the remote primary at {self.remote}"


class Source(msgspec.Struct, frozen=True):
    """Whom one member of a standby cluster streams from: the remote, or its standby leader.

    node: the standby leader; None: the remote.
    """

    hosts: tuple[tuple[str, int], ...]
    slot: str
    sslmode: str = ""
    node: NodeId | None = None

    @property
    def mark(self) -> str:
        """The same for the same source."""
        where = ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"{self.node or 'remote'} {where} {self.slot} {self.sslmode}"

    @property
    def wants_primary(self) -> bool:
        """Whether only a primary among the hosts will do."""
        return self.node is None and len(self.hosts) > 1


class SourceSeen(msgspec.Struct, frozen=True):
    """What an agent knows of the source that its server names, or is to name.

    named: it names one · mark: of that one, "" = not known (any more) · asked: mark of the one that
    was asked last, asked_at: when, by this node's clock · problem: why nothing comes from it, by
    its answer · diverged: the server has WAL that it has not.
    """

    named: bool = False
    mark: str = ""
    asked: str = ""
    problem: str = ""
    diverged: bool = False
    asked_at: Instant = Instant(0)


class RemoteSeen(msgspec.Struct, frozen=True):
    """What one host of a source answered. problem: why it did not, "" when it did.

    history: the text of its timeline's history file, "" on the first timeline.
    """

    host: str
    port: int
    problem: str = ""
    system_id: str = ""
    timeline: Timeline = Timeline(0)
    lsn: Lsn = Lsn(0)
    is_primary: bool = False
    history: str = ""
