"""The documents of Patroni's API as tools expect them: names and types are Patroni's, not ours.

Owns shapes only. A field that has nothing to say is left out, as there. What each means here is
`patroniviews`'s (docs/operate/patroni-api.md).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from pgherd.api.schema import Check
from pgherd.api.shape import Model

Lag = int | Literal["unknown"]


class About(Model):
    """Which program answers. version: of Patroni's API that it follows, not pgherd's own."""

    version: str
    scope: str
    name: str


class Xlog(Model):
    """Positions in the WAL, in bytes: `location` on a primary, the others on a standby."""

    location: int | None = None
    received_location: int | None = None
    replayed_location: int | None = None
    paused: bool | None = None


class ReplicationRow(Model):
    """One standby that streams from this node."""

    application_name: str
    client_addr: str
    state: str
    sync_state: Literal["quorum", "async"]
    sync_priority: int


class Change(Model):
    """A parameter that waits for a restart."""

    old_value: str
    new_value: str


class Scheduled(Model):
    """When it is due."""

    schedule: str


class PatroniNode(Model):
    """This node, as health checks and `/patroni` show it. pgherd: the same in our own words."""

    state: str
    role: str
    postmaster_start_time: str | None = None
    server_version: int | None = None
    xlog: Xlog | None = None
    timeline: int | None = None
    sync_standby: bool | None = None
    quorum_standby: bool | None = None
    replication_state: str | None = None
    replication: list[ReplicationRow] | None = None
    cluster_unlocked: bool | None = None
    pause: bool | None = None
    dcs_last_seen: int | None = None
    tags: dict[str, Any] | None = None
    database_system_identifier: str | None = None
    pending_restart: bool | None = None
    pending_restart_reason: dict[str, Change] | None = None
    scheduled_restart: Scheduled | None = None
    patroni: About
    pgherd: Check

    def document(self) -> dict[str, Any]:
        """What is answered: nothing in Patroni's words that says nothing, all of our own."""
        told = self.model_dump(exclude_none=True, exclude={"pgherd"})
        return {**told, "pgherd": self.pgherd.model_dump()}


class PatroniMember(Model):
    """One data member."""

    name: str
    role: Literal["leader", "standby_leader", "sync_standby", "quorum_standby", "replica"]
    state: str
    api_url: str
    host: str
    port: int
    timeline: int | None = None
    receive_lag: Lag | None = None
    receive_lsn: str | None = None
    replay_lag: Lag | None = None
    replay_lsn: str | None = None
    lag: Lag | None = None
    lsn: str | None = None
    tags: dict[str, Any] | None = None
    pending_restart: bool | None = None
    pending_restart_reason: dict[str, Change] | None = None
    scheduled_restart: Scheduled | None = None


class ScheduledSwitchover(Model):
    """A switchover that is for later. to: null for the best candidate."""

    at: str
    from_: str | None = Field(default=None, alias="from")
    to: str | None = None


class RoutingTable(Model):
    """Where this node's proxy leads clients now; where it has none, where one would."""

    primary: str | None
    replicas: list[str]
    split_brain: bool


class PatroniCluster(Model):
    """The members, as Patroni's clients expect them, and beside them where clients are led."""

    members: list[PatroniMember]
    scope: str
    pause: bool | None = None
    scheduled_switchover: ScheduledSwitchover | None = None
    routing_table: RoutingTable


class PatroniSlot(Model):
    """A slot that the cluster keeps."""

    type: Literal["physical", "logical"]
    database: str | None = None
    plugin: str | None = None


class PatroniPostgresql(Model):
    """PostgreSQL's part of the configuration; pg_hba: null where each node's own file counts."""

    parameters: dict[str, str]
    pg_hba: list[str] | None = None
    pg_ident: list[str] | None = None
    use_slots: Literal[True] = True
    use_pg_rewind: Literal[True] = True


class PatroniConfig(Model):
    """What the cluster agreed on, in the form of Patroni's dynamic configuration."""

    postgresql: PatroniPostgresql
    pause: bool
    synchronous_mode: Literal["quorum", False]
    synchronous_mode_strict: bool
    synchronous_node_count: int | None = None
    maximum_lag_on_syncnode: int
    slots: dict[str, PatroniSlot]
