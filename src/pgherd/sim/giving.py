"""Loss that a person accepts: stories in which nobody else can bring a herd back (rule 308), and
what the checks forgive for it.

A replica is cut off while others acknowledge, then those die and do not return before the operator
has given them up. Owns the operator, the fencing command of the stories, and the one exception to
I7 and I20: rows that the ledger gave up by name, with a position, are no loss. All else stays
forbidden.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL
from pgherd.model import action as act
from pgherd.model.facts import Facts, Kind, Phase, Reign
from pgherd.model.ids import MemberKey, NodeId, Position, Term
from pgherd.model.policy import FenceOrder, Policy
from pgherd.plan.election import quorum_problem
from pgherd.plan.giving import missing
from pgherd.plan.look import known_end, sealed
from pgherd.plan.rule import Situation
from pgherd.sim.clock import MS, SECOND, Failed, Task

if TYPE_CHECKING:
    from pgherd.sim.agent import Agent
    from pgherd.sim.checks import Checks
    from pgherd.sim.postgres import Server
    from pgherd.sim.wal import Record
    from pgherd.sim.world import World

PATIENCE = 4 * SECOND
LOOK_AGAIN = SECOND
COMES_BACK_WITHIN = 40 * SECOND
FENCE_FAILS = 0.3
POWER_RETURNS = 5 * SECOND


ORDER = FenceOrder(("/fence",), deadline_ms=2000, required=True)
"""A fencing command that nobody may be promoted without."""


def policy() -> Policy:
    return Policy(fence=ORDER)


class Fences:
    """Whom a term had to fence, and whom a command was successful for.

    fails: how often it fails by chance · fault: "fails" or "hangs" while it always does.
    """

    def __init__(self, *, fails: float) -> None:
        self.fails = fails
        self.fault = ""
        self.wanted: dict[Term, tuple[MemberKey, ...]] = {}
        self.done: set[tuple[Term, MemberKey]] = set()

    def note(self, facts: Facts) -> None:
        """The ledger went on: an election names who led before and is not sealed."""
        if facts.phase is Phase.ESTABLISHING:
            self.wanted.setdefault(facts.term, facts.unsealed)

    def must_be_done(self, world: World, node: NodeId, action: object) -> None:
        """P1: nobody promotes before a required command was successful for all of them."""
        if isinstance(action, act.Promote) and world.policy.fence is not None:
            wanted = self.wanted.get(action.term, ())
            left = [key for key in wanted if (action.term, key) not in self.done]
            world.herd.must("P1", not left, f"{node} promotes, {left} is not fenced")


def forgive(checks: Checks, reign: Reign) -> None:
    """Take what the ledger gave up off what has to be there: rows after the recorded position."""
    held = checks.world.server(reign.leader.node).dir
    if not reign.gave_up or reign.term in checks.given_up or held is None:
        return
    unasked = [str(key) for key in reign.gave_up if (reign.term, key) not in checks.ordered]
    if unasked:
        checks.fail("I7", f"term {reign.term} gave up {unasked}, which nobody ordered for it")
    lost = {row: record for row, record in checks.acks.items() if not held.holds(record)}
    for record in lost.values():
        if written_at(checks, record) <= reign.start:
            checks.fail("I7", f"{record} is lost, which lies before {reign.start}")
    checks.given_up[reign.term] = len(lost)
    checks.acks = {row: record for row, record in checks.acks.items() if row not in lost}
    left = checks.acks.values()
    checks.tip = max(left, key=lambda record: record.depth, default=None)
    checks.world.log(reign.leader.node, f"{len(lost)} acknowledged rows were given up")


def written_at(checks: Checks, record: Record) -> Position:
    """Where a row is; behind a promotion it is of that reign, before its epoch record as well."""
    history = checks.newest.history if checks.newest is not None else ()
    terms = [reign.term for reign in history if reign.timeline == record.timeline]
    return Position(max(record.epoch, *terms[:1]) if terms else record.epoch, record.end)


def fence(agent: Agent, a: act.Fence) -> Task:
    """The command turns the power of its target off, for a while, or fails."""
    world = agent.world
    yield 20 * MS + int(world.rng.random() * SECOND)
    done = world.rng.random() >= world.fences.fails and not world.fences.fault
    if world.fences.fault == "hangs":
        yield a.deadline_ms * MS  # it is killed then
    if done:
        world.fences.done.add((a.term, a.target))
    node = world.nodes[a.target.node]
    if done and node.host_up:
        node.crash()
        world.clock.after(POWER_RETURNS, node.boot)
    leader = world.raft_leader()
    told = cmd.Fenced(a.term, agent.node, a.target, done=done, go_on=False, text="simulated")
    if leader is None or not leader.propose(told):
        raise Failed("the ledger was not told")
    yield 50 * MS
    if not done:
        raise Failed("it did not work")


def story(world: World, chance: Random) -> None:
    """One replica falls behind, the others die, and a person gives them up; then all return."""
    from pgherd.sim.run import all_stream, begin, is_stable, must_become, recover

    begin(world)
    upgrade(world)
    must_become(world, is_upgraded, within=10 * SECOND, name="L1")
    must_become(world, all_stream, within=60 * SECOND, name="L2")
    data = [name for name in world.names if world.nodes[name].kind is Kind.DATA]
    facts = world.facts()
    assert facts is not None
    assert facts.leader is not None
    behind = chance.choice([name for name in data if name != facts.leader.node])
    links = [(behind, other) for other in world.names if other != behind]
    for one, other in links:
        world.net.block(one, other)
        world.net.block(other, one)
    world.clock.run_until(world.clock.now + chance.randrange(8 * SECOND))
    for name in data:
        if name != behind:
            world.nodes[name].crash()
    world.net.heal()
    world.clock.run_until(world.clock.now + PATIENCE)
    disturb(world, chance, behind)
    operator = Operator(world)
    operator.look()
    must_become(world, is_stable, within=COMES_BACK_WITHIN, name="L4")
    operator.over = True
    world.clock.run_until(world.clock.now + chance.randrange(3 * SECOND))
    for node in world.nodes.values():
        if node.agent is None:
            node.boot()
    recover(world)


def must_be_cut_off(world: World, winner: Server) -> None:
    """P2: who is promoted after a required fencing finds no other server that takes writes."""
    order = world.policy.fence
    if order is None or not order.required:
        return
    others = [node.server for node in world.nodes.values() if node.server is not winner]
    writing = [one.node for one in others if one.primary and one.up and not one.names.closed]
    world.herd.must("P2", not writing, f"{winner.node} is promoted while {writing} take writes")


def disturb(world: World, chance: Random, left: NodeId) -> None:
    """What may happen while a person types: the elector dies, the winner, or a lost one returns."""
    soon = chance.randrange(6 * SECOND)
    what = chance.choice(["nothing", "elector", "winner", "return"])
    world.log(NodeId("-"), "meanwhile", what)
    if what == "elector":
        world.clock.after(soon, restart, world, None)
    elif what == "winner":
        world.clock.after(soon, restart, world, left)
    elif what == "return":
        away = [node for node in world.nodes.values() if not node.host_up]
        world.clock.after(soon, chance.choice(away).boot)


def restart(world: World, name: NodeId | None) -> None:
    """Crash a host, the Raft leader's where none is named, and start it again soon."""
    leader = world.raft_leader()
    node = world.nodes[name] if name is not None else None
    if node is None and leader is not None:
        node = world.nodes[leader.node]
    if node is not None and node.host_up:
        node.crash()
        world.clock.after(2 * SECOND, node.boot)


