"""Proves the herd decider's answers to states that a review found to be dead ends or traps.

Each test builds the facts and reports of one such state and looks at the next decision.
"""

from __future__ import annotations

from msgspec.structs import replace

from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import apply_command
from pgherd.model.facts import (
    Address,
    Facts,
    Frozen,
    Handover,
    Kind,
    Member,
    Mode,
    Phase,
    Reign,
    Switchover,
    SyncState,
    SyncUse,
    Tags,
)
from pgherd.model.ids import Instant, Lsn, MemberKey, NodeId, Position, RaftId, Term
from pgherd.model.observation import Heard, HerdView, Observation, Sender, Server, ServerSeen
from pgherd.model.policy import Policy
from pgherd.model.promises import Promises
from pgherd.plan import herd

P, X, Y = (MemberKey(NodeId(name), f"{name}0") for name in ("p", "x", "y"))
NOW = Instant(100_000)
END = Position(Term(5), Lsn(5000))
SYSTEM = "7"
CLOSED = '"pgherd-closed"'


def member(key: MemberKey, number: int) -> Member:
    address = Address(host=key.node, raft_port=1, postgres_port=5432)
    return Member(key.node, RaftId(number), Kind.DATA, address, key.incarnation)


def facts(**changes: object) -> Facts:
    """Three members, p leads the stable term 5, any 1 of x, y."""
    base = Facts(
        cluster="c",
        members={key.node: member(key, n) for n, key in enumerate((P, X, Y), 1)},
        phase=Phase.STABLE,
        term=Term(5),
        elector=X.node,
        leader=P,
        system_id=SYSTEM,
        sync=SyncState(
            voters=(X, Y), k=1, kd=1, r=2, names=(X, Y), names_k=1, generation=7, in_use=()
        ),
        history=(Reign(Term(5), P, Position(Term(4), Lsn(4000)), True, 305, "", established=True),),
    )
    return replace(base, **changes)


def sealed(key: MemberKey, term: int, at: Position = END, *, drained: bool = True) -> Observation:
    return Observation(
        node=key.node,
        raft_id=RaftId(1),
        sequence=1,
        server=ServerSeen(
            state=Server.STANDBY, system_id=SYSTEM, position=at, drained=drained, names=CLOSED
        ),
        promises=Promises(
            promise=Term(term),
            promise_elector=X.node,
            frozen=Frozen(Term(term), at),
            incarnation=key.incarnation,
        ),
    )


def primary(
    key: MemberKey = P, *, streams: tuple[MemberKey, ...] = (), term: int = 5, **seen: object
) -> Observation:
    senders = tuple(Sender(k, Term(term), "streaming", END.lsn, END.lsn) for k in streams)
    server = ServerSeen(
        state=Server.PRIMARY,
        system_id=SYSTEM,
        position=END,
        senders=senders,
        insert_lsn=END.lsn,
        names_generation=7,
        settled=7,
        slots=("pgherd_x", "pgherd_y"),
    )
    return Observation(
        node=key.node,
        raft_id=RaftId(1),
        sequence=1,
        server=replace(server, **seen),
        promises=Promises(incarnation=key.incarnation),
    )


def standby(key: MemberKey) -> Observation:
    report = sealed(key, 0)
    return replace(report, promises=Promises(incarnation=key.incarnation))


def view(*reports: Observation, phase_age_ms: int = 100, age_ms: int = 0) -> HerdView:
    return HerdView(
        me=X.node,
        reports={r.node: Heard(r, Instant(NOW - age_ms)) for r in reports},
        since=Instant(0),
        phase_since=Instant(NOW - phase_age_ms),
        names_since=Instant(NOW - phase_age_ms),
        unix_ms=NOW,
        raft_voters=(RaftId(1), RaftId(2), RaftId(3)),
        caught_up=(RaftId(1), RaftId(2), RaftId(3)),
    )


