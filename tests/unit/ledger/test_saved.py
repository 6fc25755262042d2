"""Proves what a ledger's file holds, what damage it notices, and what a restored one becomes."""

from __future__ import annotations

import msgspec
import pytest

from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import apply_command
from pgherd.ledger.rescue import TERMS_SKIPPED, restored
from pgherd.ledger.saved import Saved, parse, render, without_secrets
from pgherd.model.errors import OperatorError
from pgherd.model.facts import Address, Facts, Kind, Member, Phase, Reign
from pgherd.model.ids import Lsn, MemberKey, NodeId, Position, RaftId, Term, Timeline

N1, N2, N3, W4 = NodeId("n1"), NodeId("n2"), NodeId("n3"), NodeId("w4")
HASH = "5ec4e7" * 10
FACTS = Facts(
    cluster="main",
    members={
        node: Member(
            node=node,
            raft_id=RaftId(number),
            kind=Kind.WITNESS if node == W4 else Kind.DATA,
            address=Address(host=f"10.0.0.{number}", raft_port=8300),
            incarnation="" if node == W4 else f"aaaaa{number}",
        )
        for number, node in enumerate((N1, N2, N3, W4), start=1)
    },
    next_raft_id=RaftId(5),
    phase=Phase.STABLE,
    term=Term(7),
    leader=MemberKey(N2, "aaaaa2"),
    system_id="7300000000000000000",
)


def saved(facts: Facts = FACTS) -> Saved:
    return Saved(
        facts=facts,
        index=40,
        raft_term=3,
        voters=tuple(member.raft_id for member in facts.members.values()),
        saved="2026-11-21T13:00:00Z by n1",
        at_ms=1_700_000_000_000,
    )


def test_a_file_is_read_back_and_can_be_read_by_people() -> None:
    """The header says whose ledger it is, as of when; the facts come back as they were."""
    text = render(saved())
    assert parse(text) == saved()
    head = text.split("\n\n")[0].splitlines()
    assert head[0] == "pgherd-ledger 1"
    assert "cluster: main, system identifier 7300000000000000000" in head
    assert "ledger: term 7 is stable, primary n2" in head
    assert "members: n1 n2 n3 w4" in head


def test_there_is_no_secret_in_it() -> None:
    """Join tokens are left out, even their hashes; nothing else in the ledger is one."""
    facts, outcome = apply_command(FACTS, cmd.IssueToken("t1", HASH, 2**40), at_ms=1)
    assert (outcome, HASH in render(saved(facts))) == (cmd.Done(), True)
    text = render(saved(without_secrets(facts)))
    assert HASH not in text
    assert "t1" not in text.replace(HASH, "")


def test_any_change_of_a_byte_is_noticed() -> None:
    """Also in the header; a file that is cut short, too."""
    text = render(saved())
    for at in range(0, len(text), 7):
        wrong = text[:at] + ("#" if text[at] != "#" else "+") + text[at + 1 :]
        with pytest.raises(OperatorError):
            parse(wrong)
    for end in (0, 1, 20, len(text) // 2, len(text) - 1):
        with pytest.raises(OperatorError):
            parse(text[:end])


def test_other_formats_say_what_to_do() -> None:
    """A newer one, and what is no ledger at all."""
    with pytest.raises(OperatorError, match="format 2, this pgherd reads 1") as newer:
        parse(render(saved()).replace("pgherd-ledger 1", "pgherd-ledger 2", 1))
    assert "a newer one" in newer.value.hint
    with pytest.raises(OperatorError, match="no saved ledger") as other:
        parse("PGDMP")
    assert "snapshot save" in other.value.hint


def test_a_restored_ledger_needs_every_copy_to_elect() -> None:
    """F0: a term above every one there may be, nobody leads, all data members have to be sealed."""
    facts = restored(saved(), lost=frozenset())
    assert (facts.phase, facts.leader, facts.term) == (Phase.ELECTING, None, 7 + TERMS_SKIPPED)
    copies = tuple(MemberKey(node, f"aaaaa{n}") for n, node in enumerate((N1, N2, N3), start=1))
    assert (facts.sync.voters, facts.sync.r, facts.sync.k) == (copies, 3, 1)
    assert facts.elector == N1
    assert set(facts.members) == {N1, N2, N3, W4}
    assert facts.notes[-1].kind == "cluster.restored"
    again, _ = apply_command(facts, cmd.Begin(facts.term, N3, 201, "elector lost"), at_ms=1)
    assert again.sync == facts.sync


def test_the_first_winner_of_a_restored_ledger_may_be_the_only_one_with_everything() -> None:
    """Who was degraded since the file was saved has rows alone: without it nobody can be elected.

    That ends with its first stable term, whose acknowledgements are on k others.
    """
    before = Reign(Term(7), MemberKey(N2, "aaaaa2"), Position(Term(6), Lsn(90)), True, 305, "")
    led = msgspec.structs.replace(FACTS, history=(before,))
    facts = restored(saved(led), lost=frozenset())
    first, *others = facts.sync.voters
    elect = cmd.Elect(
        term=facts.term,
        elector=N1,
        winner=first,
        start=Position(Term(7), Lsn(100)),
        promoted=True,
        voters=tuple(others),
        k=1,
        rule=305,
        reason="",
    )
    elected, _ = apply_command(facts, elect, at_ms=1)
    assert (elected.sync.kd, elected.sync.r) == (0, len(others) + 1)
    stable, _ = apply_command(
        elected, cmd.Establish(facts.term, Timeline(2), Lsn(200), (others[0],)), at_ms=1
    )
    assert (stable.phase, stable.sync.kd, stable.sync.r) == (Phase.STABLE, 1, len(others))


def test_ids_are_new_and_tell_those_apart_who_were_given_something_else() -> None:
    """Old ids belong to nobody; the same input gives the same ledger, another one another."""
    facts = restored(saved(), lost=frozenset())
    assert facts == restored(parse(render(saved())), lost=frozenset())
    assert all(facts.was_removed(RaftId(old)) for old in (1, 2, 3, 4, 1000))
    other = msgspec.structs.replace(saved(), at_ms=1)
    lost = restored(saved(), lost=frozenset({N3}))
    ids = [
        frozenset(member.raft_id for member in one.members.values())
        for one in (facts, restored(other, lost=frozenset()), lost)
    ]
    assert not ids[0] & (ids[1] | ids[2])


def test_a_higher_term_of_the_data_may_be_told() -> None:
    """Where it is not higher it changes no term; it is part of what was given all the same."""
    far = restored(saved(), lost=frozenset(), above=Term(5000))
    near = restored(saved(), lost=frozenset(), above=Term(8))
    plain = restored(saved(), lost=frozenset())
    assert (far.term, near.term, plain.term) == (5001, 1007, 1007)
    assert len({min(m.raft_id for m in one.members.values()) for one in (far, near, plain)}) == 3


def test_the_lost_are_named_and_gone() -> None:
    """Nobody waits for them, and the history says who was given up."""
    facts = restored(saved(), lost=frozenset({N2, N3}))
    assert facts.sync.voters == (MemberKey(N1, "aaaaa1"),)
    assert (facts.sync.r, set(facts.members)) == (1, {N1, W4})
    assert "given up, with what only they held: n2, n3" in facts.notes[-1].text
