"""What operators have in hand, as the ledger keeps it."""

from __future__ import annotations

from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import apply_command
from pgherd.model.facts import Facts

FACTS = Facts(cluster="main", level=4)


def taken(facts: Facts, command: cmd.AnyCommand, at_ms: int = 5) -> Facts:
    facts, outcome = apply_command(facts, command, at_ms=at_ms)
    assert isinstance(outcome, cmd.Done), outcome
    return facts


def refused(facts: Facts, command: cmd.AnyCommand) -> str:
    same, outcome = apply_command(facts, command, at_ms=5)
    assert same == facts
    assert isinstance(outcome, cmd.Refused), outcome
    return outcome.code


def test_a_pause_is_kept_and_told() -> None:
    """Who, why, since when and until when; a second one changes reason and end."""
    facts = taken(FACTS, cmd.Pause("p1", "ann", "switches", until_ms=90), at_ms=7)
    assert facts.paused
    facts = taken(facts, cmd.Pause("p2", "bob"), at_ms=8)
    found = facts.upkeep.pause
    assert found is not None
    assert (found.id, found.requested_by, found.since_ms, found.until_ms) == ("p2", "bob", 7, 0)
    assert [note.kind for note in facts.notes] == ["cluster.paused", "cluster.paused"]


def test_only_the_pause_that_was_meant_is_resumed() -> None:
    """The end of a pause that was prolonged meanwhile ends nothing."""
    facts = taken(taken(FACTS, cmd.Pause("p1", "ann")), cmd.Pause("p2", "ann"))
    assert refused(facts, cmd.Resume("p1", "over")) == "stale"
    assert not taken(facts, cmd.Resume("p2", "over")).paused


def test_older_programs_are_not_asked() -> None:
    """While a member's program is of before, nothing of this is taken."""
    facts, outcome = apply_command(Facts(cluster="main", level=3), cmd.Pause("p", "ann"), at_ms=1)
    assert isinstance(outcome, cmd.Refused)
    assert outcome.code == "too_new"
    assert not facts.paused
