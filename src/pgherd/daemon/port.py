"""The agent as the API sees it, and the way of a command through consensus from any node.

A command is never forwarded by the core: this node asks the Raft leader's agent, which proposes it
under the asker's own (client, seq), so that asking again cannot apply it twice.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from pgherd.api.herd import (
    Herd,
    JoinAnswer,
    JoinRequest,
    NoQuorum,
    ProxySeen,
    RaftRole,
    RaftSeen,
    TimedOut,
)
from pgherd.api.joining import Joiner
from pgherd.api.nodeport import NodePort
from pgherd.daemon import probes, readmitting, standbycluster, telling, translate
from pgherd.daemon.activity import TRANSACTIONS, Activity
from pgherd.daemon.agent import Agent
from pgherd.daemon.cancels import CANCEL
from pgherd.daemon.checking import CHECK_CONFIG, ConfigCheck
from pgherd.daemon.consensus import NotLeader
from pgherd.daemon.drilling import DRILL_KILL, Drilling
from pgherd.daemon.gathering import EVENTS, Gatherer
from pgherd.daemon.hooking import MARKS
from pgherd.daemon.meanings import MEANINGS
from pgherd.daemon.probes import PROBES, Probes
from pgherd.daemon.readmitting import NOT_LEADER, READMIT
from pgherd.daemon.rotating import Rotation
from pgherd.daemon.secretbook import ASK_SECRET, GIVE_SECRET
from pgherd.daemon.signing import SIGN, Signing
from pgherd.daemon.standbycluster import REMOTE, RemoteQuestion
from pgherd.daemon.verifiers import VERIFIERS
from pgherd.ledger.commands import AnyCommand, BeginDrill, Outcome, Proposal
from pgherd.model.activity import Transaction
from pgherd.model.credentials import Which
from pgherd.model.errors import OperatorError, PeerError, PostgresError
from pgherd.model.facts import Facts
from pgherd.model.ids import Instant, NodeId, RaftId
from pgherd.model.observation import Heard
from pgherd.model.pgconfig import ConfigAsked, ConfigChecked
from pgherd.model.probed import Probed
from pgherd.model.standbycluster import Remote, RemoteSeen
from pgherd.peer.errors import PeerRefused
from pgherd.peer.peers import Peers
from pgherd.plan.splitbrain import Noticed
from pgherd.plan.trail import Trail
from pgherd.relay.control import ProxyControl
from pgherd.route.choose import Snapshot
from pgherd.telemetry.boottime import now_ms, unix_ms

if TYPE_CHECKING:
    from pgherd.daemon.build import Node

RETRY_S = 0.1
PROPOSE = "propose"
READ_INDEX = "read-index"
WAS_REMOVED = "was-removed"
TRANSFER = "transfer"


class Answer(msgspec.Struct, frozen=True):
    """What the Raft leader's agent answers to a proposal."""

    outcome: Outcome
    applied: int


class Requests:
    """What this node answers to its peers. server: the kinds that its own server has to answer ·
    asker: those whose answer is for who asks alone.
    """

    def __init__(
        self,
        agent: Callable[[], Agent],
        server: Mapping[str, Callable[[bytes], Awaitable[bytes]]],
        asker: Mapping[str, Callable[[NodeId, bytes], Awaitable[bytes]]] | None = None,
    ) -> None:
        self._agent = agent
        self._server = server
        self._asker = asker or {}

    async def answer(self, node: NodeId, kind: str, body: bytes) -> bytes:
        """Answer one request of a peer."""
        consensus = self._agent().consensus
        try:
            if kind == READMIT:
                return readmitting.answer(self._agent(), node, body)
            if kind == WAS_REMOVED:
                asker = msgspec.msgpack.decode(body, type=int)
                removed = consensus.replica.facts.was_removed(RaftId(asker))
                return msgspec.msgpack.encode(removed)
            if kind == TRANSFER:
                consensus.hand_to(NodeId(msgspec.msgpack.decode(body, type=str)))
                return b""
            if kind in self._asker:
                return await self._asker[kind](node, body)
            if kind in self._server:
                return await self._server[kind](body)
            if kind == PROPOSE:
                proposal = msgspec.msgpack.decode(body, type=Proposal)
                outcome = await consensus.propose(proposal)
                return msgspec.msgpack.encode(Answer(outcome, consensus.replica.node.applied))
            if kind == READ_INDEX:
                await consensus.read_index()
                return msgspec.msgpack.encode(consensus.replica.node.applied)
        except NotLeader as error:
            raise PeerRefused(f"{NOT_LEADER}: {error}") from error
        except (OperatorError, PostgresError) as error:
            raise PeerRefused(str(error)) from error
        except msgspec.ValidationError as error:
            raise PeerRefused(f"this node's pgherd does not understand it: {error}") from error
        raise PeerRefused(f"unknown request {kind}")


