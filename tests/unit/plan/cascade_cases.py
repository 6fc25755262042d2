"""Cases of the rules for cascading and delayed replicas, for the test of the member's table."""

from __future__ import annotations

from typing import Any

from plan_values import (
    TERM,
    facts,
    member,
    myself,
    pos,
    promises,
    report,
    sender,
    standby,
    sync,
)

from pgherd.model import action as act
from pgherd.model.facts import Facts, Kind, Switchover, Tags
from pgherd.model.ids import Lsn, NodeId, feed_slot, slot_name
from pgherd.model.observation import Observation, Server, ServerSeen
from pgherd.model.remedy import Ladder
from pgherd.model.slots import SlotKind, SlotSeen

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
FEED = feed_slot(N3, TERM)
HERE = (slot_name(N1), slot_name(N3), FEED)
HOUR_MS = 3_600_000


def cascading(*, to: str = "n2", **changes: Any) -> Facts:
    """The quiet herd, in which n3 is to stream from n2, and only n2 is counted."""
    members = {**facts().members, N3: member(3, tags=Tags(replicatefrom=to))}
    return facts(**{"members": members, "sync": sync(2), **changes})


def delayed(**changes: Any) -> Facts:
    """The quiet herd, in which n3 is to replay an hour late."""
    members = {**facts().members, N3: member(3, tags=Tags(delay_ms=HOUR_MS))}
    return facts(**{"members": members, "sync": sync(2), **changes})


def upstream(server: ServerSeen | None = None, **changes: Any) -> Observation:
    """What n2 says of itself: well, and with a slot for n3, unless told otherwise."""
    own = promises(2, adopted=TERM, adopted_leader=N1)
    seen = server or standby(slots=HERE, senders=(sender(3),))
    return report(2, seen, own, **changes).report


def fed(**changes: Any) -> ServerSeen:
    """n3's server, which streams from n2's."""
    return standby(fed_at="h2:2", **changes)


def n3(known: Facts, server: ServerSeen, above: Observation | None = None, **more: Any) -> Any:
    own = promises(3, adopted=TERM, adopted_leader=N1)
    peers = {N2: above} if above is not None else {}
    fields = {"promises": own, "peers": peers, "may_go_over": True, **more}
    return myself(known, server, me=3, **fields)


GOES = cascading(to="n2")
SILENT = Ladder(received_ms=5_000)
KEPT = (SlotSeen(FEED, SlotKind.PHYSICAL, lsn=Lsn(5000)),)
WITNESS = facts(
    members={**GOES.members, N2: member(2, kind=Kind.WITNESS)},
    sync=sync(),
)
TO_N3 = Switchover(id="s1", candidate=N3, requested_by="ann", requested_at_ms=0)
Case = tuple[str, int, type[act.Action] | None, Any]
MEMBER_CASES: tuple[Case, ...] = (
    ("goes to its upstream", 94, act.Follow, n3(GOES, standby(), upstream())),
    ("is there", 59, None, n3(GOES, fed(), upstream())),
    ("not as soon", 59, None, n3(GOES, standby(), upstream(), may_go_over=False)),
    ("counts for commits", 59, None, n3(cascading(sync=sync(2, 3)), standby(), upstream())),
    ("has come to count", 94, act.Follow, n3(cascading(sync=sync(2, 3)), fed(), upstream())),
    ("nobody is heard", 59, None, n3(GOES, standby())),
    ("its upstream is silent", 94, act.Follow, n3(GOES, fed())),
    (
        "its upstream streams no more",
        94,
        act.Follow,
        n3(GOES, fed(), upstream(standby(slots=HERE, receiver=None))),
    ),
    (
        "its upstream was promoted by somebody",
        94,
        act.Follow,
        n3(GOES, fed(), upstream(standby(slots=HERE, state=Server.PRIMARY))),
    ),
    ("has no slot there", 59, None, n3(GOES, standby(), upstream(standby()))),
    (
        "its upstream lacks what it needs",
        59,
        None,
        n3(
            GOES,
            standby(position=pos(3, 100)),
            upstream(standby(slots=HERE, replication_slots=KEPT)),
        ),
    ),
    (
        "its upstream has what it needs",
        94,
        act.Follow,
        n3(GOES, standby(), upstream(standby(slots=HERE, replication_slots=KEPT))),
    ),
    ("is sent nothing", 94, act.Follow, n3(GOES, fed(), upstream(), ladder=SILENT)),
    ("is to become primary", 94, act.Follow, n3(cascading(switchover=TO_N3), fed(), upstream())),
    ("its upstream leads", 59, None, n3(cascading(to="n1"), standby(), upstream())),
    ("its upstream is unknown", 59, None, n3(cascading(to="n9"), standby(), upstream())),
    ("its upstream is a witness", 94, act.Follow, n3(WITNESS, fed(), upstream())),
    ("the wish is gone", 94, act.Follow, n3(facts(sync=sync(2)), fed(), upstream())),
    ("gets its delay", 95, act.Delay, n3(delayed(), standby())),
    ("has its delay", 59, None, n3(delayed(), standby(delay_ms=HOUR_MS))),
    ("is counted: no delay", 59, None, n3(delayed(sync=sync(2, 3)), standby())),
    (
        "has come to count, and replays all",
        95,
        act.Delay,
        n3(delayed(sync=sync(2, 3)), standby(delay_ms=HOUR_MS)),
    ),
    ("another delay", 95, act.Delay, n3(delayed(), standby(delay_ms=1_000))),
)