def decide(now: Facts, seen: HerdView) -> object:
    """The command that the herd decider wants, None when it waits."""
    return herd.decide(now, view=seen, policy=Policy(), now=NOW).command


def test_a_candidate_that_is_lost_ends_its_switchover_at_once() -> None:
    """Nobody waits ten seconds with a closed primary for a candidate that has died."""
    handover = Handover(switchover="s", candidate=Y.node)
    electing = facts(term=Term(6), phase=Phase.ELECTING, handover=handover)
    silent = view(primary(), standby(X))
    dead = replace(standby(Y), server=ServerSeen(state=Server.STOPPED, system_id=SYSTEM))
    for seen in (silent, view(primary(), standby(X), dead)):
        begun = decide(electing, seen)
        assert isinstance(begun, cmd.Begin)
        assert begun.rule == 302
    assert decide(electing, view(primary(), standby(X), standby(Y))) is None


def test_a_winner_that_cannot_promote_loses_the_term_soon() -> None:
    """Five minutes of start-up time are not for a standby that refuses its promotion."""
    electing = facts(
        term=Term(6),
        phase=Phase.ESTABLISHING,
        leader=X,
        sync=SyncState(voters=(P, Y), k=1, kd=1, r=2),
        history=(*facts().history, Reign(Term(6), X, END, True, 203, "")),
    )
    stuck = sealed(X, 6)
    assert decide(electing, view(stuck, phase_age_ms=5000)) is None
    assert isinstance(decide(electing, view(stuck, phase_age_ms=11_000)), cmd.Begin)


def test_a_winner_whose_server_restarted_before_it_heard_loses_the_term_at_once() -> None:
    """It may neither lead from another end, nor be promoted where it was to go on as primary."""
    went_on = Reign(Term(6), X, END, False, 303, "")
    elected = Reign(Term(6), X, END, True, 203, "")
    here, elsewhere = sealed(X, 6), sealed(X, 6, Position(Term(5), Lsn(4900)))
    never = replace(here, promises=replace(here.promises, frozen=None))
    for reign, report, is_lost in (
        (elected, here, False),
        (elected, elsewhere, True),
        (elected, never, True),
        (went_on, here, True),
        (elected, replace(elsewhere, promises=replace(elsewhere.promises, adopted=Term(6))), False),
    ):
        known = facts(
            term=Term(6),
            phase=Phase.ESTABLISHING,
            leader=X,
            sync=SyncState(voters=(P, Y), k=1, kd=1, r=2),
            history=(*facts().history, reign),
        )
        begun = decide(known, view(report, phase_age_ms=1000))
        assert isinstance(begun, cmd.Begin) is is_lost, report
        assert not isinstance(begun, cmd.Begin) or begun.rule == 202
        old = view(report, phase_age_ms=0)
        assert decide(known, old) is None, "what it said before it could have heard tells nothing"


def test_a_sealed_standby_that_was_not_seen_drained_yet_is_waited_for() -> None:
    """Else its report that comes a moment too early would cost the new term its synchrony."""
    electing = facts(term=Term(6), phase=Phase.ELECTING)
    early = view(sealed(X, 6), sealed(Y, 6, drained=False))
    assert decide(electing, early) is None
    late = view(sealed(X, 6), sealed(Y, 6, drained=False), phase_age_ms=2000)
    alone = decide(electing, late)
    assert isinstance(alone, cmd.Elect)
    assert alone.k == 0
    both = decide(electing, view(sealed(X, 6), sealed(Y, 6)))
    assert isinstance(both, cmd.Elect)
    assert both.k == 1


def test_no_voter_is_taken_out_for_one_that_does_not_stream_either() -> None:
    """The barrier of such a step could never end: out and back every three seconds, for ever."""
    strict = facts(mode=Mode.STRICT, num_sync=1)
    missing = {str(X): 60_000, str(Y): 60_000}
    alone = replace(primary(), missing_ms=missing)
    assert decide(strict, view(alone)) is None
    with_y = replace(primary(streams=(Y,)), missing_ms={str(X): 60_000})
    step = decide(strict, view(with_y, standby(Y)))
    assert isinstance(step, cmd.ChangeSync)
    assert step.names == (Y,)


