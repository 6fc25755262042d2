"""A switchover in a standby cluster: another member becomes standby leader. Nobody is promoted.

Owns the conditions and the wait.
"""

from __future__ import annotations

import asyncio

from pgherd.api import following, schema
from pgherd.api.deps import SUBMIT_TIMEOUT_S, Services
from pgherd.api.failures import STATUS_HINT, Problem, refused
from pgherd.api.herd import TimedOut
from pgherd.ledger.commands import LeadStandby, Refused
from pgherd.model.facts import Facts
from pgherd.model.ids import NodeId

RULE = 206
WAIT_S = 40.0
POLL_S = 0.05


async def hand_over(
    services: Services, before: Facts, to: NodeId | None, caller: str
) -> schema.Changed:
    """Name another standby leader, and wait until it streams from the remote."""
    known, seen = before.follows, services.seen()
    assert known is not None, "asked of a standby cluster"
    able = [
        node
        for node, member in sorted(before.members.items())
        if node != known.leader
        and following.streams(before, seen.fresh(node))
        and not member.tags.nofailover
    ]
    node = to or (able[0] if able else None)
    if node is None or node not in able:
        raise Problem(
            412,
            "no_candidate",
            f"{node or 'nobody'} does not stream from the standby leader, or may not lead",
            hint=STATUS_HINT,
        )
    began_ms = services.herd.now()
    reason = f"a switchover asked for by {caller}"
    outcome = await services.herd.submit(
        LeadStandby(known.number, node, RULE, reason), timeout_s=SUBMIT_TIMEOUT_S
    )
    if isinstance(outcome, Refused):
        raise refused(outcome)
    await _until_streaming(services, node)
    return schema.Changed(
        status="done",
        id=f"standby-{known.number + 1}",
        old_primary=None,
        new_primary=None,
        epoch=before.term,
        reason=f"{node} is standby leader: {reason}",
        duration_ms=services.herd.now() - began_ms,
    )


def nobody_is_elected(facts: Facts) -> Problem:
    """Why there is no failover here."""
    known = facts.follows
    assert known is not None, "asked of a standby cluster"
    return Problem(
        412,
        "standby_cluster",
        f"this is a standby cluster, in which nobody is elected: it {known.sentence}",
        hint="to make it writable: pgherd cluster promote; another standby leader: pgherd"
        " switchover",
    )


async def _until_streaming(services: Services, node: NodeId) -> None:
    began_s = services.clock()
    while True:
        seen = services.seen()
        leads = following.is_standby_leader(seen.facts, node)
        if leads and following.streams(seen.facts, seen.fresh(node)):
            return
        if services.clock() - began_s > WAIT_S:
            raise TimedOut(
                f"{node} gets nothing from the remote after {WAIT_S:g} s; it goes on trying",
                STATUS_HINT,
            )
        await asyncio.sleep(POLL_S)
