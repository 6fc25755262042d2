"""Prove over real sockets that a snapshot larger than a frame brings a node up to date, and that
nodes of this version and of the next one are one cluster.

"The next one" is made here: it greets with a newer protocol and one field more, adds fields to
every Raft message and report, sends kinds of frames, messages and requests that are unknown now,
and has a command of the ledger that only it understands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from waiting import until

from pgherd.daemon.consensus import Consensus
from pgherd.daemon.port import PROPOSE, Requests
from pgherd.ledger import commands as cmd
from pgherd.ledger import levels
from pgherd.ledger.apply import HANDLERS
from pgherd.ledger.levels import CommandTooNew, TooOld
from pgherd.ledger.machine import Ledger
from pgherd.ledger.outcome import note
from pgherd.model.errors import PgherdError
from pgherd.model.facts import Address, Facts, Kind, Member
from pgherd.model.ids import NodeId, RaftId
from pgherd.model.observation import Observation, ServerSeen
from pgherd.model.promises import Promises
from pgherd.peer import frame as frames
from pgherd.peer.errors import PeerRefused
from pgherd.peer.frame import HEADER, Hello, Lane
from pgherd.peer.link import Link
from pgherd.peer.peers import Peers
from pgherd.raft.types import Msg
from pgherd.store.base import Identity, Store
from pgherd.store.memory import MemoryDisk, MemoryStore
from pgherd.store.replica import Replica, give_birth
from pgherd.store.sqlite import SqliteStore

A, B, C = (NodeId(name) for name in "abc")
TICK_MS = 50
DEADLINE_S = 15.0
CHANNEL_OF_TOMORROW = 77
NEXT = levels.LEVEL + 1


class Praise(cmd.Command, frozen=True, tag=True):
    """A command of tomorrow."""

    text: str


class NextProposal(cmd.Proposal, frozen=True):
    """It may hold more kinds of commands."""

    command: cmd.AnyCommand | Praise  # type: ignore[assignment] # tomorrow's union is wider


class NextLedger(Ledger):
    """Understands one level more."""

    level = NEXT
    proposal = NextProposal


class NextHello(Hello, frozen=True, array_like=True):
    """Says more."""

    mood: str = "hopeful"


class NextLink(Link):
    """Greets with a newer protocol."""

    def _hello(self) -> Hello:
        told = msgspec.structs.asdict(super()._hello())
        return NextHello(**{**told, "newest": 2})


class NextPeers(Peers):
    """Whatever this version sends, with more in it, and things that this version never sends."""

    link_type = NextLink

    def send_raft(self, to: NodeId, msg: Msg) -> None:
        if msg.type == "Snap":
            super().send_raft(to, msg)
            return
        more = {**msgspec.to_builtins(msg, builtin_types=(bytes,)), "hope": [1, {"x": 2}]}
        self._put(to, frames.Channel.RAFT, more)
        self._put(to, frames.Channel.RAFT, {**more, "type": "Gossip"})
        self._put(to, CHANNEL_OF_TOMORROW, {"anything": 1})

    def send_report(self, report: Observation) -> None:
        more = {**msgspec.to_builtins(report), "weather": "fine"}
        for node in self._addresses:
            self._put(node, frames.Channel.REPORT, more)

    def _put(self, to: NodeId, channel: int, body: object) -> None:
        data = frames.encode(body)
        link = self._links[to, Lane.MAIN]
        link.outbox.put_raft(HEADER.pack(len(data), 1, channel) + data)
        link.flush()


class Node:
    """Consensus and transport of one node, of this version or the next."""

    def __init__(
        self, name: NodeId, ports: dict[NodeId, int], *, is_next: bool, store: Store
    ) -> None:
        members = {
            node: Member(node, RaftId(number), Kind.DATA, Address("127.0.0.1", ports[node]))
            for number, node in enumerate(sorted(ports), start=1)
        }
        self.name, self.raft_id, self.ports = name, members[name].raft_id, ports
        self.failures: list[PgherdError] = []
        self.reports: list[Observation] = []
        give_birth(
            store, Facts(cluster="c", members=members), Identity("c", name, self.raft_id, name)
        )
        replica = Replica(
            store,
            raft_id=self.raft_id,
            cluster="c",
            election_tick=10,
            heartbeat_tick=1,
            rng=lambda low, high: low + (high - low) * (self.raft_id - 1) // 3,
        )
        if is_next:
            replica.ledger = NextLedger(replica.facts)
        self.requests = Requests(lambda: self, {})  # type: ignore[arg-type,return-value] # its consensus
        numbers = {member.raft_id: node for node, member in members.items()}
        self.peers = (NextPeers if is_next else Peers)(
            me=name,
            listen=("127.0.0.1", ports[name]),
            tls=None,
            on_raft=lambda node, message: self.consensus.receive(message),
            on_report=lambda node, report: self.reports.append(report),
            on_request=self.requests.answer,
            on_unreachable=lambda node: self.consensus.unreachable(members[node].raft_id),
            on_snapshot=lambda node, taken: self.consensus.snapshot_sent(
                members[node].raft_id, taken=taken
            ),
        )
        self.consensus = Consensus(
            replica,
            tick_ms=TICK_MS,
            client=name,
            send=lambda message: self.peers.send_raft(numbers[RaftId(message.to)], message),
            changed=lambda applied: None,
            failed=self.failures.append,
        )

    async def start(self) -> None:
        """Take part."""
        await self.peers.start()
        self.peers.set_peers({node: ("127.0.0.1", port) for node, port in self.ports.items()})
        self.consensus.start()

    @property
    def facts(self) -> Facts:
        return self.consensus.replica.facts

    def leads(self) -> bool:
        return self.consensus.is_ready_to_decide()

    def says(self, level: int) -> cmd.UpdateMember:
        mine = self.facts.members[self.name]
        return cmd.UpdateMember(self.name, mine.kind, mine.address, mine.tags, level)


def play(
    story: Callable[[dict[NodeId, Node]], Coroutine[Any, Any, None]],
    *,
    newer: frozenset[NodeId] = frozenset(),
    late: frozenset[NodeId] = frozenset(),
    disk: Path | None = None,
) -> None:
    """Three nodes; disk: where c has a store on a real one; late: who is started by the story."""

    async def whole() -> None:
        ports = dict(zip((A, B, C), free_ports(3), strict=True))
        nodes = {}
        for name in ports:
            real = disk is not None and name == C
            store = SqliteStore(disk) if disk is not None and real else MemoryStore(MemoryDisk())
            nodes[name] = Node(name, ports, is_next=name in newer, store=store)
        try:
            for node in nodes.values():
                if node.name not in late:
                    await node.start()
            async with asyncio.timeout(40):
                await story(nodes)
        finally:
            for node in nodes.values():
                await node.consensus.stop()
                await node.peers.stop()

    asyncio.run(whole())


def free_ports(count: int) -> list[int]:
    import socket

    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


async def led_by(nodes: dict[NodeId, Node], name: NodeId) -> Node:
    """Wait for a leader, and hand the lead to this node."""
    await until(lambda: any(node.leads() for node in nodes.values()), "a leader")
    while not nodes[name].leads():
        for node in nodes.values():
            if node.leads():
                node.consensus.transfer(nodes[name].raft_id)
        await asyncio.sleep(0.1)
    return nodes[name]


def test_a_snapshot_larger_than_a_frame_brings_a_node_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """c was away while 20 MB were committed and cut from the log; its store has them in the end.

    Nobody loses the lead for it.
    """
    monkeypatch.setattr("pgherd.store.replica.LOG_ENTRIES_MAX", 40)
    monkeypatch.setattr("pgherd.store.replica.LOG_ENTRIES_KEPT", 5)

    async def story(nodes: dict[NodeId, Node]) -> None:
        await until(lambda: nodes[A].leads() or nodes[B].leads(), "a leader")
        lead = next(node for node in nodes.values() if node.leads())
        for number in range(90):
            token = cmd.IssueToken(f"{number}" + "x" * 230_000, "0" * 64, number)
            assert await lead.consensus.submit(token) == cmd.Done()
        assert len(lead.consensus.store.snapshot().data) > frames.FRAME_BYTES_MAX
        term = lead.consensus.replica.node.term
        await nodes[C].start()
        await until(lambda: nodes[C].facts == lead.facts, "c knows all")
        assert nodes[C].consensus.store.snapshot() == lead.consensus.store.snapshot()
        assert (lead.leads(), lead.consensus.replica.node.term) == (True, term)
        await lead.consensus.submit(cmd.IssueToken("next", "0" * 64, 1000))
        await until(lambda: "next" in nodes[C].facts.tokens, "it follows again")

    play(story, late=frozenset({C}), disk=tmp_path / "c")
    store = SqliteStore(tmp_path / "c")
    assert len(store.snapshot().data) > frames.FRAME_BYTES_MAX
    store.close()


@pytest.fixture
def praise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tomorrow's program: a command, what it does, and the level that it came with."""

    def apply(facts: Facts, command: Praise, at_ms: int) -> tuple[Facts, cmd.Outcome]:
        return note(facts, at_ms=at_ms, kind="praise", text=command.text), cmd.Done()

    monkeypatch.setitem(HANDLERS, Praise, apply)
    monkeypatch.setitem(levels.NEEDS, Praise, NEXT)


