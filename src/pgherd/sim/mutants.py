"""Planted errors: each takes one rule of the protocol away, and a named invariant must notice.

They are installed in the deciders, the ledger or the simulated hands while a run lasts, and never
exist in product code. A mutant may bring the faults that make its window likely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from random import Random
from typing import Any

import msgspec

from pgherd.ledger import apply, readmission, syncset
from pgherd.ledger import commands as cmd
from pgherd.model import action as act
from pgherd.model.facts import Facts, Frozen
from pgherd.model.ids import MemberKey, Position, Term
from pgherd.model.promises import Promises
from pgherd.plan import election, herd, member, membership, synchrony
from pgherd.plan.look import sealed
from pgherd.plan.rule import Decision, Membership, Situation
from pgherd.raft import replicate
from pgherd.raft.majority import committed_index
from pgherd.raft.types import ConfState
from pgherd.sim import acts, amnesia, leaseplants, look
from pgherd.sim.agent import Agent
from pgherd.sim.clock import MS, SECOND, Failed, Task
from pgherd.sim.faults import KINDS, MOVING, Chaos
from pgherd.sim.names import CLOSED, Names
from pgherd.sim.planting import attribute, item
from pgherd.sim.run import STORM, Result, begin, judge, recover
from pgherd.sim.shapes import FIVE, NINE, THREE, Shape
from pgherd.sim.world import World

replace = msgspec.structs.replace
Patch = Callable[[], Iterator[None]]


class Mutant(msgspec.Struct, frozen=True):
    """One planted error. faults: the kinds that may strike; stale: see World.stale_chance."""

    sentence: str
    install: Callable[[ExitStack], None]
    faults: tuple[str, ...]
    caught_by: tuple[str, ...]
    shape: Shape = THREE
    count: int = 10
    stale: float = 0.02


def run_mutant(name: str, *, first: int, seeds: int, verbose: bool = False) -> Result | None:
    """Run seeds with the error planted, until one of the expected invariants notices it."""
    mutant = MUTANTS[name]
    for seed in range(first, first + seeds):
        with ExitStack() as stack:
            mutant.install(stack)
            result = run_one(mutant, seed, verbose=verbose)
        if result.broken in mutant.caught_by:
            return result
    return None


def run_one(mutant: Mutant, seed: int, *, verbose: bool = False) -> Result:
    """One seed under the mutant's own faults."""
    world = World(seed, shape=mutant.shape)
    world.stale_chance, world.verbose = mutant.stale, verbose
    chaos = Chaos(world, Random(seed))
    chaos.kinds = {kind: (KINDS | MOVING)[kind] for kind in mutant.faults}

    def story() -> None:
        begin(world)
        chaos.schedule(first=0, last=STORM - 2 * SECOND, count=mutant.count)
        world.clock.run_until(world.clock.now + STORM)
        chaos.end()
        recover(world)

    return judge(world, story)


# --- ways to plant -------------------------------------------------------------------------------


def herd_rule(stack: ExitStack, number: int, decide: Any) -> None:
    """Exchange a row of the herd decider."""
    for table in ("RULES", "URGENT"):
        rows = getattr(herd, table)
        new = tuple(replace(r, decide=decide) if r.number == number else r for r in rows)
        stack.enter_context(attribute(herd, table, new))


def without_member_rule(stack: ExitStack, number: int) -> None:
    rows = tuple(rule for rule in member.RULES if rule.number != number)
    stack.enter_context(attribute(member, "RULES", rows))


def plant_act(stack: ExitStack, kind: type[act.Action], task: Any) -> None:
    stack.enter_context(item(acts.ACTS, kind, task))


def unguarded_ledger(stack: ExitStack) -> None:
    """The ledger believes its deciders."""
    stack.enter_context(attribute(syncset, "broken_rule", lambda sync: ""))


# --- the errors ----------------------------------------------------------------------------------


def no_seal(stack: ExitStack) -> None:
    def seal(agent: Agent, a: act.Seal) -> Task:
        yield from acts.promise(agent, a.term, a.elector)
        position = look.position_of(agent)
        if position is None:
            raise Failed("no position")
        yield from acts.save(agent, frozen=Frozen(a.term, position))

    plant_act(stack, act.Seal, seal)


