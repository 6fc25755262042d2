"""Every way on from a state, and what it breaks.

Theory of operation. Nodes and ledgers are numbered, so that a state is a few numbers, and what one
node, or two of them, or the elector may do next is worked out once per different input. Leaves the
order in which states are visited to `search`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import NamedTuple

from msgspec.structs import replace

from pgherd.ledger import commands as cmd
from pgherd.model import action as act
from pgherd.model.facts import Facts, Phase
from pgherd.model.observation import Server
from pgherd.sim.explore import checks, hands, server, sight
from pgherd.sim.explore.ledgers import Ledgers
from pgherd.sim.explore.scope import EVENTS, Scope, first_elector, first_facts, first_nodes
from pgherd.sim.explore.server import Ack
from pgherd.sim.explore.values import BASE, DOWN, NEWEST, Node, State, index_of, node_name

NOBODY = -1


class Step(NamedTuple):
    """One way on: what happens, the state after it, and what it breaks, if anything."""

    label: str
    state: State
    broken: str = ""


class Alone(NamedTuple):
    """A remembered step of one node."""

    label: str
    node: int
    ack: Ack | None
    broken: str


class Proposal(NamedTuple):
    """A remembered decision of the elector. broken: what it disregards."""

    label: str
    command: cmd.AnyCommand
    broken: str


class Explorer:
    """One scope, explored. Remembers what deciders and nodes do, so a mistake is planted before."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.ledgers = Ledgers()
        self.nodes: list[Node] = []
        self._numbers: dict[Node, int] = {}
        self._alone: dict[tuple[int, int], tuple[Alone, ...]] = {}
        self._acts: dict[tuple[int, int, int, int], tuple[Alone, ...]] = {}
        self._between: dict[tuple[int, int, int, int], tuple[tuple[str, int, int, str], ...]] = {}
        self._shows: list[sight.Shown] = []
        self._show_numbers: dict[sight.Shown, int] = {}
        self._shown: dict[tuple[int, int, int], int] = {}
        self._planned: dict[object, act.Action | None] = {}
        self._proposals: dict[object, tuple[Proposal, ...]] = {}
        self._commands: list[cmd.AnyCommand] = []
        self._words: dict[tuple[int, int], str] = {}
        self._limits = scope.limits
        self._witness = scope.data if scope.witness else -1
        self._saved = self.ledgers.number(first_facts(replace(scope, reign=1)))
        self._first_facts = self.ledgers.number(first_facts(scope))
        if scope.unknown:
            self._first_facts = self.ledgers.restored(self._saved)

    def first(self) -> State:
        """The state that everything begins with."""
        nodes = tuple(self.number(n) for n in first_nodes(self.scope, self._first_facts))
        spent = (0,) * len(self._limits)
        return State(self._first_facts, nodes, 0, 0, first_elector(self.scope), NOBODY, spent)

    def number(self, node: Node) -> int:
        """The number of a node."""
        found = self._numbers.get(node)
        if found is None:
            found = self._numbers[node] = len(self.nodes)
            self.nodes.append(node)
        return found

    # -- what may happen -------------------------------------------------------------------------

    def steps(self, state: State) -> Iterator[Step]:
        """Every way on from a state, always in the same order."""
        yield from self._herd(state)
        for me, number in enumerate(state.nodes):
            yield from self._of_node(state, me, number)
            for other, down in enumerate(state.nodes):
                if other != me:
                    yield from self._of_two(state, me, number, other, down)
        yield from self._of_fate(state)

    def _herd(self, state: State) -> Iterator[Step]:
        if state.flight != NOBODY:
            command = self._commands[state.flight]
            yield self._commit(state._replace(flight=NOBODY), "is agreed on: ", command)
            yield Step("the proposal is lost", state._replace(flight=NOBODY))
            return
        for one in self._decisions(state):
            if self.scope.flights:
                at = self._place(one.command)
                yield Step(f"proposes {one.label}", state._replace(flight=at), one.broken)
            else:
                facts = self.ledgers.applied(state.facts, one.command)
                yield Step(one.label, state._replace(facts=facts), one.broken)

    def _place(self, command: cmd.AnyCommand) -> int:
        if command not in self._commands:
            self._commands.append(command)
        return self._commands.index(command)

    def _commit(self, state: State, word: str, command: cmd.AnyCommand) -> Step:
        facts = self.ledgers.applied(state.facts, command)
        return Step(f"{word}{text_of(command)}", state._replace(facts=facts))

    def _decisions(self, state: State) -> tuple[Proposal, ...]:
        elector = state.elector
        if elector != self._witness and self.nodes[state.nodes[elector]].seen == DOWN:
            return ()
        heard = tuple(
            self._show(me, number, self._seen(state, number))
            for me, number in enumerate(state.nodes)
            if self.nodes[number].seen != DOWN
        )
        key = state.facts, elector, heard
        found = self._proposals.get(key)
        if found is None:
            facts, reports = self.ledgers.all[state.facts], [self._shows[at] for at in heard]
            found = self._proposals[key] = tuple(self._decide(facts, elector, reports))
        return found

    def _seen(self, state: State, number: int) -> int:
        seen = self.nodes[number].seen
        return state.facts if seen == NEWEST else seen

    def _show(self, me: int, number: int, seen: int) -> int:
        """The number of what a node shows of itself."""
        key = me, number, seen
        found = self._shown.get(key)
        if found is None:
            shown = sight.shown(me, self.nodes[number], self.ledgers.all[seen])
            found = self._show_numbers.setdefault(shown, len(self._shows))
            if found == len(self._shows):
                self._shows.append(shown)
            self._shown[key] = found
        return found

    def _decide(self, facts: Facts, elector: int, reports: list[sight.Shown]) -> Iterator[Proposal]:
        """What the elector may propose: during an election it hears any part of the members."""
        known: set[cmd.AnyCommand] = set()
        for heard in self._audiences(facts, elector, reports):
            for early in (False, True) if facts.handover or facts.forced else (False,):
                decision = sight.decided(facts, elector, heard, witness=self._witness, early=early)
                command = decision.command
                if command is None or command in known or not self._in_scope(facts, command):
                    continue
                known.add(command)
                broken = ""
                if isinstance(command, cmd.Elect):
                    broken = sight.short_of_quorum(heard, facts)
                yield Proposal(text_of(command), command, broken)

    def _audiences(
        self, facts: Facts, elector: int, reports: list[sight.Shown]
    ) -> Iterator[tuple[sight.Shown, ...]]:
        others = [s for s in reports if s.me != elector]
        mine = [s for s in reports if s.me == elector]
        yield tuple(reports)
        if facts.phase is Phase.ELECTING:
            for size in range(len(others) - 1, -1, -1):
                for some in combinations(others, size):
                    yield (*mine, *some)
        elif facts.leader is not None:
            leader = index_of(facts.leader)[0]
            yield (*mine, *(s for s in others if s.me != leader))

    def _in_scope(self, facts: Facts, command: cmd.AnyCommand) -> bool:
        if isinstance(command, cmd.Begin):
            base = self.ledgers.all[self._first_facts].term
            return facts.term % 1000 - base % 1000 + 1 < self.scope.terms
        if isinstance(command, cmd.ChangeSync):
            sync = facts.sync
            same = (command.names, command.names_k) == (sync.names, sync.names_k)
            return same or sync.generation < self.scope.generations
        return True

    # -- one node --------------------------------------------------------------------------------

    def _of_node(self, state: State, me: int, number: int) -> Iterator[Step]:
        node = self.nodes[number]
        if node.seen != state.facts and node.seen != NEWEST:
            word = "learns the ledger" if node.seen != DOWN else "is back and knows the ledger"
            yield self._with(state, me, f"n{me + 1} {word}", self._aware(node, state.facts))
        if node.seen != DOWN:
            for one in self._act(state, me, number):
                yield self._stepped(state, me, one)
        for one in self._alone_steps(me, number):
            yield self._stepped(state, me, one)
        if node.server is Server.PRIMARY and state.written < self.scope.writes:
            wrote = server.write(node, state.written + 1)
            one = self._remember(me, node, wrote.label, wrote.node, wrote.ack)
            yield self._stepped(state._replace(written=state.written + 1), me, one)

    def _aware(self, node: Node, facts: int) -> Node:
        """A node that knows these facts, the newest."""
        prompt = not self.scope.slow and node.server is not Server.PRIMARY
        return node._replace(seen=NEWEST if prompt and facts != DOWN else facts)

    def _with(self, state: State, me: int, label: str, node: Node, broken: str = "") -> Step:
        nodes = (*state.nodes[:me], self.number(node), *state.nodes[me + 1 :])
        return Step(label, state._replace(nodes=nodes), broken)

    def _stepped(self, state: State, me: int, one: Alone) -> Step:
        nodes = (*state.nodes[:me], one.node, *state.nodes[me + 1 :])
        if one.ack is None:
            return Step(one.label, state._replace(nodes=nodes), one.broken)
        acked = state.acked | sum(1 << number for number in one.ack.numbers)
        there = [self.nodes[number] for number in nodes]
        broken = one.broken or checks.acknowledged(
            self.ledgers.all[state.facts], there, me, one.ack
        )
        return Step(one.label, state._replace(nodes=nodes, acked=acked), broken)

    def _remember(self, me: int, old: Node, label: str, new: Node, ack: Ack | None = None) -> Alone:
        told = f"; acknowledges {','.join(map(str, ack.numbers))}" if ack else ""
        broken = checks.kept_word(me, old, new)
        return Alone(f"n{me + 1} {label}{told}", self.number(new), ack, broken)

    def _alone_steps(self, me: int, number: int) -> tuple[Alone, ...]:
        key = me, number
        found = self._alone.get(key)
        if found is None:
            node = self.nodes[number]
            found = self._alone[key] = tuple(
                self._remember(me, node, one.label, one.node, one.ack)
                for one in server.steps_alone(node)
            )
        return found

    def _act(self, state: State, me: int, number: int) -> tuple[Alone, ...]:
        seen = self._seen(state, number)
        facts = self.ledgers.all[seen]
        up = index_of(facts.leader)[0] if facts.leader is not None else me
        leader = state.nodes[up] if up != me else NOBODY
        key = me, number, seen, leader
        found = self._acts.get(key)
        if found is None:
            found = self._acts[key] = self._acted(me, self.nodes[number], seen, up, leader)
        return found

    def _acted(self, me: int, node: Node, seen: int, up: int, leader: int) -> tuple[Alone, ...]:
        facts = self.ledgers.all[seen]
        other = self.nodes[leader] if leader != NOBODY else None
        scene = hands.Scene(me, facts, other)
        if node.doing is not None and node.doing[0] != "barrier":
            done = hands.go_on(node, scene)
        else:
            action = self._plan(me, node, seen, up, other)
            if action is None:
                return ()
            done = hands.STEPS[type(action)](node, action, scene)
        if done is None or done[1] == node:
            return ()
        label, new = done
        if new.server is Server.PRIMARY and new.seen == NEWEST:
            new = new._replace(seen=seen)
        elif new.server is not Server.PRIMARY and new.seen == seen:
            new = self._aware(new, seen)
        return (self._remember(me, node, label, new),)

    def _plan(
        self, me: int, node: Node, seen: int, up: int, leader: Node | None
    ) -> act.Action | None:
        facts = self.ledgers.all[seen]
        mine = sight.shown(me, node, facts)
        theirs = None
        if leader is not None and leader.seen != DOWN:
            bare = leader._replace(senders=(), wal=BASE, frozen=None, waiting=())
            theirs = sight.shown(up, bare, facts)
        key = mine, seen, node.dead_end, theirs
        if key not in self._planned:
            self._planned[key] = sight.planned(mine, facts, theirs, dead_end=node.dead_end)
        return self._planned[key]

    # -- two nodes -------------------------------------------------------------------------------

    def _of_two(self, state: State, me: int, number: int, other: int, down: int) -> Iterator[Step]:
        key = me, number, other, down
        found = self._between.get(key)
        if found is None:
            up, standby = self.nodes[number], self.nodes[down]
            found = self._between[key] = tuple(
                (one.label, self.number(one.up), self.number(one.down), one.broken)
                for one in server.steps_between(up, standby, source=me, to=other)
            )
        for label, a, b, broken in found:
            nodes = list(state.nodes)
            nodes[me], nodes[other] = a, b
            yield Step(label, state._replace(nodes=tuple(nodes)), broken)

    # -- fate ------------------------------------------------------------------------------------

    def _of_fate(self, state: State) -> Iterator[Step]:
        for which, event in enumerate(EVENTS):
            if state.spent[which] < self._limits[which]:
                spent = list(state.spent)
                spent[which] += 1
                after = state._replace(spent=tuple(spent))
                happens: Callable[[State], Iterator[Step]] = getattr(self, f"_{event}")
                yield from happens(after)

    def _crash(self, state: State) -> Iterator[Step]:
        for me, number in enumerate(state.nodes):
            node = self.nodes[number]
            if me in self.scope.mortal and node.server not in (Server.NONE, Server.STOPPED):
                dead = self._aware(server.stopped(node), node.seen)
                yield self._with(state, me, f"n{me + 1}'s server dies", dead)

    def _fall(self, state: State) -> Iterator[Step]:
        for me, number in enumerate(state.nodes):
            node = self.nodes[number]
            if node.seen == DOWN or me not in self.scope.mortal:
                continue
            fallen = server.fallen(node)
            broken = checks.kept_word(me, node, fallen)
            yield self._with(state, me, f"n{me + 1}'s host falls", fallen, broken)

    def _agent(self, state: State) -> Iterator[Step]:
        for me, number in enumerate(state.nodes):
            node = self.nodes[number]
            if node.seen != DOWN and me in self.scope.mortal:
                yield self._with(state, me, f"n{me + 1}'s agent dies", server.agent_died(node))

    def _wipe(self, state: State) -> Iterator[Step]:
        for me, number in enumerate(state.nodes):
            node = self.nodes[number]
            if me not in self.scope.mortal or node.server is Server.NONE:
                continue
            if not self._alone_has_all(state, me):
                lost = server.stopped(node)._replace(server=Server.NONE, wal=BASE, upstream=None)
                yield self._with(
                    state, me, f"n{me + 1}'s data is lost", self._aware(lost, node.seen)
                )

    def _alone_has_all(self, state: State, me: int) -> bool:
        """A degraded leader's disk is the one copy there is: nothing is promised without it."""
        facts = self.ledgers.all[state.facts]
        leads = facts.leader is not None and index_of(facts.leader)[0] == me
        return leads and not facts.sync.voters

    def _elector(self, state: State) -> Iterator[Step]:
        for at in range(self.scope.data + self.scope.witness):
            if at != state.elector:
                label = f"n{at + 1} leads consensus"
                yield Step(label, state._replace(elector=at, flight=NOBODY))

    def _restore(self, state: State) -> Iterator[Step]:
        facts = self.ledgers.restored(self._saved)
        yield Step(
            "the ledger is lost, and restored as of the beginning",
            state._replace(facts=facts, flight=NOBODY),
        )

    def _failover(self, state: State) -> Iterator[Step]:
        command = cmd.RequestFailover(id="order", candidate=None, requested_by="operator")
        yield self._commit(state, "asked: ", command)

    def _switchover(self, state: State) -> Iterator[Step]:
        for at in range(1, self.scope.data):
            wish = cmd.RequestSwitchover(
                id="wish", candidate=node_name(at), requested_by="operator"
            )
            yield self._commit(state, "asked: ", wish)

    # -- checks ----------------------------------------------------------------------------------

    def broken(self, state: State) -> str:
        """Which invariant a state breaks."""
        facts = self.ledgers.all[state.facts]
        nodes = [self.nodes[number] for number in state.nodes]
        found = ""
        if facts.leader is not None:
            at = index_of(facts.leader)[0]
            key = state.facts, state.nodes[at]
            known = self._words.get(key)
            if known is None:
                known = self._words[key] = checks.inequality(facts, nodes[at])
            found = known
        if not state.acked:
            return found
        return (
            found
            or checks.leader_holds(facts, nodes, state.acked)
            or checks.set_covers(facts, nodes, state.acked)
        )


def text_of(command: cmd.AnyCommand) -> str:
    """A command for people."""
    match command:
        case cmd.Begin(expected=term, elector=elector, reason=reason):
            return f"{elector} begins term {term + 1}: {reason}"
        case cmd.Elect(term=term, winner=winner, voters=voters, k=k, rule=rule):
            who = ",".join(map(str, voters))
            return f"term {term} elects {winner} with V = {who or 'nobody'}, k = {k} ({rule})"
        case cmd.FastForward(candidate=candidate, holder=holder, target=target):
            return f"{candidate} may catch up from {holder} to {target}"
        case cmd.Establish(term=term, names=names):
            return f"term {term} is established with {','.join(map(str, names)) or 'nobody'}"
        case cmd.ChangeSync(reason=reason, rule=rule, settled=settled):
            return f"the set changes{' (settled)' if settled else ''}: {reason} ({rule})"
        case _:
            return type(command).__name__
