"""The public form of drills: part of the contract. Owns shapes alone."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pgherd.api.shape import Model, NodeName


class DrillRequest(Model):
    """kind: a planned switchover, or the primary's postmaster killed · confirm: for a kill the name
    of the cluster, so that nobody kills the wrong one.
    """

    kind: Literal["switchover", "kill"] = "switchover"
    confirm: str | None = Field(default=None, max_length=64)


class Drill(Model):
    """A change of primary that was made to measure it. node: who measured · via: where the probe
    writes went, through the proxies or to the servers · outage_ms: the longest time between two of
    them that were acknowledged, null before it is known · failed: probe writes that were told of an
    error · missing: acknowledged rows that are not there · regression: how it was worse than those
    before, "" if it was not.
    """

    id: str
    kind: Literal["switchover", "kill"]
    state: Literal["running", "done", "failed"]
    text: str
    requested_by: str
    node: NodeName
    via: str
    old_primary: NodeName
    new_primary: NodeName | None
    epoch: int
    began_at: str
    ended_at: str | None
    outage_ms: int | None
    acknowledged: int
    failed: int
    missing: int
    regression: str


class Drills(Model):
    """The newest drills, oldest first."""

    drills: list[Drill]
