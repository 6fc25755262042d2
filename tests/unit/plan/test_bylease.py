"""Mode async: what an election by an expired lease gives up, and what it must not."""

from __future__ import annotations

import pytest
from mode_cases import (
    ALONE,
    ASKS,
    DEAD1,
    END,
    OVER,
    SEAL1,
    SEAL2,
    SEAL3,
    asynchronous,
    ended,
    with_lag,
)
from plan_values import (
    CLOSED,
    NOW,
    electing,
    facts,
    key,
    lease,
    look,
    member,
    myself,
    parked,
    pos,
    primary,
    reign,
    replace,
    report,
    sealed,
    sync,
)

from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import apply_command
from pgherd.model import action as act
from pgherd.model.facts import Facts, Handover, Mode, Phase, Tags
from pgherd.model.ids import Instant, Lsn, NodeId, Term, Timeline
from pgherd.model.lease import TTL_ASYNC_MS, TTL_MS, Ask
from pgherd.model.policy import Policy
from pgherd.plan import herd, leases
from pgherd.plan.bylease import told_end, wrote_alone
from pgherd.plan.leading import names_text
from pgherd.plan.look import lease_ttl
from pgherd.plan.member import decide
from pgherd.plan.rule import Decision, Situation


def decided(seen: Situation) -> Decision:
    return herd.decide(seen.facts, view=seen.view, policy=seen.policy, now=seen.now)


def elect(seen: Situation) -> cmd.Elect:
    decision = decided(seen)
    assert isinstance(decision.command, cmd.Elect), decision
    return decision.command


def after(known: Facts, *commands: cmd.AnyCommand) -> Facts:
    for command in commands:
        known, outcome = apply_command(known, command, at_ms=7)
        assert isinstance(outcome, cmd.Done), (command, outcome)
    return known


def test_the_winner_has_most_and_the_loss_is_recorded() -> None:
    """n2 at 4900 of 5000 known: 100 bytes, in the command, the reign and the notes."""
    command = elect(look(ended(), DEAD1, SEAL2, SEAL3))
    assert (command.winner, command.start, command.lost_bytes) == (key(2), pos(3, 4900), 100)
    assert (command.voters, command.k, command.lease_ttl_ms) == ((), 0, TTL_ASYNC_MS)
    known = after(ended(), command)
    assert known.history[-1].lost_bytes == 100
    assert "100 bytes" in known.notes[-1].text
    assert "lease of n1 is over" in known.notes[-1].text


def test_the_lag_that_is_allowed_is_exact() -> None:
    """A winner that lacks as much as max_lag is taken, one that lacks a byte more is not."""
    seen = look(ended(), DEAD1, SEAL2, SEAL3)
    assert elect(with_lag(seen, 100)).winner == key(2)
    refused = decided(with_lag(seen, 99))
    assert "100 bytes behind" in refused.reason
    assert "failover.max_lag is 99" in refused.reason


def test_who_has_most_counts_and_not_who_would_be_preferred() -> None:
    """A nofailover member with more is not passed over in silence."""
    tagged = replace(member(2), tags=Tags(nofailover=True))
    known = ended(members={**facts().members, NodeId("n2"): tagged})
    decision = decided(look(known, DEAD1, SEAL2, SEAL3))
    assert (decision.rule, decision.command) == (306, None)
    assert str(pos(3, 4900)) in decision.reason


def test_a_log_that_left_the_old_primarys_is_no_measure() -> None:
    """n3 has a longer log of a branch that n1 left behind: it is not compared, n2 leads."""
    branch = report(3, parked(pos(0, 9000)), sealed(3, pos(0, 9000)))
    assert elect(look(ended(), DEAD1, SEAL2, branch)).winner == key(2)
    alone = look(ended(), DEAD1, replace(SEAL2, at=Instant(0)), branch, me=3)
    alone = replace(alone, facts=replace(alone.facts, elector=NodeId("n3")))
    assert decided(alone).command is None


