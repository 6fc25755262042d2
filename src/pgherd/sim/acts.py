"""The simulated hands: every action of the member decider, performed on the PostgreSQL model.

Each act is a task on the agent's one executor. It saves its promises before it touches the server,
checks them before and after what takes time, and leaves with `Failed` when the world has moved on;
the decider then looks again. `ACTS` is a table so that a mutant can exchange an entry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from pgherd.ledger.lineage import attributed
from pgherd.model import action as act
from pgherd.model import demotion
from pgherd.model.facts import Floor, Frozen
from pgherd.model.ids import Lsn, MemberKey, NodeId, Term, forward_slot
from pgherd.model.observation import Server as State
from pgherd.sim import parameters
from pgherd.sim.clock import MS, Failed, Task
from pgherd.sim.feeding import delay, end_feeds, end_lending, keep_slots, leave
from pgherd.sim.giving import fence
from pgherd.sim.look import position_of, see_server
from pgherd.sim.memory import reload
from pgherd.sim.names import CLOSED, Names
from pgherd.sim.postgres import Server, Upstream
from pgherd.sim.wal import Directory, Record

if TYPE_CHECKING:
    from pgherd.sim.agent import Agent

SYSTEM_ID = "7300000000000000001"


def wait(condition: Callable[[], bool], *, limit_ms: int, step_ms: int = 4) -> Task:
    """Sleep until the condition holds or the limit is over; the caller looks which."""
    left = limit_ms
    while not condition() and left > 0:
        yield step_ms * MS
        left -= step_ms


def must(condition: bool, why: str) -> None:
    if not condition:
        raise Failed(why)


def save(agent: Agent, **changes: Any) -> Task:
    """Make promises durable before they count."""
    new = msgspec.structs.replace(agent.promises, **changes)
    if new == agent.promises:
        return
    done: list[bool] = []
    agent.writer.save({"promises": new}, lambda: done.append(True))
    while not done:
        yield MS
    agent.take_promises(new)


def promise(agent: Agent, term: Term, elector: NodeId) -> Task:
    """Promise a term to one elector, durably; refuse when promised otherwise."""
    may_promise(agent, term, elector)
    old = agent.promises
    if old.promise < term or old.promise_elector is None:
        yield from save(agent, promise=term, promise_elector=elector, frozen=None)


def may_promise(agent: Agent, term: Term, elector: NodeId) -> None:
    old = agent.promises
    must(old.promise <= term, f"promised {old.promise}")
    if old.promise == term:
        must(old.promise_elector in (None, elector), f"promised to {old.promise_elector}")


def check_term(agent: Agent, term: Term) -> None:
    must(agent.replica.facts.term == term, "the term has moved on")
    must(agent.promises.promise <= term, f"promised {agent.promises.promise}")


def seal(agent: Agent, a: act.Seal) -> Task:
    """Promise, stop receiving, drain, freeze."""
    yield from promise(agent, a.term, a.elector)
    yield from leave(agent) if a.keeps_delay else freeze(agent, a.term)


def freeze(agent: Agent, term: Term) -> Task:
    """Stop receiving, drain, and make durable where this server stands still."""
    server = agent.server
    server.follow(None)
    server.resume_replay()
    yield from wait(lambda: server.receiver is None, limit_ms=100)
    if server.receiver is not None:
        server.terminate_receiver()
        yield from wait(lambda: server.receiver is None, limit_ms=200)
    if server.receiver is not None:
        server.crash()
        server.start()
    yield from wait(lambda: settled(server), limit_ms=10_000)
    yield 5 * MS
    position = position_of(agent)
    must(settled(server), "replay did not drain")
    assert position is not None
    must(agent.promises.promise == term, "promised more meanwhile")
    yield from save(agent, frozen=Frozen(term, position))


def must_be_sealed(agent: Agent, term: Term) -> None:
    mine = agent.promises
    sealed = mine.promise == term and mine.frozen is not None and mine.frozen.term == term
    must(sealed, f"is not sealed for term {term}")


def lend(agent: Agent, a: act.Lend) -> Task:
    """A slot for the candidate of a fast-forward."""
    must_be_sealed(agent, a.term)
    yield 3 * MS
    must(agent.server.dir is not None, "no directory")
    assert agent.server.dir is not None
    slot = forward_slot(a.to)
    agent.server.dir.slots = (*(s for s in agent.server.dir.slots if s != slot), slot)


def fast_forward(agent: Agent, a: act.FastForward) -> Task:
    """Take the seal back, stream from the holder until nothing is lacking or comes, seal anew."""
    must_be_sealed(agent, a.term)
    must(agent.promises.promise_elector == a.elector, "promised to another elector")
    end_feeds(agent.server, a.adopted)
    known: dict[str, Any] = {"frozen": None}
    if agent.promises.adopted < a.adopted:
        known |= {"adopted": a.adopted, "adopted_leader": a.adopted_leader}
    yield from save(agent, **known)
    mine, server = MemberKey(agent.node, agent.promises.incarnation), agent.server
    server.follow(Upstream(a.holder.node, mine, Term(0), borrowed=True))
    seen, since = position_of(agent), agent.clock.now
    while seen is None or seen < a.target:
        yield 5 * MS
        check_term(agent, a.term)
        now = position_of(agent)
        if now != seen:
            seen, since = now, agent.clock.now
        if agent.clock.now - since > a.stall_ms * MS:
            break
    yield from freeze(agent, a.term)
    frozen = agent.promises.frozen
    must(frozen is not None and frozen.position >= a.target, "not all of it came")


def settled(server: Server) -> bool:
    return server.state is State.STANDBY and server.parked and server.upstream is None


def close_gate(agent: Agent, a: act.CloseGate) -> Task:
    """Closed names, client sessions and walsenders ended, a commit seen to wait; then the promise.

    The elector takes promise and names together for a closed gate, so the proof comes before both
    are there: commits of a server whose names were empty wait only when its checkpointer says so,
    and a walsender that has not read the closed names would acknowledge on under the old ones.
    """
    may_promise(agent, a.term, a.elector)
    yield from hold_or_stop(agent) if a.or_stop else close_and_probe(agent)
    agent.server.drop_sessions(silent=False)
    for stream in list(agent.server.streams):
        stream.close_up()
    yield from promise(agent, a.term, a.elector)


def drain_and_stop(agent: Agent, a: act.DrainAndStop) -> Task:
    """Promise, close, wait for the candidate, fast stop, freeze at the shutdown checkpoint."""
    yield from promise(agent, a.term, a.elector)
    server = agent.server
    must(server.primary, "no primary")
    if a.or_stop:
        yield from hold_or_stop(agent)
    server.reload_names(CLOSED)
    agent.memory.names_generation = agent.memory.settled = 0
    server.drop_sessions(silent=False)

    def caught_up() -> bool:
        end = server.dir.wal[-1].end if server.dir is not None else Lsn(0)
        return any(s.key == a.candidate and s.flush_lsn >= end for s in server.streams)

    yield from wait(caught_up, limit_ms=a.limit_ms)
    must(caught_up(), "the candidate did not catch up in time")
    server.stop_fast()
    yield from wait(lambda: server.proc is None, limit_ms=8_000)
    if server.proc is not None:
        server.crash()
    must(server.clean and server.dir is not None, "the stop was not clean")
    assert server.dir is not None
    end = server.dir.position(len(server.dir.wal))
    end = attributed(agent.replica.facts.history, agent.promises.adopted, end)
    yield from save(agent, frozen=Frozen(a.term, end))


def promote(agent: Agent, a: act.Promote) -> Task:
    """Become primary at the frozen position, then write the epoch record."""
    mine, server = agent.promises, agent.server
    must(mine.promise == a.term and mine.frozen == Frozen(a.term, a.expected), "not sealed there")
    must(position_of(agent) == a.expected and settled(server), "not at the expected position")
    end_lending(server)
    yield from save(agent, adopted=a.term, adopted_leader=agent.node)
    if a.lower:
        yield from parameters.start_lower(agent)
    server.promote()
    yield from wait(lambda: server.primary or server.proc is None, limit_ms=10_000)
    must(server.primary, "promotion took too long")
    yield from write_epoch(agent, a.term)


def write_epoch(agent: Agent, term: Term) -> Task:
    check_term(agent, term)
    must(agent.replica.facts.is_leader(agent.node), "not the leader")
    server = agent.server
    record = server.write_local("epoch", epoch=term)
    yield from flushed(server, record)
    server.watched_lsn = record.end
    agent.memory.epoch_record = term, record.end


def flushed(server: Server, record: Record) -> Task:
    def there() -> bool:
        return server.dir is not None and server.dir.holds(record)

    yield from wait(there, limit_ms=5_000, step_ms=1)
    must(there() and server.primary, "the record was not written")


def keep_leading(agent: Agent, a: act.KeepLeading) -> Task:
    """Write the epoch record of the term on a server that stays primary."""
    yield from write_epoch(agent, a.term)


def set_names(agent: Agent, a: act.SetNames) -> Task:
    """Use the names of a generation."""
    yield MS
    check_term(agent, a.term)
    agent.world.nodes[agent.node].warden.before(agent, see_server(agent), a)
    use_names(agent, term=a.term, generation=a.generation, text=a.names)
    if not agent.replica.facts.sync.in_use:
        agent.memory.settled = a.generation


def use_names(agent: Agent, *, term: Term, generation: int, text: str) -> None:
    must(agent.server.primary, "no primary")
    agent.memory.stale_streams = list(agent.server.streams)
    agent.server.reload_names(Names(text, term=term, generation=generation))
    agent.memory.names_generation = generation


def hold_or_stop(agent: Agent) -> Task:
    """Closed names that count at once, or no server; sessions stay and wait."""
    until = agent.clock.now + HOLD
    for pause in close_and_probe(agent):
        if agent.clock.now + pause > until:
            agent.server.crash()
            raise Failed("was stopped, for writes could not be held")
        yield pause
    agent.world.nodes[agent.node].warden.rest()


HOLD = demotion.HOLD_MS * MS


def settle(agent: Agent, a: act.Settle) -> Task:
    """B1: no walsender is left that read older names. B2: k members hold all that was written."""
    server = agent.server
    if a.from_empty:
        yield from close_and_probe(agent)
        check_term(agent, a.term)
        use_names(agent, term=a.term, generation=a.generation, text=a.names)
    for stream in agent.memory.stale_streams:
        check_term(agent, a.term)
        if not stream.up_open:
            continue
        stream.close_up()
        key = stream.key
        yield from wait(lambda key=key: is_back(server, key), limit_ms=2_000)  # type: ignore[misc] # default binds it
    must(server.primary and server.dir is not None, "no primary")
    assert server.dir is not None
    target = server.dir.wal[-1].end

    def held() -> bool:
        there = [s for s in server.streams if s.key in a.members and s.term == a.term]
        return sum(s.flush_lsn >= target for s in there) >= a.k

    yield from wait(held, limit_ms=3_000)
    check_term(agent, a.term)
    must(held() and server.primary, "too few members hold everything")
    must(agent.replica.facts.sync.generation == a.generation, "the set has moved on")
    agent.memory.settled = a.generation


def is_back(server: Server, key: MemberKey) -> bool:
    return any(s.key == key and s.streaming for s in server.streams)


def close_and_probe(agent: Agent) -> Task:
    """Closed names, until a commit of our own is seen to wait."""
    server = agent.server
    must(server.primary, "no primary")
    server.reload_names(CLOSED)
    agent.memory.names_generation = agent.memory.settled = 0
    for _ in range(200):
        record = server.write_local("note")
        yield from flushed(server, record)
        if not server.checkpointer_names.empty:
            return
        yield 20 * MS
    raise Failed("commits do not wait although the names are closed")


def follow(agent: Agent, a: act.Follow) -> Task:
    """Adopt the leader durably, then stream from it under the term's token."""
    must(agent.promises.promise <= a.term, f"promised {agent.promises.promise}")
    end_lending(agent.server, a.term)
    yield from adopt(agent, a.term, a.leader, floor=agent.promises.floor)
    agent.server.follow(upstream(agent, a.term, a.leader, a.source), late=True)
    agent.memory.following_since = agent.now


