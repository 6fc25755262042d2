"""What operators have in hand with the herd, as commands change it.

Owns what is refused and how much is kept. What follows from it is `plan.upkeep`'s and
`plan.tending`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger.outcome import Result, note, refuse
from pgherd.model.facts import Facts
from pgherd.model.upkeep import Pause

replace = msgspec.structs.replace


def changed(facts: Facts, **fields: object) -> Facts:
    """The facts with some of what is in hand changed."""
    return replace(facts, upkeep=replace(facts.upkeep, **fields))


def pause(facts: Facts, c: cmd.Pause, at_ms: int) -> Result:
    """A pause in a pause replaces it: its end or its reason is another one."""
    before = facts.upkeep.pause
    since = before.since_ms if before is not None else at_ms
    made = Pause(c.id, c.requested_by, c.reason, since_ms=since, until_ms=c.until_ms)
    facts = changed(facts, pause=made)
    return note(facts, at_ms=at_ms, kind="cluster.paused", text=made.sentence), cmd.Done()


def resume(facts: Facts, c: cmd.Resume, at_ms: int) -> Result:
    before = facts.upkeep.pause
    if before is None or before.id != c.id:
        return refuse(facts, "stale", f"no pause {c.id} is in force")
    facts = changed(facts, pause=None)
    return note(facts, at_ms=at_ms, kind="cluster.resumed", text=c.reason), cmd.Done()


HANDLERS: dict[type, Callable[[Facts, Any, int], Result]] = {
    cmd.Pause: pause,
    cmd.Resume: resume,
}
