"""A check-up of this node: its facts gathered, for whoever asks any node, and without a daemon too.

Owns the order of gathering, that it ends whatever hangs, and that there is one check-up at a time:
who asks while one runs, or soon after its end, gets the same facts, so that no more than a third of
the time goes to them. A part that fails says why and spoils no other. With a daemon the node looks
at itself every EVERY_S, briefly, for its metric. The facts are `observe.doctor`'s, their meaning
`plan.doctor`'s.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pgherd import __version__
from pgherd.config.load import load
from pgherd.config.problems import ConfigError
from pgherd.config.reload import diff
from pgherd.config.settings import Settings
from pgherd.daemon import certificates
from pgherd.daemon.asking import Question
from pgherd.daemon.looking import Looking
from pgherd.daemon.memberfile import read_member
from pgherd.ledger.levels import LEVEL
from pgherd.model.checkup import (
    Agent,
    CertificateSeen,
    ClockSeen,
    Database,
    LoginSeen,
    NodeFacts,
    Process,
    Reached,
    Told,
    Way,
)
from pgherd.model.errors import PgherdError
from pgherd.model.facts import Address, Kind
from pgherd.model.ids import NodeId
from pgherd.model.standbycluster import Source
from pgherd.observe.doctor import database, files, machine, places, ways
from pgherd.plan.doctor import checks
from pgherd.postgres.session import Login, Session
from pgherd.telemetry import logs
from pgherd.telemetry.boottime import now_ms, until_next

if TYPE_CHECKING:
    from pgherd.daemon.build import Node

log = logs.get("daemon")

CHECKUP, CLOCK = "checkup", "clock"
ASK_S = 25.0
CLOCK_S = 2.0
KEPT_S = 3.0
EVERY_S = 600.0
FIRST_S = 60.0
LOOKS_S = 8.0
LOOK_LEAST_S = 0.5
DATABASE_S = 8.0
STATEMENT_MS = 2_000
LOGINS_S = 8.0
LOGINS_AT_ONCE = 4
"""Each is a program of its own."""
assert CLOCK_S + max(LOOKS_S, DATABASE_S) + LOGINS_S < ASK_S, "nobody asks in vain"
NOT_RUNNING = "the daemon of this node does not run"

Checkups = Question[bool, NodeFacts]
Clocks = Question[None, float]


class Gathering:
    """Facts of one node, part by part."""

    def __init__(self, settings: Settings, config: Path, looking: Looking, *, quick: bool) -> None:
        self.settings, self.config = settings, config
        self._looking, self._until = looking, time.monotonic() + LOOKS_S
        self.parts: dict[str, Any] = {}
        self.problems: dict[str, str] = {}
        self.quick = quick

    async def take(self, name: str, part: Awaitable[Any]) -> None:
        """One part, or why it is not there."""
        try:
            self.parts[name] = await part
        except (PgherdError, OSError, ValueError, TimeoutError) as error:
            self.problems[name] = str(error) or f"no answer in time ({type(error).__name__})"
        except Exception as error:
            log.error("checkup.broken", part=name, exc_info=error)
            self.problems[name] = f"a mistake of pgherd's own: {error!r}"

    async def look(self, name: str, look: Callable[[], Any]) -> None:
        """One part that a disk may keep, within what is left of the time for all of them."""
        left_s = max(LOOK_LEAST_S, self._until - time.monotonic())
        await self.take(name, self._looking.at(look, limit_s=left_s))

    async def of_disk_and_kernel(self) -> None:
        """What needs nobody else."""
        settings, quick = self.settings, self.quick
        await self.look("machine", machine.look)
        await self.look("certificates", partial(certificates_of, settings))
        await self.look("files", partial(files.look, settings, self.config))
        await self.look("places", partial(places.look, places_of(settings), quick=quick))

    async def of_database(self, login: Login, roles: tuple[str, ...]) -> None:
        """What its own server says, if it does: in a session that nobody else waits for."""

        async def asked() -> Database:
            session = Session(login, statement_timeout_ms=STATEMENT_MS)
            try:
                async with asyncio.timeout(DATABASE_S):
                    return await database.look(session, roles=roles)
            finally:
                await session.close()

        await self.take("database", asked())

    def facts(self) -> NodeFacts:
        """All that was had."""
        return NodeFacts(
            node=NodeId(self.settings.node.name),
            kind=self.settings.kind,
            version=__version__,
            level=LEVEL,
            quick=self.quick,
            problems=self.problems,
            **self.parts,
        )


async def without_daemon(settings: Settings, config: Path, *, quick: bool) -> NodeFacts:
    """What can be known of a node whose daemon does not run; only from its own machine."""
    made = Gathering(settings, config, Looking(), quick=quick)
    made.parts["told"] = told(settings, config, in_force=None)
    await made.look("processes", partial(server_process, settings))
    await made.of_disk_and_kernel()
    member = read_member(
        settings.raft.data_dir, cluster=settings.cluster.name, node=NodeId(settings.node.name)
    )
    others = (
        {one.node: one.address for one in member.members if one.node != member.node}
        if (member is not None)
        else {}
    )
    await made.take("ways", ways.try_all(others))
    if settings.kind is Kind.DATA:
        await made.of_database(login_of(settings), roles_of(settings))
    for part in ("agent", "clocks", "logins"):
        made.problems[part] = NOT_RUNNING
    return made.facts()


class Checkup:
    """Of a node whose daemon runs."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._began = time.monotonic()
        self._turn = asyncio.Lock()
        self._looking = Looking()
        self._logging_in = asyncio.Semaphore(LOGINS_AT_ONCE)
        self._kept: NodeFacts | None = None
        self._kept_until = 0.0
        ask = node.peers.request
        self.clocks = Clocks(
            CLOCK, type(None), float, me=node.me, here=wall_ms, ask=ask, timeout_s=CLOCK_S
        )
        self.asked = Checkups(
            CHECKUP, bool, NodeFacts, me=node.me, here=self.facts, ask=ask, timeout_s=ASK_S
        )

    async def run(self) -> None:
        """Now and then, briefly, for the metric; until cancelled."""
        await asyncio.sleep(until_next(FIRST_S))
        while True:
            try:
                async with self._turn:
                    self._count(await self._gather(quick=True, asked=False))
            except Exception as error:
                log.error("checkup.failed", exc_info=error)
            await asyncio.sleep(until_next(EVERY_S))

    async def facts(self, quick: bool) -> NodeFacts:
        """This node's; those of just now serve again."""
        async with self._turn:
            kept, began = self._kept, time.monotonic()
            if kept is None or began >= self._kept_until or (kept.quick and not quick):
                kept = self._kept = await self._gather(quick=quick, asked=True)
                ended = time.monotonic()
                self._kept_until = ended + max(KEPT_S, 2 * (ended - began))
                self._count(kept)
            return msgspec.structs.replace(kept, quick=quick)

    def _count(self, facts: NodeFacts) -> None:
        """For the metric."""
        self._node.metrics.checked(checks.counts(checks.of_node(facts)))

    async def _gather(self, *, quick: bool, asked: bool) -> NodeFacts:
        """asked: by somebody; else no connection is opened that is not open anyway."""
        node = self._node
        made = Gathering(node.settings, Path(node.config), self._looking, quick=quick)
        await made.take("agent", self._agent())
        own = node.agent.heard().get(node.me)
        made.parts["report"] = own.report if own is not None else None
        others = {m.node: m for m in node.agent.facts.members.values() if m.node != node.me}
        addresses = {name: member.address for name, member in others.items()}
        await made.take("clocks", self._all_clocks(list(others)))
        await asyncio.gather(
            self._of_files(made),
            made.take("ways", self._ways(addresses) if asked else self._known_ways(addresses)),
            self._of_server(made),
        )
        if node.server is not None and not quick:
            data = {n: m.address for n, m in others.items() if m.kind is Kind.DATA}
            await made.take("logins", self._logins(data, made.parts.get("ways", ())))
        return made.facts()

    async def _of_files(self, made: Gathering) -> None:
        settings = self._node.settings
        await made.look("told", partial(told, settings, made.config, in_force=settings))
        await made.look("processes", self._processes)
        await made.of_disk_and_kernel()

    async def _of_server(self, made: Gathering) -> None:
        server = self._node.server
        if server is not None:
            own = server.settings
            roles = (own.superuser, own.replication_role, own.rewind_role)
            await made.of_database(server.login, roles)

    async def _ways(self, addresses: Mapping[NodeId, Address]) -> tuple[Way, ...]:
        """Every port, and how long the peer channel really takes."""
        found = await ways.try_all(addresses)
        took = self._node.peers.rtt_s()
        return tuple(
            msgspec.structs.replace(one, took_ms=took[NodeId(one.node)] * 1000)
            if one.channel == "raft" and NodeId(one.node) in took
            else one
            for one in found
        )

    async def _known_ways(self, addresses: Mapping[NodeId, Address]) -> tuple[Way, ...]:
        """Every port that `vitals` looks at anyway, as it found it last."""
        found = []
        for one in self._node.telling.vitals.now().peers:
            where = ways.channels(addresses[one.node]) if one.node in addresses else {}
            if one.channel in where:
                outcome = Reached.OK if one.is_up else Reached.FAILED
                way = Way(one.node, one.channel, *where[one.channel], outcome, one.rtt_ms)
                found.append(msgspec.structs.replace(way, problem=one.problem))
        return tuple(found)

    async def _all_clocks(self, others: list[NodeId]) -> tuple[ClockSeen, ...]:
        return tuple(await asyncio.gather(*(self._clock(one) for one in others)))

    async def _clock(self, other: NodeId) -> ClockSeen:
        """What its clock shows, against the middle of the question's way there and back."""
        began = time.monotonic()
        before = await wall_ms(None)
        try:
            theirs = await self.clocks.at(other, None)
        except PgherdError as error:
            return ClockSeen(other, problem=error.message)
        half_ms = (time.monotonic() - began) * 500
        return ClockSeen(other, ahead_ms=theirs - (before + half_ms), error_ms=half_ms)

    async def _logins(
        self, data: Mapping[NodeId, Address], tried: tuple[Way, ...]
    ) -> tuple[LoginSeen, ...]:
        """A login for replication at each, as a standby of it would; where its port answers."""
        closed = {
            one.node: f"port {one.port} {one.outcome.value}: {one.problem}"
            for one in tried
            if one.channel == "postgresql" and one.outcome is not Reached.OK
        }

        async def one(node: NodeId, address: Address) -> LoginSeen:
            return LoginSeen(node, closed.get(node) or await self._login(node, address))

        return tuple(await asyncio.gather(*(one(*pair) for pair in sorted(data.items()))))

    async def _login(self, node: NodeId, address: Address) -> str:
        """What is in the way of one login; "" where nothing is."""
        from pgherd.postgres.remote import ask

        server = self._node.server
        assert server is not None, "logins are tried by who has one"
        try:
            async with asyncio.timeout(LOGINS_S), self._logging_in:
                [seen] = await ask(server, Source((address.postgres(),), slot="", node=node))
        except (PgherdError, TimeoutError) as error:
            return str(error) or f"no answer in {LOGINS_S:g} s"
        return seen.problem

    def _processes(self) -> tuple[Process, ...]:
        """The agent, the proxy, the postmaster, as far as they run."""
        node = self._node
        own = machine.of_process("agent", os.getpid())
        found = [machine.with_starter(own, dict(os.environ))]
        counters = node.control.counters() if node.control is not None else None
        if counters is not None:
            found.append(machine.of_process("proxy", counters.pid))
        return (*found, *server_process(node.settings))

    async def _agent(self) -> Agent:
        node = self._node
        control = node.control
        counters = control.counters() if control is not None else None
        lines = (logs.outputs().dropped, node.journal.dropped)
        warded = node.warding.warnings(now=now_ms())
        return Agent(
            uptime_s=int(time.monotonic() - self._began),
            oom_kills=node.telling.vitals.now().oom_kills,
            dropped=sum(lines),
            engine=counters.engine if counters is not None else "",
            proxy_healthy=control.healthy() if control is not None else None,
            watchdog=next((text for text in warded if text.startswith("it has no watchdog")), ""),
            hosts={m.node: m.address.host for m in node.agent.facts.members.values()},
            api_tokens=len(node.agent.facts.rights.tokens),
            amnesia=node.amnesia.text() if node.amnesia is not None else "",
        )


