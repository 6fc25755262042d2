"""One seed: build a world, let it live, strike it, heal it, judge it; several times; then a calm.

Owns the length of the phases and what makes a run count. The first storm of a seed is older than
the others: it strikes with `FIRST_KINDS` only and looks at everything at every tick, so that seeds
that were kept while there was no other storm still tell their story (`run_seed(seed, storms=1)`).
The later ones strike with everything and decide at the daemon's pace.
"""

from __future__ import annotations

from random import Random

import msgspec

from pgherd.model.facts import Facts, Kind, Mode, Phase
from pgherd.model.ids import NodeId
from pgherd.sim import feeding
from pgherd.sim.checks import Violation
from pgherd.sim.clock import MS, SECOND, Endless
from pgherd.sim.faults import KINDS, Chaos
from pgherd.sim.liveness import can_lose_its_primary, lose_the_primary, nothing_grows
from pgherd.sim.operators import left_behind
from pgherd.sim.shapes import shape_of
from pgherd.sim.world import World, render

CALM = 8 * SECOND
STORM = 44 * SECOND
STABLE_WITHIN = 10 * SECOND
STREAMING_WITHIN = 60 * SECOND
WORK_WITHIN = 180 * SECOND
"""As long as a rolling restart over copies made anew, one after another, with all its limits."""
VOTES_WITHIN = 30 * SECOND
WRITES_WITHIN = 15 * SECOND
"""A set whose copies were all replaced takes a few sync timeouts, in mode strict."""
STORMS_UNTIL = 215 * SECOND
LATER_STORM = 38 * SECOND
LAST_CALM = 60 * SECOND
SIMULATED_SECONDS_MIN = 300
LOSS_TAKES = 10
FAULTS_MIN = 3
ACKS_MIN = 50
STEP = SECOND // 4
LINES_KEPT = 60
PAUSE_MS = 150
LATER_PAUSE_MS = 250
CALM_PAUSE_MS = 500
"""Between two writes of one writer: in the first storm, in later ones, while nothing strikes."""
STALE_CHANCES = [0.0, 0.02, 0.2]


class Result(msgspec.Struct, frozen=True):
    """What became of one seed. broken: the invariant's name, "" when all held."""

    seed: int
    shape: str
    simulated_seconds: float
    faults: dict[str, int]
    elections: int
    failovers: int
    acks: int
    evaluated: int
    by_invariant: dict[str, int]
    events: int
    votes_moved: int = 0
    joined: int = 0
    left: int = 0
    forwards: int = 0
    cascaded: int = 0
    broken: str = ""
    text: str = ""
    journal: tuple[str, ...] = ()

    @property
    def void(self) -> bool:
        """Whether too little happened for this seed to count."""
        return not self.broken and (
            self.simulated_seconds < SIMULATED_SECONDS_MIN
            or sum(self.faults.values()) < FAULTS_MIN
            or self.elections < 1
            or self.acks < ACKS_MIN
        )


def run_seed(seed: int, *, verbose: bool = False, storms: int = 0) -> Result:
    """Run one seed to its end or to the first broken invariant.

    storms: how many, without the calm at the end; 0: as many as a whole life has.
    """
    chance = Random(seed * 7919 + 1)
    mode = Mode.STRICT if chance.random() < 0.12 else Mode.QUORUM
    shape = shape_of(seed)
    world = World(seed, shape=shape, mode=shape.mode or mode)
    world.stale_chance = chance.choice(STALE_CHANCES)
    world.verbose = verbose
    chaos = Chaos(world, chance)
    return judge(world, lambda: live(world, chaos, storms=storms))


def judge(world: World, story: object) -> Result:
    """Tell a story in a world and report what became of it."""
    broken = text = ""
    try:
        assert callable(story)
        story()
    except Violation as why:
        broken, text = why.name, why.text
    except Endless as why:
        broken, text = "L4", str(why)
    except AssertionError as why:
        broken, text = "assertion", describe(why)
    return result(world, broken=broken, text=text)


def describe(error: AssertionError) -> str:
    trace, where = error.__traceback__, ""
    while trace is not None:
        where = f"{trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{where} {error}"


