"""What an operator gives up for lost: for one election, by name, and written down for good."""

from __future__ import annotations

import msgspec
from test_apply import K1, K2, K3, N2, N3, after, begin, elect, refused, stable

from pgherd.ledger import commands as cmd
from pgherd.ledger.giving import loss_bytes
from pgherd.ledger.levels import LEVEL, needed_level
from pgherd.model.facts import Facts
from pgherd.model.ids import Lsn, MemberKey, Term


def upgraded() -> Facts:
    """A stable term of members that all understand the newest commands."""
    return msgspec.structs.replace(stable(), level=LEVEL)


def order(*lost: MemberKey, term: int = 2, accept: int | None = None) -> cmd.GiveUp:
    return cmd.GiveUp(
        id="g1",
        term=Term(term),
        lost=lost,
        candidate=None,
        known_end=Lsn(1100),
        accept_bytes=accept,
        requested_by="ann",
    )


def test_it_holds_for_one_election_and_is_written_down() -> None:
    """The reign and the notes say who gave up whom, and how much is known to be lost."""
    facts = after(upgraded(), begin(1), order(K1, K2))
    done = after(facts, elect(2, K3, lost=(K1, K2)))
    assert done.given_up is None
    reign = done.history[-1]
    assert reign.gave_up == (K1, K2)
    done_at = elect(2, K3).start
    lost = 1100 - done_at.lsn
    told = f"gave up n1, n2 with WAL after {done_at}, {lost} bytes by the last that was heard"
    assert told in reign.reason
    kinds = {note.kind: note.text for note in done.notes}
    assert told in kinds["data.loss-accepted"]
    assert (done.sync.voters, done.sync.k, done.sync.r) == ((), 0, 0)


def test_the_next_term_has_to_be_asked_for_anew() -> None:
    """An order is for the election that the operator saw, not for one that follows."""
    facts = after(upgraded(), begin(1), order(K1, K2), begin(2))
    assert facts.given_up is None
    assert refused(facts, elect(3, K3, lost=(K1, K2))) == "unsafe"
    assert refused(facts, order(K1, K2)) == "stale"


def test_nothing_is_lost_without_a_word() -> None:
    """The ledger refuses a loss that nobody ordered, a wider one, and one of a stable term."""
    electing = after(upgraded(), begin(1))
    assert refused(electing, elect(2, K3, lost=(K1, K2))) == "unsafe"
    ordered = after(electing, order(K2))
    assert refused(ordered, elect(2, K3, lost=(K1, K2))) == "unsafe"
    assert refused(ordered, elect(2, K3, K2, k=1, lost=(K2,))) == "unsafe", "it leads alone"
    assert refused(upgraded(), order(K2, term=1)) == "stale"
    assert refused(electing, order(MemberKey(N3, "zz"))) == "not_needed"
    assert refused(electing, order()) == "not_needed"
    plain = after(ordered, elect(2, K3, K1, K2, k=1))
    assert (plain.history[-1].gave_up, plain.given_up) == ((), None), "nothing had to be lost"


def test_older_members_are_never_asked_to_understand_it() -> None:
    """The command, and the new words of an old one, need the level that they came with."""
    assert refused(after(stable(), begin(1)), order(K1)) == "too_new"
    assert needed_level(elect(2, K3)) == 1
    assert needed_level(elect(2, K3, lost=(K1,))) == needed_level(order(K1)) == 2
    assert refused(after(stable(), begin(1)), elect(2, K3, unsealed=(K1,))) == "too_new"


def test_how_much_is_known_to_be_lost() -> None:
    """Nothing where the winner is ahead of the last word, and unknown without one."""
    assert (loss_bytes(Lsn(1100), Lsn(1000)), loss_bytes(Lsn(1100), Lsn(1200))) == (100, 0)
    assert loss_bytes(Lsn(0), Lsn(1)) is None
    facts = after(upgraded(), begin(1), order(K1, K2))
    start = elect(2, K3).start.lsn
    more = elect(2, K3, lost=(K1, K2), known_end=Lsn(start + 9999))
    assert "9999 bytes" in after(facts, more).history[-1].reason, "the elector heard it last"


def fenced(target: MemberKey, *, done: bool, go_on: bool = False) -> cmd.Fenced:
    return cmd.Fenced(
        term=Term(2), by=N2, target=target, done=done, go_on=go_on, text=f"{target.node}: tried"
    )


def test_a_winner_knows_whom_to_fence_until_it_is_done() -> None:
    """Done or not required: taken off the list; a failure stays on it, as one line of history."""
    chosen = after(upgraded(), begin(1), elect(2, K2, K1, K3, k=1, unsealed=(K1,)))
    assert chosen.unsealed == (K1,)
    failed = after(chosen, fenced(K1, done=False), fenced(K1, done=False))
    assert (failed.unsealed, failed.reason) == ((K1,), "n1: tried")
    assert [note.kind for note in failed.notes].count("fence.failed") == 1
    assert after(failed, fenced(K1, done=True)).unsealed == ()
    assert after(chosen, fenced(K1, done=False, go_on=True)).unsealed == ()
    assert refused(chosen, fenced(K3, done=True)) == "already"
    assert refused(upgraded(), fenced(K1, done=True)) == "stale"
    assert after(chosen, begin(2)).unsealed == (K1,), "the next winner has to know it too"
