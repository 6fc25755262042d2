"""Mistakes as they are planted: in the production code where it decides, in the hands otherwise."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import msgspec

from pgherd.ledger import apply, rescue, syncset
from pgherd.ledger import commands as cmd
from pgherd.model import action as act
from pgherd.model.facts import Facts, Phase
from pgherd.model.ids import MemberKey, Position
from pgherd.model.observation import Server
from pgherd.plan import election, following, member, synchrony
from pgherd.plan.look import sealed as sealed_by_rule
from pgherd.plan.own import Answer, MemberRule, Self
from pgherd.plan.rule import Decision, Situation
from pgherd.sim.explore import hands, server
from pgherd.sim.explore.hands import Done, Scene
from pgherd.sim.explore.values import CLOSED, Disk, Names, Node, Upstream, index_of
from pgherd.sim.planting import attribute, item
from pgherd.sim.plants import herd_rule

replace = msgspec.structs.replace

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


def claims_the_target(stack: ExitStack) -> None:
    def fast_forward(node: Node, a: act.FastForward, scene: Scene) -> Done:
        done = hands.fast_forward(node, a, scene)
        there = int(a.target.epoch), int(a.target.lsn)
        return (done[0], done[1]._replace(frozen=there)) if done is not None else None

    step(stack, act.FastForward, fast_forward)


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


def elected_with(stack: ExitStack, *, kd_too: bool) -> None:
    """R' follows from k' alone, and kd too if so wished."""

    def elect(facts: Facts, c: cmd.Elect, at_ms: int) -> Any:
        new, outcome = apply.elect(facts, c, at_ms)
        if isinstance(outcome, cmd.Done):
            needed = syncset.seal_count(len(c.voters), c.k)
            kd = c.k if kd_too else new.sync.kd
            new = replace(new, sync=replace(new.sync, kd=kd, r=needed))
        return new, outcome

    stack.enter_context(item(apply.HANDLERS, cmd.Elect, elect))


def empty_is_async(stack: ExitStack) -> None:
    """Where nobody is in V the elector takes everybody to be, of whom one is enough."""

    def problem(s: Situation, done: dict[MemberKey, Position]) -> str:
        return "" if not s.facts.sync.voters and done else known(s, done)

    def choose(s: Situation) -> Decision | None:
        facts = s.facts
        if facts.sync.voters or facts.leader is None:
            return election.choose(s)
        everybody = tuple(m.key for m in facts.members.values() if m.key != facts.leader)
        lenient = replace(facts, sync=replace(facts.sync, voters=everybody, r=1))
        return election.choose(replace(s, facts=lenient))

    known = election.quorum_problem
    stack.enter_context(attribute(election, "quorum_problem", problem))
    herd_rule(stack, 305, choose)


def swapped(stack: ExitStack, number: int, name: str, change: Callable[..., Any]) -> None:
    """A row of the sync-set table whose command does the other half first."""
    real: Callable[[Situation], Decision | None] = getattr(synchrony, name)

    def decide(s: Situation) -> Decision | None:
        decision = real(s)
        if decision is None or not isinstance(decision.command, cmd.ChangeSync):
            return decision
        changed: Decision = replace(decision, command=change(s, decision.command))
        return changed

    stack.enter_context(attribute(syncset, "broken_rule", lambda sync: ""))
    herd_rule(stack, number, decide)


def added_last(stack: ExitStack) -> None:
    def change(s: Situation, c: cmd.ChangeSync) -> cmd.ChangeSync:
        return replace(c, voters=s.facts.sync.voters, r=s.facts.sync.r)

    swapped(stack, 505, "add_voter", change)


def removed_first(stack: ExitStack) -> None:
    def change(s: Situation, c: cmd.ChangeSync) -> cmd.ChangeSync:
        return replace(c, voters=c.names, r=syncset.seal_count(len(c.names), c.k))

    swapped(stack, 506, "remove_voter", change)


def kd_not_lowered(stack: ExitStack) -> None:
    swapped(stack, 504, "lower_k", lambda s, c: replace(c, kd=s.facts.sync.kd))


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


def rescue_trusts_two(stack: ExitStack) -> None:
    """As it was once: kd 1 after a restore."""

    def begun_anew(facts: Facts, **more: Any) -> Facts:
        anew = known(facts, **more)
        return replace(anew, sync=replace(anew.sync, kd=1))

    known = rescue.begun_anew
    stack.enter_context(attribute(rescue, "begun_anew", begun_anew))


def taken_as_it_looks(stack: ExitStack) -> None:
    stack.enter_context(attribute(following, "strange", lambda *anything: False))
