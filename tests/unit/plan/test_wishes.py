"""What operators may wish is honoured: never restart in place, copies in other zones first."""

from __future__ import annotations

from plan_values import (
    electing,
    facts,
    key,
    look,
    member,
    parked,
    pos,
    primary,
    replace,
    report,
    sealed,
    sender,
    standby,
)

from pgherd.model.facts import SyncState, Tags
from pgherd.model.policy import Policy
from pgherd.plan.election import may_win
from pgherd.plan.synchrony import wanted_set


def test_never_restart_in_place() -> None:
    """With on_postgres_crash: failover a crashed leader does not win its own succession."""
    back = look(electing(), report(1, parked(pos(3, 5000)), sealed(1, pos(3, 5000))))
    assert may_win(back, key(1))
    assert not may_win(replace(back, policy=Policy(restart_in_place=False)), key(1))


def test_synchronous_copies_prefer_another_zone() -> None:
    """Three standbys stream and two are wanted: the one in the primary's zone is left out."""
    zones = {1: "a", 2: "a", 3: "b", 4: "c"}
    made = [member(number, tags=Tags(zone=zone)) for number, zone in zones.items()]
    members = {each.node: each for each in made}
    known = replace(facts(), members=members, num_sync=1, sync=SyncState())
    leader = report(1, primary(known, senders=tuple(sender(n) for n in (2, 3, 4))))
    seen = look(known, leader, report(4, standby()))
    assert wanted_set(seen, leader.report) == (key(3), key(4))
