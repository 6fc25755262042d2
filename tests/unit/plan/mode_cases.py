"""Rows for the herd decider's table about modes: elections in mode async, and the ways between."""

from __future__ import annotations

from typing import Any

from plan_values import (
    CLOSED,
    NOW,
    SYSTEM,
    electing,
    facts,
    key,
    late,
    lease,
    look,
    member,
    parked,
    pos,
    primary,
    promises,
    replace,
    report,
    sealed,
    standby,
    sync,
)

from pgherd.ledger import commands as cmd
from pgherd.model.facts import Facts, Mode, Phase, SyncUse
from pgherd.model.ids import Instant, Lsn, NodeId, Term
from pgherd.model.lease import Ask, Lease
from pgherd.model.observation import Server, ServerSeen
from pgherd.plan.rule import Situation

END = Lsn(5000)
OVER = lease(expired=True, renew_seq=9, flush_lsn=END, alone_at=4)
"""The lease of n1, who wrote alone and was at 5000 when the ledger last heard of it."""
DEAD1 = late(report(1, primary()))
STARTING1 = report(1, ServerSeen(state=Server.STARTING, system_id=SYSTEM))
CLOSED1 = report(1, primary(names=CLOSED), promises(1, promise=Term(4)))
SEAL1 = report(1, parked(pos(3, 5000)), sealed(1, pos(3, 5000)))
SEAL2 = report(2, parked(pos(3, 4900)), sealed(2, pos(3, 4900)))
SEAL3 = report(3, parked(pos(3, 4000)), sealed(3, pos(3, 4000)))
UNSEALED3 = report(3, standby())
ALONE = primary(facts(sync=sync(), mode=Mode.ASYNC), names="")
HALF = sync(names=(key(2),), names_k=1, generation=5, in_use=(SyncUse(4, (), 0),))


def asynchronous(**changes: Any) -> Facts:
    """Term 3 is stable under n1 in mode async."""
    made = facts(sync=sync(), mode=Mode.ASYNC, lease=lease(renew_seq=9, alone_at=4))
    return replace(made, **changes)


def ended(over: Lease | None = OVER, **changes: Any) -> Facts:
    """Term 4 has begun in mode async; the lease of n1 is over."""
    made = asynchronous(phase=Phase.ELECTING, term=Term(4), lease=over)
    return replace(made, **changes)


def with_lag(seen: Situation, most: int) -> Situation:
    return replace(seen, policy=replace(seen.policy, max_lag_bytes=most))


WISH = {"mode_wanted": Mode.QUORUM}
ONLY1 = {NodeId("n1"): member(1)}
MODE_CASES = (
    ("async: nobody hears n1", 306, cmd.Elect, look(ended(), DEAD1, SEAL2, SEAL3)),
    (
        "async: one may still seal",
        306,
        None,
        look(ended(), DEAD1, SEAL2, UNSEALED3, phase_since=NOW),
    ),
    ("async: nobody sealed", 306, None, look(ended(), DEAD1, report(2, standby()), late(SEAL3))),
    ("async: far behind", 306, None, with_lag(look(ended(), DEAD1, SEAL2, SEAL3), 99)),
    ("async: lag unknown", 306, None, look(ended(replace(OVER, renew_seq=0)), DEAD1, SEAL2, SEAL3)),
    ("async: n1 comes up", 307, None, look(ended(), STARTING1, SEAL2, SEAL3, phase_since=NOW)),
    (
        "async: n1 comes up for ever",
        306,
        cmd.Elect,
        look(ended(), STARTING1, SEAL2, SEAL3, phase_since=Instant(NOW - 400_000)),
    ),
    ("async: n1 is alive", 303, cmd.Elect, look(ended(), CLOSED1, SEAL2, SEAL3)),
    ("async: n1 is sealed", 305, cmd.Elect, look(ended(), SEAL1, SEAL2, SEAL3)),
    ("async: the lease runs", 304, None, look(ended(replace(OVER, expired=False)), DEAD1, SEAL2)),
    (
        "async: the lease before runs",
        304,
        None,
        look(ended(replace(OVER, former=lease(2, term=Term(2)))), DEAD1, SEAL2, SEAL3),
    ),
    ("async: no lease", 304, None, look(ended(None), DEAD1, SEAL2, SEAL3)),
    (
        "async: n1 was never seen to write alone",
        304,
        None,
        look(ended(replace(OVER, alone_at=3)), DEAD1, SEAL2, SEAL3),
    ),
    ("async: n1 may use a set", 304, None, look(ended(sync=HALF), DEAD1, SEAL2, SEAL3)),
    (
        "degraded quorum is not async",
        304,
        None,
        look(electing(sync=sync(), lease=OVER), DEAD1, SEAL2, SEAL3),
    ),
    ("async at rest", 900, None, look(asynchronous(), report(1, ALONE))),
    ("async to quorum", 503, cmd.ChangeSync, look(asynchronous(**WISH), report(1, ALONE))),
    (
        "async to quorum, the set is in use",
        501,
        cmd.ChangeSync,
        look(
            asynchronous(sync=HALF, **WISH),
            report(1, primary(names_generation=5, settled=5)),
        ),
    ),
    (
        "async to quorum, nobody streams",
        510,
        None,
        look(asynchronous(**WISH), report(1, replace(ALONE, senders=()))),
    ),
    (
        "async to quorum with one data member",
        509,
        cmd.ChangeSync,
        look(asynchronous(members=ONLY1, **WISH), report(1, ALONE)),
    ),
)
ASKS = report(1, replace(ALONE, position=pos(3, 6000)), ask=Ask("b", Instant(7)))
