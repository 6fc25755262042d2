"""One look of an agent at its simulated server, as the daemon's `observe` would report it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

from pgherd.ledger.lineage import attributed, strayed
from pgherd.model.branch import Fork
from pgherd.model.facts import Kind
from pgherd.model.ids import Instant, Lsn, NodeId, Position, Term, Timeline
from pgherd.model.observation import Observation, Receiver, Sender, Server, ServerSeen
from pgherd.model.programs import Programs
from pgherd.plan import trial
from pgherd.sim import feeding
from pgherd.sim.clock import MS
from pgherd.sim.postgres import OLDEST, Upstream
from pgherd.sim.postgres import Server as Postgres
from pgherd.sim.wal import RECORD_BYTES

if TYPE_CHECKING:
    from pgherd.sim.agent import Agent
    from pgherd.sim.amnesia import Forgetful

MAJOR = 15
UNTOUCHED = Programs(running=OLDEST, on_disk=OLDEST, data_major=MAJOR)
LOTS, LOTS_LATE, LATE_MS = 16, 3, 700
"""Of so many proxies one never says that its transactions are over, and some say it late."""


def see_server(agent: Agent | Forgetful) -> ServerSeen:
    """What the server shows, and what the agent remembers of its own acts on this process."""
    server, memory = agent.server, agent.memory
    state, directory = server.state, server.dir
    if directory is None:
        return ServerSeen()
    if state in (Server.STOPPED, Server.STARTING):
        return ServerSeen(
            state=state,
            system_id=directory.system_id,
            major=MAJOR,
            clean=server.clean,
            was_primary=state is Server.STOPPED and directory.production,
            since=memory.since,
        )
    primary = state is Server.PRIMARY
    replayed = max(1, server.replayed)
    timeline = directory.timeline if primary else directory.wal[replayed - 1].timeline
    record_term, record_end = memory.epoch_record
    position = position_of(agent)
    current = position is not None and record_term == position.epoch
    return ServerSeen(
        state=state,
        system_id=directory.system_id,
        major=MAJOR,
        timeline=Timeline(timeline),
        position=position,
        drained=state is Server.STANDBY and server.parked,
        receiver=see_receiver(server),
        upstream=named(server.upstream),
        fed_at=feeding.fed_at(agent, server.upstream),
        delay_ms=server.apply_delay // MS,
        received=feeding.received(agent),
        borrows=server.upstream is not None and server.upstream.borrowed,
        upstream_term=server.upstream.term if server.upstream else Term(0),
        upstream_incarnation=server.upstream.key.incarnation if server.upstream else "",
        senders=see_senders(server),
        names=server.names.text,
        names_generation=memory.names_generation,
        settled=memory.settled,
        epoch_record_end=record_end if primary and current else Lsn(0),
        checkpointed_term=memory.checkpointed_term,
        checkpointed_for=memory.checkpointed_for,
        reloaded=memory.reloaded,
        insert_lsn=directory.wal[-1].end,
        pid=server.starts,
        timeline_begins=begins_of(agent, replayed),
        slots=directory.slots,
        since=memory.since,
        stray=None if primary else stray_of(agent, Timeline(timeline)),
        programs=programs_of(server),
        **see_parameters(agent),
    )


def programs_of(server: Postgres) -> Programs:
    """What runs and what is installed, where something newer ever was."""
    if server.installed == OLDEST:
        return UNTOUCHED
    return Programs(running=server.build, on_disk=server.installed, data_major=MAJOR)


def named(upstream: Upstream | None) -> NodeId | None:
    """Whom a server follows, whoever it streams from."""
    return (upstream.leader or upstream.node) if upstream and upstream.term else None


def see_parameters(agent: Agent | Forgetful) -> dict[str, Any]:
    """What it runs with and what waits; only where operators change it."""
    if not agent.world.shape.tended:
        return {}
    server, memory = agent.server, agent.memory
    return {
        "paused": server.parameters.short,
        "config": max(memory.told, 0),
        "config_failed": memory.config_failed,
        "matched": server.parameters.all_of(server.parameters.running),
        "demanded": server.parameters.demanded(server.dir),
        "pending": server.parameters.pending(),
    }


def stray_of(agent: Agent | Forgetful, timeline: Timeline) -> Fork | None:
    """Where the history of the timeline that it is on leaves the ledger's."""
    directory = agent.server.dir
    assert directory is not None
    branch = tuple(
        Fork(mine, Lsn(first * RECORD_BYTES))
        for mine, first in directory.branches
        if mine <= timeline
    )
    return strayed(agent.replica.facts.history, agent.promises.adopted, branch)


