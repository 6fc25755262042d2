"""The public form of what operators have in hand: part of the contract. Owns shapes alone."""

from __future__ import annotations

from pydantic import Field

from pgherd.api.shape import Model

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
