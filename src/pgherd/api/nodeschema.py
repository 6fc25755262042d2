"""The public form of what nodes are asked about themselves: part of the contract."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pgherd.api.shape import Model, NodeName

Level = Literal["debug", "info", "warning", "error"]
DURATION_LETTERS_MAX = 16


class Mistake(Model):
    """Something in a file that was not taken. place: the file and its line."""

    place: str
    key: str
    message: str
    hint: str


class Reloaded(Model):
    """What became of a file that was read again.

    status: partly: some of it was refused, as `rejected` says · needs_restart: keys that wait for
    the next start of the daemon · pending_parameters: of PostgreSQL, that wait for its restart.
    """

    node: NodeName
    status: Literal["reloaded", "partly"]
    changes_detected: int
    applied: list[str]
    needs_restart: list[str]
    rejected: list[Mistake]
    pending_parameters: list[str]


class Memory(Model):
    """Memory of a machine, or of the control group that a node may use, if that is less."""

    size_bytes: int
    available_bytes: int
    swap_size_bytes: int
    swap_used_bytes: int
    oom_kills_last_hour: int


class PeerVitals(Model):
    """Another node as it is reached from there by one channel."""

    node: NodeName
    channel: Literal["raft", "api", "postgresql"]
    is_up: bool
    rtt_ms: float | None
    failures: int
    problem: str


class NodeVitals(Model):
    """How a node itself is. memory: null where its system does not tell."""

    node: NodeName
    memory: Memory | None
    process_bytes: dict[str, int]
    peers: list[PeerVitals]


class NodeLogs(Model):
    """Log lines of a node, oldest first. cursor: ask with it for what comes after them.

    skipped: some lines between the last answer's and these are not there any more.
    """

    node: NodeName
    source: Literal["agent", "postgres"]
    lines: list[str]
    cursor: str
    skipped: bool


class LogLevel(Model):
    """What a node tells now, what its file says, and for how long it differs; null: no end."""

    node: NodeName
    level: Level
    configured: Level
    seconds_left: float | None


class LogLevelWish(BaseModel):
    """Tell from this level on. for: how long, as 10m; without it until the next reload."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    level: Level
    duration: str | None = Field(default=None, alias="for", max_length=DURATION_LETTERS_MAX)
