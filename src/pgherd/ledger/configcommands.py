"""The commands about PostgreSQL's configuration and passwords, for `commands`, which has all."""

from __future__ import annotations

import msgspec

from pgherd.ledger.command import Command
from pgherd.model.credentials import Stage, Which
from pgherd.model.ids import NodeId


class SetConfig(Command, frozen=True, tag=True):
    """PostgreSQL's configuration for all members, whole. expected: the version that it replaces.

    restores: the version that says the same, 0 for none · trial_until_ms: Unix time at which it
    goes back by itself, 0: it does not · streamed: see `pgconfig.Trial` · the others: as in
    `pgconfig.Content`.
    """

    expected: int
    parameters: dict[str, str]
    author: str
    reason: str = ""
    restores: int = 0
    primary: dict[str, str] = msgspec.field(default_factory=dict)
    replica: dict[str, str] = msgspec.field(default_factory=dict)
    nodes: dict[NodeId, dict[str, str]] = msgspec.field(default_factory=dict)
    hba: tuple[str, ...] = ()
    ident: tuple[str, ...] = ()
    hba_whole: bool = False
    trial_until_ms: int = 0
    streamed: tuple[NodeId, ...] = ()


class RotatePassword(Command, frozen=True, tag=True):
    """A new password that all data members have by now. expected: the generation before it."""

    which: Which
    expected: int
    fingerprint: str
    author: str
    overlap_ms: int = 0


class StepPassword(Command, frozen=True, tag=True):
    """A change of a password goes on to its next stage."""

    which: Which
    generation: int
    stage: Stage
    rule: int = 0


class EndOverlap(Command, frozen=True, tag=True):
    """The time in which a former password is valid too is over by somebody's word."""

    which: Which
    generation: int
    author: str


class EndTrial(Command, frozen=True, tag=True):
    """A version's trial is over: it is confirmed by somebody, or goes back, with the reason."""

    version: int
    confirmed: bool
    author: str = ""
    why: str = ""
    rule: int = 0


class FailConfig(Command, frozen=True, tag=True):
    """A member's server did not come up with this version, and came up as of the one it had run."""

    version: int
    node: NodeId
    why: str
    ran: int
    rule: int = 0
