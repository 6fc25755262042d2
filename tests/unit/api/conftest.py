"""A herd of real values: facts made by the real ledger, reports made by hand, no network."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import msgspec
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from pgherd.api.app import build_app
from pgherd.api.guard import ApiToken
from pgherd.api.herd import (
    JoinAnswer,
    JoinRefused,
    JoinRequest,
    NoQuorum,
    ProxySeen,
    RaftRole,
    RaftSeen,
)
from pgherd.api.views import FRESH_MS
from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import apply_command
from pgherd.model.activity import Transaction
from pgherd.model.checkup import Agent, NodeFacts, Told
from pgherd.model.credentials import Which
from pgherd.model.drill import DrillState, Measured
from pgherd.model.errors import OperatorError, PeerError, PostgresError
from pgherd.model.event import Event
from pgherd.model.facts import Address, Facts, Frozen, Handover, Kind, Phase
from pgherd.model.ids import Instant, Lsn, MemberKey, NodeId, Position, RaftId, Term, Timeline
from pgherd.model.nodelog import LevelNow, LevelWish, LogAsked, LogTold
from pgherd.model.observation import Heard, Observation, Receiver, Sender, Server, ServerSeen
from pgherd.model.pgconfig import ConfigAsked, ConfigChecked
from pgherd.model.probed import Probed
from pgherd.model.promises import Promises
from pgherd.model.reloaded import Reloaded
from pgherd.model.standbycluster import Remote, RemoteSeen
from pgherd.model.vitals import Vitals
from pgherd.peer.errors import PeerUnreachable
from pgherd.plan.splitbrain import Noticed, contradictions
from pgherd.plan.trail import Trail
from pgherd.telemetry.journal import Journal

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
UNIX_MS = 1_700_000_000_000
START = Lsn(0x3000000)
END = Lsn(0x4000000)
replace = msgspec.structs.replace

Reaction = Callable[["FakeHerd"], Awaitable[None]]


def key(node: NodeId) -> MemberKey:
    return MemberKey(node, f"aaaaa{node[1:]}")


def address(number: int) -> Address:
    return Address(
        host="127.0.0.1",
        raft_port=8300 + number,
        postgres_port=5442 + number,
        api_port=8008 + number,
        proxy_primary_port=6000 + number,
        proxy_replica_port=6100 + number,
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Schemathesis gives all operations of a test one id, of which pytest-xdist runs one alone."""
    for item in items:
        label = getattr(item, "operation_label", None)
        if label is not None:
            item._id = item._id.with_params(label)


class FakeEvents:
    """A journal in memory, and peers that tell when they are asked."""

    def __init__(self) -> None:
        self.journal = Journal(kept_max=50)
        self.elsewhere: list[Event] = []
        self.followers = 0

    async def gather(self) -> None:
        while self.elsewhere:
            self.journal.repeat(self.elsewhere.pop(0))

    @contextmanager
    def following(self) -> Iterator[None]:
        self.followers += 1
        try:
            yield
        finally:
            self.followers -= 1


class FakeOwn:
    """What nodes say about themselves, as tests set it; who is silent does not."""

    def __init__(self) -> None:
        self.silent: set[NodeId] = set()
        self.reloaded = Reloaded(status="reloaded")
        self.vitals = Vitals()
        self.proxies: dict[NodeId, ProxySeen] = {}
        self.told = Told(rate_limit=100)
        self.log = LogTold((), "")
        self.level = "info"
        self.asked: list[tuple[NodeId, object]] = []

    def _ask(self, node: NodeId, what: object) -> None:
        self.asked.append((node, what))
        if node in self.silent:
            raise PeerUnreachable(f"no connection to {node}", sent=False)

    async def reload_config(self, node: NodeId, who: str) -> Reloaded:
        self._ask(node, who)
        return self.reloaded

    async def node_vitals(self, node: NodeId) -> Vitals:
        self._ask(node, None)
        return self.vitals

    async def node_proxy(self, node: NodeId) -> ProxySeen | None:
        self._ask(node, None)
        return self.proxies.get(node)

    async def node_checkup(self, node: NodeId, quick: bool) -> NodeFacts:
        self._ask(node, quick)
        return NodeFacts(
            node=node,
            kind=Kind.DATA,
            version="9.9",
            quick=quick,
            told=self.told,
            agent=Agent(uptime_s=90_000),
            problems={"database": "it does not answer"},
        )

    async def node_logs(self, node: NodeId, asked: LogAsked) -> LogTold:
        self._ask(node, asked)
        return self.log

    async def log_level(self, node: NodeId, wish: LevelWish) -> LevelNow:
        self._ask(node, wish)
        self.level = wish.level or self.level
        return LevelNow(self.level, "info", wish.for_ms)