def adopt(agent: Agent, term: Term, leader: MemberKey, **more: Any) -> Task:
    more |= {"adopted": term, "adopted_leader": leader.node, "frozen": None}
    if agent.promises.promise < term:
        more |= {"promise": term, "promise_elector": None}
    yield from save(agent, **more)


def upstream(agent: Agent, term: Term, leader: MemberKey, source: NodeId | None = None) -> Upstream:
    mine = MemberKey(agent.node, agent.promises.incarnation)
    above = leader.node if source is not None else None
    return Upstream(source or leader.node, mine, term, leader=above)


def source_of(agent: Agent, leader: MemberKey) -> Server:
    """The leader's server, when a session to it would work now."""
    net, server = agent.world.net, agent.world.server(leader.node)
    blocked = net.apart(agent.node, leader.node, "sql")
    must(not blocked and server.primary and server.accepts_standby(), "the leader is not there")
    must(server.dir is not None and server.dir.incarnation == leader.incarnation, "not that copy")
    return server


def stop(agent: Agent) -> Task:
    """Fast stop, then the hard way."""
    server = agent.server
    server.stop_fast()
    yield from wait(lambda: server.proc is None, limit_ms=2_000)
    server.crash()


def rewind(agent: Agent, a: act.Rewind) -> Task:
    """Floor and marker first; dry run, rewind, start, and wait until it takes connections."""
    must(agent.promises.promise <= a.term, f"promised {agent.promises.promise}")
    mine, server = agent.promises.floor, agent.server
    floor = Floor(max(a.floor, mine.position) if mine else a.floor, a.fork_lsn)
    yield from save(agent, frozen=None, floor=floor, dirty_rewind=True)
    end_lending(server)
    yield from stop(agent)
    mark_half(server, True)
    yield agent.world.rng.randrange(300, 1500) * MS
    source = source_of(agent, a.leader)
    try:
        diverged = server.divergence(source)
        must(diverged == a.fork_lsn, f"pg_rewind sees {diverged}, the ledger {a.fork_lsn}")
        server.rewind(source)
    except Failed:
        agent.memory.dead_end = True
        raise
    mark_half(server, False)
    yield from adopt(agent, a.term, a.leader)
    server.start(upstream(agent, a.term, a.leader))
    facts = agent.replica
    yield from wait(
        lambda: server.state is State.STANDBY or facts.facts.term != a.term, limit_ms=20_000
    )
    if server.state is not State.STANDBY:
        server.crash()
        raise Failed("the rewound server did not come up")
    agent.memory.following_since = agent.now
    yield from save(agent, dirty_rewind=False)


