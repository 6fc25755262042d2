"""Slots that people want on whoever is primary, as commands change the list of them.

Owns what is refused. A slot that is dropped stays listed until no member has it, so that one which
was away comes back without it (rule 1105).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger.outcome import Result, note, refuse
from pgherd.model.facts import Facts
from pgherd.model.slots import KeptSlot, SlotKind, malformed

SLOTS_MAX = 32
replace = msgspec.structs.replace


def find(facts: Facts, name: str) -> KeptSlot | None:
    """A kept slot by its name."""
    return next((slot for slot in facts.slots if slot.name == name), None)


def keep(facts: Facts, c: cmd.KeepSlot, at_ms: int) -> Result:
    """A new one, or the same once more: then a logical one that is gone is made anew."""
    why = malformed(c.name) or misfit(c)
    if why:
        return refuse(facts, "invalid", why)
    old = find(facts, c.name)
    if old is not None and old.dropping:
        return refuse(facts, "busy", f"slot {c.name} is being dropped")
    if old is not None and (old.kind, old.database, old.plugin) != (c.kind, c.database, c.plugin):
        return refuse(facts, "name_taken", f"slot {c.name} exists and is another one")
    if old is None and len(facts.slots) >= SLOTS_MAX:
        return refuse(facts, "too_many", f"at most {SLOTS_MAX} slots are kept")
    new = KeptSlot(
        name=c.name,
        kind=c.kind,
        requested_by=c.requested_by,
        asked_at_ms=at_ms,
        asked_in=facts.term,
        database=c.database,
        plugin=c.plugin,
    )
    others = [slot for slot in facts.slots if slot.name != c.name]
    facts = replace(facts, slots=tuple(sorted([*others, new], key=lambda slot: slot.name)))
    text = f"{c.kind.value} slot {c.name} is kept, asked for by {c.requested_by}"
    return note(facts, at_ms=at_ms, kind="slot.wanted", text=text), cmd.Done()


def misfit(c: cmd.KeepSlot) -> str:
    """Why such a slot cannot be."""
    logical = c.kind is SlotKind.LOGICAL
    if logical and not (c.database and c.plugin):
        return "a logical slot needs a database and a plugin"
    if not logical and (c.database or c.plugin):
        return "a physical slot has no database and no plugin"
    return ""


def drop(facts: Facts, c: cmd.DropSlot, at_ms: int) -> Result:
    old = find(facts, c.name)
    if old is None:
        return refuse(facts, "unknown_slot", f"no slot {c.name} is kept")
    if old.dropping:
        return facts, cmd.Done()
    gone = replace(old, dropping=True)
    facts = replace(facts, slots=tuple(gone if one is old else one for one in facts.slots))
    text = f"slot {c.name} is to go, asked for by {c.requested_by}"
    return note(facts, at_ms=at_ms, kind="slot.dropped", text=text), cmd.Done()


def forget(facts: Facts, c: cmd.ForgetSlot, at_ms: int) -> Result:
    old = find(facts, c.name)
    if old is None or not old.dropping or old.asked_at_ms != c.asked_at_ms:
        return refuse(facts, "stale", f"no such slot {c.name} is being dropped")
    facts = replace(facts, slots=tuple(one for one in facts.slots if one is not old))
    text = f"slot {c.name} is nowhere any more"
    return note(facts, at_ms=at_ms, kind="slot.gone", text=text, rule=c.rule), cmd.Done()


HANDLERS: dict[type, Callable[[Facts, Any, int], Result]] = {
    cmd.KeepSlot: keep,
    cmd.DropSlot: drop,
    cmd.ForgetSlot: forget,
}
