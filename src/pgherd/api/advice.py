"""States that only people can end, and what they can do about each, for `status` and `explain`.

Pure. Owns the sentences and the commands in them. What is so is derived in `views`.
"""

from __future__ import annotations

from collections.abc import Sequence

from pgherd.model.ids import NodeId

PAIR = 2
WITNESS = "pgherd add-node --name w1 --address ADDRESS --witness"


def too_few_to_lose_one(voting: Sequence[str]) -> list[str]:
    """That two votes are both needed, while both are there."""
    if len(voting) != PAIR:
        return []
    return [
        f"{' and '.join(voting)} are all that vote: if one is lost, the other has no quorum and is "
        f"not made primary by itself; let a third machine vote: {WITNESS}"
    ]


def lost_quorum(me: NodeId, voting: Sequence[str]) -> list[str]:
    """Why there is no quorum; with two votes also what is left to do."""
    found = ["no quorum: consensus has no leader that this node hears"]
    if len(voting) == PAIR and me in voting:
        [other] = [name for name in voting if name != me]
        found.append(
            f"of two votes both are needed and {other} is silent: nobody is made primary by "
            f"itself; start {other}, or if it is lost for good stop {me} and type there: "
            f"pgherd raft recover; afterwards: {WITNESS}"
        )
    return found
