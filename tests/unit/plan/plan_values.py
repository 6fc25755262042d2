"""Values for the tests of the deciders: a quiet herd of three, and ways to change it."""

from __future__ import annotations

from typing import Any

import msgspec

from pgherd.model.facts import (
    Address,
    Facts,
    Frozen,
    Kind,
    Member,
    Phase,
    Reign,
    SyncState,
)
from pgherd.model.ids import (
    CLOSED_NAME,
    Instant,
    Lsn,
    MemberKey,
    NodeId,
    Position,
    RaftId,
    Term,
    Timeline,
    slot_name,
)
from pgherd.model.lease import Lease
from pgherd.model.observation import (
    Heard,
    HerdView,
    Observation,
    Receiver,
    Sender,
    Server,
    ServerSeen,
)
from pgherd.model.policy import Policy
from pgherd.model.promises import Promises
from pgherd.plan.member import Self, names_text
from pgherd.plan.rule import Situation

replace = msgspec.structs.replace
NAMES = (NodeId("n1"), NodeId("n2"), NodeId("n3"))
NOW = Instant(100_000)
TERM = Term(3)
END = Lsn(5000)
CLOSED = f'"{CLOSED_NAME}"'
SYSTEM = "73"
EVERYBODY = tuple(slot_name(node) for node in NAMES)
"""The slots of a member that has one for each, whoever it is itself."""
FLOOR = Policy(min_free_disk_bytes=64 << 20)


def key(number: int, incarnation: str = "") -> MemberKey:
    """The key of node n<number>; its incarnation is a<number> unless told otherwise."""
    return MemberKey(NodeId(f"n{number}"), incarnation or f"a{number}")


def pos(epoch: int, lsn: int) -> Position:
    return Position(Term(epoch), Lsn(lsn))


def member(number: int, **changes: Any) -> Member:
    made = Member(
        node=NodeId(f"n{number}"),
        raft_id=RaftId(number),
        kind=Kind.DATA,
        address=Address(host=f"h{number}", raft_port=1, postgres_port=2, api_port=3),
        incarnation=f"a{number}",
    )
    return replace(made, **changes)


def sync(*voters: int, k: int = 1, **changes: Any) -> SyncState:
    """A sync set at rest."""
    keys = tuple(key(number) for number in voters)
    made = SyncState(
        voters=keys,
        k=k if keys else 0,
        kd=k if keys else 0,
        r=len(keys) - k + 1 if keys else 0,
        names=keys,
        names_k=k if keys else 0,
        generation=4,
    )
    return replace(made, **changes)


def reign(term: int, leader: int, start: Position, *, promoted: bool = True) -> Reign:
    return Reign(
        term=Term(term),
        leader=key(leader),
        start=start,
        promoted=promoted,
        rule=305,
        reason="test",
        timeline=Timeline(term),
        established=True,
    )


def lease(holder: int = 1, **changes: Any) -> Lease:
    """The lease of term 3."""
    made = Lease(id=1, holder=key(holder), term=TERM, ttl_ms=10_000)
    return replace(made, **changes)


def facts(**changes: Any) -> Facts:
    """Term 3 is stable under n1; n2 and n3 are its voters."""
    made = Facts(
        cluster="test",
        members={NodeId(f"n{n}"): member(n) for n in (1, 2, 3)},
        next_raft_id=RaftId(4),
        phase=Phase.STABLE,
        term=TERM,
        elector=NodeId("n2"),
        leader=key(1),
        sync=sync(2, 3),
        system_id=SYSTEM,
        major=15,
        founder=NodeId("n1"),
        history=(reign(3, 1, pos(0, 1000)),),
        lease=lease(),
    )
    return replace(made, **changes)


def unborn(**changes: Any) -> Facts:
    """Nothing is there yet."""
    empty = {NodeId(f"n{n}"): member(n, incarnation="") for n in (1, 2, 3)}
    return replace(Facts(cluster="test", members=empty, next_raft_id=RaftId(4)), **changes)


def electing(**changes: Any) -> Facts:
    """Term 4 has begun; n2 is its elector."""
    return replace(facts(), **{"phase": Phase.ELECTING, "term": Term(4), **changes})


def establishing(**changes: Any) -> Facts:
    """Term 4 has the winner n2."""
    made = replace(
        facts(),
        phase=Phase.ESTABLISHING,
        term=Term(4),
        leader=key(2),
        sync=sync(1, 3, names=(), names_k=0),
        history=(reign(3, 1, pos(0, 1000)), reign(4, 2, pos(3, 5000))),
        lease=lease(2, id=2, term=Term(4)),
    )
    return replace(made, **changes)


