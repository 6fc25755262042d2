"""What people ask of synchronous replication beside its mode: the set's limits, a commit's wait.

Owns the shape. What the sync set makes of it is `plan.synchrony`'s; that a weaker wait counts only
where the gate is open, `postgres`'s.
"""

from __future__ import annotations

import msgspec

from pgherd.model.ids import NodeId

COMMITS = ("off", "local", "remote_write", "on", "remote_apply")
"""PostgreSQL's values of synchronous_commit, the weakest first."""
FULL = ("on", "remote_apply")
"""Those under which an acknowledged commit is on the disks of the sync set."""
ALONE = ("off", "local")
"""Those under which nobody but the primary needs to have it."""
LAG_BYTES_LEAST = 1 << 20
"""A voter that streams is always a little behind."""


class SyncTuning(msgspec.Struct, frozen=True):
    """commit: synchronous_commit of the primary, "" = as its parameters say · max_lag_bytes: a
    voter that is further behind for the sync timeout leaves the set, if it can do without; 0 = none
    does · nosync: whom the set does without, beside those whose own file says so.
    """

    commit: str = ""
    max_lag_bytes: int = 0
    nosync: tuple[NodeId, ...] = ()


def weakens(commit: str) -> bool:
    """Whether a commit may be acknowledged before the sync set has it on disk."""
    return bool(commit) and commit not in FULL


def forgets(commit: str) -> bool:
    """Whether the loss of the primary alone may lose what was acknowledged."""
    return commit in ALONE
