"""Proves the member decider's answers to states that a review found to be dead ends or traps."""

from __future__ import annotations

from msgspec.structs import replace

from pgherd.model import action as act
from pgherd.model.facts import Address, Facts, Kind, Member, Mode, Phase, Reign, SyncState
from pgherd.model.ids import Instant, Lsn, MemberKey, NodeId, Position, RaftId, Term
from pgherd.model.observation import Observation, Receiver, Sender, Server, ServerSeen
from pgherd.model.policy import Policy
from pgherd.model.promises import Promises
from pgherd.plan.member import decide
from pgherd.plan.own import Self

P, X = MemberKey(NodeId("p"), "p0"), MemberKey(NodeId("x"), "x0")
NOW = Instant(1_000_000)
END = Position(Term(5), Lsn(5000))


def reign(term: int, leader: MemberKey, *, promoted: bool, start: int = 4000) -> Reign:
    at = Position(Term(term - 1), Lsn(start))
    return Reign(Term(term), leader, at, promoted, 305, "", established=True)


def member(key: MemberKey, number: int) -> Member:
    address = Address(host=key.node, raft_port=1, postgres_port=5432)
    return Member(key.node, RaftId(number), Kind.DATA, address, key.incarnation)


def facts(**changes: object) -> Facts:
    """p leads the stable term 5 alone."""
    base = Facts(
        cluster="c",
        members={key.node: member(key, n) for n, key in enumerate((P, X), 1)},
        phase=Phase.STABLE,
        term=Term(5),
        elector=X.node,
        leader=P,
        system_id="7",
        history=(reign(5, P, promoted=True),),
    )
    return replace(base, **changes)


def leader_says(*streams: MemberKey, state: str = "streaming") -> Observation:
    senders = tuple(Sender(k, Term(5), state, END.lsn, END.lsn) for k in streams)
    server = ServerSeen(
        state=Server.PRIMARY,
        system_id="7",
        position=END,
        senders=senders,
        checkpointed_term=Term(5),
    )
    return Observation(P.node, RaftId(1), 1, server, Promises(incarnation="p0"))


def me(server: ServerSeen, **changes: object) -> Self:
    """x, which has followed p for a minute."""
    base = Self(
        me=X.node,
        facts=facts(),
        server=server,
        promises=Promises(
            promise=Term(5), adopted=Term(5), adopted_leader=P.node, incarnation="x0"
        ),
        policy=Policy(),
        now=NOW,
        leader_report=leader_says(X),
        following_since=Instant(NOW - 60_000),
    )
    return replace(base, **changes)


FOLLOWS = ServerSeen(
    state=Server.STANDBY,
    system_id="7",
    position=END,
    upstream=P.node,
    upstream_term=Term(5),
    upstream_incarnation="x0",
    slots=("pgherd_p",),
)


def test_a_receiver_that_comes_and_goes_is_no_stream() -> None:
    """Its WAL is gone from the leader: whether a look meets the receiver or not, it is stuck."""
    refused = leader_says(X, state="catchup")
    for receiver in (None, Receiver(P.node, Term(5), "streaming", END.lsn)):
        planned = decide(me(replace(FOLLOWS, receiver=receiver), leader_report=refused))
        assert isinstance(planned.action, act.Rebuild)
    assert decide(me(FOLLOWS)).action is None
    young = me(FOLLOWS, leader_report=refused, following_since=Instant(NOW - 1000))
    assert decide(young).action is None


def test_a_voter_is_not_copied_anew_while_it_counts() -> None:
    """First the ledger lets go of it, so that a copy never takes the place of the last witness."""
    counted = facts(sync=SyncState(voters=(X,), k=1, kd=1, r=1, names=(X,), names_k=1))
    stuck = me(FOLLOWS, facts=counted, leader_report=leader_says())
    assert decide(stuck).action is None
    broken = me(replace(FOLLOWS, state=Server.STOPPED), facts=counted, dead_end=True)
    assert decide(broken).action is None
    strict = replace(counted, mode=Mode.STRICT)
    assert isinstance(decide(replace(stuck, facts=strict)).action, act.Rebuild)


def test_a_leader_that_was_promoted_anew_is_no_longer_the_same_server() -> None:
    """Slept through an in-place restart and a false alarm: the position has to be looked at."""
    history = (
        reign(5, P, promoted=True),
        reign(6, P, promoted=True, start=4900),
        reign(7, P, promoted=False, start=4950),
    )
    asleep = facts(term=Term(7), history=history)
    planned = decide(me(FOLLOWS, facts=asleep))
    assert isinstance(planned.action, act.Seal)
    kept = facts(term=Term(6), history=(history[0], reign(6, P, promoted=False)))
    assert isinstance(decide(me(FOLLOWS, facts=kept)).action, act.Follow)


def test_a_start_that_never_ends_gives_way_to_a_copy() -> None:
    """The WAL that recovery waits for is not there; patience first, then a new copy."""
    starting = ServerSeen(state=Server.STARTING, system_id="7", since=Instant(NOW - 60_000))
    assert decide(me(starting)).action is None
    endless = replace(starting, since=Instant(NOW - 400_000))
    assert isinstance(decide(me(endless)).action, act.Rebuild)
    elections = facts(phase=Phase.ELECTING, term=Term(6))
    assert decide(me(endless, facts=elections)).action is None


def test_nothing_is_done_on_facts_of_before_the_start() -> None:
    """A restarted agent may remember an older set, or an election that has long been decided."""
    primary = ServerSeen(state=Server.PRIMARY, system_id="7", position=END, names="ANY 1 (x)")
    old = facts(phase=Phase.ELECTING, leader=X, term=Term(5))
    mine = me(primary, facts=old, me=P.node)
    assert isinstance(decide(mine).action, act.StopServer)
    assert decide(replace(mine, caught_up=False)).action is None
