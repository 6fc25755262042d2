"""The ledger of the exploration: the production one, with its states numbered.

Two ledgers that differ only in what they tell people (reasons, notes, times of day) are one.
"""

from __future__ import annotations

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger import rescue
from pgherd.ledger.apply import apply_command
from pgherd.ledger.saved import Saved
from pgherd.model.facts import Facts
from pgherd.plan.suspicion import NOT_ESTABLISHED

replace = msgspec.structs.replace


class Ledgers:
    """Numbered facts, and what commands make of them."""

    def __init__(self) -> None:
        self.all: list[Facts] = []
        self._numbers: dict[bytes, int] = {}
        self._applied: dict[tuple[int, cmd.AnyCommand], int] = {}

    def number(self, facts: Facts) -> int:
        """The number of these facts."""
        facts = silent(facts)
        key = msgspec.msgpack.encode(facts, order="deterministic")
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.all)
            self.all.append(facts)
        return found

    def applied(self, facts: int, command: cmd.AnyCommand) -> int:
        """What facts a command makes of these; the same when it is refused."""
        key = facts, command
        found = self._applied.get(key)
        if found is None:
            new, _ = apply_command(self.all[facts], command, at_ms=0)
            found = self._applied[key] = self.number(new)
        return found

    def restored(self, saved: int) -> int:
        """The ledger of `saved` put in place of one that is gone; nobody is lost."""
        file = Saved(
            facts=self.all[saved], index=1, raft_term=1, voters=(), saved="by nobody", at_ms=0
        )
        facts = rescue.restored(file, lost=frozenset())
        members = {
            node: replace(member, raft_id=self.all[saved].members[node].raft_id, store=f"s{node}")
            for node, member in facts.members.items()
        }
        return self.number(replace(facts, members=members))


def silent(facts: Facts) -> Facts:
    """Without what only people read."""
    history = tuple(
        replace(reign, reason="", rule=0, began_at_ms=0, established_at_ms=0)
        for reign in facts.history
    )
    rule = facts.rule if facts.rule == NOT_ESTABLISHED else 0
    return replace(facts, history=history, rule=rule, reason="", notes=(), began_at_ms=0)
