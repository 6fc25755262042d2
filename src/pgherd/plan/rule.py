"""What a rule is: a number, a sentence for people, and a pure function that applies or not."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from pgherd.ledger.commands import AnyCommand
from pgherd.model.facts import Facts
from pgherd.model.ids import Instant, NodeId, RaftId
from pgherd.model.observation import HerdView
from pgherd.model.policy import Policy


class Situation(msgspec.Struct, frozen=True):
    """Everything the herd decider may look at."""

    facts: Facts
    view: HerdView
    policy: Policy
    now: Instant


class Membership(msgspec.Struct, frozen=True):
    """A single-server change of the Raft configuration: add learner, make voter, or remove."""

    verb: str
    raft_id: RaftId


class Decision(msgspec.Struct, frozen=True):
    """What the herd decider says. With nothing to do it is a reason to wait."""

    rule: int
    reason: str
    command: AnyCommand | None = None
    membership: Membership | None = None
    transfer_to: NodeId | None = None


class HerdRule(msgspec.Struct, frozen=True):
    """One row of the herd decider's table."""

    number: int
    sentence: str
    decide: Callable[[Situation], Decision | None]