@pytest.mark.parametrize("leader", [A, C])
@pytest.mark.fault(85)
def test_one_node_of_the_next_version(leader: NodeId, praise: None) -> None:
    """Whoever leads: commands are committed by all, what is unknown is counted and dropped.

    The new command is refused by name until the last node has been upgraded.
    """

    async def story(nodes: dict[NodeId, Node]) -> None:
        lead = await led_by(nodes, leader)
        assert await lead.consensus.submit(nodes[C].says(NEXT)) == cmd.Done()
        token = cmd.IssueToken("t", "0" * 64, 1)
        assert await lead.consensus.submit(token) == cmd.Done()
        await until(lambda: all("t" in node.facts.tokens for node in nodes.values()), "on all")
        await until(lambda: nodes[A].peers.not_understood.get(C, 0) > 20, "counted")
        assert nodes[A].peers.connected()[C]
        assert nodes[C].peers.connected()[A]
        link = nodes[C].peers._links[A, Lane.MAIN]
        assert link.protocol == frames.NEWEST, "the newest that both speak"
        nodes[C].peers.send_report(
            Observation(
                node=C, raft_id=RaftId(3), sequence=1, server=ServerSeen(), promises=Promises()
            )
        )
        await until(lambda: [r.node for r in nodes[A].reports] == [C], "a report with more in it")
        with pytest.raises(PeerRefused, match="unknown request praise"):
            await nodes[C].peers.request(A, "praise", b"", timeout_s=5)
        assert nodes[A].facts.level == 1
        with pytest.raises(CommandTooNew, match=rf"level {NEXT} of the ledger.*on: a, b"):
            await nodes[C].consensus.submit(Praise("early"))  # type: ignore[arg-type] # tomorrow's
        assert not any(node.failures for node in nodes.values())

    play(story, newer=frozenset({C}))


