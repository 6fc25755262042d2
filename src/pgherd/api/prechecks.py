"""What is looked at before nodes are worked on, in the public form. Pure.

What is looked at is `plan.readiness`'s, which looks again when something scheduled is due.
"""

from __future__ import annotations

from pgherd.api import upkeepschema as schema
from pgherd.api.candidacy import situation
from pgherd.api.views import Seen
from pgherd.model.activity import Transaction
from pgherd.model.ids import NodeId
from pgherd.plan import readiness
from pgherd.plan.readiness import Check

LONG_S = 60
"""A transaction that has been open for so long is not about to end."""


def shown(checks: list[Check], order: list[NodeId]) -> schema.Checks:
    """Checks, and who would have a turn in which order."""
    found = [schema.Check(name=one.name, ok=one.ok, text=one.text) for one in checks]
    return schema.Checks(ok=all(one.ok for one in checks), order=[*order], checks=found)


def rolling(seen: Seen, nodes: list[NodeId]) -> schema.Checks:
    """Whether these can be restarted one after the other while commits go on."""
    order = sorted(nodes, key=seen.facts.is_leader)
    return shown(readiness.rolling(situation(seen), nodes), order)


def upgrade(seen: Seen, nodes: list[NodeId]) -> schema.Checks:
    """Whether these can be restarted so with what is installed there."""
    order = sorted(nodes, key=seen.facts.is_leader)
    return shown(readiness.upgrade(situation(seen), nodes), order)


def without(
    seen: Seen, node: NodeId, long: tuple[Transaction, ...], trouble: str = ""
) -> schema.Checks:
    """Whether the others can do without a node. trouble: why nobody knows what runs on it."""
    others = readiness.without(situation(seen), node)
    return shown([*others, transactions(node, long, trouble)], [node])


def transactions(node: NodeId, long: tuple[Transaction, ...], trouble: str) -> Check:
    """What would be cut short there, or is in the way of a clean end."""
    name = f"transactions on {node}"
    if trouble:
        return Check(name, False, f"not known: {trouble}")
    told = [f"{one.user or 'pid'} {one.pid} ({one.state}) for {one.seconds} s" for one in long]
    return Check(name, not told, "; ".join(told) or f"none open for more than {LONG_S} s")


def survives(seen: Seen, node: NodeId) -> Check:
    """Whether commits find enough copies while a node is away."""
    return readiness.survives(situation(seen), node)
