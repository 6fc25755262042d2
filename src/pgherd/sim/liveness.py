"""L4 and L5 of PROTOCOL.md 10: writes resume soon after a clean loss, and nothing grows for ever.

Evaluated when no fault is left, between storms and at the end. L1 to L3 are in `run`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.model.facts import Facts, Kind, Mode
from pgherd.model.ids import NodeId, slot_name
from pgherd.sim.agent import IMAGE_EVERY, IMAGE_KEPT
from pgherd.sim.clock import MS, SECOND
from pgherd.sim.herdchecks import SEALED_MODES

if TYPE_CHECKING:
    from pgherd.sim.world import World

RESUMES_WITHIN = 4 * SECOND
"""From suspicion to the first acknowledged write."""
LOG_MAX = 8 * (IMAGE_EVERY + IMAGE_KEPT)
EVENTS_WAITING_MAX = 2000
TERMS_PER_STORM_MAX = 30
STEP = 50 * MS


def can_lose_its_primary(world: World) -> bool:
    """Whether the rest has a majority of the votes and enough copies to acknowledge."""
    facts, agent = world.facts(), world.raft_leader()
    if facts is None or facts.leader is None or agent is None or facts.mode not in SEALED_MODES:
        return False
    conf = agent.replica.node.conf
    lost = world.nodes[facts.leader.node].raft_id
    majority = len(set(conf.voters) - {lost}) > len(conf.voters) // 2
    data = [one for one in facts.members.values() if one.kind is Kind.DATA]
    wanted = facts.num_sync or world.policy.num_sync or len(data) // 2
    copies = len(data) - 2 >= (wanted if facts.mode is Mode.STRICT else 0)
    return majority and len(data) > 1 and copies


def lose_the_primary(world: World) -> None:
    """L4: its host goes, alone and with nothing else amiss; others take writes soon after."""
    facts = world.facts()
    assert facts is not None
    assert facts.leader is not None
    node, term, began = world.nodes[facts.leader.node], facts.term, world.clock.now
    world.log(NodeId("-"), f"{node.name} is lost, alone")
    node.crash()
    limit = began + world.policy.detect_ms * MS + RESUMES_WITHIN
    while not resumed(world, term) and world.clock.now < limit:
        world.clock.run_until(world.clock.now + STEP)
    late = f"no write was acknowledged within {(limit - began) // MS} ms of the loss of {node.name}"
    world.herd.must("L4", resumed(world, term), f"{late}; {world.facts()}")
    node.boot()


def resumed(world: World, term: int) -> bool:
    """Whether a later term than this has acknowledged a write."""
    tip = world.checks.tip
    return tip is not None and tip.epoch > term


def nothing_grows(world: World, *, since: Facts) -> None:
    """L5: terms, logs, queues and slots are few after a storm."""
    facts = world.facts()
    assert facts is not None
    assert facts.leader is not None
    terms = facts.term - since.term
    must(world, terms <= TERMS_PER_STORM_MAX, f"{terms} terms in a storm")
    must(world, world.clock.waiting < EVENTS_WAITING_MAX, f"{world.clock.waiting} events wait")
    primary = world.server(facts.leader.node)
    slots = set(primary.dir.slots) if primary.dir is not None else set()
    strange = slots - {slot_name(node) for node in facts.members}
    must(world, not strange, f"slots of nobody on {facts.leader}: {strange}")
    for name in facts.members:
        agent = world.nodes[name].agent
        if agent is None:
            continue
        entries = agent.store.last_index() - agent.store.first_index()
        must(world, entries <= LOG_MAX, f"the log of {name} has {entries} entries")
        must(world, agent.writer.waiting <= 2, f"{agent.writer.waiting} writes wait on {name}")


def must(world: World, holds: bool, text: str) -> None:
    world.herd.must("L5", holds, text)
