"""The public contract of the paths without a version: how nodes stand, replication, connections.

Owns shapes only; part of what `schema` promises.
"""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, Field

from pgherd.api.shape import Model, NodeName
from pgherd.api.slotschema import Slots
from pgherd.api.syncschema import SyncSettings
from pgherd.api.upkeepschema import Pause, ReinitRequest

FixedState = Literal[
    "initializing",
    "running_primary",
    "running_replica",
    "promoting",
    "demoting",
    "fenced",
    "lagging",
    "recovering",
    "rebuilding",
    "stopped",
    "unknown",
]


class NodeState(Model):
    """How one data member stands, in a word of a list that never grows. reason: in the words of
    `/api/v1/nodes`, with what is wrong."""

    node: NodeName
    state: FixedState
    role: Literal["primary", "replica"]
    reason: str


class ClusterState(Model):
    """How every data member stands, and whether the cluster is paused."""

    cluster_name: str
    epoch: int
    paused: bool
    pause: Pause | None
    nodes: list[NodeState]
    as_of: int


class Standby(Model):
    """One standby as its primary's walsender has it; null while there is none.

    sync_state: `quorum` where commits wait for it among others, else `async`.
    """

    node: NodeName
    state: str
    sync_state: Literal["quorum", "async"]
    flush_lsn: str | None
    replay_lsn: str | None
    lag_bytes: int | None
    lag_ms: int | None


class Replication(Model):
    """Who streams from the primary and how far, what commits wait for, and every slot."""

    primary: NodeName | None
    epoch: int
    timeline: int
    lsn: str | None
    standbys: list[Standby]
    synchronous: SyncSettings
    slots: Slots
    as_of: int


class Connections(Model):
    """Client sessions that the proxy of the node which answers has open now.

    held: clients that wait for a primary · proxy: null on a node without one, or while it is away.
    """

    node: NodeName
    active_connections: int
    held: int
    by_backend: dict[str, int]
    by_listener: dict[str, int]
    proxy_healthy: bool | None


class NodeReinit(ReinitRequest):
    """Which node is to be copied anew, and from whom."""

    node: NodeName = Field(
        max_length=64, validation_alias=AliasChoices("node", "to", "member", "node_id")
    )