def mark_half(server: Server, half: bool) -> None:
    if server.dir is not None:
        server.dir.half_rewound = half


def rebuild(agent: Agent, a: act.Rebuild) -> Task:
    """Copy the leader beside the old directory, then swap."""
    must(agent.promises.promise <= a.term, f"promised {agent.promises.promise}")
    for _ in range(agent.world.rng.randrange(8, 40)):
        source_of(agent, a.leader)
        check_term(agent, a.term)
        yield 100 * MS
    incarnation = agent.world.new_incarnation()
    source = source_of(agent, a.leader)
    assert source.dir is not None
    copy = source.dir.copy(incarnation=incarnation)
    if agent.server.proc is not None:
        yield from stop(agent)
    agent.server.become(copy)
    agent.server.parameters.ran = source.parameters.ran
    agent.memory.dead_end = False
    yield from adopt(
        agent, a.term, a.leader, floor=None, dirty_rewind=False, incarnation=incarnation
    )


def reigns_no_more(agent: Agent) -> None:
    """A primary from here on is one that somebody else made. At once: no draw is moved by it."""
    new = msgspec.structs.replace(agent.promises, adopted_leader=None)
    agent.store.save(promises=new)
    must(agent.writer.sync(), "the store takes nothing more")
    agent.take_promises(new)


