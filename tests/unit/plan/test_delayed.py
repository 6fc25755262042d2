"""A delayed replica promises and stops receiving like all others, and keeps its delay if it can."""

from __future__ import annotations

import pytest
from cascade_cases import HOUR_MS, N1, N2, N3, delayed, n3
from plan_values import (
    TERM,
    electing,
    facts,
    parked,
    pos,
    promises,
    reign,
    replace,
    standby,
    sync,
)

from pgherd.model import action as act
from pgherd.model.branch import Fork
from pgherd.model.facts import Facts, Forced, Switchover
from pgherd.model.ids import Lsn, NodeId, Term, Timeline
from pgherd.model.observation import Server, ServerSeen
from pgherd.plan import member as decider

LATE = standby(delay_ms=HOUR_MS)
CUT = parked(pos(3, 1500), delay_ms=HOUR_MS, drained=False)
"""It has replayed up to 3:1500 only, and receives nothing."""
ASKED = {"promise": Term(4), "promise_elector": NodeId("n2")}


def election(**changes: object) -> Facts:
    known = replace(electing(), members=delayed().members, sync=sync(2))
    return replace(known, **changes)


def after(*, start: int = 5000) -> Facts:
    """Term 4 is stable under n2, elected at 3:start; n3 was of term 3."""
    made = replace(delayed(), term=Term(4), leader=replace(delayed().sync.voters[0]))
    history = (reign(3, 1, pos(0, 1000)), reign(4, 2, pos(3, start)))
    return replace(made, history=history, sync=sync(1))


def own(**changes: object) -> object:
    return promises(3, **{"adopted": TERM, "adopted_leader": N1, **changes})


def test_it_promises_and_replays_as_late_as_before() -> None:
    planned = decider.decide(n3(election(), LATE))
    assert planned.action == act.Seal(Term(4), N2, keeps_delay=True)
    waits = decider.decide(n3(election(), CUT, promises=own(**ASKED)))
    assert (waits.rule, waits.action) == (36, None)


@pytest.mark.parametrize(
    ("known", "server"),
    [
        (election(forced=Forced(id="f1", candidate=N3, requested_by="ann")), LATE),
        (election(sync=sync(2, 3)), LATE),
        (election(), standby()),
        (replace(election(), members=facts().members), LATE),
    ],
    ids=["an operator names it", "it is counted", "it has no delay yet", "the wish is gone"],
)
def test_where_its_position_is_needed_it_seals_like_all_others(
    known: Facts, server: ServerSeen
) -> None:
    assert decider.decide(n3(known, server)).action == act.Seal(Term(4), N2)


def test_a_switchover_that_names_it_is_refused_and_costs_it_nothing() -> None:
    wish = Switchover(id="s1", candidate=N3, requested_by="ann", requested_at_ms=0)
    assert decider.decide(n3(delayed(switchover=wish), LATE)).action is None


def test_it_follows_another_leader_by_where_what_it_received_ends() -> None:
    """Replayed it has much less; what it was sent is on the new leader's history, or is not."""
    there = replace(CUT, received=pos(3, 5000))
    planned = decider.decide(n3(after(), there, promises=own(**ASKED)))
    assert isinstance(planned.action, act.Follow)
    assert planned.action.leader.node == "n2"
    beyond = replace(CUT, received=pos(3, 5001))
    planned = decider.decide(n3(after(), beyond, promises=own(**ASKED)))
    assert planned.action == act.Seal(Term(4), N2), "it replays all of it, and is rewound then"
    unknown = decider.decide(n3(after(), CUT, promises=own(**ASKED)))
    assert unknown.action == act.Seal(Term(4), N2)
    forgotten = own(**ASKED, adopted=Term(2))
    planned = decider.decide(n3(after(), there, promises=forgotten))
    assert planned.action == act.Seal(Term(4), N2), "of a reign that is not known"


def test_one_that_missed_the_election_leaves_its_old_upstream_as_late_as_it_is() -> None:
    planned = decider.decide(n3(after(), LATE))
    assert planned.action == act.Seal(Term(4), N2, keeps_delay=True)


def test_restarted_within_a_reign_it_goes_on_from_where_it_is() -> None:
    """What it adopted is on its disk: all that it has came from this leader."""
    stopped = ServerSeen(state=Server.STOPPED, system_id="73")
    begins = decider.decide(n3(delayed(), stopped))
    assert begins.action == act.StartStandby(delay_ms=HOUR_MS)
    follows = decider.decide(n3(delayed(), replace(CUT, received=None)))
    assert isinstance(follows.action, act.Follow)
    of_before = decider.decide(n3(delayed(), stopped, promises=own(adopted=Term(2))))
    assert of_before.action == act.StartStandby()
    astray = replace(CUT, stray=Fork(Timeline(9), Lsn(1)))
    assert not isinstance(decider.decide(n3(delayed(), astray)).action, act.Follow)
