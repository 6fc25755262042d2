"""What replication slots may cost a node, and which are none of pgherd's business.

Owns the values of `replication.slots`. Who has which slot is member rules 44, 1601 and 1602.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import field_validator

from pgherd.config.fields import Bytes, Change, Key
from pgherd.config.problems import Wrong
from pgherd.config.section import Section
from pgherd.model.slots import NAME


class Slots(Section):
    """Replication slots of this node's server."""

    keep_max_bytes: Annotated[
        Bytes,
        Key(
            "Most WAL that a slot may hold back here, whoever's it is; PostgreSQL ends one that"
            " holds back more, and a member is copied anew then (max_slot_wal_keep_size).",
            Change.RELOAD,
            unit="size",
            least=64 << 20,
            why="a member has to survive a restart of its server without a new copy",
        ),
    ] = 10 << 30
    min_free_disk_bytes: Annotated[
        Bytes,
        Key(
            "With less room for data or WAL unused slots of members are given up, the one that"
            " holds back most first.",
            Change.LIVE,
            unit="size",
            least=0,
            why="0B gives up none",
        ),
    ] = 1 << 30
    ignore: Annotated[
        tuple[str, ...],
        Key("Slots that pgherd neither makes nor drops, whatever they are called.", Change.LIVE),
    ] = ()

    @field_validator("ignore", mode="after")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if NAME.fullmatch(name) is None:
                raise Wrong(f"{name!r} is not the name of a slot", "as in [backup_tool]")
        return value
