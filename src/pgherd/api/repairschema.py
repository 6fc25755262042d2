"""The public form of repairs and their progress: part of the contract. Owns shapes alone."""

from __future__ import annotations

from typing import Literal

from pgherd.api.shape import Model, NodeName


class Remedy(Model):
    """One thing that a node did about its server.

    tries: how often in a row, of which this is the newest · source: whom it copied or was rewound
    to · problem: why it failed.
    """

    step: Literal["restart receiver", "re-point", "fetch from archive", "rewind", "copy"]
    rule: int
    reason: str
    state: Literal["running", "done", "failed", "cut short"]
    problem: str
    source: NodeName | None
    tries: int
    began_at: str | None
    ended_at: str | None


class Progress(Model):
    """Something that takes long, on one node. total_bytes is an estimate until the end.

    phase: copy, rewind, or recovery of its own WAL · left_seconds: at the speed so far.
    """

    node: NodeName
    phase: Literal["copy", "rewind", "recovery"]
    source: NodeName | None
    reason: str
    percent: int | None
    done_bytes: int | None
    total_bytes: int | None
    bytes_per_second: int | None
    left_seconds: int | None
    began_at: str | None


class ProgressList(Model):
    """All that goes on now."""

    progress: list[Progress]
