"""What one agent has promised on its own disk; fsynced before any reply that depends on it."""

from __future__ import annotations

import msgspec

from pgherd.model.facts import Floor, Frozen
from pgherd.model.ids import NodeId, Term


class Promises(msgspec.Struct, frozen=True):
    """The durable promises of a member (PROTOCOL.md 2), kept in the Raft store's database.

    promise, promise_elector = the highest term promised and to whom · adopted, adopted_leader =
    the upstream it may follow, itself from its promotion until its server is started as a standby
    again · frozen = its sealed position · floor = what it must regain · dirty_rewind = a rewind was
    begun and not finished, or somebody else promoted it: the directory must not be started ·
    incarnation = of its data directory.
    """

    promise: Term = Term(0)
    promise_elector: NodeId | None = None
    adopted: Term = Term(0)
    adopted_leader: NodeId | None = None
    frozen: Frozen | None = None
    floor: Floor | None = None
    dirty_rewind: bool = False
    incarnation: str = ""