def open_gate(stack: ExitStack) -> None:
    def promote(agent: Agent, a: act.Promote) -> Task:
        for delay in acts.promote(agent, a):
            if agent.server.primary and agent.server.names.closed:
                open_now(agent, a.term)
            yield delay

    plant_act(stack, act.Promote, promote)


def open_now(agent: Agent, term: Term) -> None:
    sync = agent.replica.facts.sync
    listed = ", ".join(f'"{key.token(term)}"' for key in sync.voters)
    text = f"ANY {sync.k} ({listed})" if sync.k else ""
    agent.server.reload_names(Names(text, term=term))


def kd_not_carried(stack: ExitStack) -> None:
    def elect(facts: Any, c: cmd.Elect, at_ms: int) -> Any:
        new, outcome = apply.elect(facts, c, at_ms)
        if isinstance(outcome, cmd.Done):
            needed = syncset.seal_count(len(c.voters), c.k)
            new = replace(new, sync=replace(new.sync, kd=c.k, r=needed))
        return new, outcome

    stack.enter_context(item(apply.HANDLERS, cmd.Elect, elect))


def kd_not_lowered(stack: ExitStack) -> None:
    def lower(s: Situation) -> Decision | None:
        decision = synchrony.lower_k(s)
        if decision is None or not isinstance(decision.command, cmd.ChangeSync):
            return decision
        return replace(decision, command=replace(decision.command, kd=s.facts.sync.kd))

    unguarded_ledger(stack)
    herd_rule(stack, 504, lower)


def no_promise_fsync(stack: ExitStack) -> None:
    def save(agent: Agent, **changes: Any) -> Task:
        new = replace(agent.promises, **changes)
        agent.writer.save({"promises": new}, lambda: None)
        agent.take_promises(new)
        yield 0

    stack.enter_context(attribute(acts, "save", save))


class LsnOnly(Position, frozen=True, order=False):
    """A position that forgets its epoch when it is compared."""

    def __lt__(self, other: Position) -> bool:
        return self.lsn < other.lsn

    def __ge__(self, other: Position) -> bool:
        return self.lsn >= other.lsn

    def __gt__(self, other: Position) -> bool:
        return self.lsn > other.lsn


def lsn_only(stack: ExitStack) -> None:
    def by_lsn(s: Situation) -> dict[MemberKey, Position]:
        return {key: LsnOnly(at.epoch, at.lsn) for key, at in sealed(s).items()}

    stack.enter_context(attribute(election, "sealed", by_lsn))


def empty_is_async(stack: ExitStack) -> None:
    def lenient(s: Situation) -> Situation:
        facts = s.facts
        if facts.sync.voters or facts.leader is None:
            return s
        voters = tuple(m.key for m in facts.members.values() if m.key != facts.leader)
        return replace(s, facts=replace(facts, sync=replace(facts.sync, voters=voters, r=1)))

    herd_rule(stack, 304, lambda s: election.not_enough_sealed(lenient(s)))
    herd_rule(stack, 305, lambda s: election.choose(lenient(s)))


def postgres_first(stack: ExitStack) -> None:
    def add(s: Situation) -> Decision | None:
        decision = synchrony.add_voter(s)
        if decision is None or not isinstance(decision.command, cmd.ChangeSync):
            return decision
        sync = s.facts.sync
        return replace(decision, command=replace(decision.command, voters=sync.voters, r=sync.r))

    unguarded_ledger(stack)
    herd_rule(stack, 505, add)


def store_first(stack: ExitStack) -> None:
    def remove(s: Situation) -> Decision | None:
        decision = synchrony.remove_voter(s)
        if decision is None or not isinstance(decision.command, cmd.ChangeSync):
            return decision
        names = decision.command.names
        needed = syncset.seal_count(len(names), s.facts.sync.k)
        return replace(decision, command=replace(decision.command, voters=names, r=needed))

    unguarded_ledger(stack)
    herd_rule(stack, 506, remove)


def emptied_names(stack: ExitStack) -> None:
    def close(agent: Agent, a: act.CloseGate) -> Task:
        yield from acts.promise(agent, a.term, a.elector)
        acts.must(agent.server.primary, "no primary")
        agent.server.reload_names(Names(""))
        yield 50 * MS
        yield from acts.close_gate(agent, a)

    plant_act(stack, act.CloseGate, close)


