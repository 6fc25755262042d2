"""The public contract of replication slots: those that are, and those that people want.

Owns shapes only; part of what `schema` promises.
"""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, Field

from pgherd.api.shape import Model, NodeName

SlotType = Literal["physical", "logical"]


class Slot(Model):
    """One slot of one server. owner: `member n2`, `kept` by the cluster, or `other`.

    retained_bytes: WAL that is there because of it · budget_bytes: the most that it may hold back
    before PostgreSQL ends it, null: any amount · failover_safe: whether whoever becomes primary has
    it; null on a standby · advice: what to do, "" for nothing.
    """

    name: str
    node: NodeName
    type: SlotType
    owner: str
    active: bool
    lsn: str | None
    retained_bytes: int
    budget_bytes: int | None
    lost: bool
    temporary: bool
    synced: bool
    database: str
    plugin: str
    failover_safe: bool | None
    advice: str


class KeptSlot(Model):
    """A slot that exists on whoever is primary. problem: why it does not; "" when it does."""

    name: str
    type: SlotType
    database: str
    plugin: str
    state: Literal["kept", "missing", "dropping"]
    requested_by: str
    requested_at: str
    problem: str


class Slots(Model):
    """Every slot of every server that is heard, and what the cluster keeps."""

    slots: list[Slot]
    kept: list[KeptSlot]
    as_of: int


class SlotWanted(Model):
    """A slot to have on whoever is primary; the same once more makes a lost logical one anew."""

    name: str = Field(max_length=63, validation_alias=AliasChoices("name", "slot_name"))
    type: SlotType = Field(
        default="physical", validation_alias=AliasChoices("type", "slot_type", "kind")
    )
    database: str = Field(default="", max_length=63)
    plugin: str = Field(default="", max_length=63)


class SlotChanged(Model):
    """What became of it."""

    status: Literal["done", "accepted"]
    name: str
    primary: NodeName | None
    advice: str
