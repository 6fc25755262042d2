"""Cases of the rules for a follower that gets nothing, for the test of the member's table."""

from __future__ import annotations

from typing import Any

from plan_values import NOW, TERM, facts, myself, primary, promises, replace, report, standby
from plan_values import sync as synced

from pgherd.model import action as act
from pgherd.model.ids import Instant, NodeId
from pgherd.model.observation import Server, ServerSeen
from pgherd.model.remedy import Cause, Ladder, Said, Step
from pgherd.model.upkeep import Upkeep, Verb, Work, WorkState
from pgherd.plan.own import Lender

N2, N3 = NodeId("n2"), NodeId("n3")
ALONE = report(1, primary(senders=())).report
"""The leader, whom nobody streams from."""
MILD = (Step.RESTART_RECEIVER, Step.REPOINT)
GONE = Said("requested WAL segment has already been removed", Cause.GONE)
REFUSED = Said("password authentication failed", Cause.REFUSED)
NEAR = Lender(N3, "h3", 2, preferred=True)


def ladder(received_ms: int = 0, *tried: Step, **more: Any) -> Ladder:
    return Ladder(received_ms=received_ms, tried=tried, **more)


def lacking(steps: Ladder, server: ServerSeen | None = None, **more: Any) -> Any:
    """n2 has an upstream and gets nothing from it; no commit counts on it."""
    since = Instant(NOW - steps.received_ms)
    known = more.pop("known", facts(sync=synced(3)))
    fields = {"leader_report": ALONE, "following_since": since, "ladder": steps, **more}
    return myself(known, server or standby(), me=2, **fields)


WITHOUT = standby(receiver=None)
NO_DATA = ServerSeen(state=Server.NONE)
FROM_N3 = Work(
    "w1",
    Verb.REINIT,
    (N2,),
    requested_by="ann",
    asked_at_ms=1,
    node=N2,
    mark="a2",
    state=WorkState.RUNNING,
    source=N3,
)
ASKED = facts(sync=synced(3), upkeep=Upkeep(works=(FROM_N3,)))
MEMBER_REMEDIES: tuple[tuple[str, int, type[act.Action] | None, Any], ...] = (
    ("gets nothing", 82, act.RestartReceiver, lacking(ladder(5_000))),
    ("not for long yet", 59, None, lacking(ladder(4_999))),
    ("has no receiver to restart", 59, None, lacking(ladder(5_000), WITHOUT)),
    ("still gets nothing", 83, act.Repoint, lacking(ladder(10_000, Step.RESTART_RECEIVER))),
    ("without a receiver", 83, act.Repoint, lacking(ladder(10_000), WITHOUT)),
    ("nothing milder than what was tried", 59, None, lacking(ladder(9_000, Step.REPOINT))),
    ("each once", 59, None, lacking(ladder(19_000, *MILD))),
    ("then a copy", 58, act.Rebuild, lacking(ladder(20_000, *MILD))),
    (
        "what is gone does not come back",
        58,
        act.Rebuild,
        lacking(ladder(12_000, said=GONE), WITHOUT),
    ),
    ("who is not let in", 58, None, lacking(ladder(60_000, *MILD, said=REFUSED), WITHOUT)),
    ("without a record of remedies", 59, None, replace(lacking(ladder(15_000)), ladder=None)),
    (
        "its leader is silent",
        59,
        None,
        lacking(ladder(60_000), leader_report=None),
    ),
    (
        "a copy is asked of another that does not stream",
        81,
        None,
        lacking(ladder(), known=ASKED),
    ),
    ("a copy of another", 81, act.Rebuild, lacking(ladder(), known=ASKED, lenders=(NEAR,))),
)


def empty(**more: Any) -> Any:
    """n2 has no data yet; its leader is there."""
    own = promises(2, incarnation="", promise=TERM)
    return myself(facts(), NO_DATA, me=2, promises=own, **{"leader_report": ALONE, **more})
