"""Planted errors of elections: who counts, who wins, what is recorded (PROTOCOL.md F3-F5, F8)."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

from msgspec.structs import replace

from pgherd.ledger import apply, syncset
from pgherd.ledger import commands as cmd
from pgherd.model.facts import Kind
from pgherd.model.ids import MemberKey, Position
from pgherd.plan import election, establishing
from pgherd.plan.look import fresh, sealed
from pgherd.plan.rule import Decision, Situation
from pgherd.sim import acts, look
from pgherd.sim.mutants.kind import DEATHS, LOST, MISCOUNTED, Mutant
from pgherd.sim.mutants.seals import NOWHERE
from pgherd.sim.planting import attribute, item
from pgherd.sim.plants import herd_rule, lsn_only
from pgherd.sim.shapes import FIVE, Shape

FOUR_ONE = Shape("witness", size=4, witnesses=1)


def timeline_as_order(stack: ExitStack) -> None:
    """The greatest timeline wins, then the greatest LSN: as if no two could choose the same."""

    def wanted(s: Situation, able: list[MemberKey]) -> MemberKey | None:
        done = {key: at for key, at in sealed(s).items() if election.may_win(s, key)}
        top = max((rank(s, key, at) for key, at in done.items()), default=None)
        return right(s, [key for key, at in done.items() if rank(s, key, at) == top])

    def rank(s: Situation, key: MemberKey, at: Position) -> tuple[int, int]:
        report = fresh(s, key.node)
        return (report.server.timeline if report is not None else 0, at.lsn)

    right = election.wanted_winner
    stack.enter_context(attribute(election, "wanted_winner", wanted))


def below_the_target(stack: ExitStack) -> None:
    def wanted(s: Situation, able: list[MemberKey]) -> MemberKey | None:
        return right(s, [key for key in sealed(s) if election.may_win(s, key)])

    right = election.wanted_winner
    stack.enter_context(attribute(election, "wanted_winner", wanted))


def with_voters(stack: ExitStack, lenient: Any) -> None:
    """An election that looks at other voters than the ledger's."""
    herd_rule(stack, 304, lambda s: election.not_enough_sealed(lenient(s)))
    herd_rule(stack, 305, lambda s: election.choose(lenient(s)))


def everybody_votes(s: Situation) -> Situation:
    facts = s.facts
    if facts.sync.voters or facts.leader is None:
        return s
    voters = tuple(m.key for m in facts.members.values() if m.key != facts.leader)
    return replace(s, facts=replace(facts, sync=replace(facts.sync, voters=voters, r=1)))


def empty_is_async(stack: ExitStack) -> None:
    with_voters(stack, everybody_votes)


def lease_end_suffices(stack: ExitStack) -> None:
    """As in asynchronous mode: once the lease is over, anybody who is sealed may lead."""

    def lenient(s: Situation) -> Situation:
        lease = s.facts.lease
        held = lease is not None and (not lease.expired or lease.former is not None)
        return s if held else everybody_votes(s)

    with_voters(stack, lenient)


def witness_counted(stack: ExitStack) -> None:
    def witnesses(s: Situation) -> list[MemberKey]:
        return [m.key for m in s.facts.members.values() if m.kind is Kind.WITNESS]

    def lenient(s: Situation) -> Situation:
        sync = s.facts.sync
        if not sync.voters:
            return s
        voters = (*sync.voters, *witnesses(s))
        return replace(s, facts=replace(s.facts, sync=replace(sync, voters=voters)))

    def with_witnesses(s: Situation) -> dict[MemberKey, Position]:
        there = [key for key in witnesses(s) if fresh(s, key.node) is not None]
        return sealed(s) | dict.fromkeys(there, NOWHERE)

    stack.enter_context(attribute(election, "sealed", with_witnesses))
    with_voters(stack, lenient)


