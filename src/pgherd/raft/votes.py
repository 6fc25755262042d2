"""Whether an election is decided, also while two configurations overlap (paper 5.2, 6).

The quorum check asks the same question about who was heard of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pgherd.raft.types import ConfState

VoteResult = Literal["won", "lost", "pending"]


def vote_result(conf: ConfState, votes: Mapping[int, bool]) -> VoteResult:
    """The state of an election: won needs a majority of both halves, lost is final.

    Votes of nodes outside the configuration do not count. A half without voters is won.
    """
    results = {_half_result(half, votes) for half in (conf.voters, conf.voters_outgoing)}
    if "lost" in results:
        return "lost"
    return "pending" if "pending" in results else "won"


def _half_result(voters: Sequence[int], votes: Mapping[int, bool]) -> VoteResult:
    """Count one half: a majority in favour wins, one that can no longer be reached loses."""
    if not voters:
        return "won"
    majority = len(voters) // 2 + 1
    granted = sum(1 for voter in voters if votes.get(voter) is True)
    refused = sum(1 for voter in voters if votes.get(voter) is False)
    if granted >= majority:
        return "won"
    return "lost" if len(voters) - refused < majority else "pending"