def start_standby(agent: Agent, a: act.StartStandby) -> Task:
    if agent.promises.adopted_leader == agent.node:
        reigns_no_more(agent)
    yield from parameters.start(agent, delay=a.delay_ms * MS)


def disown(agent: Agent, a: act.Disown) -> Task:
    """The mark first, then the stop."""
    yield from save(agent, dirty_rewind=True, frozen=None)
    yield from stop(agent)


def checkpoint(agent: Agent, a: act.Checkpoint) -> Task:
    yield agent.world.rng.randrange(20, 150) * MS
    check_term(agent, a.term)
    server = agent.server
    yield from flushed(server, server.write_local("checkpoint"))
    agent.memory.checkpointed_term = a.term
    if a.switchover:
        agent.memory.checkpointed_for = a.switchover


def clear_floor(agent: Agent, a: act.ClearFloor) -> Task:
    yield from save(agent, floor=None)


def init_db(agent: Agent, a: act.InitDb) -> Task:
    yield 800 * MS
    incarnation = agent.world.new_incarnation()
    agent.server.become(Directory(SYSTEM_ID, incarnation))
    yield from save(agent, incarnation=incarnation)


ACTS: dict[type[act.Action], Callable[[Agent, Any], Task]] = {
    act.InitDb: init_db,
    act.StartStandby: start_standby,
    act.Seal: seal,
    act.FastForward: fast_forward,
    act.Lend: lend,
    act.CloseGate: close_gate,
    act.DrainAndStop: drain_and_stop,
    act.Fence: fence,
    act.Promote: promote,
    act.KeepLeading: keep_leading,
    act.SetNames: set_names,
    act.HoldWrites: lambda agent, _: hold_or_stop(agent),
    act.Settle: settle,
    act.Follow: follow,
    act.Delay: delay,
    act.Rewind: rewind,
    act.Rebuild: rebuild,
    act.StopServer: lambda agent, _: stop(agent),
    act.Disown: disown,
    act.KeepSlots: keep_slots,
    act.Checkpoint: checkpoint,
    act.ClearFloor: clear_floor,
    act.Reload: reload,
    act.Configure: parameters.configure,
}