def unrecorded_wal(stack: ExitStack) -> None:
    for where in (look, acts):
        keep = attribute(where, "attributed", lambda history, adopted, seen: seen)
        stack.enter_context(keep)


def adopts_before_rewind(stack: ExitStack) -> None:
    def rewind(agent: Agent, a: act.Rewind) -> Task:
        yield from acts.adopt(agent, a.term, a.leader)
        yield 400 * MS
        yield from acts.rewind(agent, a)

    plant_act(stack, act.Rewind, rewind)


def acts_behind(stack: ExitStack) -> None:
    without_member_rule(stack, 16)


def no_probe(stack: ExitStack) -> None:
    def close(agent: Agent) -> Task:
        acts.must(agent.server.primary, "no primary")
        agent.server.reload_names(CLOSED)
        agent.memory.names_generation = agent.memory.settled = 0
        yield MS

    stack.enter_context(attribute(acts, "close_and_probe", close))


def no_barrier(stack: ExitStack) -> None:
    def settle(agent: Agent, a: act.Settle) -> Task:
        acts.check_term(agent, a.term)
        acts.use_names(agent, term=a.term, generation=a.generation, text=a.names)
        yield MS
        agent.memory.settled = a.generation

    plant_act(stack, act.Settle, settle)


def demotes_first(stack: ExitStack) -> None:
    def demote(s: Situation) -> Decision | None:
        spare = membership.seats(s).spare
        if not spare or spare[0].node == s.view.me:
            return None
        change = Membership("learner", spare[0].raft_id)
        return Decision(707, f"{spare[0].node} votes no more", membership=change)

    herd_rule(stack, 706, demote)


def counts_non_voters(stack: ExitStack) -> None:
    def by_everybody(conf: ConfState, acks: Mapping[int, int]) -> int | None:
        everybody = tuple(sorted({*conf.voters, *conf.learners}))
        return committed_index(ConfState(voters=everybody), acks)

    stack.enter_context(attribute(replicate, "committed_index", by_everybody))


def keeps_its_name(stack: ExitStack) -> None:
    def same(*known: Any, followed: Any, anew: str) -> Promises:
        named = readmission.first_promises(*known, followed=followed, anew=known[1].incarnation)
        return replace(named, dirty_rewind=False)

    def kept(facts: Facts, c: cmd.Readmit) -> tuple[Facts, str]:
        found, text = readmitted(facts, c)
        member = replace(found.members[c.node], incarnation=facts.members[c.node].incarnation)
        return replace(found, members={**found.members, c.node: member}), text

    readmitted = readmission.readmitted
    stack.enter_context(attribute(amnesia, "first_promises", same))
    stack.enter_context(attribute(readmission, "readmitted", kept))


DEATHS = (
    "primary.postmaster.killed",
    "primary.node.crashed",
    "primary.isolated",
    "primary.node.paused",
    "ambush.promote",
)
MINORITY = Shape("minority", size=7, max_voters=3)
SETS = ("standby.node.crashed", "standby.postmaster.killed", "data.lost", "ambush.names")

