"""How far a quorum has stored the log (paper 5.3), also while two configurations overlap.

The same question answers which reads a quorum has confirmed (readindex.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pgherd.raft.types import ConfState


def committed_index(conf: ConfState, acks: Mapping[int, int]) -> int | None:
    """The highest index that a majority of each half acknowledged; None without any voter.

    A voter that is absent from acks has acknowledged nothing. An empty half has no say.
    """
    halves = [half for half in (conf.voters, conf.voters_outgoing) if half]
    if not halves:
        return None
    return min(_majority_index(half, acks) for half in halves)


def _majority_index(voters: Sequence[int], acks: Mapping[int, int]) -> int:
    """With n voters, the (n // 2 + 1)-th highest acknowledgement is held by a majority."""
    ascending = sorted([acks.get(voter, 0) for voter in voters])
    return ascending[(len(voters) - 1) // 2]