def test_an_old_leader_is_asked_for_a_new_command(praise: None) -> None:
    """It says that it does not understand it; nothing of it comes into the log."""

    async def story(nodes: dict[NodeId, Node]) -> None:
        lead = await led_by(nodes, A)
        before = lead.consensus.store.last_index()
        body = frames.encode(NextProposal("x", 1, 1, Praise("early")))
        with pytest.raises(PeerRefused, match="this node's pgherd does not understand it"):
            await nodes[C].peers.request(A, PROPOSE, body, timeout_s=5)
        assert lead.consensus.store.last_index() == before

    play(story, newer=frozenset({C}))


def test_the_last_upgrade_sets_it_free(praise: None) -> None:
    """When every member's record says so the ledger has come to the level, and never goes back."""

    async def story(nodes: dict[NodeId, Node]) -> None:
        lead = await led_by(nodes, B)
        for name in (A, B):
            await lead.consensus.submit(nodes[name].says(NEXT))
            assert lead.facts.level == 1
        await lead.consensus.submit(nodes[C].says(NEXT))
        done = await lead.consensus.submit(Praise("at last"))  # type: ignore[arg-type] # tomorrow's
        assert done == cmd.Done()
        await until(
            lambda: all(
                n.facts.notes and n.facts.notes[-1].text == "at last" for n in nodes.values()
            ),
            "applied by all",
        )
        old = cmd.AddMember(NodeId("d"), Kind.DATA, Address("h", 1))
        refused = await lead.consensus.submit(old)
        assert isinstance(refused, cmd.Refused)
        assert (refused.code, f"it is at {NEXT}" in refused.reason) == ("too_old", True)
        assert isinstance(await lead.consensus.submit(replace(old, level=NEXT)), cmd.Done)

    play(story, newer=frozenset({A, B, C}))