async def wall_ms(_: None) -> float:
    """This node's wall clock."""
    return time.time() * 1000


def told(settings: Settings, config: Path, *, in_force: Settings | None) -> Told:
    """What the configuration says, and whether its file says the same now."""
    problem = ""
    changed: tuple[str, ...] = ()
    try:
        new = load(str(config), os.environ)
    except ConfigError as error:
        problem = "; ".join(f"{one.place}: {one.key}: {one.message}" for one in error.problems)
    except PgherdError as error:
        problem = error.message
    else:
        if in_force is not None:
            changed = tuple(one.key for one in diff(in_force, new))
    failover = settings.failover
    ttl = failover.lease_ttl_ms
    return Told(
        address=settings.node.address.advertised("raft"),
        api_host=settings.api_bind(),
        api_tls=settings.api.tls is not None,
        api_guarded=bool(settings.api.tokens or settings.api.clients),
        rate_limit=settings.api.rate_limit,
        protect_reads=settings.api.protect_reads,
        postgres_tls=settings.postgresql.tls is not None,
        failover_enabled=failover.enabled,
        detect_ms=failover.detect_ms,
        lease_ttl_ms=ttl if isinstance(ttl, int) else 5000,
        max_lag_bytes=failover.max_lag_bytes,
        min_free_bytes=failover.min_free_disk_bytes,
        watchdog=str(failover.watchdog),
        log_level=settings.log.level,
        heartbeat_ms=settings.raft.heartbeat_ms,
        engine=settings.proxy.engine,
        has_listeners=bool(settings.proxy.listeners),
        file_problem=problem,
        changed=tuple(changed),
    )


