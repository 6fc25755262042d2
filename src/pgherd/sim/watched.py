"""The production replica, with what the checks want to know of it written down."""

from __future__ import annotations

from typing import Any

from pgherd.raft.types import Entry
from pgherd.sim.checks import ConfChange
from pgherd.store.replica import Applied, Replica


class Watched(Replica):
    """A replica that keeps its changes of configuration for the checks."""

    def __init__(self, *args: Any, **more: Any) -> None:
        self.confs: list[ConfChange] = []
        super().__init__(*args, **more)

    def _apply(self, entry: Entry) -> Applied | None:
        old = self.node.conf
        applied = super()._apply(entry)
        if self.node.conf is not old:
            change = ConfChange(entry.index, old, self.node.conf, self.facts.max_voters)
            self.confs.append(change)
        return applied
