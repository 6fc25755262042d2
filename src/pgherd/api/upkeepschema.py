"""The public form of what operators have in hand: part of the contract. Owns shapes alone."""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, Field

from pgherd.api.shape import Model, NodeName

REASON_MAX = 200


class Pause(Model):
    """Nobody fails over and nothing is repaired by itself; until: null where it has no end."""

    requested_by: str
    reason: str
    since: str | None
    until: str | None


class PauseRequest(Model):
    """until: a time in ISO 8601 with its zone, or how long from now, as in `2h`."""

    until: str | None = Field(default=None, max_length=64)
    reason: str = Field(default="", max_length=REASON_MAX)


class PauseState(Model):
    """Whether the cluster is paused now."""

    paused: bool
    pause: Pause | None


class MaintenanceRequest(Model):
    """allow_failover: it may become the primary all the same · until: when it ends by itself."""

    enabled: bool
    reason: str = Field(default="", max_length=REASON_MAX)
    allow_failover: bool = False
    until: str | None = Field(default=None, max_length=64)


class Maintenance(Model):
    """Commits, new sessions and elections do without this node where they can."""

    requested_by: str
    reason: str
    since: str | None
    allow_failover: bool
    until: str | None


class MaintenanceState(Model):
    """Whether a node is in maintenance. is_sync: whether commits still count on it.

    action: what ends once they do not, to be followed; null where nothing is waited for.
    """

    node: NodeName
    maintenance: Maintenance | None
    is_sync: bool
    action: str | None = None


class WorkRequest(Model):
    """at: when it is due, a time in ISO 8601 with its zone, or how long from now, as in `2h`.

    force: also where it costs: `stop` of the primary, a copy that commits need.
    """

    at: str | None = Field(default=None, max_length=64)
    reason: str = Field(default="", max_length=REASON_MAX)
    force: bool = False


class ReinitRequest(WorkRequest):
    """source: the replica to copy · from_leader: the primary, whatever clonefrom says.

    Neither: a replica with clonefrom, if one can be copied, else the primary.
    """

    source: NodeName | None = Field(
        default=None, max_length=64, validation_alias=AliasChoices("source", "from")
    )
    from_leader: bool = False


class RestartRequest(WorkRequest):
    """Nodes to restart one after the other; none named: all data members.

    pending: of those only who has parameters that wait for a restart when its turn comes.
    """

    nodes: list[NodeName] = Field(default_factory=list, max_length=32)
    pending: bool = False


class UpgradeRequest(WorkRequest):
    """A minor upgrade of all whose server is older than what is installed on their nodes."""


class Check(Model):
    """One thing to be seen to before work begins."""

    name: str
    ok: bool
    text: str


class Checks(Model):
    """Whether work may begin, and the order in which nodes would have their turn."""

    ok: bool
    order: list[NodeName]
    checks: list[Check]


class Action(Model):
    """Something that takes a while. what: in words; step: what it does or waits for, or how it
    ended; node: whom it has in hand · progress_percent: null where that is not known.
    """

    id: str
    action: str
    what: str
    nodes: list[NodeName]
    state: Literal["pending", "running", "done", "failed", "cancelled"]
    step: str
    progress_percent: int | None
    node: NodeName | None
    finished: list[NodeName]
    requested_by: str
    requested_at: str | None
    reason: str
    due_at: str | None
    ended_at: str | None


class Actions(Model):
    """What is under way, and the newest of what has ended."""

    actions: list[Action]