MUTANTS: dict[str, Mutant] = {
    "no-seal": Mutant(
        "A seal answers with its position and goes on receiving.",
        no_seal,
        ("primary.node.paused", "failover", "agent.paused", "network.partial"),
        ("I7", "I8", "I10", "I12"),
    ),
    "open-gate": Mutant(
        "The names are set at the promotion, not after STABLE.",
        open_gate,
        DEATHS,
        ("I9", "I19", "I16"),
    ),
    "kd-not-carried": Mutant(
        "A larger k of an unfinished term makes the next seal set smaller.",
        kd_not_carried,
        (*DEATHS, "standby.node.crashed", "network.slow", "raft.leader.killed", "fsync.slow"),
        ("I7", "I8", "I10"),
        shape=FIVE,
        count=24,
    ),
    "kd-not-lowered": Mutant(
        "kd stays when k is lowered.",
        kd_not_lowered,
        ("standby.node.crashed", "network.split"),
        ("I7", "I8", "I10"),
        shape=FIVE,
        count=16,
    ),
    "no-promise-fsync": Mutant(
        "A promise counts before it is durable.",
        no_promise_fsync,
        ("ambush.seal", "failover", "disk.slow", "primary.node.crashed"),
        ("I13", "I12", "I7", "I8", "I11"),
    ),
    "lsn-only": Mutant(
        "Positions are compared by LSN alone.",
        lsn_only,
        ("primary.isolated", "wal.burst", "primary.isolated", "all.crashed"),
        ("I7", "I8", "I10", "I18"),
        count=24,
    ),
    "empty-is-async": Mutant(
        "No voters is taken for asynchronous mode: anybody may lead.",
        empty_is_async,
        (*DEATHS, "standby.node.crashed", "network.split"),
        ("I7", "I8", "I10", "I20", "I14"),
    ),
    "postgres-first": Mutant(
        "A voter is added in PostgreSQL before the ledger.",
        postgres_first,
        SETS,
        ("I10",),
    ),
    "store-first": Mutant(
        "A voter is removed in the ledger before PostgreSQL.",
        store_first,
        SETS,
        ("I10",),
    ),
    "emptied-names": Mutant(
        "A gate is closed through empty names.",
        emptied_names,
        ("agent.paused", "failover", "network.partial", "primary.isolated"),
        ("I9", "I19", "I10", "I16"),
    ),
    "unrecorded-wal": Mutant(
        "WAL between a promotion and its epoch record is taken for the old epoch's.",
        unrecorded_wal,
        (*DEATHS, "network.flaps"),
        ("I18", "I7", "I8", "I11"),
    ),
    "adopts-before-rewind": Mutant(
        "A member adopts the leader before its own WAL is marked as another history.",
        adopts_before_rewind,
        (*DEATHS, "wal.burst", "ambush.follow", "ambush.follow"),
        ("I18", "I10", "I7", "I8"),
        count=24,
    ),
    "acts-behind": Mutant(
        "A restarted agent acts on the ledger as it was when it died.",
        acts_behind,
        ("ambush.names", "standby.node.crashed", "data.lost", "agent.killed"),
        ("I10", "I19"),
        count=16,
    ),
    "keeps-its-name": Mutant(
        "A copy whose promises are forgotten counts under its old name.",
        keeps_its_name,
        (*DEATHS, "wal.burst", "store.lost", "store.lost", "ambush.follow", "network.split"),
        ("I7", "I8", "I10", "I18"),
        count=24,
    ),
    "no-probe": Mutant(
        "Names that were empty are taken for closed when they are written.",
        no_probe,
        (*SETS, "primary.isolated", "network.split", "primary.node.paused"),
        ("I10", "I19", "I9"),
        stale=0.3,
        count=16,
    ),
    "demotes-first": Mutant(
        "A lost voter loses its vote before another member has got one.",
        demotes_first,
        ("voter.lost", "raft.leader.killed"),
        ("V1",),
        shape=NINE,
    ),
    "counts-non-voters": Mutant(
        "An entry that non-voters hold counts as held by a majority.",
        counts_non_voters,
        ("network.split", "raft.leader.killed", "failover", "switchover"),
        ("I4",),
        shape=MINORITY,
        count=40,
    ),
    "lease-from-commit": Mutant(
        "A holder counts its lease from the commit of the renewal.",
        leaseplants.lease_from_commit,
        ("network.bad", "network.slow", "disk.slow", "agent.paused", "network.flaps"),
        ("I17",),
        count=24,
    ),
    "lease-not-extended": Mutant(
        "A new Raft leader does not give leases their whole time again.",
        leaseplants.lease_not_extended,
        ("raft.leader.killed", "agent.paused"),
        ("I17",),
    ),
    "expiry-forwarded": Mutant(
        "A deposed Raft leader ends a lease through its successor, renewed or not.",
        leaseplants.expiry_forwarded,
        ("agent.paused",),
        ("I17",),
        count=16,
    ),
    "writes-on-alone": Mutant(
        "A primary without voters acknowledges on when its lease has run out.",
        lambda stack: without_member_rule(stack, 71),
        ("data.lost", "standby.node.crashed", "primary.isolated", "network.split", "agent.paused"),
        ("I16",),
        count=24,
        stale=0.0,
    ),
    "former-forgotten": Mutant(
        "A winner's lease is sole although the old primary still counts on its own.",
        leaseplants.former_forgotten,
        ("primary.isolated", "primary.node.paused"),
        ("I17",),
    ),
    "no-barrier": Mutant(
        "A set counts as settled when it is written.",
        no_barrier,
        SETS,
        ("I10", "I19"),
        stale=0.3,
    ),
}