def test_an_old_program_in_an_upgraded_cluster_stops(praise: None) -> None:
    """It skips nothing: neither a command nor a snapshot of facts that it does not understand."""

    async def story(nodes: dict[NodeId, Node]) -> None:
        lead = await led_by(nodes, A)
        await lead.consensus.submit(nodes[A].says(NEXT))
        await lead.consensus.submit(nodes[B].says(NEXT))
        await lead.consensus.submit(nodes[C].says(NEXT))  # its record lies: it is an older program
        await until(lambda: bool(nodes[C].failures), "it stopped")
        assert nodes[C].consensus.stopped
        assert isinstance(nodes[C].failures[0], TooOld)
        assert "install the pgherd of the other nodes" in nodes[C].failures[0].hint
        assert await lead.consensus.submit(Praise("on")) == cmd.Done()  # type: ignore[arg-type] # the same
        old = Ledger(Facts(cluster="c"))
        with pytest.raises(
            TooOld, match=f"ledger is at level {NEXT}, this pgherd understands {NEXT - 1}"
        ):
            old.restore(lead.consensus.replica.ledger.snapshot())
        with pytest.raises(TooOld, match="log entry 7 says what this pgherd does not know"):
            old.apply(frames.encode(NextProposal("x", 1, 1, Praise("on"))), index=7)
        assert old.sessions == {}

    play(story, newer=frozenset({A, B}))


def test_a_new_field_is_never_skipped_and_its_default_never_sent() -> None:
    """So an upgraded node's old commands are read, and its new ones are an error to old nodes."""

    class Token(cmd.IssueToken, frozen=True, tag="IssueToken"):
        purpose: str = ""

    read = msgspec.msgpack.Decoder(cmd.AnyCommand)
    same = Token("t", "0" * 64, 1)
    assert read.decode(frames.encode(same)) == cmd.IssueToken("t", "0" * 64, 1)
    with pytest.raises(msgspec.ValidationError, match="unknown field `purpose`"):
        read.decode(frames.encode(replace(same, purpose="backup")))


@pytest.mark.fault(85)
def test_protocols_that_do_not_overlap_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A node two versions ahead hears why; nobody takes the other for dead without a word."""
    monkeypatch.setattr(
        NextLink, "_hello", lambda self: replace(Link._hello(self), oldest=2, newest=3)
    )

    async def story(nodes: dict[NodeId, Node]) -> None:
        why = "you speak protocols 2 to 3, this node 1 to 1: upgrade the older one"
        await until(lambda: why in nodes[C].peers.problems().get(A, ""), "told")
        await until(lambda: nodes[A].leads() or nodes[B].leads(), "the others go on")

    play(story, newer=frozenset({C}))
