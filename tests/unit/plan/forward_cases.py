"""Rows for both deciders' tables about a fast-forward: who takes from whom, and who never does."""

from __future__ import annotations

from typing import Any

from mode_cases import OVER, ended, with_lag
from plan_values import (
    NOW,
    electing,
    key,
    late,
    look,
    member,
    myself,
    parked,
    pos,
    primary,
    promises,
    replace,
    report,
    sealed,
    standby,
)

from pgherd.ledger import commands as cmd
from pgherd.model import action as act
from pgherd.model.facts import Facts, FastForward, Forced, Tags
from pgherd.model.ids import Instant, Lsn, NodeId, RaftId, Term, forward_slot
from pgherd.model.observation import Heard
from pgherd.plan.own import Self
from pgherd.plan.rule import Situation

AHEAD, BEHIND, OFF = pos(3, 5000), pos(3, 4000), pos(2, 9000)
GRANT = FastForward(candidate=key(3), holder=key(2), target=AHEAD)
DEAD1 = late(report(1, primary()))
AHEAD2 = report(2, parked(AHEAD), sealed(2, AHEAD))
BEHIND3 = report(3, parked(BEHIND), sealed(3, BEHIND))
THERE3 = report(3, parked(AHEAD), sealed(3, AHEAD))
TAKES3 = report(3, standby(position=BEHIND), promises(3, promise=Term(4)))
"""It has taken its seal back, and streams from the holder."""
BARRED = Tags(nofailover=True)
EARLY = Instant(NOW - 1500)


def lone(**changes: Any) -> Facts:
    """The election of term 4; n2 may not lead."""
    return with_tags({2: BARRED}, **changes)


def preferring(**changes: Any) -> Facts:
    """The election of term 4; n3 comes before n2."""
    return with_tags({3: Tags(failover_priority=200)}, **changes)


def with_tags(tags: dict[int, Tags], **changes: Any) -> Facts:
    members = {NodeId(f"n{n}"): member(n, tags=tags.get(n, Tags())) for n in (1, 2, 3)}
    return electing(members=members, level=3, **changes)


def full(heard: Heard) -> Heard:
    return replace(heard, report=replace(heard.report, disk_free_bytes=1 << 20))


ASYNC = ended(members=lone().members, level=3)
ASYNC_FAR = replace(ASYNC, lease=replace(OVER, flush_lsn=Lsn(5100)))
ORDER3 = Forced(id="f1", candidate=NodeId("n3"), requested_by="ann")
FAR3 = report(3, parked(pos(3, 4000)), sealed(3, pos(3, 4000)))
FAR2 = report(2, parked(pos(3, 20 << 20)), sealed(2, pos(3, 20 << 20)))
OLD = pos(0, 900)
OLD3 = report(3, parked(OLD), sealed(3, OLD))
OFF3 = report(3, parked(OFF), sealed(3, OFF))
FOUR = replace(lone(), members={**lone().members, NodeId("n4"): member(4)})
RUNS_NOT = report(2, replace(parked(AHEAD), drained=False), sealed(2, AHEAD))

