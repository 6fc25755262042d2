"""Planted errors of who votes in consensus."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from pgherd.plan import membership
from pgherd.plan.rule import Decision, Membership, Situation
from pgherd.raft import replicate
from pgherd.raft.majority import committed_index
from pgherd.raft.types import ConfState
from pgherd.sim.mutants.kind import Mutant
from pgherd.sim.planting import attribute
from pgherd.sim.plants import herd_rule
from pgherd.sim.shapes import NINE, Shape

MINORITY = Shape("minority", size=7, max_voters=3)


def demotes_first(stack: ExitStack) -> None:
    def demote(s: Situation) -> Decision | None:
        spare = membership.seats(s).spare
        if not spare or spare[0].node == s.view.me:
            return None
        change = Membership("learner", spare[0].raft_id)
        return Decision(707, f"{spare[0].node} votes no more", membership=change)

    herd_rule(stack, 706, demote)


def counts_non_voters(stack: ExitStack) -> None:
    def by_everybody(conf: ConfState, acks: Mapping[int, int]) -> int | None:
        everybody = tuple(sorted({*conf.voters, *conf.learners}))
        return committed_index(ConfState(voters=everybody), acks)

    stack.enter_context(attribute(replicate, "committed_index", by_everybody))


ROWS: dict[str, Mutant] = {
    "demotes-first": Mutant(
        "A lost voter loses its vote before another member has got one.",
        demotes_first,
        ("voter.lost", "raft.leader.killed"),
        ("V1",),
        shape=NINE,
    ),
    "counts-non-voters": Mutant(
        "An entry that non-voters hold counts as held by a majority.",
        counts_non_voters,
        ("network.split", "raft.leader.killed", "failover", "switchover"),
        ("I4",),
        shape=MINORITY,
        count=40,
    ),
}
