"""Planted errors of coming back: rewinding, copying anew, forgetting (PROTOCOL.md F7, 2)."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from msgspec.structs import replace

from pgherd.ledger import commands as cmd
from pgherd.ledger import readmission, rescue
from pgherd.ledger.lineage import contains, fork_of
from pgherd.ledger.saved import Saved
from pgherd.model import action as act
from pgherd.model.facts import Facts, Floor, Phase
from pgherd.model.observation import Server as State
from pgherd.model.promises import Promises
from pgherd.plan import following
from pgherd.plan.own import Answer, Self, elects, follows, follows_already
from pgherd.sim import acts, amnesia
from pgherd.sim.agent import Agent
from pgherd.sim.clock import MS, Failed, Task
from pgherd.sim.mutants.kind import DEATHS, LOST, MISCOUNTED, Mutant, plant_act
from pgherd.sim.planting import attribute
from pgherd.sim.plants import member_rule
from pgherd.sim.world import Node
from pgherd.store import restoring
from pgherd.store.memory import MemoryDisk, MemoryStore


def adopts_before_rewind(stack: ExitStack) -> None:
    def rewind(agent: Agent, a: act.Rewind) -> Task:
        yield from acts.adopt(agent, a.term, a.leader)
        yield 400 * MS
        yield from acts.rewind(agent, a)

    plant_act(stack, act.Rewind, rewind)


def believing_rewind(agent: Agent, a: act.Rewind) -> Task:
    """A rewind that takes "no rewind required" for done."""
    yield from acts.save(agent, frozen=None, floor=Floor(a.floor, a.fork_lsn), dirty_rewind=True)
    yield from acts.stop(agent)
    yield agent.world.rng.randrange(300, 1500) * MS
    server, source = agent.server, acts.source_of(agent, a.leader)
    try:
        server.rewind(source)
    except Failed as why:
        if "no rewind required" not in str(why):
            raise
    yield from acts.adopt(agent, a.term, a.leader)
    server.start(acts.upstream(agent, a.term, a.leader))
    yield from acts.wait(lambda: server.state is State.STANDBY, limit_ms=20_000)
    if server.state is not State.STANDBY:
        server.crash()
        raise Failed("the rewound server did not come up")
    agent.memory.following_since = agent.now
    yield from acts.save(agent, dirty_rewind=False)


def rewinds(s: Self, *, is_checkpointed: bool, is_any_timeline: bool) -> Answer | None:
    """Rule 56 without one of its conditions."""
    server = s.server
    if not follows(s) or server.state is not State.STANDBY or following.leader_member(s) is None:
        return None
    if follows_already(s):
        return None
    if server.position is None or s.leader_report is None or s.facts.phase is not Phase.STABLE:
        return "waits", None
    if is_checkpointed and s.leader_report.server.checkpointed_term < s.facts.term:
        return "waits for the leader's checkpoint", None
    fork = fork_of(s.facts.history, server.position)
    same = server.timeline == s.facts.history[-1].timeline
    if not is_any_timeline and (fork is None or same):
        return "copies the leader", following.copy(s)
    return "rewinds", following.rewind(s, s.facts.history[-1].start.lsn if fork is None else fork)


def rewinds_too_early(stack: ExitStack) -> None:
    member_rule(stack, 56, lambda s: rewinds(s, is_checkpointed=False, is_any_timeline=False))
    plant_act(stack, act.Rewind, believing_rewind)


def rewinds_equal_timeline(stack: ExitStack) -> None:
    member_rule(stack, 56, lambda s: rewinds(s, is_checkpointed=True, is_any_timeline=True))
    plant_act(stack, act.Rewind, believing_rewind)


def half_rewound_starts(stack: ExitStack) -> None:
    """An election, or a new leader, starts a directory whose rewind was cut short."""

    def start(s: Self) -> Answer | None:
        stopped = s.server.state is State.STOPPED
        if not stopped or not (elects(s) or follows(s)):
            return None
        return "starts without upstream, to know its position", act.StartStandby()

    member_rule(stack, 35, start)
    member_rule(stack, 52, lambda s: start(s) or following.follow_copy(s))


def no_floor(stack: ExitStack) -> None:
    """Nothing is kept of what a rewind throws away, and no term need be stable for one."""

    def save(agent: Agent, **changes: Any) -> Task:
        kept = {name: to for name, to in changes.items() if name not in ("floor", "dirty_rewind")}
        yield from right(agent, **kept)

    def rejoin(s: Self) -> Answer | None:
        server = s.server
        if not follows(s) or server.state is not State.STANDBY:
            return None
        if following.leader_member(s) is None or follows_already(s):
            return None
        if server.position is None:
            return None
        fork = fork_of(s.facts.history, server.position)
        if fork is None or s.leader_report is None or contains(s.facts.history, server.position):
            return following.rejoin(s)
        return "rewinds", following.rewind(s, fork)

    def rewind(agent: Agent, a: act.Rewind) -> Task:
        source = acts.source_of(agent, a.leader)
        if source.dir is not None:  # the leader's checkpoint is not waited for, it is made
            yield from acts.flushed(source, source.write_local("checkpoint"))
        yield from acts.rewind(agent, a)

    right = acts.save
    stack.enter_context(attribute(acts, "save", save))
    member_rule(stack, 56, rejoin)
    plant_act(stack, act.Rewind, rewind)


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


def keeps_its_raft_id(stack: ExitStack) -> None:
    """A node whose store is lost begins with an empty one under the id that it had."""

    def forget(node: Node) -> None:
        node.kill_agent()
        node.disk = MemoryDisk()
        store = MemoryStore(node.disk)
        store.save(identity=node.world._identity(node), promises=Promises())
        store.close()

    stack.enter_context(attribute(amnesia, "forget", forget))


def restored_as_saved(stack: ExitStack) -> None:
    """The term is a new one, but the saved leader and voters are believed to be the last ones."""

    def as_saved(saved: Saved, **more: Any) -> Facts:
        facts, old = rescue.restored(saved, **more), saved.facts
        return replace(facts, phase=Phase.STABLE, leader=old.leader, sync=old.sync)

    stack.enter_context(attribute(restoring, "restored", as_saved))


def unfinished_taken(stack: ExitStack) -> None:
    stack.enter_context(attribute(amnesia, "is_whole", lambda directory: True))


ROWS: dict[str, Mutant] = {
    "adopts-before-rewind": Mutant(
        "A member adopts the leader before its own WAL is marked as another history.",
        adopts_before_rewind,
        ("plot.back.early",),
        (*LOST, "I18"),
        count=2,
    ),
    "rewinds-too-early": Mutant(
        "A rewind does not wait for the leader's checkpoint and believes that none is required.",
        rewinds_too_early,
        ("plot.back.early",),
        (*LOST, "I18"),
        count=5,
    ),
    "rewinds-equal-timeline": Mutant(
        "A member on the leader's timeline id is rewound and believes that it need not be.",
        rewinds_equal_timeline,
        (*DEATHS, "wal.burst", "plot.winner.cut", "plot.winner.cut"),
        (*LOST, "I18"),
        count=20,
    ),
    "half-rewound-starts": Mutant(
        "A directory whose rewind was cut short is started as it is.",
        half_rewound_starts,
        (*DEATHS, "wal.burst", "ambush.follow", "ambush.follow"),
        ("I15",),
        count=20,
    ),
    "no-floor": Mutant(
        "A rewound member counts at once: neither a floor nor a marker says what it lacks.",
        no_floor,
        ("plot.back.first",),
        MISCOUNTED,
        count=4,
    ),
    "restored-as-saved": Mutant(
        "A restored ledger believes in the leader and voters of when it was saved.",
        restored_as_saved,
        ("plot.restored",),
        LOST,
        count=2,
    ),
    "keeps-its-name": Mutant(
        "A copy whose promises are forgotten counts under its old name.",
        keeps_its_name,
        (*DEATHS, "wal.burst", "store.lost", "store.lost", "ambush.follow", "network.split"),
        (*LOST, "I18"),
        count=24,
    ),
    "unfinished-taken": Mutant(
        "A copy whose promises are forgotten is taken as it is although its rewind never ended.",
        unfinished_taken,
        ("primary.isolated", "plot.rewind.forgotten"),
        ("L2",),
        count=8,
    ),
    "keeps-its-raft-id": Mutant(
        "A node whose Raft store is lost votes on under its old id.",
        keeps_its_raft_id,
        ("store.lost", "primary.isolated", "raft.leader.killed"),
        ("I1", "I4", "I11", "I13"),
    ),
}