def result(world: World, *, broken: str, text: str) -> Result:
    facts, checks = world.facts(), world.checks
    return Result(
        seed=world.seed,
        shape=world.shape.name,
        simulated_seconds=world.clock.now / SECOND,
        faults=dict(sorted(world.stats.faults.items())),
        elections=facts.term if facts is not None else 0,
        failovers=checks.failovers,
        acks=len(checks.acks),
        evaluated=checks.evaluated + sum(world.herd.evaluated.values()),
        by_invariant=dict(sorted(world.herd.evaluated.items())),
        events=world.clock.events,
        votes_moved=world.stats.votes_moved,
        joined=world.stats.joined,
        left=world.stats.left,
        forwards=world.loans.taken,
        cascaded=world.cascaded,
        broken=broken,
        text=text,
        journal=tuple(render(line) for line in list(world.journal)[-LINES_KEPT:]) if broken else (),
    )


def live(world: World, chaos: Chaos, *, storms: int) -> None:
    """Birth, a calm start, storms with the time in which everything must come right, and a calm."""
    begin(world)
    storm(world, chaos, takes=STORM)
    done = 1
    while done < storms or (not storms and world.clock.now < STORMS_UNTIL):
        done += 1
        next_storm(world, number=done)
    if not storms:
        rest(world)


def storm(world: World, chaos: Chaos, *, takes: int) -> None:
    before = world.facts()
    assert before is not None
    count = chaos.rng.choice([3, 4, 5, 6, 8, 12, 20])
    chaos.schedule(first=0, last=takes - 2 * SECOND, count=count)
    world.clock.run_until(world.clock.now + takes)
    chaos.end()
    if not world.restless:
        world.write_slowly(CALM_PAUSE_MS)
    recover(world)
    nothing_grows(world, since=before)


def next_storm(world: World, *, number: int) -> None:
    """Another storm over a herd that has lived, with all kinds of faults."""
    chance = Random(world.seed * 7919 + number)
    world.restless = False
    world.stale_chance = chance.choice(STALE_CHANCES)
    world.log(NodeId("-"), f"storm {number}")
    world.write_again(pause_ms=LATER_PAUSE_MS)
    chaos = Chaos(world, chance)
    chaos.kinds = dict(KINDS)
    chaos.own = (*world.shape.kinds, *world.shape.later_kinds)
    storm(world, chaos, takes=LATER_STORM)


def rest(world: World) -> None:
    """The calm: nothing strikes, so nothing changes (L3); at its end one loss, alone (L4)."""
    world.write_again(pause_ms=CALM_PAUSE_MS)
    facts = world.facts()
    end = max(world.clock.now + LAST_CALM, (SIMULATED_SECONDS_MIN - LOSS_TAKES) * SECOND)
    world.clock.run_until(end)
    after = world.facts()
    if facts is not None and after is not None and after.term > facts.term + 1:
        world.checks.fail("L3", f"terms {facts.term} to {after.term} in a calm; {situation(world)}")
    if can_lose_its_primary(world):
        lose_the_primary(world)
        must_become(world, all_stream, within=STREAMING_WITHIN, name="L2")
    world.clock.run_until(max(world.clock.now, SIMULATED_SECONDS_MIN * SECOND))
    silence(world)


def begin(world: World) -> None:
    world.begin()
    world.add_clients(4, pause_ms=PAUSE_MS)
    must_become(world, is_stable, within=CALM * 2, name="birth")
    world.clock.run_until(max(CALM, world.clock.now + SECOND))


def recover(world: World) -> None:
    """L6 and L7 where there are operators, L1 to L3, then the final state."""
    if world.shape.tended:
        must_become(world, lambda _: not world.asking, within=WORK_WITHIN, name="L6")
        world.herd.must("L6", not world.asking, "what was asked for has ended")
        if old := left_behind(world):
            raise Violation("L7", f"not upgraded: {old}")
    within = STABLE_WITHIN + copies_take(world) + hung_writes_take(world)
    if needs_every_copy(world):
        within = STREAMING_WITHIN
    must_become(world, is_stable, within=within, name="L1")
    must_become(world, all_stream, within=STREAMING_WITHIN, name="L2")
    must_become(world, votes_rest, within=VOTES_WITHIN, name="L3")
    acks = len(world.checks.acks)
    must_become(world, lambda _: len(world.checks.acks) > acks, within=WRITES_WITHIN, name="L4")
    world.clock.run_until(max(world.clock.now + 2 * SECOND, 58 * SECOND))
    silence(world)


