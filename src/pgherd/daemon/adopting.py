"""What a node knows from the first moment on of a data directory that it takes over (F0).

The ledger of a cluster that begins with such a directory names it before its first term: only this
node may hold what was acknowledged until now, so nobody but it can be elected.
"""

from __future__ import annotations

import msgspec

from pgherd.api.adoption import Adoption
from pgherd.model.facts import Facts
from pgherd.model.ids import MemberKey, NodeId
from pgherd.model.promises import Promises


def promises(me: NodeId, adopted: Adoption) -> Promises:
    """The directory is this member's copy; one that writes is nobody else's to promote."""
    leader = me if adopted.founds else None
    return Promises(incarnation=adopted.incarnation, adopted_leader=leader)


def facts(first: Facts, me: NodeId, adopted: Adoption | None) -> Facts:
    """The first facts, with the directory that this node founds its cluster on, if it does."""
    if adopted is None or not adopted.founds:
        return first
    member = msgspec.structs.replace(first.members[me], incarnation=adopted.incarnation)
    return msgspec.structs.replace(
        first,
        founder=me,
        system_id=adopted.system_id,
        major=adopted.major,
        members={**first.members, me: member},
        leader=MemberKey(me, adopted.incarnation),
    )
