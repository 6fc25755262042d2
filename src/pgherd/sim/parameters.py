"""The cluster's configuration on a simulated server, and the hands that bring it there.

One parameter stands for the five that a standby must match, and a word for all that no server comes
up with. Owns what a file says, what runs and what ran; the rules of PostgreSQL are: a standby that
meets a promotion with more than it has replays no more until it is started with as much, as its
pg_control says by then (PostgreSQL: hot standby, administration).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pgherd.ledger.pgconfig import newest
from pgherd.model import action as act
from pgherd.model.observation import Server as State
from pgherd.model.pgconfig import MATCHED, ConfigFailed, Pending, Running
from pgherd.plan.own import ConfigSeen
from pgherd.sim.clock import MS, Failed, Task

if TYPE_CHECKING:
    from pgherd.sim.agent import Agent
    from pgherd.sim.postgres import Server
    from pgherd.sim.wal import Directory

MATCHES = MATCHED[0]
BASE = 100
BAD = "shared_buffers"
"""Wherever a version names it, servers do not come up."""
RUNNING = (State.PRIMARY, State.STANDBY)
ATTEMPTS = 2


class File(NamedTuple):
    """What a server's files say of a version; 0 before there was any."""

    version: int
    parameters: dict[str, str]

    @property
    def value(self) -> int:
        return int(self.parameters.get(MATCHES, BASE))


FIRST = File(0, {})


class Parameters:
    """Of one server. ran: what it last came up with, which lies in its directory."""

    def __init__(self) -> None:
        self.file = self.ran = FIRST
        self.running = BASE
        self.short = False

    def started(self, directory: Directory) -> None:
        """A process has read the files; it is never started with less than its pg_control says."""
        self.running, self.short = max(self.file.value, directory.demanded()), False

    @property
    def bad(self) -> bool:
        return BAD in self.file.parameters

    def replayable(self, directory: Directory, replayed: int) -> int:
        """How far replay goes on with what there is; pg_control knows where it does not."""
        for depth, demand in directory.demands:
            if replayed <= depth < directory.flushed and demand > self.running:
                self.short = True
                directory.replayed = depth + 1
                return depth
        return directory.flushed

    def all_of(self, value: int) -> Running:
        """Of the five, with what stands for them."""
        return (value, *(1 for _ in MATCHED[1:]))

    def demanded(self, directory: Directory | None) -> Running:
        """What pg_control says, while replay is paused for it."""
        return self.all_of(directory.demanded()) if self.short and directory is not None else ()

    def pending(self) -> tuple[Pending, ...]:
        file = self.file
        if file.value == self.running and not self.bad:
            return ()
        return (Pending(MATCHES, str(self.running), str(file.value)),)


def seen(agent: Agent) -> ConfigSeen:
    """What the daemon's `configuring` shows to the member decider."""
    facts, now = agent.replica.facts, agent.now
    if not facts.config:
        return ConfigSeen()
    others = {
        node: heard.report.server.matched
        for node, heard in agent.reports.items()
        if node != agent.node
        and node in facts.members
        and now - heard.at < agent.world.policy.detect_ms
        and heard.report.server.state in RUNNING
    }
    return ConfigSeen(parameters=agent.server.parameters.file.parameters, others=others)


# --- hands ---------------------------------------------------------------------------------------


def configure(agent: Agent, a: act.Configure) -> Task:
    """Files and a reload: what needs a restart waits for one."""
    yield 5 * MS
    agent.server.parameters.file = File(a.version, dict(a.parameters))
    agent.memory.told = a.version


def use_newest(agent: Agent) -> None:
    """As `act.configuring` does before a start."""
    version, failed = newest(agent.replica.facts), agent.memory.config_failed
    if version.version == agent.memory.told:
        return
    if failed is not None and failed.version == version.version:
        return
    agent.server.parameters.file = File(version.version, version.of(agent.node, leads=False))
    agent.memory.told = version.version


def start(agent: Agent, *, delay: int = 0) -> Task:
    """With the newest version; else with what it came up with before. delay: of its replay."""
    server, parameters = agent.server, agent.server.parameters
    use_newest(agent)
    for _ in range(ATTEMPTS):
        wanted = parameters.file
        server.start()
        server.apply_delay = delay
        yield from until_up(server)
        if server.proc is not None or wanted.parameters == parameters.ran.parameters:
            break
        parameters.file = parameters.ran
        agent.memory.told = parameters.ran.version
        ran = parameters.ran.version
        agent.memory.config_failed = ConfigFailed(wanted.version, "it did not come up", ran)
    if server.state in RUNNING:
        parameters.ran = parameters.file


def until_up(server: Server) -> Task:
    left = 10_000
    while server.state is State.STARTING and left > 0:
        yield 4 * MS
        left -= 4


def start_lower(agent: Agent) -> Task:
    """Before a promotion: started anew without hot standby, in which nothing is compared."""
    server, version = agent.server, newest(agent.replica.facts)
    yield agent.world.rng.randrange(200, 900) * MS
    if server.proc is None:
        raise Failed("it ended before it was promoted")
    server.parameters.file = File(version.version, version.of(agent.node, leads=True))
    server.parameters.running = server.parameters.file.value
    server.parameters.ran = server.parameters.file
    agent.memory.told = version.version
