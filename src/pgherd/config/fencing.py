"""The operator's fencing command: nothing, or a program with its deadline and its weight.

Owns the values of `failover.fence` and `failover.watchdog`. When the command runs is decided by
member rule 39, when the device is armed by `daemon.watchdog`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Tag, field_validator

from pgherd.config.fields import Change, Flag, Key, Millis
from pgherd.config.problems import Wrong
from pgherd.config.section import Section


class Fence(Section):
    """A command that keeps an old primary from writing, such as one that turns its power off."""

    command: Annotated[
        tuple[str, ...],
        Key(
            "Program and first arguments; node, address, term and cluster follow them, and stand in"
            " PGHERD_FENCE_NODE, _ADDRESS, _TERM and _CLUSTER. Exit code 0: fenced.",
            Change.LIVE,
        ),
    ]
    deadline_ms: Annotated[
        Millis,
        Key(
            "Time after which it is killed and has failed; 30s unless said.",
            Change.LIVE,
            unit="duration",
            least=1000,
            why="a program on a busy node takes this long to start",
        ),
    ] = 30_000
    required: Annotated[
        Flag,
        Key(
            "true: without its success nobody is promoted; false, unless said: a failure is"
            " written down.",
            Change.LIVE,
        ),
    ] = False

    @field_validator("command", mode="after")
    @classmethod
    def _program(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not value[0].startswith("/"):
            raise Wrong("names no program", "write its whole path first: [/usr/local/bin/fence]")
        return value


def as_off(value: Any) -> Any:
    """YAML's `off` is false."""
    return "off" if value is False else value


FenceChoice = Annotated[
    Annotated[Literal["auto", "off"], Tag("word")] | Annotated[Fence, Tag("map")],
    Discriminator(lambda value: "map" if isinstance(value, Mapping | Fence) else "word"),
    BeforeValidator(as_off),
]
WatchdogMode = Annotated[Literal["off", "automatic", "required"], BeforeValidator(as_off)]
