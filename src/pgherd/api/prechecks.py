"""What is looked at before nodes are worked on: standbys, lag, the sync set. Pure."""

from __future__ import annotations

from pgherd.api import distance, views
from pgherd.api import upkeepschema as schema
from pgherd.api.views import Seen
from pgherd.model.facts import Member, Phase
from pgherd.model.ids import NodeId
from pgherd.plan.tending import counts_on

LAG_BYTES_MAX = 16 << 20


def rolling(seen: Seen, nodes: list[NodeId]) -> schema.Checks:
    """Whether these can be restarted one after the other while commits go on."""
    others = [m for m in views.data_members(seen.facts) if not seen.facts.is_leader(m.node)]
    checks = [stable(seen), standbys(seen, others), lag(seen, others)]
    checks += [survives(seen, node) for node in nodes if not seen.facts.is_leader(node)]
    return schema.Checks(
        ok=all(check.ok for check in checks),
        order=[*sorted(nodes, key=seen.facts.is_leader)],
        checks=checks,
    )


def stable(seen: Seen) -> schema.Check:
    facts = seen.facts
    ok = facts.phase is Phase.STABLE and views.can_write(seen)
    text = f"{views.primary_of(seen)} takes writes" if ok else f"epoch {facts.term} is not stable"
    return schema.Check(name="primary", ok=ok, text=text)


def standbys(seen: Seen, others: list[Member]) -> schema.Check:
    """Nobody is missing before somebody more goes away."""
    missing = [m.node for m in others if not views.is_streaming(seen, m.node)]
    text = f"{', '.join(missing)} does not stream" if missing else f"{len(others)} stream"
    return schema.Check(name="standbys", ok=not missing, text=text)


def lag(seen: Seen, others: list[Member]) -> schema.Check:
    """Nobody is far behind, or its turn would take long."""
    lags = {m.node: distance.lag_bytes(seen, m) or 0 for m in others}
    far = [f"{node} is {much} bytes behind" for node, much in lags.items() if much > LAG_BYTES_MAX]
    text = "; ".join(far) or f"at most {max(lags.values(), default=0)} bytes"
    return schema.Check(name="lag", ok=not far, text=text)


def survives(seen: Seen, node: NodeId) -> schema.Check:
    """Whether commits find enough copies while a node is away."""
    sync = seen.facts.sync
    left = [
        key.node for key in sync.voters if key.node != node and views.is_streaming(seen, key.node)
    ]
    name = f"sync set without {node}"
    needed = counts_on(seen.facts, seen.facts.members[node].key)
    if not needed or len(left) >= sync.k:
        return schema.Check(name=name, ok=True, text=f"{sync.k} of {', '.join(left) or 'nobody'}")
    text = f"commits wait for {sync.k} of the rest, and {', '.join(left) or 'nobody'} would be left"
    return schema.Check(name=name, ok=False, text=text)