class Port(Herd):
    """One agent behind the API."""

    def __init__(
        self,
        agent: Agent,
        *,
        peers: Peers,
        gatherer: Gatherer,
        control: ProxyControl | None,
        snapshot: Callable[[], Snapshot],
        joiner: Callable[[Port], Joiner | None],
        check: ConfigCheck,
        rotation: Rotation,
        activity: Activity,
        probed: Probes,
        own: NodePort,
        signing: Signing,
        remote: RemoteQuestion,
        drilling: Drilling,
    ) -> None:
        self.node, self.own = agent.me, own
        self._agent = agent
        self._peers = peers
        self._gatherer = gatherer
        self._control = control
        self._snapshot = snapshot
        self._joiner = joiner(self)
        self._check = check
        self._rotation = rotation
        self._activity = activity
        self.probed = probed
        self._signing = signing
        self.remote = remote
        self._drilling = drilling

    def facts(self) -> Facts:
        return self._agent.facts

    def reports(self) -> dict[NodeId, Heard]:
        return self._agent.heard()

    def noticed(self) -> tuple[Noticed, ...]:
        return self._agent.split_brain.noticed

    def now(self) -> Instant:
        return now_ms()

    def trail(self) -> Trail:
        return self._agent.reports.trail

    def raft(self) -> RaftSeen:
        status = self._agent.consensus.replica.status()
        role = RaftRole.CANDIDATE if status.role == "precandidate" else RaftRole(status.role)
        if status.id in status.conf.learners:
            role = RaftRole.LEARNER
        if self._agent.removed:
            role = RaftRole.REMOVED
        amnesia = self._agent.amnesia()
        if amnesia:
            role = RaftRole.AMNESIA
        return RaftSeen(
            role=role,
            term=status.term,
            leader=None if self._agent.removed else self._agent.consensus.replica.leader_node(),
            commit=status.commit,
            applied=status.applied,
            voters=tuple(status.conf.voters),  # type: ignore[arg-type] # the core counts in int
            learners=tuple(status.conf.learners),  # type: ignore[arg-type] # the same
            amnesia=amnesia,
        )

    def explain(self) -> tuple[str, str]:
        planned, decided = self._agent.planned, self._agent.decided
        return f"rule {planned.rule}: {planned.reason}", (
            f"rule {decided.rule}: {decided.reason}" if decided.rule else ""
        )

    def proxy(self) -> ProxySeen | None:
        if self._control is None:
            return None
        counters = self._control.counters()
        if counters is None:
            return None
        return ProxySeen(
            healthy=self._control.healthy(),
            sessions=counters.sessions,
            held=counters.held,
            moved=counters.moved_total,
            opened=counters.opened,
            errors=counters.errors,
            bytes_from_clients=counters.bytes_from_clients,
            bytes_from_servers=counters.bytes_from_servers,
            backends=self._routes(),
            engine=counters.engine,
            queries=counters.queries,
            routed=counters.routed,
            hold_counts=counters.hold_counts,
            held_ms=counters.held_ms_total,
            pools=counters.pools,
        )

    def _routes(self) -> dict[str, tuple[NodeId, ...]]:
        """Where the proxy may send sessions now."""
        given = self._snapshot()
        primary = (given.primary.name,) if given.primary is not None else ()
        replicas = tuple(backend.name for backend in given.replicas if backend.usable)
        return {"primary": primary, "replica": replicas}

    def events(self) -> Gatherer:
        return self._gatherer

    async def submit(self, command: AnyCommand, *, timeout_s: float) -> Outcome:
        client = f"{self.node}-{secrets.token_hex(8)}"
        seen = self._agent.consensus.replica.node.applied
        proposal = Proposal(client, 1, unix_ms(), command, seen)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._until_done(proposal)
        except TimeoutError as error:
            leader = self._agent.consensus.replica.leader_node()
            if leader is None:
                raise NoQuorum("consensus has no leader", "pgherd status") from error
            raise TimedOut("the command was not committed in time", "pgherd status") from error

    async def _until_done(self, proposal: Proposal) -> Outcome:
        consensus = self._agent.consensus
        body = consensus.replica.encode(proposal)
        strangers = itertools.cycle(self._peers.connected() or [None])
        while True:
            # Who moved to another address hears of no leader until the leader knows of the move.
            leader = consensus.replica.leader_node() or next(strangers)
            try:
                if leader == self.node:
                    return await consensus.propose(proposal)
                if leader is not None:
                    raw = await self._peers.request(leader, PROPOSE, body, timeout_s=3.0)
                    answer = msgspec.msgpack.decode(raw, type=Answer)
                    await consensus.applied(answer.applied)
                    return answer.outcome
            except (NotLeader, PeerError):
                pass  # a retry under the same (client, seq) cannot apply it twice
            await asyncio.sleep(RETRY_S)

    async def consistent(self, *, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    if await self._read_once():
                        return True
                    await asyncio.sleep(RETRY_S)
        except TimeoutError:
            return False

    async def _read_once(self) -> bool:
        consensus = self._agent.consensus
        leader = consensus.replica.leader_node()
        try:
            if leader == self.node:
                await consensus.read_index()
                return True
            if leader is not None:
                raw = await self._peers.request(leader, READ_INDEX, b"", timeout_s=2.0)
                await consensus.applied(msgspec.msgpack.decode(raw, type=int))
                return True
        except (NotLeader, PeerError):
            pass  # asked again until the time is up
        return False

    async def transfer(self, to: NodeId, *, timeout_s: float) -> None:
        body = msgspec.msgpack.encode(to)
        replica = self._agent.consensus.replica
        try:
            async with asyncio.timeout(timeout_s):
                while (leader := replica.leader_node()) != to:
                    try:
                        if leader == self.node:
                            self._agent.consensus.hand_to(to)
                        elif leader is not None:
                            await self._peers.request(leader, TRANSFER, body, timeout_s=2.0)
                    except (NotLeader, PeerError):
                        pass  # leadership is on the move; asking the next leader again is harmless
                    await asyncio.sleep(RETRY_S)
        except TimeoutError as error:
            if replica.leader_node() is None:
                raise NoQuorum("consensus has no leader", "pgherd status") from error
            raise TimedOut(f"{to} did not take over", "pgherd raft peers") from error

    async def was_removed(self, peer: NodeId, raft_id: RaftId, timeout_s: float) -> bool:
        """Whether a peer knows that this Raft id is nobody's any more. Raises PeerError."""
        body = msgspec.msgpack.encode(int(raft_id))
        raw = await self._peers.request(peer, WAS_REMOVED, body, timeout_s=timeout_s)
        return msgspec.msgpack.decode(raw, type=bool)

    async def readmit(self, peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        """Ask a peer for this node's re-admission. Raises PeerError."""
        return await self._peers.request(peer, READMIT, body, timeout_s=timeout_s)

    async def check_config(self, asked: ConfigAsked) -> ConfigChecked:
        return await self._check.of(asked)

    async def long_transactions(self, node: NodeId, seconds: int) -> tuple[Transaction, ...]:
        return await self._activity.at(node, seconds)

    async def probes(self, node: NodeId, limit: int) -> tuple[Probed, ...]:
        return await self.probed.at(node, limit)

    async def ask_remote(self, node: NodeId, remote: Remote) -> tuple[RemoteSeen, ...]:
        return await self.remote.at(node, remote)

    async def rotate(self, which: Which, *, secret: str, overlap_ms: int, author: str) -> Outcome:
        return await self._rotation.begin(
            which, secret=secret, overlap_ms=overlap_ms, author=author
        )

    async def sign(self, node: NodeId, csr: str, days: int) -> tuple[str, str]:
        return await self._signing.certificate(node, csr, days)

    def drill_via(self) -> str:
        return self._drilling.via()

    def begin_drill(self, begun: BeginDrill, obstacle: Callable[[], str]) -> None:
        self._drilling.begin(begun, obstacle)

    async def join(self, request: JoinRequest) -> JoinAnswer:
        if self._joiner is None:
            raise NoQuorum("this node has no certificate authority", "ask another member")
        return await self._joiner.admit(request)


def answering(node: Node) -> Requests:
    """What a node answers to its peers; its parts may be made later."""
    return Requests(
        lambda: node.agent,
        {
            VERIFIERS: lambda body: node.verifiers.answer(body),
            MEANINGS: lambda body: node.meanings.answer(body),
            CANCEL: lambda body: node.cancels.answer(body),
            CHECK_CONFIG: lambda body: node.check.answer(body),
            TRANSACTIONS: lambda body: node.activity.answer(body),
            PROBES: lambda body: node.port.probed.answer(body),
            EVENTS: lambda body: node.gatherer.answer(body),
            MARKS: lambda body: node.hooks.answer(body),
            REMOTE: lambda body: node.port.remote.answer(body),
            DRILL_KILL: lambda body: node.drilling.answer(body),
            GIVE_SECRET: lambda body: node.rotation.answer(GIVE_SECRET, body),
            ASK_SECRET: lambda body: node.rotation.answer(ASK_SECRET, body),
            **{kind: partial(telling.answer, node, kind) for kind in telling.KINDS},
        },
        {SIGN: lambda asker, body: node.securing.signing.answer(asker, body)},
    )


def attached(node: Node, *, snapshot: Callable[[], Snapshot]) -> Port:
    """The port of a node whose parts are made."""
    return Port(
        node.agent,
        peers=node.peers,
        gatherer=node.gatherer,
        control=node.control,
        snapshot=snapshot,
        joiner=lambda port: translate.joiner(lambda: node.settings, port.facts, port.submit),
        check=node.check,
        activity=node.activity,
        probed=probes.attach(node),
        remote=standbycluster.attach(node),
        rotation=node.rotation,
        own=node.telling,
        signing=node.securing.signing,
        drilling=node.drilling,
    )