def upgrade(world: World) -> None:
    """Every member's record says that it understands the newest commands."""
    facts, agent = world.facts(), world.raft_leader()
    if facts is None or is_upgraded(world):
        return
    for member in facts.members.values():
        if agent is not None and member.level < LEVEL:
            agent.propose(
                cmd.UpdateMember(member.node, member.kind, member.address, member.tags, LEVEL)
            )
    world.clock.after(LOOK_AGAIN, upgrade, world)


def is_upgraded(world: World) -> bool:
    facts = world.facts()
    return facts is not None and facts.level >= LEVEL


class Operator:
    """Whoever gives up, once an election has waited for long enough, whom it waits for."""

    def __init__(self, world: World, *, is_over: Callable[[], bool] = lambda: False) -> None:
        self.world = world
        self.over = False
        self.orders = 0
        self._is_over = is_over

    def look(self) -> None:
        """Look at the Raft leader's herd, and again in a moment."""
        if self.over or self._is_over():
            return
        agent = self.world.raft_leader()
        if agent is not None and agent.replica.facts.phase is Phase.ELECTING:
            self._order(agent)
        self.world.clock.after(LOOK_AGAIN, self.look)

    def _order(self, agent: Agent) -> None:
        facts, now = agent.replica.facts, agent.now
        look = Situation(facts=facts, view=agent._view(now), policy=self.world.policy, now=now)
        done = sealed(look)
        if not done or not quorum_problem(look, done) or facts.handover is not None:
            return
        last = agent.reports.get(facts.leader.node) if facts.leader is not None else None
        self.orders += 1
        order = cmd.GiveUp(
            id=f"given{facts.term}.{self.orders}",
            term=facts.term,
            lost=tuple(missing(facts, done)),
            candidate=None,
            known_end=known_end(facts, last.report if last is not None else None),
            accept_bytes=None,
            requested_by="operator",
        )
        self.world.log(agent.node, "the operator gives up", order.lost)
        self.world.checks.ordered.update((order.term, key) for key in order.lost)
        agent.propose(order)
