"""Rows for both deciders' tables about a standby cluster: n1 leads it, n2 and n3 stream from n1."""

from __future__ import annotations

from typing import Any

from plan_values import (
    END,
    NOW,
    SYSTEM,
    TERM,
    facts,
    late,
    look,
    member,
    myself,
    primary,
    promises,
    replace,
    report,
    standby,
)

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL
from pgherd.model import action as act
from pgherd.model.facts import Facts, Phase, SyncState, Tags
from pgherd.model.ids import Instant, Lsn, NodeId, Term, Timeline, slot_name
from pgherd.model.observation import Heard, Receiver, Server, ServerSeen
from pgherd.model.pgconfig import MATCHED
from pgherd.model.policy import Policy
from pgherd.model.promises import Promises
from pgherd.model.standbycluster import Following, Remote, SourceSeen
from pgherd.model.upkeep import Pause, Upkeep
from pgherd.plan.own import Self
from pgherd.plan.rule import Situation

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
REMOTE = Remote((("far", 5432), ("wide", 5433)), slot="site_b")
FOLLOWS = Following(REMOTE, number=4, leader=N1, reason="test")
MARKS = {1: "remote far:5432,wide:5433 site_b prefer"} | {
    number: f"n1 h1:2 {slot_name(NodeId(f'n{number}'))} " for number in (2, 3)
}
SLOTS = tuple(slot_name(node) for node in (N2, N3))


def following(**changes: Any) -> Facts:
    """A standby cluster whose n1 streams from the remote; no reign, no lease, no set."""
    bare = {
        "phase": Phase.UNBORN,
        "term": Term(0),
        "elector": None,
        "leader": None,
        "sync": SyncState(),
        "history": (),
        "lease": None,
        "follows": FOLLOWS,
        "level": LEVEL,
    }
    return facts(**{**bare, **changes})


def server(number: int, **changes: Any) -> ServerSeen:
    """A member of it to which WAL comes from whom it follows."""
    made = standby(
        upstream=None,
        upstream_term=Term(0),
        receiver=Receiver(upstream=None, term=Term(0), status="streaming", flush_lsn=END),
        source=SourceSeen(named=True, mark=MARKS[number], asked=MARKS[number]),
        slots=SLOTS if number == 1 else (),
        slots_in_use=SLOTS if number == 1 else (),
    )
    return replace(made, **changes)


def asked(number: int, ago_ms: int, **changes: Any) -> SourceSeen:
    """A source that was asked so long ago."""
    made = SourceSeen(mark=MARKS[number], asked=MARKS[number], asked_at=Instant(NOW - ago_ms))
    return replace(made, **changes)


def own(number: int, **changes: Any) -> Promises:
    nobody = {"promise": Term(0), "promise_elector": None}
    return promises(number, **{**nobody, **changes})


def me(number: int, seen: ServerSeen, known: Facts | None = None, **changes: Any) -> Self:
    """n<number> as it decides; it hears n1."""
    hears = {"leader_report": report(1, server(1)).report, "promises": own(number)}
    return myself(known or following(), seen, me=number, **{**hears, **changes})


NOTHING = {"receiver": None}
MATCHES = tuple(range(1, len(MATCHED) + 1))
EMPTY = ServerSeen()
STOPPED = ServerSeen(state=Server.STOPPED, system_id=SYSTEM)
FAR = SourceSeen(named=True, mark="", asked="", asked_at=Instant(0))
DIVERGED = SourceSeen(named=True, mark=MARKS[1], asked=MARKS[1], diverged=True)
PAUSED = Upkeep(pause=Pause(id="p", requested_by="ann", reason="", since_ms=0))

