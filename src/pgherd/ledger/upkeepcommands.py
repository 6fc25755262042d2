"""The commands for what operators have in hand: pauses, maintenance, work that takes a while.

Owns their shape. What they do is `ledger.upkeep`'s; `commands` lists them with all others.
"""

from __future__ import annotations

from enum import StrEnum

from pgherd.ledger.command import Command
from pgherd.model.ids import NodeId
from pgherd.model.upkeep import Verb, WorkState


class Pause(Command, frozen=True, tag=True):
    """Nobody fails over and nothing is repaired by itself, until it is resumed.

    until_ms: Unix time at which it ends by itself, 0: it does not.
    """

    id: str
    requested_by: str
    reason: str = ""
    until_ms: int = 0


class Resume(Command, frozen=True, tag=True):
    """The pause of this id is over."""

    id: str
    reason: str


class SetMaintenance(Command, frozen=True, tag=True):
    """A node goes into maintenance, or comes out of it. The fields are those of Care.

    id: of the work that ends when no commit counts on the node any more, "" for none.
    """

    node: NodeId
    enabled: bool
    requested_by: str
    reason: str = ""
    allow_failover: bool = False
    until_ms: int = 0
    id: str = ""


class EndMaintenance(Command, frozen=True, tag=True):
    """The time of a node's maintenance is over. since_ms: of the one that is meant."""

    node: NodeId
    since_ms: int
    reason: str
    rule: int = 0


class AskWork(Command, frozen=True, tag=True):
    """Ask for something to be done with PostgreSQL on nodes. The fields are those of Work."""

    id: str
    verb: Verb
    nodes: tuple[NodeId, ...]
    requested_by: str
    reason: str = ""
    not_before_ms: int = 0
    rolling: bool = False
    force: bool = False
    only_pending: bool = False
    source: NodeId | None = None
    from_leader: bool = False
    only_outdated: bool = False


class Shift(StrEnum):
    """What happens to the lead when a node is taken in hand."""

    NONE = "none"
    AWAY = "away"
    IN_PLACE = "in-place"


class TakeInHand(Command, frozen=True, tag=True):
    """Work goes on with a node, or to the next step with it. step: the one it starts from."""

    id: str
    step: int
    node: NodeId
    mark: str
    text: str
    rule: int
    shift: Shift = Shift.NONE


class CrossOff(Command, frozen=True, tag=True):
    """The node in hand has done its part; with the last one the work is done.

    passes: a node that was not taken in hand, for it has nothing to do.
    """

    id: str
    step: int
    rule: int
    passes: NodeId | None = None


class EndWork(Command, frozen=True, tag=True):
    """Work cannot go on, or is not wanted any more: then it ends after the node in hand."""

    id: str
    state: WorkState
    text: str
    rule: int = 0


class ForgetWork(Command, frozen=True, tag=True):
    """Work that ended before a time, by the proposer's wall clock, is kept no longer."""

    before_ms: int
    rule: int
