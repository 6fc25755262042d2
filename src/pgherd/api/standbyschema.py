"""The API's models of a standby cluster."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pgherd.api.shape import Model, NodeName
from pgherd.model.standbycluster import HOSTS_MAX

Host = Annotated[str, Field(max_length=300, pattern=r"^\S+:\d+$", description="host:port")]


class Follows(Model):
    """The remote primary that a standby cluster follows. received_lsn: by its standby leader."""

    hosts: list[str]
    primary_slot_name: str
    sslmode: str
    standby_leader: NodeName | None
    is_streaming: bool
    received_lsn: str | None
    reason: str


class PromoteClusterRequest(Model):
    """Make a standby cluster writable. force: in spite of what speaks against it."""

    force: bool = False


class DemoteClusterRequest(Model):
    """Make a cluster follow a remote primary, given as host:port."""

    hosts: list[Host] = Field(min_length=1, max_length=HOSTS_MAX)
    primary_slot_name: str = Field("", max_length=63, pattern=r"^[a-z0-9_]*$")
    sslmode: Literal["disable", "prefer", "require"] = "prefer"


class ClusterPromoted(Model):
    """The cluster takes writes now. lsn: of the new primary when it was elected."""

    status: Literal["done"] = "done"
    new_primary: NodeName
    epoch: int
    lsn: str
    left_out: list[NodeName]
    reason: str


class ClusterDemoted(Model):
    """The cluster follows now. lsn: the end of its own writes, None where it had been following."""

    status: Literal["done"] = "done"
    standby_leader: NodeName | None
    hosts: list[str]
    lsn: str | None
