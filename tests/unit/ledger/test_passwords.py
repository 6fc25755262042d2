"""Changes of passwords: one at a time, step by step, and no secret among the facts."""

from __future__ import annotations

import msgspec
from test_apply import after, refused, stable

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL, needed_level
from pgherd.ledger.saved import Saved, parse, render, without_secrets
from pgherd.model.credentials import Stage, Which, mark
from pgherd.model.facts import Facts

REPLICATION = Which.REPLICATION
BOTH = cmd.StepPassword(REPLICATION, 1, Stage.BOTH)
ENDED = cmd.StepPassword(REPLICATION, 1, Stage.ENDED)


def rotate(expected: int = 0, *, fingerprint: str = "f1") -> cmd.RotatePassword:
    return cmd.RotatePassword(REPLICATION, expected, fingerprint, "ann", overlap_ms=60_000)


def begun() -> Facts:
    return after(msgspec.structs.replace(stable(), level=LEVEL), rotate())


def test_a_change_goes_from_stage_to_stage() -> None:
    """The next one begins when the one before has ended, and knows what was before it."""
    facts = begun()
    assert refused(facts, rotate(1)) == "busy"
    assert refused(facts, rotate(0)) == "stale"
    assert mark(facts.credentials) == "replication:1:made"
    facts = after(facts, BOTH)
    assert facts.credentials[REPLICATION].until_ms > 60_000 - 1
    assert refused(facts, BOTH) == "stale", "a late one does not shorten or lengthen the overlap"
    facts = after(facts, ENDED, rotate(1, fingerprint="f2"))
    now = facts.credentials[REPLICATION]
    assert (now.generation, now.fingerprint, now.former) == (2, "f2", "f1")
    assert refused(facts, ENDED) == "stale"


def test_somebody_may_end_the_overlap() -> None:
    hurry = cmd.EndOverlap(REPLICATION, 1, "ann")
    assert refused(begun(), hurry) == "stale"
    facts = after(begun(), BOTH)
    long = facts.credentials[REPLICATION].until_ms
    facts = after(facts, hurry)
    now = facts.credentials[REPLICATION]
    assert (now.until_ms < long, now.stage) == (True, Stage.BOTH)


def test_a_saved_ledger_keeps_how_far_it_is() -> None:
    facts = without_secrets(begun())
    saved = Saved(facts=facts, index=1, raft_term=1, voters=(), saved="now", at_ms=1)
    assert parse(render(saved)).facts.credentials == facts.credentials


def test_older_programs_are_never_asked() -> None:
    assert refused(stable(), rotate()) == "too_new"
    assert needed_level(ENDED) == needed_level(cmd.EndOverlap(REPLICATION, 1, "ann")) == 6
