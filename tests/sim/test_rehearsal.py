"""What a rehearsal says is what the simulated herd then does: who leads, by when, or that nobody.

The prediction is the production code's; so is what follows, with a simulated network, disks and
PostgreSQL. Any shape of herd, any mode, writers that go on meanwhile, and one node or two lost.
"""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from pgherd.model.facts import Mode
from pgherd.model.ids import NodeId
from pgherd.plan import forecast, rehearsal
from pgherd.plan.rehearsal import Known
from pgherd.sim.clock import MS, SECOND
from pgherd.sim.run import STEP, begin, opened, run_seed
from pgherd.sim.shapes import CASCADES_FROM, shape_of
from pgherd.sim.world import World

SEEDS = (*range(1, 25), *range(CASCADES_FROM, CASCADES_FROM + 3))
"""Most shapes; the others are among `MORE`."""
MORE = (*range(25, 300), *range(CASCADES_FROM + 3, CASCADES_FROM + 30))
STORMS = (*range(1, 13), CASCADES_FROM, CASCADES_FROM + 1)
ASK_MS = 700
MODES = (Mode.QUORUM, Mode.QUORUM, Mode.QUORUM, Mode.STRICT)
EARLY_MS = 500
"""A report may be so old when its node is lost, and what is waited for is so much less."""
ELECTION_MS = 1000
LEASE_MS = 12_000
"""A primary that waits for no standby writes until its lease ends, and is said to."""
FOR_EVER_MS = 5_000
"""So long nobody writes after that where it was said that nobody would."""
WRITER_MS = 3000
"""A writer that meets a dead server tries others one after another."""


def known(world: World, gone: set[NodeId]) -> Known:
    """What a node that is left knows: the leader of consensus, if it is."""
    leader = world.raft_leader()
    asked = leader
    if asked is None or asked.node in gone:
        left = [node.agent for name, node in world.nodes.items() if name not in gone]
        asked = next(agent for agent in left if agent is not None)
    conf = asked.replica.status().conf
    return Known(
        facts=asked.replica.facts,
        reports=dict(asked.reports),
        policy=world.policy,
        now=asked.now,
        unix_ms=world.clock.now // MS,
        raft_leader=leader.node if leader is not None else None,
        raft_voters=tuple(conf.voters),  # type: ignore[arg-type] # the core counts in int
        raft_learners=tuple(conf.learners),  # type: ignore[arg-type] # the same
    )


def drawn(world: World, chance: Random) -> set[NodeId]:
    """Who is lost: mostly the primary, sometimes with another, sometimes others alone."""
    facts = world.facts()
    assert facts is not None
    assert facts.leader is not None
    primary = facts.leader.node
    others = [name for name in world.names if name != primary]
    kind = chance.choice(["primary", "primary", "both", "one", "two"])
    if kind == "primary" or (len(others) == 1 and kind != "one"):
        return {primary}
    if kind == "both":
        return {primary, chance.choice(others)}
    return set(chance.sample(others, min(len(others), 1 if kind == "one" else 2)))


def acknowledged(world: World, since: int, *, within_ms: int) -> int | None:
    """When a write of after `since` acknowledgements was acknowledged, in ms from now."""
    begun = world.clock.now
    while world.clock.now < begun + within_ms * MS:
        world.clock.run_until(world.clock.now + STEP)
        if len(world.checks.acks) > since:
            return (world.clock.now - begun) // MS
    return None


def leader(world: World) -> NodeId | None:
    """Who leads and takes writes, as the ledger has it."""
    facts = world.facts()
    if facts is None or facts.leader is None or not opened(world, facts):
        return None
    return facts.leader.node


