"""What operators ask of a herd while faults strike it: pauses, maintenance, work node by node.

Owns the wishes, and an end to what would last for ever (a pause, a server at rest, maintenance), as
a person would end it when the trouble is over. L6: all that was asked for ends, by itself, once
nothing strikes any more; L7: an upgrade that is done leaves no server behind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pgherd.ledger import commands as cmd
from pgherd.ledger.pgconfig import newest
from pgherd.model.facts import Facts, Kind
from pgherd.model.ids import NodeId
from pgherd.model.upkeep import Verb, WorkState
from pgherd.sim.clock import MS
from pgherd.sim.parameters import BAD, MATCHES

if TYPE_CHECKING:
    from pgherd.sim.faults import Chaos
    from pgherd.sim.world import World

ASK_AGAIN = 700 * MS
FORCED = 0.3
"""Of the upgrades so many do not wait for those before to be back."""
BY = "chaos"
RESTED = 6
"""How often in a row nothing is left to end: orders may wait in a node that was paused."""
LATER_MS = 4000
"""What is scheduled is due within this time, by the clock of who takes the order."""


def asked(chaos: Chaos, make: Callable[[Facts, str], cmd.Command | None]) -> bool:
    """Give an order to whoever leads consensus; False where nobody does, or there is none."""
    agent, facts = chaos.world.raft_leader(), chaos.world.facts()
    if agent is None or facts is None:
        return False
    order = make(facts, f"work{chaos.order()}.{chaos.world.clock.now}")
    return order is not None and agent.propose(order)


def copies(facts: Facts) -> list[NodeId]:
    """The data members that stay."""
    members = sorted(facts.members.items())
    return [node for node, one in members if one.kind is Kind.DATA and not one.leaving]


def replicas(facts: Facts) -> list[NodeId]:
    return [node for node in copies(facts) if not facts.is_leader(node)]


def due(chaos: Chaos) -> int:
    return chaos.world.clock.ms + 1 + chaos.rng.randrange(LATER_MS)


def one_of(chaos: Chaos, nodes: list[NodeId]) -> tuple[NodeId, ...]:
    return (chaos.rng.choice(nodes),) if nodes else ()


def work(
    chaos: Chaos, verb: Verb, choose: Callable[[Facts], tuple[NodeId, ...]], *, later: bool = False
) -> bool:
    """Some work on nodes, now or within seconds."""

    def order(facts: Facts, name: str) -> cmd.Command | None:
        nodes = choose(facts)
        if not nodes and verb.by_turns:
            return None
        at_ms = due(chaos) if later else 0
        rolling = verb is Verb.RESTART and len(nodes) > 1
        return cmd.AskWork(name, verb, nodes, BY, not_before_ms=at_ms, rolling=rolling)

    return asked(chaos, order)


def upgrade(chaos: Chaos) -> bool:
    """A newer minor version is installed everywhere, and rolled out."""

    def order(facts: Facts, name: str) -> cmd.Command | None:
        nodes, force = tuple(copies(facts)), chaos.rng.random() < FORCED
        servers = {node: chaos.world.nodes[node].server for node in nodes}
        for server in servers.values():
            server.installed += 1
        chaos.world.upgrades[name] = {node: one.installed for node, one in servers.items()}
        return cmd.AskWork(
            name, Verb.RESTART, nodes, BY, rolling=True, force=force, only_outdated=True
        )

    return asked(chaos, order)


def left_behind(world: World) -> str:
    """L7: an upgrade that is done has left nobody behind. Who; "" for nobody."""
    facts = world.facts()
    works = facts.upkeep.works if facts is not None else ()
    return ", ".join(
        f"{node} of {work.id}"
        for work in works
        if work.state is WorkState.DONE
        for node, wanted in world.upgrades.get(work.id, {}).items()
        if world.nodes[node].server.build < wanted
    )


def pause(chaos: Chaos) -> bool:
    """Nobody fails over for some seconds; who asked comes back for it when all is over."""
    return asked(chaos, lambda _, name: cmd.Pause(name, BY, until_ms=due(chaos)))


def maintain(chaos: Chaos) -> bool:
    def order(facts: Facts, name: str) -> cmd.Command | None:
        nodes = one_of(chaos, replicas(facts))
        if not nodes:
            return None
        return cmd.SetMaintenance(nodes[0], True, BY, id=name, until_ms=due(chaos))

    return asked(chaos, order)


def configure(chaos: Chaos, *values: int, bad: bool = False, trial: bool = False) -> bool:
    """Another version for all, which waits for restarts; a bad one no server comes up with."""

    def order(facts: Facts, _: str) -> cmd.Command:
        wanted = {MATCHES: str(chaos.rng.choice(values))} | ({BAD: "bad"} if bad else {})
        streams = tuple(replicas(facts)) if trial else ()
        return cmd.SetConfig(
            expected=newest(facts).version,
            parameters=wanted,
            author=BY,
            trial_until_ms=due(chaos) if trial else 0,
            streamed=streams,
        )

    return asked(chaos, order)


def finish(world: World, rested: int = 0) -> None:
    """End what lasts: asked again until the ledger has it, and nothing comes that was under way."""
    world.asking = rested < RESTED
    if not world.asking:
        return
    facts, agent = world.facts(), world.raft_leader()
    wishes = lasting(facts, f"end{world.clock.now}") if facts is not None else []
    if agent is not None:
        for wish in wishes:
            agent.propose(wish)
    world.clock.after(ASK_AGAIN, finish, world, rested + 1 if at_rest(world) else 0)


def lasting(facts: Facts, name: str) -> list[cmd.Command]:
    """What a person does when the trouble is over."""
    upkeep, wishes = facts.upkeep, list[cmd.Command]()
    if upkeep.pause is not None:
        wishes.append(cmd.Resume(upkeep.pause.id, "the trouble is over"))
    wishes += [cmd.SetMaintenance(node, False, BY) for node in upkeep.maintenance]
    wishes += [cmd.AskWork(f"{name}.{node}", Verb.START, (node,), BY) for node in upkeep.stopped]
    return wishes


def at_rest(world: World) -> bool:
    """L6: nothing that was asked for is under way, nothing lasts, and all have the newest word."""
    facts = world.facts()
    if facts is None or facts.upkeep.open_works() or lasting(facts, ""):
        return False
    version = newest(facts)
    running = [world.server(node).parameters for node in copies(facts)]
    told = all(one.file.version == version.version and not one.short for one in running)
    return told and version.trial is None


KINDS: dict[str, Callable[[Chaos], bool]] = {
    "work.rolling": lambda c: work(c, Verb.RESTART, lambda f: tuple(copies(f))),
    "work.restart": lambda c: work(c, Verb.RESTART, lambda f: one_of(c, copies(f))),
    "work.restart.due": lambda c: work(c, Verb.RESTART, lambda f: one_of(c, copies(f)), later=True),
    "work.switchover.due": lambda c: work(c, Verb.SWITCHOVER, lambda _: (), later=True),
    "work.upgrade": upgrade,
    "work.reload": lambda c: work(c, Verb.RELOAD, lambda f: tuple(copies(f))),
    "work.stop": lambda c: work(c, Verb.STOP, lambda f: one_of(c, replicas(f))),
    "work.reinit": lambda c: work(c, Verb.REINIT, lambda f: one_of(c, replicas(f))),
    "config.up": lambda c: configure(c, 100, 150, 200),
    "config.down": lambda c: configure(c, 60, 80, 100),
    "config.bad": lambda c: configure(c, 60, 100, 200, bad=True),
    "config.trial": lambda c: configure(c, 60, 200, trial=True),
    "paused": pause,
    "maintenance": maintain,
}
