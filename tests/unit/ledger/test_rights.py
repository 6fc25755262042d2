"""Tokens of the API and the audit record: what is kept, refused, and left out of a saved ledger."""

from __future__ import annotations

import msgspec
import pytest
from test_apply import after, refused, stable

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL, needed_level
from pgherd.ledger.machine import Ledger
from pgherd.ledger.saved import Saved, parse, render, without_secrets
from pgherd.model.facts import Facts
from pgherd.model.rights import API_TOKENS_MAX, AUDIT_MAX, AuditEntry, Role

MINE = cmd.MakeToken("t1", "ann", Role.ADMIN, "a" * 64, "root from 10.0.0.1")


def entry(number: int) -> AuditEntry:
    return AuditEntry(str(number), "n1", number, "ann", "10.0.0.1", "POST /switchover", 200)


RECORD = cmd.RecordAudit((entry(1), entry(2)))


def upgraded() -> Facts:
    return msgspec.structs.replace(stable(), level=LEVEL)


@pytest.mark.parametrize("command", [MINE, cmd.RevokeToken("t1", "ann"), RECORD])
def test_older_members_are_waited_for(command: cmd.Command) -> None:
    assert needed_level(command) == 7
    assert refused(stable(), command) == "too_new"


def test_a_token_is_made_and_revoked() -> None:
    """By a name that nobody else has; the notes say who did it, and nothing that is of use."""
    facts = after(upgraded(), MINE)
    [made] = facts.rights.tokens
    assert (made.name, made.role, made.ends_at_ms) == ("ann", Role.ADMIN, 0)
    assert facts.rights.token("ann") == facts.rights.token("t1") == made
    assert refused(facts, MINE) == "already"
    assert refused(facts, msgspec.structs.replace(MINE, id="t2")) == "name_taken"
    assert refused(facts, cmd.RevokeToken("t2", "bob")) == "unknown_token"
    gone = after(facts, cmd.RevokeToken("t1", "bob"))
    assert gone.rights.tokens == ()
    assert [note.text for note in gone.notes[-2:]] == [
        "token ann (admin) made by root from 10.0.0.1",
        "token ann (admin) revoked by bob",
    ]
    assert "aaaa" not in str(gone.notes)


def test_what_has_ended_makes_room() -> None:
    """For its name too; and only so many are kept."""
    short = msgspec.structs.replace(MINE, ends_at_ms=1)
    facts = after(upgraded(), short, msgspec.structs.replace(MINE, id="t2"))
    assert [one.id for one in facts.rights.tokens] == ["t2"]
    many = [msgspec.structs.replace(MINE, id=f"m{n}", name=f"m{n}") for n in range(API_TOKENS_MAX)]
    assert refused(after(upgraded(), *many), MINE) == "too_many"


def test_the_record_is_a_ring_and_counts_nothing_twice() -> None:
    facts = after(upgraded(), RECORD, RECORD)
    assert facts.rights.audit == RECORD.entries
    more = cmd.RecordAudit(tuple(entry(number) for number in range(3, AUDIT_MAX + 2)))
    audit = after(facts, more).rights.audit
    assert (len(audit), audit[0], audit[-1]) == (AUDIT_MAX, entry(2), entry(AUDIT_MAX + 1))


def test_snapshots_have_all_and_saved_ledgers_no_tokens() -> None:
    facts = after(upgraded(), MINE, RECORD)
    ledger, twin = Ledger(facts), Ledger(upgraded())
    twin.restore(ledger.snapshot())
    assert twin.facts.rights == facts.rights
    kept = without_secrets(facts)
    text = render(Saved(facts=kept, index=1, raft_term=1, voters=(), saved="now", at_ms=1))
    assert "a" * 64 not in text
    again = parse(text).facts
    assert (again.rights.tokens, again.rights.audit) == ((), RECORD.entries)
