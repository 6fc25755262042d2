"""The commands about drills, for `commands`, which has all.

Owns their shape. What they do is `ledger.drills`'s.
"""

from __future__ import annotations

from pgherd.ledger.command import Command
from pgherd.model.drill import DrillKind, DrillState, Measured
from pgherd.model.ids import NodeId, Term


class BeginDrill(Command, frozen=True, tag=True):
    """A node is about to measure a change of primary. term: of the primary that it is about."""

    id: str
    kind: DrillKind
    node: NodeId
    term: Term
    via: str
    requested_by: str


class EndDrill(Command, frozen=True, tag=True):
    """A drill has ended: what was measured, or why nothing was."""

    id: str
    state: DrillState
    text: str
    new_primary: NodeId | None = None
    measured: Measured | None = None