def places_of(settings: Settings) -> dict[str, Path]:
    """The directories whose disks matter."""
    found = {"raft": settings.raft.data_dir}
    if settings.has_server:
        data = settings.postgresql.data_dir
        found |= {"data": data, "wal": data / "pg_wal"}
    return found


def certificates_of(settings: Settings) -> tuple[CertificateSeen, ...]:
    """Every certificate of a configuration, read now."""

    async def nobody() -> None:
        return None

    watch = certificates.CertificateWatch(settings, renewed=nobody)
    now = time.time()
    return tuple(
        CertificateSeen(
            name,
            one.path,
            seconds_left=one.validity.ends_s - now if one.validity is not None else None,
            problem=one.problem or ("it is not valid yet" if begins_later(one, now) else ""),
        )
        for name, one in watch.read().items()
    )


def begins_later(one: certificates.Seen, now: float) -> bool:
    return one.validity is not None and one.validity.begins_s > now


def server_process(settings: Settings) -> tuple[Process, ...]:
    """The postmaster, by its own file."""
    if not settings.has_server:
        return ()
    try:
        first = (settings.postgresql.data_dir / "postmaster.pid").read_text().split("\n", 1)[0]
        return (machine.of_process("postgresql", int(first)),)
    except (OSError, ValueError):
        return ()


def login_of(settings: Settings) -> Login:
    """How the server of a configuration is asked from its own machine."""
    pg = settings.postgresql
    return Login(str(pg.socket_directory()), pg.port, pg.superuser.username, pg.database)


def roles_of(settings: Settings) -> tuple[str, ...]:
    pg = settings.postgresql
    return pg.superuser.username, pg.replication.username, pg.rewind.username
