"""The public contract of the cluster's configuration: what is asked for, planned and kept.

Owns shapes only; part of what `schema` promises.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pgherd.api.shape import Model, NodeName

Value = str | int | float | bool
Status = Literal["planned", "done", "accepted"]
Effect = Literal["session", "reload", "restart"]
Action = Literal["reload", "restart", "switchover"]


class PendingRestart(Model):
    """What a server has, and what it will have once it was restarted."""

    old: str
    new: str


class ConfigNode(Model):
    """How far a member is. version: that its server was told; null while it is not heard.

    failed: a version with which its server did not come up, and what it said.
    """

    node: NodeName
    version: int | None
    is_applied: bool
    failed: str
    pending_restart: dict[str, PendingRestart]


class ConfigPostgresql(Model):
    """PostgreSQL's configuration, as the cluster keeps it.

    parameters: everywhere · primary, replica: only while a node is one · nodes: only on one · hba,
    ident: lines behind pgherd's own · hba_whole: instead of each node's own lines and the default.
    """

    parameters: dict[str, str]
    primary: dict[str, str]
    replica: dict[str, str]
    nodes: dict[NodeName, dict[str, str]]
    hba: list[str]
    ident: list[str]
    hba_whole: bool


class ConfigVersion(Model):
    """One version. restores: the version that says the same, null for none.

    failed: why it was taken back · trial_until: when it goes back unless it is confirmed.
    """

    version: int
    at: str | None
    author: str
    reason: str
    restores: int | None
    failed_on: NodeName | None
    failed: str
    trial_until: str | None
    postgresql: ConfigPostgresql


class Config(ConfigVersion):
    """The version in force, and how far each member is with it."""

    nodes: list[ConfigNode]


class ConfigHistory(Model):
    """Every version that is kept, the newest first."""

    versions: list[ConfigVersion]


class ConfigWantedPostgresql(Model):
    """Parts as in ConfigPostgresql; one that is not named stays. In a PATCH null deletes one."""

    parameters: dict[str, Value | None] | None = None
    primary: dict[str, Value | None] | None = None
    replica: dict[str, Value | None] | None = None
    nodes: dict[NodeName, dict[str, Value | None]] | None = None
    hba: list[str] | None = None
    ident: list[str] | None = None
    hba_whole: bool | None = None


class ConfigWanted(Model):
    """PATCH merges it into the version in force, PUT puts it in its place.

    expected_version: refused when another version is in force by then · trial: how long, as in 5m;
    then it goes back by itself unless it was confirmed, and at once where the primary fails or a
    standby is lost.
    """

    postgresql: ConfigWantedPostgresql
    reason: str = Field(default="", max_length=500)
    expected_version: int | None = Field(default=None, ge=0)
    trial: str | None = None


class ConfigRollback(Model):
    """Which version to have again."""

    version: int = Field(ge=0)
    reason: str = Field(default="", max_length=500)


class ConfigConfirm(Model):
    """Which version to keep; null: the one that is on trial."""

    version: int | None = Field(default=None, ge=1)


class ConfigChange(Model):
    """One parameter, or one line of access. null: the cluster says nothing of it.

    effect: session: with new sessions · reload: at once · restart: when its server was restarted.
    """

    name: str
    old: str | None
    new: str | None
    running: str | None
    effect: Effect


class ConfigStep(Model):
    """What is to be done on a member; the order of the steps counts."""

    node: NodeName
    action: Action
    why: str


class ConfigPlan(Model):
    """What a change does. version: that it gets, or would get.

    steps: reloads are done by themselves; restarts and the switchover are the operator's.
    """

    status: Status
    version: int
    changes: list[ConfigChange]
    steps: list[ConfigStep]
    notes: list[str]
    nodes: list[ConfigNode]