def tried(seed: int) -> str:
    """Predict, lose, compare; what was predicted."""
    shape, chance = shape_of(seed), Random(seed)
    world = World(seed, shape=shape, mode=shape.mode or chance.choice(MODES))
    begin(world)
    world.clock.run_until(world.clock.now + 10 * SECOND)
    gone = drawn(world, chance)
    seen = known(world, gone)
    played = rehearsal.if_lost(seen, gone)
    guess = forecast.forecast(seen.facts, played, seen.policy, election_ms=ELECTION_MS)
    others: tuple[NodeId, ...] = ()
    if played.primary is not None and played.facts.term != seen.facts.term:
        others = rehearsal.rivals(seen, gone, played.primary)
    where = f"seed {seed} ({shape.name}, {world.mode.value}): without {sorted(gone)}"
    for name in gone:
        world.nodes[name].crash()
    world.clock.run_until(world.clock.now + STEP)
    acks = len(world.checks.acks)
    if played.primary is None:
        world.clock.run_until(world.clock.now + LEASE_MS * MS)
        acks = len(world.checks.acks)
        world.clock.run_until(world.clock.now + FOR_EVER_MS * MS)
        assert len(world.checks.acks) == acks, f"{where} {leader(world)} writes: {played.why}"
        return "nobody"
    assert guess.at_most_ms is not None
    took_ms = acknowledged(world, acks, within_ms=guess.at_most_ms + WRITER_MS)
    assert took_ms is not None, f"{where} no write in {guess.at_most_ms} ms: {played.why}"
    assert took_ms > played.waited_ms - EARLY_MS, f"{where} after {took_ms} ms: {played.why}"
    assert leader(world) in (played.primary, *others), f"{where} {leader(world)}: {played.why}"
    return "stays" if played.facts.term == seen.facts.term else "another"


def test_what_is_predicted_happens() -> None:
    """And each of the three answers was given, more than once."""
    found = Counter(tried(seed) for seed in SEEDS)
    assert all(found[kind] >= 3 for kind in ("another", "stays", "nobody")), found


@pytest.mark.full
@pytest.mark.timeout(900)
def test_what_is_predicted_happens_for_many() -> None:
    """The same, for seeds that nobody picked."""
    assert Counter(tried(seed) for seed in MORE).total() == len(MORE)


class Questions:
    """Asks random nodes random questions, while faults strike."""

    def __init__(self, world: World) -> None:
        self.world, self.chance, self.answers = world, Random(world.seed), 0

    def ask(self) -> None:
        """Everything that `explain` asks, of what one node knows now."""
        self.world.clock.after(ASK_MS * MS, self.ask)
        if all(node.agent is None for node in self.world.nodes.values()):
            return
        awake = {name for name, node in self.world.nodes.items() if node.agent is not None}
        seen = known(self.world, set(self.world.nodes) - {self.chance.choice(sorted(awake))})
        names = sorted(seen.facts.members)
        lost = set(self.chance.sample(names, min(len(names), 2)))
        played = rehearsal.if_lost(seen, lost)
        if played.primary is not None:
            assert played.primary not in lost
            rehearsal.rivals(seen, lost, played.primary)
        switched = rehearsal.if_switched(seen, self.chance.choice([None, *names]))
        for one in (played, switched):
            forecast.forecast(seen.facts, one, seen.policy, election_ms=ELECTION_MS)
        if seen.facts.leader is not None:
            rehearsal.if_alone_able(seen, [seen.facts.leader.node], self.chance.choice(names))
        self.answers += 1


@pytest.mark.full
@pytest.mark.timeout(900)
def test_questions_are_answered_in_any_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """In storms, elections, amnesia: no state of a herd is one in which `explain` breaks."""
    asked: list[Questions] = []
    started = World.begin

    def start(world: World) -> None:
        started(world)
        asked.append(Questions(world))
        world.clock.after(ASK_MS * MS, asked[-1].ask)

    monkeypatch.setattr(World, "begin", start)
    for seed in STORMS:
        found = run_seed(seed, storms=2)
        assert not found.broken, f"seed {seed}: {found.broken}: {found.text}"
    assert all(one.answers > 100 for one in asked), [one.answers for one in asked]
    assert len(asked) == len(STORMS)
