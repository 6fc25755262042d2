"""Cases of the rules for who follows by the archive, for the test of the member's table."""

from __future__ import annotations

from typing import Any

from plan_values import END, TERM, facts, myself, parked, pos, promises, replace, standby
from plan_values import sync as synced
from remedy_cases import GONE, MILD, WITHOUT, lacking, ladder

from pgherd.ledger.levels import FETCHES
from pgherd.model import action as act
from pgherd.model.facts import Frozen
from pgherd.model.ids import NodeId, Term
from pgherd.model.remedy import Step
from pgherd.plan.own import ArchiveUse

N1 = NodeId("n1")
CAN, ALONE = ArchiveUse(can_fetch=True), ArchiveUse(can_fetch=True, nostream=True)
KNOWN = facts(sync=synced(3), level=FETCHES)
ADOPTED = promises(2, adopted=TERM, adopted_leader=N1)
BY_ARCHIVE = parked(pos(3, END), drained=False, fetches=True)
"""A standby without upstream that asks the archive."""


def lacks(steps: Any, server: Any = WITHOUT, **more: Any) -> Any:
    """n2's leader has removed what it needs."""
    fields = {"known": KNOWN, "archive": CAN, **more}
    return lacking(replace(steps, said=GONE), server, **fields)


def alone(server: Any, own: Any = ADOPTED, known: Any = KNOWN, **more: Any) -> Any:
    """n2 follows by the archive alone."""
    return myself(known, server, me=2, promises=own, archive=ALONE, **more)


FETCHING = replace(WITHOUT, fetches=True)
OLD = replace(ADOPTED, adopted=Term(2))
MEMBER_ARCHIVE: tuple[tuple[str, int, type[act.Action] | None, Any], ...] = (
    ("its WAL is gone: asks the archive", 96, act.Fetch, lacks(ladder(5_000))),
    ("the archive before a new copy", 96, act.Fetch, lacks(ladder(60_000, *MILD))),
    (
        "without an archive it is copied",
        58,
        act.Rebuild,
        lacks(ladder(5_000), archive=ArchiveUse()),
    ),
    (
        "not what others cannot read of",
        58,
        act.Rebuild,
        lacks(ladder(5_000), known=facts(sync=synced(3))),
    ),
    ("a fetch takes its time", 59, None, lacks(ladder(5_000, Step.FETCH), FETCHING)),
    ("is not pointed anew meanwhile", 59, None, lacks(ladder(10_000, Step.FETCH), FETCHING)),
    (
        "nothing comes from there either",
        58,
        act.Rebuild,
        lacks(ladder(20_000, Step.FETCH), FETCHING),
    ),
    ("each remedy once", 58, act.Rebuild, lacks(ladder(5_000, Step.FETCH))),
    ("streams again", 97, act.Fetch, lacking(ladder(), standby(fetches=True), known=KNOWN)),
    ("alone: after its start", 55, act.Follow, alone(parked(pos(3, END)), OLD)),
    ("alone: waits for a final position", 55, None, alone(parked(pos(3, END), drained=False), OLD)),
    ("alone: goes on", 59, None, alone(BY_ARCHIVE)),
    ("alone: for as long as it takes", 59, None, alone(BY_ARCHIVE, ladder=ladder(900_000))),
    ("alone: leaves what it streams", 55, act.Follow, alone(standby())),
    ("alone: an older leader first ends", 54, act.Seal, alone(BY_ARCHIVE, OLD)),
    (
        "alone: and a sealed one begins anew",
        55,
        act.Follow,
        alone(parked(pos(3, END)), replace(ADOPTED, frozen=Frozen(TERM, pos(3, END)))),
    ),
    ("alone no more", 54, act.Seal, myself(KNOWN, BY_ARCHIVE, me=2, promises=ADOPTED, archive=CAN)),
)
