"""A ledger that is restored: all consensus stores are lost, a saved ledger takes their place (F0).

Does on every simulated node what `pgherd raft snapshot restore` does there, with the production
functions. The checks begin their record of the log anew: it is another log. What was promised, led
and acknowledged before stays on record, and has to hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.ledger.rescue import TERMS_SKIPPED
from pgherd.ledger.saved import Saved
from pgherd.model.facts import Kind, Phase
from pgherd.sim.leasechecks import LeaseChecks
from pgherd.store import restoring
from pgherd.store.memory import MemoryDisk, MemoryStore

if TYPE_CHECKING:
    from pgherd.sim.world import Node, World


def save(world: World) -> Saved | None:
    """The ledger as its Raft leader has it; None where there is none, or it is not stable."""
    agent = world.raft_leader()
    if agent is None or agent.replica.facts.phase is not Phase.STABLE:
        return None
    status = agent.replica.status()
    return Saved(
        facts=agent.replica.facts,
        index=agent.replica.node.applied,
        raft_term=agent.replica.node.term,
        voters=status.conf.voters,  # type: ignore[arg-type] # plain int
        saved="in a simulation",
        at_ms=world.clock.ms,
    )


def can_restore(world: World, saved: Saved) -> bool:
    """Whether every copy is the one that the file knows, none is known to be half rewound, and the
    file is not of before another restore (an operator would have to say so)."""
    newest = max(world.promises(name).promise for name in world.names)
    if set(saved.facts.members) != set(world.nodes) or newest >= saved.facts.term + TERMS_SKIPPED:
        return False
    for node in world.nodes.values():
        known, directory = saved.facts.members[node.name], node.server.dir
        if known.kind is not Kind.DATA:
            continue
        whole = not node.asks and not world.promises(node.name).dirty_rewind
        if directory is None or directory.incarnation != known.incarnation or not whole:
            return False
    return True


def restore(world: World, saved: Saved) -> None:
    """All nodes stop and lose their stores; all are given the same file. They are started later."""
    beginning = restoring.beginning(saved, lost=frozenset())
    for node in world.nodes.values():
        node.kill_agent()
        node.server.crash()
    checks = world.checks
    checks.facts_at.clear()
    checks.outcomes.clear()
    checks.raft_leaders.clear()
    checks.newest, checks.newest_index, checks.conf_index = None, 0, 0
    world.leases = LeaseChecks(world)
    for node in world.nodes.values():
        _begin(node, beginning)
    world.log(world.names[0], "a saved ledger is restored, of term", saved.facts.term)


def _begin(node: Node, beginning: restoring.Beginning) -> None:
    directory = node.server.dir
    node.disk = MemoryDisk()
    store = MemoryStore(node.disk)
    incarnation = directory.incarnation if directory is not None else ""
    identity = restoring.begin(store, beginning, node=node.name, incarnation=incarnation)
    node.told = store.promises()
    store.close()
    node.raft_id = identity.raft_id
    node.world.renumbered(node)