def test_a_switchover_that_waits_does_not_keep_the_last_voter() -> None:
    """Writes must not hang for as long as the primary's checkpoint takes."""
    wish = Switchover(id="s", candidate=Y.node, requested_by="me", requested_at_ms=0)
    sync = SyncState(voters=(X,), k=1, kd=1, r=1, names=(X,), names_k=1, generation=7)
    nosync = replace(member(Y, 3), tags=Tags(nosync=True))
    members = {**facts().members, Y.node: nosync}
    waiting = facts(switchover=wish, sync=sync, members=members)
    lost = replace(primary(streams=(Y,)), missing_ms={str(X): 5000})
    step = decide(waiting, view(lost, standby(Y)))
    assert isinstance(step, cmd.ChangeSync)
    assert step.rule == 502


def test_configurations_in_use_are_remembered_once() -> None:
    """A set that comes and goes does not make the ledger grow."""
    now = facts()
    for _ in range(20):
        for names in ((Y,), (X, Y)):
            sync = now.sync
            step = cmd.ChangeSync(
                term=Term(5),
                generation=sync.generation,
                settled=False,
                voters=sync.voters,
                k=1,
                kd=1,
                r=2,
                names=names,
                names_k=1,
                rule=506,
                reason="",
            )
            now, outcome = apply_command(now, step, at_ms=0)
            assert isinstance(outcome, cmd.Done)
    kept = {(use.names, use.k) for use in now.sync.in_use}
    assert kept == {((X, Y), 1), ((Y,), 1)}
    assert len(now.sync.in_use) == 2


def test_a_rebuilt_voter_gets_its_new_name_while_the_old_one_is_still_in_v() -> None:
    """In mode strict the old name can only leave V once the new one is in it."""
    strict = facts(mode=Mode.STRICT, num_sync=1)
    again = cmd.RegisterIncarnation(X.node, "x1")
    now, outcome = apply_command(strict, again, at_ms=0)
    assert isinstance(outcome, cmd.Done)
    assert X in now.sync.voters
    assert now.member(X) is None
    new = MemberKey(X.node, "x1")
    lost = replace(primary(streams=(new,)), missing_ms={str(X): 9000, str(Y): 9000})
    step = decide(now, view(lost, standby(new)))
    assert isinstance(step, cmd.ChangeSync)
    assert step.voters == (X, new, Y)
    leader = cmd.RegisterIncarnation(P.node, "p1")
    assert isinstance(apply_command(strict, leader, at_ms=0)[1], cmd.Refused)


def test_an_old_name_never_counts_as_sealed() -> None:
    """A voter whose directory was replaced is missing, whatever its node reports."""
    new = MemberKey(X.node, "x1")
    members = {**facts().members, X.node: replace(member(X, 2), incarnation="x1")}
    electing = facts(term=Term(6), phase=Phase.ELECTING, members=members)
    decision = herd.decide(
        electing, view=view(sealed(new, 6), sealed(Y, 6)), policy=Policy(), now=NOW
    )
    assert decision.command is None
    assert decision.rule == 304


def test_use_of_an_unsettled_empty_set_survives_an_undo() -> None:
    """After ∅ → S → ∅ the next ∅ → S must go through the probe again."""
    sync = SyncState(names=(X,), names_k=1, generation=8, in_use=(SyncUse(7, (), 0),))
    degraded = facts(sync=sync)
    hopeless = view(primary(names_generation=8, settled=0), phase_age_ms=9000)
    step = decide(degraded, hopeless)
    assert isinstance(step, cmd.ChangeSync)
    assert step.rule == 508
    now, _ = apply_command(degraded, step, at_ms=0)
    assert now.sync.names == ()
    assert any(use.k == 0 for use in now.sync.in_use)
