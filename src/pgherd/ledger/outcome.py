"""How a command ends: the new facts with a line of history, or the old ones with a refusal."""

from __future__ import annotations

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.model.facts import Facts, Note

NOTES_MAX = 200

Result = tuple[Facts, cmd.Outcome]


def refuse(facts: Facts, code: str, reason: str) -> Result:
    """The facts as they were, and why."""
    return facts, cmd.Refused(code, reason)


def note(facts: Facts, *, at_ms: int, kind: str, text: str, rule: int = 0) -> Facts:
    """The facts with a line for people; the oldest ones go."""
    line = Note(at_ms=at_ms, term=facts.term, kind=kind, text=text, rule=rule)
    return msgspec.structs.replace(facts, notes=(*facts.notes, line)[-NOTES_MAX:])
