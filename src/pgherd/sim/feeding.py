"""Cascading and delayed replicas of a simulated herd: what feeds them, and what must hold of it.

Owns the slots by which standbys feed others, the delay of replay, and two invariants of its own:
nobody is fed by a server that has gone on to another term (I12), and who cascades or is delayed is
never elected or waited for by anybody's accident (P2). The rules are production's, as everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgherd.ledger.lineage import attributed
from pgherd.model import action as act
from pgherd.model.facts import Tags
from pgherd.model.ids import FEED_SLOT, FORWARD_SLOT, Instant, NodeId, Position, Term, slot_name
from pgherd.model.observation import Observation, ServerSeen
from pgherd.plan import upstreams
from pgherd.sim.clock import MS, Failed, Task

if TYPE_CHECKING:
    from pgherd.sim.agent import Agent
    from pgherd.sim.postgres import Server, Upstream
    from pgherd.sim.shapes import Shape
    from pgherd.sim.stream import Stream
    from pgherd.sim.world import World

DELAY_MS = 1500
"""Of the delayed replica: long enough that every storm finds it behind."""


def tags_of(shape: Shape, place: int, tags: Tags) -> Tags:
    """The last data members of a shape stream from the one before each, the very last is late."""
    from msgspec.structs import replace

    last = shape.size - shape.witnesses
    if shape.delayed and place == last - 1:
        return replace(tags, delay_ms=DELAY_MS)
    cascading = last - shape.delayed - shape.cascading <= place < last - shape.delayed
    return replace(tags, replicatefrom=f"n{place}") if cascading and place else tags


def fresh(agent: Agent, node: NodeId | None) -> Observation | None:
    """The newest report of a node that is not silent."""
    heard = agent.reports.get(node) if node is not None else None
    silent = heard is None or agent.now - heard.at >= agent.world.policy.detect_ms
    return None if silent or heard is None else heard.report


def seen(agent: Agent, server: ServerSeen) -> dict[str, Any]:
    """What the member decider has to know of other replicas, where this one cascades."""
    facts = agent.replica.facts
    own = facts.members.get(agent.node)
    if own is None or not (own.tags.replicatefrom or server.fed_at):
        return {}
    patience = agent.memory.patience = agent.memory.patience or upstreams.Patience(Instant(0))
    reports = ((node, fresh(agent, node)) for node in facts.members if node != agent.node)
    return {
        "peers": {node: report for node, report in reports if report is not None},
        "may_go_over": patience.look(upstreams.fed_by(facts, server), now=agent.now),
    }


def fed_at(agent: Agent | Any, upstream: Upstream | None) -> str:
    """Where a server streams from, where that is another follower's."""
    if upstream is None or upstream.leader is None:
        return ""
    member = agent.replica.facts.members.get(upstream.node)
    return upstreams.at(*member.address.postgres()) if member is not None else upstream.node


def end_lending(server: Server, of: Term | None = None) -> None:
    """Nobody takes what is written from here on through what was lent, or of another term."""
    for stream in list(server.streams):
        if not stream.term:
            stream.close_up()
    if server.dir is not None:
        kept = (slot for slot in server.dir.slots if not slot.startswith(FORWARD_SLOT))
        server.dir.slots = tuple(kept)
    end_feeds(server, of)


def end_feeds(server: Server, of: Term | None) -> None:
    """Nobody is fed any longer who is of another term than this; None: nobody at all."""
    for stream in list(server.streams):
        if stream.fed and stream.term != of:
            stream.close_up()
    if server.dir is not None:
        stay = f"{FEED_SLOT}{of}_"
        slots = server.dir.slots
        server.dir.slots = tuple(
            s for s in slots if not s.startswith(FEED_SLOT) or s[: len(stay)] == stay
        )


def below(world: World, node: NodeId, term: Term) -> set[NodeId]:
    """Who streams in a term from a node, and who from them."""
    found: set[NodeId] = set()
    above = [node]
    while above:
        streams = world.server(above.pop()).streams
        new = {one.key.node for one in streams if one.streaming and one.term == term} - found
        found |= new
        above += sorted(new)
    return found


def keep_slots(agent: Agent, a: act.KeepSlots) -> Task:
    yield 5 * MS
    if agent.server.dir is not None:
        agent.server.dir.slots = (*(slot_name(node) for node in a.nodes), *a.feeds)


def leave(agent: Agent) -> Task:
    """Stop receiving, and replay on as late as ever."""
    server = agent.server
    server.follow(None, late=True)
    for _ in range(100):
        if server.receiver is None:
            return
        server.terminate_receiver()
        yield 20 * MS
    raise Failed("the receiver does not end")


def received(agent: Agent | Any) -> Position | None:
    """Of a delayed standby without upstream: the end of what it has, replayed or not."""
    server, directory = agent.server, agent.server.dir
    if directory is None or server.upstream is not None or server.receiver is not None:
        return None
    if not server.apply_delay or server.primary:
        return None
    replayed = directory.position(max(1, server.replayed))
    end = Position(replayed.epoch, directory.position(len(directory.wal)).lsn)
    return attributed(agent.replica.facts.history, agent.promises.adopted, end)


def delay(agent: Agent, a: act.Delay) -> Task:
    """Told to a server that runs; without an upstream it has none (`Server.follow`)."""
    yield 5 * MS
    agent.server.apply_delay = a.delay_ms * MS


def on_send(stream: Stream) -> None:
    """I12: a standby feeds others only what is of the term in which they follow the same leader."""
    adopted = stream.up.world.promises(stream.up.node).adopted
    text = f"{stream.up.node}, of term {adopted}, feeds {stream.down.node} of term {stream.term}"
    stream.up.world.cascaded += 1
    stream.up.world.herd.must("I12", adopted == stream.term, text)