class FakeHerd:
    """Implements the port over the real ledger; tests set what the nodes report."""

    def __init__(self) -> None:
        self.node = N1
        self.told = FakeEvents()
        self.own = FakeOwn()
        self.primary_trail = Trail()
        self.clock_ms = 1_000_000
        self.unix_ms = UNIX_MS
        self.has_quorum = True
        self.lead = N2
        self.learners: tuple[RaftId, ...] = ()
        self.current = Facts(cluster="main")
        self.heard: dict[NodeId, Heard] = {}
        self.proxy_seen: ProxySeen | None = ProxySeen(
            healthy=True, backends={"primary": (N1,), "replica": (N2, N3)}
        )
        self.react: Reaction | None = None
        self.submitted: list[cmd.AnyCommand] = []
        self.joiner: Callable[[JoinRequest], Awaitable[JoinAnswer]] | None = None
        self.signer: Callable[[NodeId, str, int], tuple[str, str]] | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self.asked: ConfigAsked | None = None
        self.given: str | None = None
        self.silent: str | None = None
        self.checked: ConfigChecked | None = ConfigChecked()
        self.probed: dict[NodeId, tuple[Probed, ...]] = {N1: (Probed(UNIX_MS, "alive", 3),)}
        self.remote: tuple[RemoteSeen, ...] = ()
        self.asked_remote: tuple[NodeId, Remote] | None = None
        self.drill_problem: OperatorError | None = None
        self.drilled: list[cmd.BeginDrill] = []
        self.drill_obstacle: Callable[[], str] = str
        self.drills_take_ms: int | None = None
        self.transactions: dict[NodeId, tuple[Transaction, ...]] = {N1: (), N2: (), N3: ()}

    # the port

    def facts(self) -> Facts:
        return self.current

    def reports(self) -> dict[NodeId, Heard]:
        return self.heard

    def noticed(self) -> tuple[Noticed, ...]:
        fresh = {
            node: heard.report
            for node, heard in self.heard.items()
            if self.clock_ms - heard.at < FRESH_MS
        }
        found = contradictions(self.current, fresh, applied=40)
        return tuple(Noticed(one, UNIX_MS) for one in found if not one.patience_ms)

    def now(self) -> Instant:
        return Instant(self.clock_ms)

    def raft(self) -> RaftSeen:
        return RaftSeen(
            role=RaftRole.FOLLOWER,
            term=7,
            leader=self.lead if self.has_quorum else None,
            commit=41,
            applied=40,
            voters=tuple(
                member.raft_id
                for member in self.current.members.values()
                if member.raft_id not in self.learners
            ),
            learners=self.learners,
        )

    def trail(self) -> Trail:
        return self.primary_trail

    def explain(self) -> tuple[str, str]:
        return "nothing to do: n1 leads", ""

    def proxy(self) -> ProxySeen | None:
        return self.proxy_seen

    def events(self) -> FakeEvents:
        return self.told

    async def submit(self, command: cmd.AnyCommand, *, timeout_s: float) -> cmd.Outcome:
        if not self.has_quorum:
            raise NoQuorum("no Raft leader is known")
        self.submitted.append(command)
        outcome = self.apply(command)
        if self.react is not None and isinstance(outcome, cmd.Done):
            task = asyncio.get_running_loop().create_task(self.react(self))
            self.tasks.add(task)
        return outcome

    async def consistent(self, *, timeout_s: float) -> bool:
        return self.has_quorum

    async def transfer(self, to: NodeId, *, timeout_s: float) -> None:
        self.lead = to

    async def check_config(self, asked: ConfigAsked) -> ConfigChecked:
        self.asked = asked
        if self.checked is None:
            raise PostgresError("the cluster has no primary that could check them")
        return self.checked

    async def rotate(
        self, which: Which, *, secret: str, overlap_ms: int, author: str
    ) -> cmd.Outcome:
        if self.silent is not None:
            raise OperatorError(f"{self.silent} did not take it", f"start {self.silent}")
        self.given = secret
        now = self.current.credentials.get(which)
        generation = now.generation if now is not None else 0
        command = cmd.RotatePassword(which, generation, "f", author, overlap_ms)
        return await self.submit(command, timeout_s=1.0)

    async def long_transactions(self, node: NodeId, seconds: int) -> tuple[Transaction, ...]:
        found = self.transactions.get(node)
        if found is None:
            raise PostgresError("the server is hung")
        return tuple(one for one in found if one.seconds > seconds)

    async def probes(self, node: NodeId, limit: int) -> tuple[Probed, ...]:
        if node not in self.probed:
            raise PeerError(f"{node} did not answer")
        return self.probed[node][:limit]

    async def sign(self, node: NodeId, csr: str, days: int) -> tuple[str, str]:
        if self.signer is None:
            raise OperatorError(f"{self.node} cannot sign for {node}", "ask a data member")
        return self.signer(node, csr, days)

    async def ask_remote(self, node: NodeId, remote: Remote) -> tuple[RemoteSeen, ...]:
        self.asked_remote = (node, remote)
        return self.remote

    def drill_via(self) -> str:
        if self.drill_problem is not None:
            raise self.drill_problem
        return "proxy"

    def begin_drill(self, begun: cmd.BeginDrill, obstacle: Callable[[], str]) -> None:
        self.drilled.append(begun)
        self.drill_obstacle = obstacle
        if self.drills_take_ms is not None:
            self.end_drill(self.drills_take_ms)

    async def join(self, request: JoinRequest) -> JoinAnswer:
        if self.joiner is None:
            raise JoinRefused("token_unknown", "this cluster did not make this join token")
        return await self.joiner(request)

    # what tests do to it

    def apply(self, command: cmd.AnyCommand) -> cmd.Outcome:
        self.current, outcome = apply_command(self.current, command, at_ms=self.unix_ms)
        return outcome

    def must(self, *commands: cmd.AnyCommand) -> None:
        for command in commands:
            outcome = self.apply(command)
            assert isinstance(outcome, cmd.Done), outcome

    def report(self, node: NodeId, server: ServerSeen, *, at: int | None = None) -> None:
        member = self.current.members[node]
        if server.state is not Server.NONE and not server.system_id:
            server = replace(server, system_id=self.current.system_id)
        observation = Observation(
            node=node,
            raft_id=member.raft_id,
            sequence=1,
            server=server,
            promises=Promises(
                promise=self.current.term,
                adopted=self.current.term,
                adopted_leader=node if server.state is Server.PRIMARY else None,
                incarnation=key(node).incarnation,
            ),
            uptime_seconds=77,
            version="0.1.0",
            proxy_healthy=True,
        )
        arrived = Instant(self.clock_ms if at is None else at)
        self.heard[node] = Heard(report=observation, at=arrived)

    def report_server(self, node: NodeId, **changes: object) -> None:
        """Change what a node reports of its server."""
        heard = self.heard[node]
        server = replace(heard.report.server, **changes)
        self.heard[node] = replace(heard, report=replace(heard.report, server=server))

    def lease_left(self, node: NodeId, ms: int | None) -> None:
        """Change what a node reports of its lease."""
        heard = self.heard[node]
        self.heard[node] = replace(heard, report=replace(heard.report, lease_left_ms=ms))

    def silence(self, node: NodeId) -> None:
        """Nothing has been heard of a node for a minute."""
        self.age(node, 60_000)

    def age(self, node: NodeId, ms: int) -> None:
        """The newest report of a node is so old."""
        self.heard[node] = replace(self.heard[node], at=Instant(self.clock_ms - ms))

    def seal(self, node: NodeId, *, elector: NodeId) -> None:
        """A standby has promised the present term, and stands still where it is."""
        report, term = self.heard[node].report, self.current.term
        position = Position(Term(term - 1), Lsn(END - 8))
        server = replace(
            report.server,
            position=position,
            receiver=None,
            upstream=None,
            drained=True,
            system_id=self.current.system_id,
        )
        promises = Promises(
            promise=term,
            promise_elector=elector,
            incarnation=key(node).incarnation,
            frozen=Frozen(term, position),
        )
        sealed = replace(report, server=server, promises=promises)
        self.heard[node] = Heard(report=sealed, at=Instant(self.clock_ms))

    def primary(self, node: NodeId, *, replicas: tuple[NodeId, ...]) -> None:
        term = self.current.term
        senders = tuple(
            Sender(
                member=key(one),
                term=term,
                state="streaming",
                flush_lsn=END,
                replay_lsn=Lsn(END - 8),
            )
            for one in replicas
        )
        names = "ANY 1 (" + ", ".join(f'"{key(one).token(term)}"' for one in replicas) + ")"
        self.report(
            node,
            ServerSeen(
                state=Server.PRIMARY,
                major=15,
                timeline=Timeline(term),
                position=Position(term, END),
                insert_lsn=END,
                senders=senders,
                names=names,
            ),
        )
        self.lease_left(node, 9000)

    def replica(self, node: NodeId, *, leader: NodeId, behind: int = 8) -> None:
        term = self.current.term
        self.report(
            node,
            ServerSeen(
                state=Server.STANDBY,
                major=15,
                timeline=Timeline(term),
                position=Position(term, Lsn(END - behind)),
                upstream=leader,
                upstream_term=term,
                receiver=Receiver(upstream=leader, term=term, status="streaming", flush_lsn=END),
            ),
        )

    def everybody(self, leader: NodeId) -> None:
        """All nodes report health around this leader."""
        others = tuple(sorted(set(self.current.members) - {leader}))
        self.primary(leader, replicas=others)
        for one in others:
            self.replica(one, leader=leader)

    def end_drill(self, outage_ms: int, *, missing: int = 0, to: NodeId = N2) -> None:
        """The newest drill that was begun ends with another primary."""
        state = DrillState.FAILED if missing else DrillState.DONE
        text = f"{missing} acknowledged rows are missing" if missing else f"{to} leads"
        found = Measured(outage_ms, acknowledged=80, failed=2, missing=missing)
        self.must(cmd.EndDrill(self.drilled[-1].id, state, text, new_primary=to, measured=found))

    def elect(
        self, leader: NodeId, *, rule: int, reason: str, handover: Handover | None = None
    ) -> None:
        """Begin, elect and establish a term, as the herd decider would."""
        others = tuple(sorted(key(one) for one in self.current.members if one != leader))
        term = Term(self.current.term + 1)
        first = not self.current.history
        voters = () if first else others
        self.must(
            cmd.Begin(
                expected=self.current.term,
                elector=N2,
                rule=rule,
                reason=reason,
                handover=handover,
            )
        )
        start = Position(Term(term - 1), START)
        self.must(
            cmd.Elect(
                term=term,
                elector=N2,
                winner=key(leader),
                start=start,
                promoted=True,
                voters=voters,
                k=0 if first else 1,
                rule=rule,
                reason=reason,
                lease_ttl_ms=10_000,
            ),
            cmd.Establish(
                term=term, timeline=Timeline(term), epoch_record_end=Lsn(START + 64), names=voters
            ),
        )


