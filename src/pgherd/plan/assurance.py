"""Whether the primary of the ledger may still be taken for the primary. Pure.

A node that hears no Raft leader cannot know whether another primary was elected meanwhile. What
shows that none was, also without consensus, is that commits of this one are acknowledged: enough
standbys stream from it under its own term, and an election would have sealed them. A primary that
waits for no standby has its lease instead, for the end of which an election waits.
"""

from __future__ import annotations

from pgherd.model.facts import Facts
from pgherd.model.observation import Observation
from pgherd.plan.look import streaming


def is_assured(facts: Facts, leader: Observation | None, *, knows_leader: bool) -> bool:
    """See above. leader: the newest report of the ledger's primary · knows_leader: of consensus."""
    if knows_leader:
        return True
    if leader is None:
        return False
    if not facts.sync.names_k:
        return (leader.lease_left_ms or 0) > 0
    counted = streaming(leader, facts.term).keys() & set(facts.sync.names)
    return len(counted) >= facts.sync.names_k