def elected_with(stack: ExitStack, **changes: Any) -> None:
    """Another sync set of a winner is recorded; each number is a function of the command."""

    def elect(facts: Any, c: cmd.Elect, at_ms: int) -> Any:
        new, outcome = apply.elect(facts, c, at_ms)
        if isinstance(outcome, cmd.Done):
            wrong = {name: number(c) for name, number in changes.items()}
            new = replace(new, sync=replace(new.sync, **wrong))
        return new, outcome

    stack.enter_context(item(apply.HANDLERS, cmd.Elect, elect))


def seal_count(c: cmd.Elect) -> int:
    return syncset.seal_count(len(c.voters), c.k)


def kd_not_carried(stack: ExitStack) -> None:
    elected_with(stack, kd=lambda c: c.k, r=seal_count)


def r_without_min(stack: ExitStack) -> None:
    elected_with(stack, r=seal_count)


def epoch_not_waited_for(stack: ExitStack) -> None:
    def streaming(leader: Any, term: Any) -> dict[MemberKey, Any]:
        return dict.fromkeys(voters, SimpleNamespace(flush_lsn=leader.server.epoch_record_end))

    def establish(s: Situation) -> Decision | None:
        voters[:] = s.facts.sync.voters
        return establishing.establish(s)

    voters: list[MemberKey] = []
    stack.enter_context(attribute(establishing, "streaming", streaming))
    herd_rule(stack, 401, establish)


def unrecorded_wal(stack: ExitStack) -> None:
    for where in (look, acts):
        keep = attribute(where, "attributed", lambda history, adopted, seen: seen)
        stack.enter_context(keep)


ROWS: dict[str, Mutant] = {
    "lsn-only": Mutant(
        "Positions are compared by LSN alone.",
        lsn_only,
        ("primary.isolated", "plot.winner.cut"),
        (*LOST, "I18"),
        count=3,
    ),
    "timeline-as-order": Mutant(
        "The greatest timeline wins, then the greatest LSN.",
        timeline_as_order,
        ("primary.isolated", "plot.winner.cut"),
        (*LOST, "I18"),
        count=3,
    ),
    "below-the-target": Mutant(
        "Any sealed member may win, whatever the greatest position is.",
        below_the_target,
        ("plot.behind",),
        LOST,
        count=6,
    ),
    "empty-is-async": Mutant(
        "No voters is taken for asynchronous mode: anybody may lead.",
        empty_is_async,
        (*DEATHS, "standby.node.crashed", "network.split"),
        (*MISCOUNTED, "I20"),
    ),
    "lease-end-suffices": Mutant(
        "A leader without voters is replaced when its lease is over.",
        lease_end_suffices,
        ("plot.alone",),
        (*MISCOUNTED, "I20"),
        count=2,
    ),
    "witness-counted": Mutant(
        "A witness counts for a sealed voter.",
        witness_counted,
        ("plot.behind.crash", "plot.behind.data"),
        MISCOUNTED,
        shape=FOUR_ONE,
        count=6,
    ),
    "kd-not-carried": Mutant(
        "A larger k of an unfinished term makes the next seal set smaller.",
        kd_not_carried,
        ("plot.few",),
        LOST,
        shape=FIVE,
        count=2,
    ),
    "r-without-min": Mutant(
        "A winner's R follows from its own k, not from the weakest k of before.",
        r_without_min,
        ("plot.few",),
        LOST,
        shape=FIVE,
        count=2,
    ),
    "epoch-not-waited-for": Mutant(
        "A term is established when its epoch record is written, on whomsoever it is.",
        epoch_not_waited_for,
        ("plot.few", "plot.winner.deaf"),
        LOST,
        shape=FIVE,
        count=4,
    ),
    "unrecorded-wal": Mutant(
        "WAL between a promotion and its epoch record is taken for the old epoch's.",
        unrecorded_wal,
        (*DEATHS, "network.flaps"),
        ("I18", "I7", "I8", "I11"),
    ),
}
