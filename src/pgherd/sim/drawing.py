"""A failover drawn from a simulated run: F1 to F8 of PROTOCOL.md, with who did what, and when.

Owns one world of a fixed seed in which the primary's host is lost and comes back, the list of what
was seen of it, and two forms of that list: an SVG and a table. Sees as the checks see, from outside
and everything, once a millisecond; the run is not touched by being watched. `./dev docs` writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from html import escape
from typing import NamedTuple

from pgherd.model.facts import Facts, Phase
from pgherd.model.ids import MemberKey, NodeId, Term
from pgherd.sim.clock import MS, SECOND
from pgherd.sim.run import begin
from pgherd.sim.wal import Record
from pgherd.sim.world import Node, World

SEED = 4
LOST_FOR = 6 * SECOND
WATCHED_FOR = 12 * SECOND
LEDGER = "ledger"
CLIENTS = "clients"
WINNER = "winner"
FOLLOWER = "follower"


class Event(NamedTuple):
    """What happened on a lane. ms: since the primary was lost; source: the lane it came from."""

    ms: int
    step: str
    lane: str
    text: str
    source: str = ""


class Watch(NamedTuple):
    """Something that happens once. seen: its text when it has happened, "" before.

    lane, source: a lane, or WINNER or FOLLOWER, who are known only after the election.
    """

    step: str
    lane: str
    seen: Callable[[], str]
    source: str = ""


def events(seed: int = SEED) -> list[Event]:
    """Run the world and note when each step was first seen."""
    world = World(seed)
    begin(world)
    facts = world.facts()
    assert facts is not None
    assert facts.leader is not None
    lost = world.nodes[facts.leader.node]
    begun = world.clock.now
    found = [Event(0, "", lost.name, "the primary's host is lost")]
    lost.crash()
    world.clock.after(LOST_FOR, lost.boot)
    story = Story(world, lost.name, Term(facts.term + 1))
    watches = list(story.watches())
    while watches and world.clock.now < begun + WATCHED_FOR:
        world.clock.run_until(world.clock.now + MS)
        for watch in list(watches):
            text = watch.seen()
            if text:
                ms = (world.clock.now - begun) // MS
                lane, source = story.lane(watch.lane), story.lane(watch.source)
                found.append(Event(ms, watch.step, lane, text, source))
                watches.remove(watch)
    assert not watches, f"never happened: {[(one.step, one.lane) for one in watches]}"
    return found


class Story:
    """The questions that are asked of a world whose primary was lost."""

    def __init__(self, world: World, lost: NodeId, term: Term) -> None:
        self.world, self.lost, self.term = world, lost, term
        self.others = [name for name in world.names if name != lost]

    def facts(self) -> Facts:
        facts = self.world.facts()
        assert facts is not None
        return facts

    def winner(self) -> Node | None:
        """The node that leads the new term, once one is elected."""
        facts = self.facts()
        if facts.term < self.term or facts.phase is Phase.ELECTING or facts.leader is None:
            return None
        return self.world.nodes[facts.leader.node]

    def follower(self) -> NodeId | None:
        """Who is neither lost nor the winner, once there is one."""
        winner = self.winner()
        found = [name for name in self.others if winner is not None and name != winner.name]
        return found[0] if found else None

    def lane(self, name: str) -> str:
        """The lane that a name stands for."""
        winner = self.winner()
        roles = {WINNER: winner.name if winner is not None else "", FOLLOWER: self.follower() or ""}
        return roles.get(name, name)

    def watches(self) -> Iterator[Watch]:
        """In the order in which they are told when they are seen in the same millisecond."""
        yield Watch("F1", LEDGER, self.begun)
        for name in self.others:
            yield Watch("F2", name, partial(self.promised, name), LEDGER)
            yield Watch("F2", name, partial(self.sealed, name))
        yield Watch("F3-F5", LEDGER, self.elected)
        yield Watch("F6", WINNER, self.promoted, LEDGER)
        yield Watch("F7", FOLLOWER, lambda: self.streams(self.follower()), WINNER)
        yield Watch("F6", WINNER, self.recorded)
        yield Watch("F6", FOLLOWER, self.flushed, WINNER)
        yield Watch("F8", LEDGER, self.established)
        yield Watch("F8", WINNER, self.opened, LEDGER)
        yield Watch("", CLIENTS, self.acknowledged, WINNER)
        yield Watch("F9", self.lost, self.back)
        yield Watch("F7", self.lost, lambda: self.streams(self.lost), WINNER)
        yield Watch("", LEDGER, self.counts_again)

    # -- one question each -----------------------------------------------------------------------

    def begun(self) -> str:
        facts = self.facts()
        return f"{facts.elector} begins term {facts.term}" if facts.term >= self.term else ""

    def promised(self, name: NodeId) -> str:
        promises = self.world.promises(name)
        return f"promises term {self.term}" if promises.promise >= self.term else ""

    def sealed(self, name: NodeId) -> str:
        frozen = self.world.promises(name).frozen
        at = frozen is not None and frozen.term >= self.term and frozen.position
        return f"sealed at {at}: receives no more WAL" if at else ""

    def elected(self) -> str:
        node, facts = self.winner(), self.facts()
        if node is None:
            return ""
        voters = " ".join(key.node for key in facts.sync.voters)
        return f"{node.name} leads; V = {voters}, k = {facts.sync.k}, R = {facts.sync.r}"

    def promoted(self) -> str:
        winner = self.winner()
        done = winner is not None and winner.server.primary
        return "is promoted; its names stay closed" if done else ""

    def streams(self, name: NodeId | None) -> str:
        winner = self.winner()
        for stream in winner.server.streams if winner is not None else ():
            if stream.key.node == name and stream.term == self.term and stream.streaming:
                return f"streams as {stream.key.token(stream.term)}"
        return ""

    def recorded(self) -> str:
        return f"has written epoch record {self.term}" if self.epoch_record() else ""

    def flushed(self) -> str:
        record, name = self.epoch_record(), self.follower()
        directory = self.world.server(name).dir if name is not None else None
        there = record is not None and directory is not None and directory.holds(record)
        return f"has epoch record {self.term} on its disk" if there else ""

    def established(self) -> str:
        facts = self.facts()
        stable = facts.term >= self.term and facts.phase is Phase.STABLE
        return f"term {facts.term} is stable; R = {facts.sync.r}" if stable else ""

    def opened(self) -> str:
        winner = self.winner()
        if winner is None or winner.server.names.closed or not winner.server.primary:
            return ""
        return f"opens its gate: {winner.server.names.text}"

    def acknowledged(self) -> str:
        tip = self.world.checks.tip
        new = tip is not None and tip.epoch >= self.term
        return f"the first commit of term {self.term} is acknowledged" if new else ""

    def back(self) -> str:
        agent = self.world.nodes[self.lost].agent
        state = self.world.server(self.lost).state.value
        return "is back: a standby without upstream" if agent and state == "standby" else ""

    def counts_again(self) -> str:
        facts = self.facts()
        back = any(key.node == self.lost for key in facts.sync.names)
        stable = facts.term >= self.term and facts.phase is Phase.STABLE
        return f"{self.lost} counts again: {listed(facts.sync.names)}" if stable and back else ""

    # -- what they share -------------------------------------------------------------------------

    def epoch_record(self) -> Record | None:
        """The epoch record of the new term, once it is durable where it was written."""
        winner = self.winner()
        directory = winner.server.dir if winner is not None else None
        for record in reversed(directory.wal if directory is not None else []):
            if record.kind == "epoch":
                there = directory is not None and directory.holds(record)
                return record if record.epoch >= self.term and there else None
        return None


def listed(keys: tuple[MemberKey, ...]) -> str:
    return "any of " + ", ".join(key.node for key in keys)


# --- two forms -----------------------------------------------------------------------------------

HEAD_HEIGHT, ROW, LEFT, LANE = 44, 24, 122, 132
WIDTH = LEFT + 4 * LANE + 330
STYLE = (
    "text{font:13px sans-serif;fill:#1b1f24}"
    ".head{font-weight:bold;text-anchor:middle}"
    ".at{text-anchor:end;fill:#57606a}"
    ".step{fill:#0550ae}"
    ".what{paint-order:stroke;stroke:#fff;stroke-width:5px}"
    "line{stroke:#afb8c1}"
    ".arrow{stroke:#0550ae;marker-end:url(#head)}"
    ".dead{stroke-dasharray:3 5}"
    "circle{fill:#0550ae}"
)


def table(found: list[Event]) -> str:
    """The events as a table of Markdown."""
    rows = "".join(
        f"| {one.ms / 1000:.3f} s | {one.step} | {one.lane} | {one.text} |\n" for one in found
    )
    return f"| after | step | where | what happens |\n|---:|---|---|---|\n{rows}"


def svg(found: list[Event]) -> str:
    """The events as a picture: a lane each for clients, ledger and nodes; time runs downwards."""
    lanes = [CLIENTS, LEDGER, *sorted({one.lane for one in found} - {CLIENTS, LEDGER})]
    across = {lane: LEFT + place * LANE for place, lane in enumerate(lanes)}
    height = HEAD_HEIGHT + ROW * (len(found) + 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}">',
        "<title>A failover, from a simulated run</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#0550ae"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        *(lane_of(name, x, height, found) for name, x in across.items()),
        *(row_of(one, HEAD_HEIGHT + ROW * place, across) for place, one in enumerate(found)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def lane_of(name: str, x: int, height: int, found: list[Event]) -> str:
    """A head and a line; the line of the node that was lost is dashed until it is back."""
    head = f'<text class="head" x="{x}" y="20">{escape(name)}</text>'
    mine = [place for place, one in enumerate(found) if one.lane == name]
    top = HEAD_HEIGHT - 14
    if name != found[0].lane or len(mine) < 2:
        return f'{head}<line x1="{x}" y1="{top}" x2="{x}" y2="{height - 8}"/>'
    back = HEAD_HEIGHT + ROW * mine[1]
    dead = f'<line class="dead" x1="{x}" y1="{top}" x2="{x}" y2="{back}"/>'
    return f'{head}{dead}<line x1="{x}" y1="{back}" x2="{x}" y2="{height - 8}"/>'


def row_of(one: Event, y: int, across: dict[str, int]) -> str:
    """Time, step, a dot on the lane, what happened, and where it came from."""
    x = across[one.lane]
    text_at = max(x, across[one.source]) if one.source else x
    parts = [
        f'<text class="at" x="58" y="{y + 4}">{one.ms / 1000:.3f} s</text>',
        f'<text class="step" x="66" y="{y + 4}">{escape(one.step)}</text>',
        f'<circle cx="{x}" cy="{y}" r="4"/>',
        f'<text class="what" x="{text_at + 10}" y="{y + 4}">{escape(one.text)}</text>',
    ]
    if one.source:
        start = across[one.source]
        end = x - 5 if start < x else x + 5
        parts.insert(0, f'<line class="arrow" x1="{start}" y1="{y}" x2="{end}" y2="{y}"/>')
    return "".join(parts)