def silence(world: World) -> None:
    """Writers stop, and what is there is judged."""
    world.quiet = True
    world.clock.run_until(world.clock.now + 4 * SECOND)
    if not all_stream(world):
        must_become(world, all_stream, within=STREAMING_WITHIN, name="L2")
    must_become(world, nobody_waits, within=WRITES_WITHIN, name="L4")
    world.checks.final()


def needs_every_copy(world: World) -> bool:
    """Whether writes have to wait for the only replica, which may have to be copied anew first."""
    facts = world.facts()
    data = [one for one in facts.members.values() if one.kind is Kind.DATA] if facts else []
    return facts is not None and facts.mode is Mode.STRICT and len(data) == 2


def hung_writes_take(world: World) -> int:
    """How long a write that a disk hung on goes on to take, though the disk is well again."""
    ends = [node.agent.writer.busy_until for node in world.nodes.values() if node.agent is not None]
    return max(0, max(ends, default=0) - world.clock.now)


def copies_take(world: World) -> int:
    """Strict opens with a standby only; one whose WAL is gone notices that after this time."""
    facts = world.facts()
    strict = facts is not None and facts.mode is Mode.STRICT
    return world.policy.stuck_after_ms * MS if strict else 0


def orders_end(world: World) -> int:
    """How long an operator's order that nobody can fulfil may hold everything up."""
    facts = world.facts()
    pending = facts is not None and (facts.forced or facts.switchover or facts.handover)
    policy = world.policy
    return (policy.hold_ms + policy.hold_timeout_ms) * MS + 2 * SECOND if pending else 0


def must_become(world: World, condition: object, *, within: int, name: str) -> None:
    """Run until the condition holds; a liveness invariant is broken when it never does."""
    assert callable(condition)
    limit = world.clock.now + within
    order = 0
    while not condition(world):
        order = max(order, orders_end(world))
        if world.clock.now >= limit + order:
            raise Violation(name, f"not within {within // SECOND} s: {situation(world)}")
        world.clock.run_until(world.clock.now + STEP)


def is_stable(world: World) -> bool:
    facts = world.facts()
    return facts is not None and facts.phase is Phase.STABLE and opened(world, facts)


def opened(world: World, facts: Facts) -> bool:
    """Whether the leader's server takes writes."""
    if facts.leader is None:
        return False
    server = world.server(facts.leader.node)
    return server.primary and server.up and not server.names.closed


def all_stream(world: World) -> bool:
    """Whether every other data member streams from the leader, or from one that does."""
    facts = world.facts()
    if facts is None or facts.leader is None or not is_stable(world):
        return False
    server = world.server(facts.leader.node)
    there = {s.key.node for s in server.streams if s.streaming and s.term == facts.term}
    if world.shape.cascading:
        there = feeding.below(world, facts.leader.node, facts.term)
    data = {node for node, member in facts.members.items() if member.kind is Kind.DATA}
    return there == data - {facts.leader.node}


def nobody_waits(world: World) -> bool:
    """Whether every commit on the primary has ended."""
    facts = world.facts()
    assert facts is not None
    assert facts.leader is not None
    return not world.server(facts.leader.node).waiting


def votes_rest(world: World) -> bool:
    """Whether who is to leave is gone, all others are in consensus, and as many vote as may."""
    agent, facts = world.raft_leader(), world.facts()
    if agent is None or facts is None or any(one.leaving for one in facts.members.values()):
        return False
    conf, ids = agent.replica.node.conf, {one.raft_id for one in facts.members.values()}
    voters = min(facts.max_voters, len(ids))
    return {*conf.voters, *conf.learners} == ids and len(conf.voters) == voters


def situation(world: World) -> str:
    """The state of everything, in one line."""
    facts = world.facts()
    if facts is None:
        return "no facts"
    parts = [f"term {facts.term} {facts.phase.value} leader {facts.leader} sync {facts.sync}"]
    for name in world.names:
        parts.append(situation_of(world, name))
    return "; ".join(parts)


def situation_of(world: World, name: NodeId) -> str:
    node = world.nodes[name]
    doing = node.agent._acting if node.agent is not None else "dead"
    leads = node.agent is not None and node.agent.replica.leads
    server = node.server
    end = server.dir.wal[-1] if server.dir is not None else None
    return (
        f"{name}{'*' if leads else ''} {server.state.value} {end} from {server.upstream}"
        f" doing {doing} {world.promises(name)}"
    )
