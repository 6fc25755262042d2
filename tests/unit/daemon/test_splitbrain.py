"""Split brain is told once when it begins and once when it ends, and leads nobody astray."""

from __future__ import annotations

from msgspec.structs import replace

from pgherd.daemon.routing import snapshot
from pgherd.daemon.splitbrain import OVER, SEEN, SplitBrain
from pgherd.model.facts import Address, Facts, Kind, Member, Phase, Reign
from pgherd.model.ids import Instant, Lsn, MemberKey, NodeId, Position, RaftId, Term, Timeline
from pgherd.model.observation import Heard, Observation, Server, ServerSeen
from pgherd.model.promises import Promises
from pgherd.plan.splitbrain import DEPOSED_MS
from pgherd.postgres.settings import CLOSED_NAMES

N1, N2 = NodeId("n1"), NodeId("n2")
NOW = Instant(10_000)
FRESH_MS = 1500


def key(node: NodeId) -> MemberKey:
    return MemberKey(node, f"a{node}")


def member(node: NodeId, number: int) -> Member:
    address = Address(host=f"h{number}", raft_port=1, postgres_port=5432)
    return Member(node, RaftId(number), Kind.DATA, address, key(node).incarnation)


FACTS = Facts(
    cluster="main",
    members={N1: member(N1, 1), N2: member(N2, 2)},
    phase=Phase.STABLE,
    term=Term(1),
    leader=key(N1),
    system_id="7",
    history=(
        Reign(
            term=Term(1),
            leader=key(N1),
            start=Position(Term(0), Lsn(100)),
            promoted=True,
            rule=305,
            reason="",
            timeline=Timeline(2),
            established=True,
        ),
    ),
)


def heard(node: NodeId, state: Server, *, mine: bool, at: int = NOW) -> Heard:
    """A node's report; mine: whether its own agent promoted its server."""
    server = ServerSeen(state=state, system_id="7", position=Position(Term(1), Lsn(900)))
    promises = Promises(
        adopted=Term(1), adopted_leader=N1 if mine else None, incarnation=key(node).incarnation
    )
    report = Observation(
        node=node, raft_id=FACTS.members[node].raft_id, sequence=1, server=server, promises=promises
    )
    return Heard(report, Instant(at))


OLD_PROMISES = Promises(adopted=Term(1), adopted_leader=N2, incarnation=key(N2).incarnation)
SOUND = {N1: heard(N1, Server.PRIMARY, mine=True), N2: heard(N2, Server.STANDBY, mine=True)}


class Told:
    """What a node says of itself, and how often it spoke to its proxy."""

    def __init__(self, facts: Facts = FACTS) -> None:
        self.facts = facts
        self.events: list[str] = []
        self.published = 0
        self.eye = SplitBrain(
            fresh_ms=FRESH_MS,
            tell=lambda kind, text: self.events.append(f"{kind} {text}"),
            changed=self.publish,
        )

    def publish(self) -> None:
        self.published += 1

    def look(self, reports: dict[NodeId, Heard], *, now: int = NOW) -> frozenset[NodeId]:
        self.eye.watch(self.facts, reports, applied=0, now=Instant(now))
        return self.eye.nodes


def routes(reports: dict[NodeId, Heard], shunned: frozenset[NodeId]) -> tuple[str, list[str]]:
    """Where sessions go: the primary, "" for none, and the replicas."""
    seen = snapshot(
        FACTS,
        reports,
        me=N1,
        silent_after_ms=FRESH_MS,
        shunned=shunned,
        hold_until=NOW,
        now=NOW,
        assured_at=NOW,
    )
    return seen.primary.name if seen.primary else "", [one.name for one in seen.replicas]


def test_a_replica_by_hand_is_told_of_and_the_leader_stays() -> None:
    """Once at each end; the write route is the leader's all the time."""
    told = Told()
    assert told.look(SOUND) == frozenset()
    by_hand = {**SOUND, N2: heard(N2, Server.PRIMARY, mine=False)}
    assert told.look(by_hand) == told.look(by_hand) == {N2}
    assert routes(by_hand, told.eye.nodes) == ("n1", [])
    assert [event.split()[0] for event in told.events] == [SEEN]
    assert told.published == 1
    assert told.look(SOUND) == frozenset()
    assert [event.split()[0] for event in told.events] == [SEEN, OVER]
    assert told.published == 2
    assert routes(SOUND, told.eye.nodes) == ("n1", ["n2"])


def test_nobody_writes_to_a_leader_that_contradicts_the_ledger() -> None:
    """Nor is it read from; the route is closed until that is over."""
    told = Told()
    by_hand = {**SOUND, N1: heard(N1, Server.PRIMARY, mine=False)}
    assert told.look(by_hand) == {N1}
    assert routes(by_hand, told.eye.nodes) == ("", ["n2"])


def test_what_is_no_longer_heard_says_nothing() -> None:
    """A silent node may have been stopped long ago."""
    told = Told()
    old = heard(N2, Server.PRIMARY, mine=False, at=NOW - FRESH_MS)
    assert told.look({**SOUND, N2: old}) == frozenset()
    fresh = replace(old, at=NOW)
    assert told.look({**SOUND, N2: fresh}) == {N2}


def test_what_was_over_before_it_counted_is_not_remembered() -> None:
    """An old primary that is back has its own time to stop after each failover."""
    first = replace(FACTS.history[0], leader=key(N2))
    second = replace(FACTS.history[0], term=Term(2), start=Position(Term(1), Lsn(900)))
    told = Told(replace(FACTS, term=Term(2), history=(first, second)))
    old = replace(heard(N2, Server.PRIMARY, mine=True).report, promises=OLD_PROMISES)
    old = replace(old, server=replace(old.server, names=CLOSED_NAMES))
    for at in (NOW, NOW + 60_000):
        assert told.look({N2: Heard(old, Instant(at))}, now=at) == frozenset()
        assert told.look({}, now=at + 10) == frozenset()
    last = NOW + 60_000 + FRESH_MS
    reports = {N2: Heard(old, Instant(last))}
    told.look(reports, now=last)
    assert told.look({N2: Heard(old, Instant(last + DEPOSED_MS))}, now=last + DEPOSED_MS) == {N2}
