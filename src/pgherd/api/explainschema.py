"""The public form of explanations: part of the contract. Owns shapes alone."""

from __future__ import annotations

from typing import Literal

from pgherd.api.shape import Model, NodeName

Writes = Literal[
    "go on", "go on after a wait", "go on after an election", "go on after a switchover", "wait"
]


class Outage(Model):
    """For how long no commit would be acknowledged; null where nothing says when that ends.

    expected_ms: the rules' waits, and for the acts the median of `measured` earlier changes of
    primary of this cluster (0: there was none, and the figure is the README's) · at_most_ms: where
    the rules' own limits end it, as long as no act fails.
    """

    expected_ms: int | None
    at_most_ms: int | None
    measured: int


class Loss(Model):
    """What may be lost of what clients were told; bytes of WAL, by what is known now."""

    bytes: int
    text: str


class PlayedStep(Model):
    """What would be decided, and how long after the beginning. sentence: the rule's own."""

    rule: int
    sentence: str
    reason: str
    after_ms: int


class WhatIf(Model):
    """What would follow, by the rules themselves. lost: whom it is about; none: a switchover.

    new_primary: null where nobody would take writes · also_possible: who would be elected instead,
    had it received more by then · steps: without the time that acts take.
    """

    lost: list[NodeName]
    has_quorum: bool
    writes: Writes
    new_primary: NodeName | None
    also_possible: list[NodeName]
    why: str
    outage: Outage
    loss: Loss
    steps: list[PlayedStep]


class Candidacy(Model):
    """Whether a data member can be made the primary now; if not, why not."""

    node: NodeName
    is_primary: bool
    can_switch_over: bool
    why_not_switchover: str
    can_be_elected: bool
    why_not_elected: str


class ChangeStep(Model):
    """A step of a change of primary, as the ledger has it. after_ms: since the first step."""

    at: str
    after_ms: int
    kind: str
    rule: int
    sentence: str
    text: str


class LastChange(Model):
    """The last time that another node became primary. inputs are in the steps' texts.

    duration_ms: from its first term's begin until writes went on; what went by before anybody
    noticed is not in it · lost_bytes: null where nothing acknowledged was given up.
    """

    kind: str
    from_node: NodeName | None
    to_node: NodeName
    epoch: int
    lsn: str
    rule: int
    sentence: str
    reason: str
    duration_ms: int | None
    lost_bytes: int | None
    steps: list[ChangeStep]


class Explanation(Model):
    """Why things are as they are, in the deciders' own sentences."""

    node: NodeName
    primary: NodeName | None
    why_primary: str
    phase: str
    last_rule: int
    last_reason: str
    this_node: str
    herd: str
    problems: list[str]
    last_change: LastChange | None
    candidates: list[Candidacy]
    what_if: WhatIf | None


class NodeExplanation(Candidacy):
    """Whether a node can be made the primary by a switchover, and be elected; if not, why not."""

    role: str
    state: str
    if_lost: WhatIf | None
    as_of: int