def position_of(agent: Agent | Forgetful) -> Position | None:
    """Where the server's WAL ends, by the epoch records in it and by whom it adopted."""
    seen = agent.server.position()
    if seen is None:
        return None
    return attributed(agent.replica.facts.history, agent.promises.adopted, seen)


def begins_of(agent: Agent | Forgetful, replayed: int) -> Lsn:
    """Where the last timeline of what is replayed begins, if the adopted reign is not known."""
    known = {reign.term for reign in agent.replica.facts.history}
    directory = agent.server.dir
    if directory is None or agent.promises.adopted in known:
        return Lsn(0)
    return Lsn(max(first for _, first in directory.branches if first < replayed) * RECORD_BYTES)


def see_receiver(server: Postgres) -> Receiver | None:
    stream, directory = server.receiver, server.dir
    if stream is None or directory is None:
        return None
    return Receiver(
        upstream=(named(server.upstream) if stream.fed else None) or stream.up.node,
        term=stream.term,
        status="streaming",
        flush_lsn=directory.wal[directory.flushed - 1].end,
    )


def see_senders(server: Postgres) -> tuple[Sender, ...]:
    return tuple(
        Sender(
            member=stream.key,
            term=stream.term,
            state="streaming" if stream.streaming else "catchup",
            flush_lsn=stream.flush_lsn,
            replay_lsn=stream.flush_lsn,
        )
        for stream in server.streams
        if stream.term
    )


def observe(agent: Agent, seen: ServerSeen) -> Observation:
    """The agent's report: its server, its promises, its peers' ages."""
    now = agent.now
    heard = {node: now - at for node, at in agent.heard_at.items()}
    agent.sequence += 1
    return Observation(
        node=agent.node,
        raft_id=agent.raft_id,
        sequence=agent.sequence,
        server=seen,
        promises=agent.promises,
        heard_ms=heard,
        missing_ms=missing(agent, seen),
        applied_index=agent.replica.node.applied,
        witness=agent.world.nodes[agent.node].kind is Kind.WITNESS,
        ask=agent.lease_ask(),
        quiet=agent.hold.quiet(),
    )


def proxies_quiet(agent: Agent, hold: str) -> bool:
    """Whether the transactions through this node are over; some last, and some for ever.

    Without a draw: what a seed does otherwise must not hang on it.
    """
    lot = crc32(f"{hold}{agent.node}".encode()) % LOTS
    return lot > LOTS_LATE or (lot > 0 and agent.now - agent.hold.since >= LATE_MS)


def missing(agent: Agent, seen: ServerSeen) -> dict[str, int]:
    """On the leader: for how long each member of the sync set has not streamed."""
    facts, since = agent.replica.facts, agent.memory.missing_since
    if seen.state is not Server.PRIMARY or not facts.is_leader(agent.node):
        since.clear()
        return {}
    there = {s.member for s in seen.senders if s.term == facts.term and s.state == "streaming"}
    wanted = sorted({*facts.sync.voters, *facts.sync.names, *trial.watched(facts)})
    for key in list(since):
        if key in there or key not in wanted:
            del since[key]
    now = agent.now
    for key in wanted:
        if key not in there:
            since.setdefault(key, Instant(now))
    return {str(key): now - at for key, at in since.items()}