HERD_CASES: tuple[tuple[str, int, object, Situation], ...] = (
    ("who may lead is behind", 310, cmd.FastForward, look(lone(), DEAD1, AHEAD2, BEHIND3)),
    ("it was told so", 310, None, look(lone(forward=GRANT), DEAD1, AHEAD2, BEHIND3)),
    ("it has unsealed for that", 310, None, look(lone(forward=GRANT), DEAD1, AHEAD2, TAKES3)),
    ("it is there", 305, cmd.Elect, look(lone(forward=GRANT), DEAD1, AHEAD2, THERE3)),
    (
        "it has unsealed, and the holder does not run any more",
        304,
        None,
        look(lone(forward=GRANT), DEAD1, RUNS_NOT, TAKES3),
    ),
    (
        "it has unsealed, and is gone",
        304,
        None,
        look(lone(forward=GRANT), DEAD1, AHEAD2, late(TAKES3)),
    ),
    (
        "it has unsealed, and another one who may lead is there",
        305,
        cmd.Elect,
        look(
            lone(forward=GRANT),
            report(1, parked(AHEAD), sealed(1, AHEAD)),
            AHEAD2,
            TAKES3,
        ),
    ),
    ("its WAL is of another branch", 305, None, look(lone(), DEAD1, AHEAD2, OFF3)),
    ("its epoch is an older one", 310, cmd.FastForward, look(lone(), DEAD1, AHEAD2, OLD3)),
    (
        "nobody knows the reign that the newest WAL is of",
        305,
        None,
        look(lone(history=()), DEAD1, AHEAD2, BEHIND3),
    ),
    (
        "another one may seal yet",
        305,
        None,
        look(
            FOUR,
            DEAD1,
            AHEAD2,
            BEHIND3,
            report(4, standby()),
            phase_since=NOW,
            raft_voters=tuple(RaftId(n) for n in (1, 2, 3, 4)),
        ),
    ),
    (
        "some member's program does not know it",
        305,
        None,
        look(replace(lone(), level=2), DEAD1, AHEAD2, BEHIND3),
    ),
    ("nobody is preferred", 305, cmd.Elect, look(electing(level=3), DEAD1, AHEAD2, BEHIND3)),
    (
        "the preferred one lacks little",
        310,
        cmd.FastForward,
        look(preferring(), DEAD1, AHEAD2, BEHIND3, phase_since=EARLY),
    ),
    (
        "the preferred one takes too long",
        305,
        cmd.Elect,
        look(preferring(forward=GRANT), DEAD1, AHEAD2, BEHIND3),
    ),
    (
        "the preferred one lacks much",
        305,
        cmd.Elect,
        look(preferring(), DEAD1, FAR2, FAR3, phase_since=EARLY),
    ),
    (
        "who is there has a full disk",
        310,
        cmd.FastForward,
        look(electing(level=3), DEAD1, full(AHEAD2), BEHIND3, phase_since=EARLY),
    ),
    (
        "an operator wants one that is behind",
        310,
        cmd.FastForward,
        look(with_tags({}, forced=ORDER3), DEAD1, AHEAD2, BEHIND3, phase_since=EARLY),
    ),
    ("mode async, the lease is over", 310, cmd.FastForward, look(ASYNC, DEAD1, AHEAD2, BEHIND3)),
    (
        "mode async, even the one ahead lacks too much",
        306,
        None,
        with_lag(look(ASYNC_FAR, DEAD1, AHEAD2, BEHIND3), 99),
    ),
)
"""story, rule, what it does, what is seen."""


def forwards(number: int, known: Facts, heard: Heard, **more: Any) -> Self:
    own = heard.report
    return myself(known, own.server, me=number, promises=own.promises, **more)


LENT = parked(AHEAD, slots=(forward_slot(NodeId("n3")),))
ELSEWHERE = replace(BEHIND3.report.promises, promise_elector=NodeId("n3"))
MEMBER_CASES: tuple[tuple[str, int, type[act.Action] | None, Self], ...] = (
    ("behind, and granted", 62, act.FastForward, forwards(3, lone(forward=GRANT), BEHIND3)),
    ("the agent died in between", 36, act.Seal, forwards(3, lone(forward=GRANT), TAKES3)),
    ("has caught up", 36, None, forwards(3, lone(forward=GRANT), THERE3)),
    ("lends", 63, act.Lend, forwards(2, lone(forward=GRANT), AHEAD2)),
    (
        "has lent",
        36,
        None,
        forwards(2, lone(forward=GRANT), report(2, LENT, sealed(2, AHEAD))),
    ),
    (
        "promised to another elector",
        31,
        None,
        forwards(3, lone(forward=GRANT), report(3, parked(BEHIND), ELSEWHERE)),
    ),
    (
        "somebody else was elected while it took",
        54,
        act.Seal,
        myself(
            replace(electing(), phase="establishing", leader=key(2)),
            parked(AHEAD, drained=False, borrows=True),
            me=3,
            promises=promises(3, promise=Term(4)),
        ),
    ),
)
"""story, rule, what it does, what the member knows."""