def test_a_ledger_that_is_behind_elects_nobody() -> None:
    """It was restored from too old a file: what it calls the old primary's history is not all."""
    later = report(3, parked(pos(9, 100)), sealed(3, pos(9, 100)))
    decision = decided(look(ended(), DEAD1, SEAL2, later))
    assert (decision.rule, decision.command) == (304, None)
    assert "above all that this ledger knows of" in decision.reason


def test_a_reign_that_never_began_to_acknowledge_loses_nothing_of_its_own() -> None:
    """n1 won term 3 and died before STABLE: its start is the measure, and its node may be passed.

    A member that has more than n1 began with, of the reign before, brings it back.
    """
    old = reign(2, 3, pos(0, 1000))
    young = replace(reign(3, 1, pos(2, 4000)), established=False)
    known = ended(replace(OVER, alone_at=0, renew_seq=0), history=(old, young))
    assert told_end(known) == 4000
    assert wrote_alone(known)
    more = report(2, parked(pos(2, 4500)), sealed(2, pos(2, 4500)))
    less = report(3, parked(pos(2, 4000)), sealed(3, pos(2, 4000)))
    command = elect(look(known, DEAD1, more, less))
    assert (command.winner, command.lost_bytes) == (key(2), 0)


def test_a_term_in_async_is_open_and_bounded_from_its_first_commit_on() -> None:
    """No renewal is needed before its lease may end the reign; names are empty, not closed."""
    begun = asynchronous(
        phase=Phase.ESTABLISHING,
        lease=lease(),
        history=(replace(reign(3, 1, pos(0, 1000)), established=False),),
    )
    established = cmd.Establish(
        term=Term(3), timeline=Timeline(3), epoch_record_end=Lsn(1200), names=()
    )
    known = after(begun, established)
    assert names_text(known) == ""
    assert known.lease is not None
    assert known.lease.alone_at == known.sync.generation == 5
    assert wrote_alone(known)


def test_from_quorum_the_lease_counts_once_the_primary_was_seen_to_write_alone() -> None:
    """Before that its standbys may acknowledge behind the back of an election (I8)."""
    known = after(facts(level=2), cmd.SetMode(Mode.ASYNC, 0, "ann"))
    assert (known.mode, known.sync.voters, known.sync.names) == (Mode.ASYNC, (), ())
    assert not wrote_alone(known)
    still = report(1, primary(), ask=Ask("b", Instant(1)))
    renewed = leases.renewal(known, still.report)
    assert renewed is not None
    known = after(known, renewed)
    assert not wrote_alone(known)
    soon = report(1, replace(ALONE, names_generation=5), ask=Ask("b", Instant(2)))
    early = leases.renewal(known, soon.report)
    assert early is not None, "at once, for a failover would have to wait for it"
    assert wrote_alone(after(known, early))
    assert leases.renewal(after(known, early), soon.report) is None


def test_a_renewal_in_quorum_says_nothing_that_an_older_program_cannot_read() -> None:
    """Degraded it writes alone too; the field is for mode async only."""
    degraded = facts(sync=sync(), lease=lease(renew_seq=0))
    renewed = leases.renewal(degraded, ASKS.report)
    assert renewed is not None
    assert renewed.alone_at == 0


def test_async_cannot_begin_in_the_middle_of_an_election() -> None:
    """F1 froze V, R and k: they may not be forgotten before the term is stable."""
    known = electing(level=2)
    _, outcome = apply_command(known, cmd.SetMode(Mode.ASYNC, 0), at_ms=0)
    assert isinstance(outcome, cmd.Refused)
    assert outcome.code == "not_stable"


