"""The public contract of what a commit promises: mode, copies, limits, and how it stands.

Owns shapes only; part of what `schema` promises.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasChoices, Field

from pgherd.api.schema import Synchronous
from pgherd.api.shape import Model, NodeName
from pgherd.model.facts import NUM_SYNC_MOST
from pgherd.model.synctuning import LAG_BYTES_LEAST

NOSYNC_MOST = 32
LAG_BYTES_MOST = 1 << 50
Commit = Literal["off", "local", "remote_write", "on", "remote_apply"]


class SyncStandby(Model):
    """One standby as the sync set sees it. why_not: why it is not in the set, "" when it is.

    lag_bytes: WAL of the primary that it has not flushed; null while it does not stream.
    """

    node: NodeName
    zone: str
    is_sync: bool
    is_connected: bool
    lag_bytes: int | None
    why_not: str


class SyncChange(Model):
    """The newest change of mode, set or limits."""

    at: str
    epoch: int
    text: str


class SyncSettings(Model):
    """The mode of replication, and what is in force of it now.

    num_sync_standbys: copies beyond the primary's own, as asked for in the cluster; auto: as each
    node's replication.num_sync says, or half of the data members · synchronous_commit: asked for
    here; null: as the primary's own parameters say · max_lag_bytes: 0: no limit · nosync: whom the
    set does without · _configured: copies that a commit should have, _connected: members of the set
    that stream · all_healthy: as many copies as wanted, and every member of the set streams.
    """

    replication: str
    replication_wanted: str | None
    num_sync_standbys: int | Literal["auto"]
    synchronous_commit: Commit | None
    synchronous_commit_in_force: bool
    max_lag_bytes: int
    nosync: list[NodeName]
    promise: str
    warnings: list[str]
    in_force: Synchronous
    num_sync_standbys_configured: int
    num_sync_standbys_connected: int
    all_healthy: bool
    standbys: list[SyncStandby]
    last_change: SyncChange | None


class SyncWanted(Model):
    """What to change of it; what is not named stays.

    `mode` is another name of synchronous_commit, default: as the primary's parameters say.
    """

    replication: Literal["async", "quorum", "strict"] | None = None
    num_sync_standbys: Annotated[int, Field(ge=1, le=NUM_SYNC_MOST)] | Literal["auto"] | None = None
    synchronous_commit: Commit | Literal["default"] | None = Field(
        default=None, validation_alias=AliasChoices("synchronous_commit", "mode")
    )
    max_lag_bytes: (
        Literal[0] | Annotated[int, Field(ge=LAG_BYTES_LEAST, le=LAG_BYTES_MOST)] | None
    ) = None
    nosync: list[NodeName] | None = Field(default=None, max_length=NOSYNC_MOST)

    @property
    def names_mode(self) -> bool:
        """Whether the mode or the number of copies is asked for."""
        return self.replication is not None or self.num_sync_standbys is not None

    @property
    def names_tuning(self) -> bool:
        """Whether anything else is."""
        return (self.synchronous_commit, self.max_lag_bytes, self.nosync) != (None, None, None)
