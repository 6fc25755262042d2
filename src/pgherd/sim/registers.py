"""I21: single-row registers, read and written in one transaction, are linearizable.

Writers ask where the primary is and change one of a few rows: each reads what is there and puts its
own number. A row that is being changed is locked until that commit has ended. The order of changes
that counts in the end is that of the final WAL; I21 says that each change read the one before it,
and that no change that was acknowledged before another was asked for comes after it.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import TYPE_CHECKING

from pgherd.proof.registers import Change, problem
from pgherd.sim.clock import MS

if TYPE_CHECKING:
    from pgherd.sim.commits import Commits
    from pgherd.sim.world import World

KEYS = 3
PAUSE_MS = 500
LOCKED_FOR = 25 * MS
PATIENCE = 2000 * MS


class Registers:
    """All changes of one run, and what they must have been. Times in microseconds."""

    def __init__(self) -> None:
        self.changes: dict[int, Change] = {}

    def problem(self, rows: Iterable[int]) -> str:
        """What is wrong with the changes, in the order of the final WAL; "" when nothing is."""
        return problem(self.changes, rows)


class Writer:
    """Changes registers, one at a time, on what the ledger calls the primary."""

    def __init__(self, world: World, *, number: int) -> None:
        self.world, self.clock = world, world.clock
        self.rng = Random(world.seed * 131 + number)
        self._asked_at = 0
        self._row = 0

    def begin(self) -> None:
        self.clock.after(self.rng.randrange(PAUSE_MS) * MS, self._ask)

    def _ask(self) -> None:
        if self.world.quiet:
            return
        self._asked_at, self._row = self.clock.now, 0
        self._try(self.rng.randrange(KEYS))

    def _try(self, key: int) -> None:
        facts, waited = self.world.facts(), self.clock.now - self._asked_at
        if facts is None or facts.leader is None or waited > PATIENCE:
            self._again()
            return
        server = self.world.server(facts.leader.node)
        if not server.primary or not server.up or server.hung_since or self._locked(server, key):
            self.clock.after(LOCKED_FOR, self._try, key)
            return
        row = self._row = self.world.next_row()
        change = Change(row=row, key=key, read=self._newest(server, key), asked_at=self._asked_at)
        self.world.registers.changes[row] = change
        self.clock.after(PATIENCE, self._late, row)
        server.insert(row, lambda ok: self._answered(change, ok))

    def _newest(self, server: Commits, key: int) -> int:
        """The change that a snapshot of this server shows: the last one in its WAL."""
        assert server.dir is not None
        changes = self.world.registers.changes
        for record in reversed(server.dir.wal):
            change = changes.get(record.data) if record.data else None
            if change is not None and change.key == key:
                return change.row
        return 0

    def _locked(self, server: Commits, key: int) -> bool:
        changes = self.world.registers.changes
        found = (changes.get(row) for row in server.committing())
        return any(change is not None and change.key == key for change in found)

    def _answered(self, change: Change, ok: bool | None) -> None:
        if ok:
            self.clock.after(MS, self._told, change)
        elif change.row == self._row:
            self._again()

    def _told(self, change: Change) -> None:
        if change.row in self.world.checks.acks:
            change.acked_at = self.clock.now
        if change.row == self._row:
            self._again()

    def _late(self, row: int) -> None:
        if row == self._row:
            self._again()

    def _again(self) -> None:
        self._row = 0
        self.clock.after((PAUSE_MS // 2 + self.rng.randrange(PAUSE_MS)) * MS, self._ask)
