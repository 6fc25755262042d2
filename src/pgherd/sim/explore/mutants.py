"""Mistakes planted in what the exploration runs, and the invariants that must notice each.

Where the production code makes the decision the mistake is planted there; the others are made by
the hands. A mistake comes with the smallest scope in which it does harm.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger import rescue, syncset
from pgherd.model import action as act
from pgherd.model.facts import Facts, Phase
from pgherd.model.ids import MemberKey, Position
from pgherd.model.observation import Server
from pgherd.plan import election, member, synchrony
from pgherd.plan.look import sealed as sealed_by_rule
from pgherd.plan.own import Answer, MemberRule, Self
from pgherd.plan.rule import Decision, Situation
from pgherd.sim import mutants as plants
from pgherd.sim.explore import hands, server
from pgherd.sim.explore.hands import Done, Scene
from pgherd.sim.explore.scope import Scope
from pgherd.sim.explore.search import Result, explore
from pgherd.sim.explore.values import CLOSED, Disk, Names, Node, Upstream, index_of
from pgherd.sim.planting import attribute, item

replace = msgspec.structs.replace


MUTANT_STATES = 40_000
"""Enough for every one of them, with room."""


class Mutant(msgspec.Struct, frozen=True):
    """One mistake. caught_by: the invariants of which any must notice it, in this scope."""

    sentence: str
    plant: Callable[[ExitStack], None]
    caught_by: tuple[str, ...]
    scope: Scope


def run_mutant(name: str, *, states_max: int) -> Result:
    """Explore the scope of a mistake with the mistake in it."""
    mutant = MUTANTS[name]
    with ExitStack() as stack:
        mutant.plant(stack)
        return explore(name, mutant.scope, states_max=states_max)


def is_caught(name: str, result: Result) -> bool:
    """Whether one of the expected invariants noticed."""
    return result.broken.partition(" ")[0] in MUTANTS[name].caught_by


# -- in the hands --------------------------------------------------------------------------------


def step(stack: ExitStack, kind: type[act.Action], new: Any) -> None:
    stack.enter_context(item(hands.STEPS, kind, new))


def no_seal(stack: ExitStack) -> None:
    def seal(node: Node, a: act.Seal, scene: Scene) -> Done:
        done = hands.seal(node, a, scene)
        if done is None or done[1].frozen is None:
            return done
        return done[0], done[1]._replace(upstream=node.upstream, receiver=node.receiver)

    step(stack, act.Seal, seal)


def open_gate(stack: ExitStack) -> None:
    def promote(node: Node, a: act.Promote, scene: Scene) -> Done:
        done = hands.promote(node, a, scene)
        sync = scene.facts.sync
        members = tuple(index_of(key) for key in sync.voters)
        names = Names(sync.k, members, int(a.term))
        return (done[0], done[1]._replace(names=names)) if done is not None else None

    step(stack, act.Promote, promote)


def emptied_names(stack: ExitStack) -> None:
    def close(node: Node, a: act.CloseGate, scene: Scene) -> Done:
        if node.names.k > 0:
            empty = Names(0, (), node.names.term, node.names.generation)
            return "empties its names", node._replace(names=empty)
        return hands.close_gate(node, a, scene)

    step(stack, act.CloseGate, close)


def stale_senders(stack: ExitStack) -> None:
    def close(node: Node, a: act.CloseGate, scene: Scene) -> Done:
        done = hands.close_gate(node, a, scene)
        return (done[0], done[1]._replace(senders=node.senders)) if done is not None else None

    step(stack, act.CloseGate, close)


def adopts_before_rewind(stack: ExitStack) -> None:
    def rewind(node: Node, a: act.Rewind, scene: Scene) -> Done:
        if node.adopted < a.term and node.promise <= a.term:
            return "adopts before its rewind", hands.adopting(node, a.term)
        return hands.rewind(node, a, scene)

    step(stack, act.Rewind, rewind)


def acts_behind(stack: ExitStack) -> None:
    def died(node: Node) -> Node:
        return known(node)._replace(seen=0)

    known = server.agent_died
    stack.enter_context(attribute(server, "agent_died", died))


def no_probe(stack: ExitStack) -> None:
    def close(node: Node, a: act.CloseGate, scene: Scene) -> Done:
        blind = node._replace(cp=CLOSED) if node.names == CLOSED else node
        done = hands.close_gate(blind, a, scene)
        return (done[0], done[1]._replace(cp=node.cp)) if done is not None else None

    step(stack, act.CloseGate, close)


def no_barrier(stack: ExitStack) -> None:
    def settle(node: Node, a: act.Settle, scene: Scene) -> Done:
        names = hands.names_of(scene.facts, a.generation)
        done = node._replace(names=names, generation=a.generation, settled=a.generation)
        return "takes the set for settled", done

    step(stack, act.Settle, settle)


def no_promise_fsync(stack: ExitStack) -> None:
    def saved(node: Node, **changes: Any) -> Node:
        known = Disk(node.promise, node.elector, node.adopted, node.frozen, node.floor)
        return node._replace(**changes, disk=node.disk or known)

    stack.enter_context(attribute(hands, "saved", saved))


def below_floor(stack: ExitStack) -> None:
    def rewound(node: Node, scene: Scene) -> Done:
        up = node._replace(server=Server.STANDBY, dirty=False, doing=None)
        return "is up after its rewind", up

    def sealed(s: Situation) -> dict[MemberKey, Position]:
        reports = {
            node: replace(heard, report=without_floor(heard.report))
            for node, heard in s.view.reports.items()
        }
        return sealed_by_rule(replace(s, view=replace(s.view, reports=reports)))

    def without_floor(report: Any) -> Any:
        return replace(report, promises=replace(report.promises, floor=None))

    stack.enter_context(attribute(hands, "rewound", rewound))
    stack.enter_context(attribute(election, "sealed", sealed))


def keeps_its_name(stack: ExitStack) -> None:
    stack.enter_context(attribute(hands, "new_copy", lambda node: node.copy))


def unsealed_by_timer(stack: ExitStack) -> None:
    """Who is sealed goes back to the upstream that it had, promise or not."""

    def too_long(s: Self) -> Answer | None:
        sealed = s.promises.frozen is not None and s.promises.promise == s.facts.term
        if s.facts.phase is not Phase.ELECTING or not sealed or s.facts.leader is None:
            return None
        back = act.Follow(term=s.facts.history[-1].term, leader=s.facts.leader, host="", port=0)
        return ("has been sealed for too long", back) if s.server.upstream is None else None

    def follow(node: Node, a: act.Follow, scene: Scene) -> Done:
        if node.frozen is None or a.term >= node.promise:
            return hands.follow(node, a, scene)
        up = Upstream(index_of(a.leader)[0], int(a.term), node.copy)
        return "unseals itself", node._replace(upstream=up)

    rule = MemberRule(999, "Who is sealed for too long unseals itself.", too_long)
    stack.enter_context(attribute(member, "RULES", (rule, *member.RULES)))
    step(stack, act.Follow, follow)


# -- in the product ------------------------------------------------------------------------------


def r_without_min(stack: ExitStack) -> None:
    """R' follows from k' alone; kd itself is carried as it should be."""
    from pgherd.ledger import apply

    def elect(facts: Facts, c: cmd.Elect, at_ms: int) -> Any:
        new, outcome = apply.elect(facts, c, at_ms)
        if isinstance(outcome, cmd.Done):
            needed = syncset.seal_count(len(c.voters), c.k)
            new = replace(new, sync=replace(new.sync, r=needed))
        return new, outcome

    stack.enter_context(item(apply.HANDLERS, cmd.Elect, elect))


def swapped(stack: ExitStack, number: int, name: str, change: Callable[..., Any]) -> None:
    """A row of the sync-set table whose command does the other half first."""
    real: Callable[[Situation], Decision | None] = getattr(synchrony, name)

    def decide(s: Situation) -> Decision | None:
        decision = real(s)
        if decision is None or not isinstance(decision.command, cmd.ChangeSync):
            return decision
        changed: Decision = replace(decision, command=change(s, decision.command))
        return changed

    plants.unguarded_ledger(stack)
    plants.herd_rule(stack, number, decide)


def empty_first(stack: ExitStack) -> None:
    def change(s: Situation, c: cmd.ChangeSync) -> cmd.ChangeSync:
        sync = s.facts.sync
        return replace(c, voters=sync.voters, k=sync.k, kd=sync.kd, r=sync.r)

    swapped(stack, 502, "degrade", change)


def restored_first(stack: ExitStack) -> None:
    def change(s: Situation, c: cmd.ChangeSync) -> cmd.ChangeSync:
        needed = syncset.seal_count(len(c.names), c.names_k)
        return replace(c, voters=c.names, k=c.names_k, kd=c.names_k, r=needed)

    swapped(stack, 503, "restore", change)


def raised_first(stack: ExitStack) -> None:
    def change(s: Situation, c: cmd.ChangeSync) -> cmd.ChangeSync:
        needed = syncset.seal_count(len(c.voters), c.names_k)
        return replace(c, k=c.names_k, kd=c.names_k, r=needed)

    swapped(stack, 507, "raise_k", change)


def lowered_last(stack: ExitStack) -> None:
    def change(s: Situation, c: cmd.ChangeSync) -> cmd.ChangeSync:
        sync = s.facts.sync
        return replace(c, k=sync.k, kd=sync.kd, r=sync.r)

    swapped(stack, 504, "lower_k", change)


def no_rescue(stack: ExitStack) -> None:
    def as_it_was(facts: Facts, **anything: Any) -> Facts:
        return facts

    stack.enter_context(attribute(rescue, "begun_anew", as_it_was))


TWO = Scope("", data=2, witness=True, voters=1)
ALONE = Scope("", data=2, voters=0, k=0)
FOUR = Scope("", data=4, voters=3, k=1, num_sync=2)
SHORT = Scope("", num_sync=2, crashes=1, mortal=(0,), unstreamed=1)
PAIR = Scope("", data=3, voters=1)
SPLIT = Scope("", data=3, reign=2, terms=3)

MUTANTS: dict[str, Mutant] = {
    "no-seal": Mutant("A sealed member goes on receiving.", no_seal, ("I12",), TWO),
    "open-gate": Mutant(
        "The names are set at the promotion, not after STABLE.", open_gate, ("I9",), TWO
    ),
    "empty-is-async": Mutant(
        "No voters is taken for asynchronous mode: anybody may lead.",
        plants.empty_is_async,
        ("I7", "I14"),
        ALONE,
    ),
    "kd-not-lowered": Mutant(
        "kd stays when k is lowered.",
        plants.kd_not_lowered,
        ("I10",),
        replace(FOUR, k=2, unstreamed=2, generations=2),
    ),
    "kd-not-carried": Mutant(
        "A larger k of an unfinished term makes the next seal set smaller.",
        plants.kd_not_carried,
        ("I10",),
        SHORT,
    ),
    "r-without-min": Mutant("R' follows from k' without kd.", r_without_min, ("I10",), SHORT),
    "below-floor": Mutant(
        "A rewound member counts before it has regained its floor.",
        below_floor,
        ("I14",),
        replace(SPLIT, writes=0),
    ),
    "no-promise-fsync": Mutant(
        "A promise counts before it is durable.",
        no_promise_fsync,
        ("I13",),
        replace(TWO, falls=1, mortal=(1,)),
    ),
    "lsn-only": Mutant("Positions are compared by LSN alone.", plants.lsn_only, ("I7",), SPLIT),
    "emptied-names": Mutant(
        "A gate is closed through empty names.", emptied_names, ("I19", "I10"), TWO
    ),
    "add-swapped": Mutant(
        "A voter is added in PostgreSQL before the ledger.",
        plants.postgres_first,
        ("I10",),
        replace(PAIR, generations=2),
    ),
    "remove-swapped": Mutant(
        "A voter is removed in the ledger before PostgreSQL.",
        plants.store_first,
        ("I10",),
        Scope("", unstreamed=1, generations=2),
    ),
    "raise-swapped": Mutant(
        "k is raised in the ledger before PostgreSQL.",
        raised_first,
        ("I10",),
        replace(FOUR, generations=2),
    ),
    "lower-swapped": Mutant(
        "k is lowered in PostgreSQL before the ledger.",
        lowered_last,
        ("I10",),
        replace(FOUR, k=2, unstreamed=2, generations=2),
    ),
    "empty-swapped": Mutant(
        "The names are emptied before the ledger has no voters.",
        empty_first,
        ("I10", "I19"),
        Scope("", data=2, voters=1, unstreamed=1, generations=2),
    ),
    "restore-swapped": Mutant(
        "Synchrony returns in the ledger before PostgreSQL.",
        restored_first,
        ("I10",),
        replace(ALONE, generations=2),
    ),
    "no-barrier": Mutant(
        "A set counts as settled when it is written.",
        no_barrier,
        ("I10",),
        Scope("", unstreamed=1, generations=2),
    ),
    "stale-senders": Mutant(
        "A gate is closed, and walsenders that read older names go on.",
        stale_senders,
        ("I9",),
        Scope(""),
    ),
    "no-probe": Mutant(
        "Names that were empty are taken for closed when they are written.",
        no_probe,
        ("I9", "I10", "I19"),
        replace(ALONE, terms=3),
    ),
    "adopts-before-rewind": Mutant(
        "A member adopts the leader before its own WAL is marked as another history.",
        adopts_before_rewind,
        ("I18", "I7"),
        SPLIT,
    ),
    "acts-behind": Mutant(
        "A restarted agent acts on the ledger as it was long before it died.",
        acts_behind,
        ("I10",),
        Scope("", unstreamed=1, generations=2, agents=1, mortal=(0,)),
    ),
    "keeps-its-name": Mutant(
        "A rebuilt voter keeps its vote.",
        keeps_its_name,
        ("I22", "I10"),
        replace(PAIR, voters=2, wipes=1, mortal=(1,)),
    ),
    "no-rescue": Mutant(
        "A restored ledger is believed as it was saved.",
        no_rescue,
        ("I20", "I7"),
        replace(SPLIT, restores=1),
    ),
    "unsealed-by-timer": Mutant(
        "A member unseals itself after a while.", unsealed_by_timer, ("I12",), TWO
    ),
}