MEMBER_STANDBY: tuple[tuple[str, int, type[act.Action] | None, Self], ...] = (
    (
        "who led until the cluster was demoted",
        981,
        act.StandDown,
        me(1, primary(facts()), promises=own(1, adopted_leader=N1)),
    ),
    (
        "whom somebody else promoted is marked, as anywhere",
        73,
        act.Disown,
        me(2, primary(facts())),
    ),
    ("the standby leader has no data", 98, act.CopySource, me(1, EMPTY)),
    ("another has none", 98, act.CopySource, me(2, EMPTY)),
    (
        "another has none, and the standby leader is not heard",
        98,
        None,
        me(2, EMPTY, leader_report=None),
    ),
    (
        "another has none before the first copy",
        98,
        None,
        me(2, EMPTY, following(system_id="", follows=replace(FOLLOWS, leader=None))),
    ),
    (
        "the founder makes the first copy",
        98,
        act.CopySource,
        me(1, EMPTY, following(system_id="", follows=replace(FOLLOWS, leader=None))),
    ),
    ("has what its source has not", 98, act.CopySource, me(1, server(1, source=DIVERGED))),
    (
        "the same in a pause",
        66,
        None,
        me(1, server(1, source=DIVERGED), following(upkeep=PAUSED)),
    ),
    (
        "was rewound half way",
        98,
        act.CopySource,
        me(2, STOPPED, promises=own(2, dirty_rewind=True)),
    ),
    ("is stopped", 982, act.StartStandby, me(2, STOPPED)),
    ("names nobody yet", 983, act.Stream, me(1, server(1, source=None, **NOTHING))),
    ("names another source", 983, act.Stream, me(2, server(2, source=FAR))),
    (
        "could not name it a moment ago",
        983,
        None,
        me(1, server(1, source=asked(1, 500, mark=""), **NOTHING)),
    ),
    (
        "could not name it a while ago",
        983,
        act.Stream,
        me(1, server(1, source=asked(1, 5_000, mark=""), **NOTHING)),
    ),
    (
        "gets nothing, and asks why",
        983,
        act.Stream,
        me(1, server(1, source=asked(1, 20_000, named=True), **NOTHING)),
    ),
    (
        "gets nothing, and has asked",
        985,
        None,
        me(1, server(1, source=asked(1, 5_000, named=True), **NOTHING)),
    ),
    (
        "replays no more, for its WAL demands more of a parameter",
        987,
        act.StopServer,
        me(2, server(2, paused=True, matched=MATCHES, demanded=(*MATCHES[:-1], MATCHES[-1] + 1))),
    ),
    (
        "replays no more, by somebody's wish",
        985,
        None,
        me(2, server(2, paused=True, matched=MATCHES, demanded=MATCHES)),
    ),
    ("has no slots for the others", 984, act.KeepSlots, me(1, server(1, slots=()))),
    (
        "has slots, and leads no more",
        984,
        act.KeepSlots,
        me(2, server(2, slots=SLOTS)),
    ),
    ("streams from the remote", 985, None, me(1, server(1))),
    ("streams from the standby leader", 985, None, me(3, server(3))),
    ("the standby leader is gone for now", 985, None, me(3, server(3), leader_report=None)),
    (
        "was away when the cluster was promoted",
        986,
        act.Seal,
        me(2, server(2), facts(), promises=promises(2, promise=TERM)),
    ),
)


def herd(*reports: Heard, known: Facts | None = None, **changes: Any) -> Situation:
    """What n2 sees, with some reports exchanged."""
    quiet = [report(number, server(number), own(number)) for number in (1, 2, 3)]
    changed = {one.report.node: one for one in (*quiet, *reports)}
    return look(known or following(), *changed.values(), **changes)


def at(number: int, lsn: int, *, timeline: int = 3, **changes: Any) -> Heard:
    """A member to which nothing comes, at this position."""
    seen = server(number, timeline=Timeline(timeline), **NOTHING)
    position = replace(seen.position, lsn=Lsn(lsn)) if seen.position is not None else None
    return report(number, replace(seen, position=position, **changes), own(number))


SILENT = (
    late(report(1, server(1), own(1))),
    report(3, server(3), own(3), heard_ms={N1: 9000}),
)
UNLED = following(follows=replace(FOLLOWS, leader=None))
NO_FAILOVER = Policy(failover_enabled=False)
PICKY = {**following().members, N3: member(3, tags=Tags(nofailover=True))}

HERD_STANDBY: tuple[tuple[str, int, object, Situation], ...] = (
    ("a standby cluster that is whole has no first term", 900, None, herd()),
    ("its first copy is there", 105, cmd.LeadStandby, herd(known=UNLED)),
    (
        "its first copy is not up yet",
        105,
        None,
        herd(*(report(n, STOPPED, own(n)) for n in (1, 2, 3)), known=UNLED),
    ),
    ("its leader is silent", 205, cmd.LeadStandby, herd(*SILENT)),
    (
        "the same in a pause",
        205,
        None,
        herd(*SILENT, known=following(upkeep=PAUSED)),
    ),
    ("its leader's server is gone", 205, cmd.LeadStandby, herd(report(1, STOPPED, own(1)))),
    (
        "its leader has stood down and comes back",
        900,
        None,
        herd(report(1, replace(STOPPED, was_primary=True), own(1))),
    ),
    (
        "its leader has what the remote has not",
        205,
        cmd.LeadStandby,
        herd(report(1, server(1, source=DIVERGED), own(1))),
    ),
    (
        "nobody else is fit",
        205,
        None,
        herd(*SILENT, report(2, STOPPED, own(2)), known=following(members=PICKY)),
    ),
    (
        "nothing comes, and another has more",
        206,
        cmd.LeadStandby,
        herd(at(1, 4_000), at(3, 6_000)),
    ),
    ("nothing comes, and nobody has more", 900, None, herd(at(1, 7_000))),
)