def test_a_wish_can_be_taken_back() -> None:
    """Async again before a standby came: the half-done set is emptied, and nothing is wanted."""
    half = replace(sync(), names=(key(2),), names_k=1, generation=5)
    wished = asynchronous(level=2, sync=half, mode_wanted=Mode.QUORUM)
    known = after(wished, cmd.SetMode(Mode.ASYNC, 0))
    assert (known.mode_wanted, known.sync.names, known.sync.generation) == (None, (), 6)


def test_no_set_in_mode_async() -> None:
    """The last gate: neither an election nor a step may give it voters, nor a mode unasked for."""
    step = cmd.ChangeSync(
        term=Term(3), generation=4, settled=True, voters=(key(2),), k=1, kd=1, r=1,
        names=(key(2),), names_k=1, rule=0, reason="test",
    )  # fmt: skip
    wanted = asynchronous(mode_wanted=Mode.QUORUM)
    unasked = replace(step, mode=Mode.STRICT)
    won = cmd.Elect(
        term=Term(4), elector=NodeId("n2"), winner=key(2), start=pos(3, END), promoted=True,
        voters=(key(1),), k=1, rule=305, reason="test",
    )  # fmt: skip
    for known, command in ((asynchronous(), step), (wanted, unasked), (ended(), won)):
        _, outcome = apply_command(known, command, at_ms=0)
        assert isinstance(outcome, cmd.Refused), command
        assert outcome.code == "unsafe"


def test_the_lease_is_shorter_in_async() -> None:
    """Unless the operator says otherwise; it is what a failover waits for."""
    auto, told = Policy(), Policy(lease_ttl_ms=7000)
    assert (lease_ttl(asynchronous(), auto), lease_ttl(facts(), auto)) == (TTL_ASYNC_MS, TTL_MS)
    assert lease_ttl(asynchronous(), told) == 7000


def test_who_is_never_to_be_restarted_in_place_is_done_without() -> None:
    """on_postgres_crash: failover: its sealed end is the measure of what is given up, and exact."""
    seen = look(ended(), SEAL1, SEAL2, SEAL3)
    assert elect(seen).winner == key(1)
    never = replace(seen, policy=replace(seen.policy, restart_in_place=False))
    command = elect(never)
    assert (command.rule, command.winner, command.lost_bytes) == (306, key(2), 100)
    further = report(1, parked(pos(3, 5300)), sealed(1, pos(3, 5300)))
    assert elect(replace(never, view=look(ended(), further, SEAL2, SEAL3).view)).lost_bytes == 400


@pytest.mark.parametrize(
    ("mode", "stops"), [(Mode.ASYNC, True), (Mode.QUORUM, False)], ids=["async", "degraded"]
)
def test_whoever_cannot_close_in_time_is_stopped_in_async(mode: Mode, stops: bool) -> None:
    """In an election and in a switchover; degraded, nobody else can lead after those.

    At the deadline it is stopped in both: what was written alone ends there.
    """
    known = asynchronous(mode=mode)
    begun = replace(known, phase=Phase.ELECTING, term=Term(4))
    handed = replace(begun, handover=Handover(switchover="s", candidate=NodeId("n2")))
    planned = decide(myself(known, ALONE, has_lease=False))
    assert isinstance(planned.action, act.HoldWrites)
    for facts_then in (begun, handed):
        planned = decide(myself(facts_then, ALONE, has_lease=True))
        assert isinstance(planned.action, act.CloseGate | act.DrainAndStop)
        assert planned.action.or_stop is stops


def test_a_planned_switchover_in_async_waits_for_nothing() -> None:
    """The old primary drained and is sealed: its candidate has everything, nothing is lost."""
    drained = report(
        1,
        replace(parked(pos(3, 4900)), names=CLOSED),
        sealed(1, pos(3, 4900)),
    )
    running = ended(replace(OVER, expired=False))
    command = elect(look(running, drained, SEAL2, SEAL3, phase_since=Instant(NOW - 5000)))
    assert (command.rule, command.winner, command.lost_bytes) == (305, key(2), None)