def sender(number: int, *, term: Term = TERM, flush: Lsn = END) -> Sender:
    return Sender(
        member=key(number), term=term, state="streaming", flush_lsn=flush, replay_lsn=flush
    )


def primary(known: Facts | None = None, **changes: Any) -> ServerSeen:
    """A primary of term 3 that does what the ledger wants, with both others streaming."""
    made = ServerSeen(
        state=Server.PRIMARY,
        system_id=SYSTEM,
        major=15,
        timeline=Timeline(3),
        position=pos(3, END),
        senders=(sender(2), sender(3)),
        names=names_text(known or facts()),
        names_generation=4,
        settled=4,
        epoch_record_end=Lsn(1200),
        checkpointed_term=TERM,
        insert_lsn=END,
        slots=tuple(slot_name(NodeId(f"n{n}")) for n in (2, 3)),
    )
    return replace(made, **changes)


def standby(**changes: Any) -> ServerSeen:
    """A standby that streams from n1 in term 3."""
    made = ServerSeen(
        state=Server.STANDBY,
        system_id=SYSTEM,
        major=15,
        timeline=Timeline(3),
        position=pos(3, END),
        receiver=Receiver(upstream=NodeId("n1"), term=TERM, status="streaming", flush_lsn=END),
        upstream=NodeId("n1"),
        upstream_term=TERM,
        names=CLOSED,
        slots=EVERYBODY,
        slots_in_use=EVERYBODY,
    )
    return replace(made, **changes)


def parked(position: Position, **changes: Any) -> ServerSeen:
    """A standby without upstream, drained at a position."""
    alone = {"receiver": None, "upstream": None, "upstream_term": Term(0), "drained": True}
    return standby(position=position, **{**alone, **changes})


def promises(number: int, **changes: Any) -> Promises:
    made = Promises(promise=TERM, promise_elector=NodeId("n2"), incarnation=f"a{number}")
    return replace(made, **changes)


def sealed(number: int, position: Position, *, term: int = 4) -> Promises:
    """The promises of a member that is sealed for n2's election."""
    frozen = Frozen(Term(term), position)
    return promises(number, promise=Term(term), frozen=frozen)


def report(number: int, server: ServerSeen, own: Promises | None = None, **more: Any) -> Heard:
    """A report that arrived just now."""
    made = Observation(
        node=NodeId(f"n{number}"),
        raft_id=RaftId(number),
        sequence=1,
        server=server,
        promises=own or promises(number),
        heard_ms={node: 50 for node in NAMES if node != f"n{number}"},
    )
    return Heard(replace(made, **more), NOW)


def late(heard: Heard, age_ms: int = 60_000) -> Heard:
    """The same report, heard long ago."""
    return replace(heard, at=Instant(NOW - age_ms))


def quiet_reports() -> dict[NodeId, Heard]:
    heard = (report(1, primary()), report(2, standby()), report(3, standby()))
    return {each.report.node: each for each in heard}


def look(known: Facts, *reports: Heard, me: int = 2, **changes: Any) -> Situation:
    """What the herd decider on n2 sees: the quiet herd, with some reports exchanged."""
    heard = quiet_reports() | {each.report.node: each for each in reports}
    view = HerdView(
        me=NodeId(f"n{me}"),
        reports=heard,
        since=Instant(0),
        phase_since=Instant(50_000),
        names_since=Instant(50_000),
        unix_ms=NOW,
        raft_voters=(RaftId(1), RaftId(2), RaftId(3)),
        caught_up=(RaftId(1), RaftId(2), RaftId(3)),
    )
    return Situation(facts=known, view=replace(view, **changes), policy=FLOOR, now=NOW)


def myself(known: Facts, server: ServerSeen, *, me: int = 1, **changes: Any) -> Self:
    """What the member decider of one node knows; whom it follows, it follows as itself.

    A primary was promoted by its own agent, unless its promises are given.
    """
    if server.upstream is not None and not server.upstream_incarnation:
        server = replace(server, upstream_incarnation=f"a{me}")
    own = NodeId(f"n{me}") if server.state is Server.PRIMARY else None
    made = Self(
        me=NodeId(f"n{me}"),
        facts=known,
        server=server,
        promises=promises(me, adopted_leader=own),
        policy=Policy(),
        now=NOW,
        leader_report=report(1, primary()).report if me != 1 else None,
        following_since=NOW,
    )
    return replace(made, **changes)
