"""Planted errors of the sync set: every row of the table of PROTOCOL.md 4 in the other order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from msgspec.structs import replace

from pgherd.ledger import apply, syncset
from pgherd.ledger import commands as cmd
from pgherd.model import action as act
from pgherd.model.facts import SyncState
from pgherd.plan import membership, synchrony
from pgherd.plan.rule import Decision, Situation
from pgherd.sim import acts
from pgherd.sim.agent import Agent
from pgherd.sim.clock import MS, Task
from pgherd.sim.mutants.kind import LOST, SETS, Mutant, plant_act, unguarded_ledger
from pgherd.sim.names import CLOSED
from pgherd.sim.planting import attribute, item
from pgherd.sim.plants import herd_rule, without_member_rule
from pgherd.sim.shapes import FIVE, MOVES

Rule = Callable[[Situation], Decision | None]
Change = Callable[[SyncState, cmd.ChangeSync], dict[str, Any]]


def other_order(number: int, right: Rule, change: Change) -> Callable[[ExitStack], None]:
    """A step of the sync set as its rule proposes it, with some numbers of another step."""

    def decide(s: Situation) -> Decision | None:
        decision = right(s)
        if decision is None or not isinstance(decision.command, cmd.ChangeSync):
            return decision
        new = change(s.facts.sync, decision.command)
        return replace(decision, command=replace(decision.command, **new))

    def install(stack: ExitStack) -> None:
        unguarded_ledger(stack)
        herd_rule(stack, number, decide)

    return install


def postgres_only(sync: SyncState, c: cmd.ChangeSync) -> dict[str, Any]:
    """The ledger keeps what it has; PostgreSQL is told the new set."""
    return {"voters": sync.voters, "k": sync.k, "kd": sync.kd, "r": sync.r}


def store_at_once(sync: SyncState, c: cmd.ChangeSync) -> dict[str, Any]:
    """The ledger has the new set at once, as if PostgreSQL used it already."""
    needed = syncset.seal_count(len(c.names), c.names_k)
    return {"voters": c.names, "k": c.names_k, "kd": c.names_k, "r": needed}


def same_kd(sync: SyncState, c: cmd.ChangeSync) -> dict[str, Any]:
    return {"kd": sync.kd}


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


def acts_behind(stack: ExitStack) -> None:
    without_member_rule(stack, 16)


def removed_while_counted(stack: ExitStack) -> None:
    """Who leaves is forgotten, and with it its place in V: nobody waits for the barrier."""

    def remove(facts: Any, c: cmd.RemoveMember, at_ms: int) -> Any:
        new, outcome = apply.remove_member(facts, c, at_ms)
        if isinstance(outcome, cmd.Done):
            voters = tuple(key for key in new.sync.voters if key.node != c.node)
            needed = syncset.seal_count(len(voters), new.sync.k)
            new = replace(new, sync=replace(new.sync, voters=voters, r=needed))
        return new, outcome

    for where in (membership, syncset):
        stack.enter_context(attribute(where, "stands_for_data", lambda facts, node: False))
    unguarded_ledger(stack)
    stack.enter_context(item(apply.HANDLERS, cmd.RemoveMember, remove))


SHRINKS = ("standby.node.crashed", "network.split")

ROWS: dict[str, Mutant] = {
    "add-in-postgres-first": Mutant(
        "A voter is added in PostgreSQL before the ledger.",
        other_order(505, synchrony.add_voter, postgres_only),
        SETS,
        ("I10",),
    ),
    "remove-in-ledger-first": Mutant(
        "A voter is removed in the ledger before PostgreSQL.",
        other_order(506, synchrony.remove_voter, store_at_once),
        SETS,
        ("I10",),
    ),
    "raise-k-in-ledger-first": Mutant(
        "k rises in the ledger before PostgreSQL.",
        other_order(507, synchrony.raise_k, store_at_once),
        SHRINKS,
        ("I10",),
        shape=FIVE,
        count=16,
    ),
    "lower-k-in-postgres-first": Mutant(
        "k falls in PostgreSQL before the ledger.",
        other_order(504, synchrony.lower_k, postgres_only),
        SHRINKS,
        ("I10",),
        shape=FIVE,
        count=16,
    ),
    "kd-not-lowered": Mutant(
        "kd stays when k is lowered.",
        other_order(504, synchrony.lower_k, same_kd),
        ("plot.few",),
        LOST,
        shape=FIVE,
        count=2,
    ),
    "empty-in-postgres-first": Mutant(
        "The synchronous set is emptied in PostgreSQL before the ledger.",
        other_order(502, synchrony.degrade, postgres_only),
        ("plot.alone",),
        ("I10", "I19"),
        count=3,
    ),
    "refill-in-ledger-first": Mutant(
        "Synchrony returns in the ledger before PostgreSQL.",
        other_order(503, synchrony.restore, store_at_once),
        (*SETS, "plot.alone"),
        ("I10", "I19"),
    ),
    "no-probe": Mutant(
        "Names that were empty are taken for closed when they are written.",
        no_probe,
        (*SETS, "primary.isolated", "network.split", "primary.node.paused"),
        ("I10", "I19", "I9"),
        stale=0.3,
        count=16,
    ),
    "no-barrier": Mutant(
        "A set counts as settled when it is written.",
        no_barrier,
        SETS,
        ("I10", "I19"),
        stale=0.3,
    ),
    "acts-behind": Mutant(
        "A restarted agent acts on the ledger as it was when it died.",
        acts_behind,
        ("ambush.names", "standby.node.crashed", "data.lost", "agent.killed"),
        ("I10", "I19"),
        count=16,
    ),
    "removed-while-counted": Mutant(
        "Who leaves the cluster leaves the voters at once.",
        removed_while_counted,
        ("member.leaves", "member.joins", "network.slow"),
        ("I10",),
        shape=MOVES,
        stale=0.3,
    ),
}