def make_herd() -> FakeHerd:
    """Three data members, n1 leads epoch 2 over n2 and n3, all is well."""
    herd = FakeHerd()
    for number, node in enumerate((N1, N2, N3), start=1):
        herd.must(cmd.AddMember(node=node, kind=Kind.DATA, address=address(number)))
    herd.must(
        cmd.ChooseFounder(node=N1),
        cmd.Born(
            node=N1, incarnation=key(N1).incarnation, system_id="7300000000000000001", major=15
        ),
        cmd.RegisterIncarnation(node=N2, incarnation=key(N2).incarnation),
        cmd.RegisterIncarnation(node=N3, incarnation=key(N3).incarnation),
    )
    herd.elect(N1, rule=103, reason="the cluster begins")
    herd.elect(N1, rule=202, reason="n1 was silent and came back")
    assert herd.current.phase is Phase.STABLE
    herd.everybody(N1)
    return herd


def make_app(herd: FakeHerd, **more: object) -> FastAPI:
    """The application over a herd, with the fake's wall clock."""
    options: dict[str, object] = {"version": "0.1.0", "unix_s": lambda: herd.unix_ms / 1000}
    return build_app(herd, **{**options, **more})  # type: ignore[arg-type]


@pytest.fixture
def herd() -> FakeHerd:
    return make_herd()


@pytest.fixture
def client(herd: FakeHerd) -> TestClient:
    return TestClient(make_app(herd), raise_server_exceptions=False)


@pytest.fixture
def make_client() -> Callable[..., TestClient]:
    def make(herd: FakeHerd, *, tokens: tuple[ApiToken, ...] = (), **more: object) -> TestClient:
        app = make_app(herd, tokens=tokens, **more)
        return TestClient(app, raise_server_exceptions=False)

    return make
