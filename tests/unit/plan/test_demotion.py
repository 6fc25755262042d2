"""From a lease's end for its holder to its end for all others: every step has its time there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_values import electing, key, look, parked, pos, primary, replace, report, sealed

from pgherd.config.settings import Failover
from pgherd.ledger import commands as cmd
from pgherd.model import action as act
from pgherd.model import demotion
from pgherd.model.ids import CLOSED_NAMES, Term
from pgherd.model.lease import DRIFT_PERCENT, LAG_MS_MAX, MARGIN_MS, expiry_ms, held_ms, margin_ms
from pgherd.model.observation import Server, ServerSeen
from pgherd.plan import herd
from pgherd.plan.wardship import writes_alone

HOUR_MS = 3_600_000
LEAST_MS = 5000


@given(st.integers(LEAST_MS, HOUR_MS))
def test_a_primary_is_at_rest_before_anybody_else_may_lead(ttl_ms: int) -> None:
    """For every lease that can be configured, whatever the two clocks do within the drift."""
    assert demotion.room_ms(ttl_ms) >= demotion.LAST_MS
    others_at_worst = expiry_ms(ttl_ms) * (100 - DRIFT_PERCENT) / 100
    assert demotion.latest_ms(ttl_ms) <= others_at_worst


def test_the_steps_follow_each_other_without_a_gap() -> None:
    """The agent is done when the warden begins; both are within what a holder keeps back."""
    steps = sum(step.limit_ms for step in demotion.STEPS)
    assert demotion.NOTICE_MS + demotion.HOLD_MS + steps == demotion.AGENT_MS == demotion.WARDEN_MS
    assert [step.name for step in demotion.STEPS] == ["fast", "immediate", "kill"]
    assert demotion.AGENT_MS <= LAG_MS_MAX + MARGIN_MS <= margin_ms(LEAST_MS)
    assert demotion.latest_ms(LEAST_MS) == held_ms(LEAST_MS) + demotion.LAST_MS == 4950


def test_shorter_leases_are_refused_by_the_configuration() -> None:
    """What the arithmetic needs is what the key says."""
    with pytest.raises(ValueError, match="too little"):
        Failover.model_validate({"lease_ttl": "4900ms"})


OPENS = act.SetNames(term=Term(3), generation=5, names="")


@pytest.mark.parametrize(
    ("server", "planned", "alone"),
    [
        (primary(names=""), None, True),
        (primary(names=CLOSED_NAMES), None, False),
        (primary(names=CLOSED_NAMES), OPENS, True),
        (primary(names='ANY 1 ("n2.a2@3")'), None, False),
        (primary(names=""), act.HoldWrites(), True),
        (replace(primary(names=""), state=Server.HUNG), None, True),
        (parked(pos(3, 5000)), None, False),
        (ServerSeen(state=Server.STOPPED), None, False),
        (ServerSeen(state=Server.STARTING), None, False),
    ],
)
def test_who_writes_alone(server: ServerSeen, planned: act.Action | None, alone: bool) -> None:
    """Only then is there a deadline to keep: no wake-up of the warden in a herd that is whole."""
    assert writes_alone(server, planned) is alone


def test_who_must_not_lead_is_passed_over_and_named() -> None:
    """A node that requires a watchdog and has none says so in its report."""
    unfit = report(2, parked(pos(3, 5000)), sealed(2, pos(3, 5000)), ineligible="no watchdog")
    equal = report(3, parked(pos(3, 5000)), sealed(3, pos(3, 5000)))
    s = look(electing(), unfit, equal)
    chosen = herd.decide(s.facts, view=s.view, policy=s.policy, now=s.now)
    assert isinstance(chosen.command, cmd.Elect)
    assert chosen.command.winner == key(3)
    less = report(3, parked(pos(3, 4000)), sealed(3, pos(3, 4000)))
    s = look(electing(), unfit, less)
    waits = herd.decide(s.facts, view=s.view, policy=s.policy, now=s.now)
    assert waits.command is None
    assert "n2 must not: no watchdog" in waits.reason
