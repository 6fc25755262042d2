"""Prove that a running node's heartbeats never wait for its disk, and that its queues have limits.

Three nodes in one process: the production loop, replica and core; a network of plain calls; the
store's twin in memory, whose writes take as long as a test wants.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import msgspec
import pytest
from waiting import until

from pgherd.daemon import consensus as module
from pgherd.daemon.consensus import Consensus, NotLeader, TooManyWait
from pgherd.ledger.commands import (
    AnyCommand,
    Done,
    ExpireLease,
    IssueToken,
    Proposal,
    Refused,
    RequestSwitchover,
)
from pgherd.model.errors import PgherdError
from pgherd.model.facts import Address, Facts, Kind, Member
from pgherd.model.ids import MemberKey, NodeId, RaftId, Term
from pgherd.model.lease import Lease
from pgherd.model.promises import Promises
from pgherd.raft.types import Msg
from pgherd.store.base import Identity, StoreFailed
from pgherd.store.memory import MemoryDisk, MemoryStore
from pgherd.store.replica import PROPOSAL_BYTES_MAX, ProposalTooLarge, Replica, give_birth
from pgherd.telemetry.boottime import now_ms
from pgherd.telemetry.durations import RAFT_SNAPSHOT
from pgherd.telemetry.metrics import Metrics, RaftSeen

TICK_MS = 50
ELECTION_TICKS = 10
SLOW_S = 3.0
DEADLINE_S = 15.0


LEASE = Lease(id=1, holder=MemberKey(NodeId("a"), "a0"), term=Term(1), ttl_ms=10_000)
EXPIRE = ExpireLease(id=1, renew_seq=0, rule=901, reason="its time is over here")


def token(text: str) -> IssueToken:
    """A command that is right at any time."""
    return IssueToken(text, "0" * 64, 2**53)


class SlowStore(MemoryStore):
    """A store whose every write takes delay_s, on the writer's thread."""

    delay_s = 0.0

    def save(self, **what: Any) -> None:
        time.sleep(self.delay_s)
        super().save(**what)


class Herd:
    """Three nodes, joined by calls in a later turn of the loop."""

    def __init__(self) -> None:
        names = [NodeId(name) for name in "abc"]
        members = {
            name: Member(name, RaftId(number), Kind.DATA, Address("127.0.0.1", number))
            for number, name in enumerate(names, start=1)
        }
        self.failures: list[PgherdError] = []
        self.cut_off: set[int] = set()
        self.snapshots_to_lose = 0
        self.metrics = Metrics(node=names[0], version="1")
        self.nodes: dict[int, Consensus] = {}
        self.stores: dict[int, SlowStore] = {}
        for name, member in members.items():
            store = self.stores[member.raft_id] = SlowStore(MemoryDisk())
            identity = Identity("test", name, member.raft_id, f"{name}0")
            give_birth(store, Facts(cluster="test", members=members, lease=LEASE), identity)
            self.nodes[member.raft_id] = self._node(member.raft_id, store)

    def _node(self, raft_id: RaftId, store: SlowStore) -> Consensus:
        replica = Replica(
            store,
            raft_id=raft_id,
            cluster="test",
            election_tick=ELECTION_TICKS,
            heartbeat_tick=1,
            rng=lambda low, high: low + (high - low) * (raft_id - 1) // 3,
        )
        return Consensus(
            replica,
            tick_ms=TICK_MS,
            client=f"client-{raft_id}",
            send=self._send,
            changed=lambda applied: None,
            failed=self.failures.append,
            compacted=partial(self.metrics.durations.took, RAFT_SNAPSHOT),
        )

    def _send(self, message: Msg) -> None:
        loop = asyncio.get_running_loop()
        if message.type == "Snap" and self.snapshots_to_lose:
            self.snapshots_to_lose -= 1
            ended = partial(self.nodes[message.frm].snapshot_sent, message.to, taken=False)
            loop.call_later(0.05, ended)
        elif not {message.frm, message.to} & self.cut_off:
            loop.call_soon(self.nodes[message.to].receive, message)

    def leader(self) -> Consensus | None:
        found = [node for node in self.nodes.values() if node.replica.leads and not node.stopped]
        return max(found, key=lambda node: node.replica.node.term, default=None)

    def terms(self) -> set[int]:
        return {node.replica.node.term for node in self.nodes.values()}

    async def leads(self, *, other_than: Consensus | None = None) -> Consensus:
        """A leader that is ready to take proposals."""

        def found() -> bool:
            one = self.leader()
            return one is not None and one is not other_than and one.is_ready_to_decide()

        await until(found)
        leader = self.leader()
        assert leader is not None
        return leader

    async def settled(self) -> Consensus:
        """The leader that all three know."""
        leader = await self.leads()
        lead = leader.replica.node.id
        await until(lambda: all(node.replica.node.lead == lead for node in self.nodes.values()))
        return leader


def play(story: Callable[[Herd], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        herd = Herd()
        for node in herd.nodes.values():
            node.start()
        try:
            await story(herd)
        finally:
            for store in herd.stores.values():
                store.delay_s = 0.0
            for node in herd.nodes.values():
                await node.stop()

    asyncio.run(whole())


@contextmanager
def slow(stores: Sequence[SlowStore], *, seconds: float = SLOW_S) -> Iterator[None]:
    for store in stores:
        store.delay_s = seconds
    try:
        yield
    finally:
        for store in stores:
            store.delay_s = 0.0


@pytest.mark.parametrize("who", ["leader", "followers", "all"])
@pytest.mark.fault(45)
def test_a_slow_disk_makes_no_election(who: str) -> None:
    """A save takes six election timeouts: the same leader leads, and the entry is committed."""

    async def story(herd: Herd) -> None:
        leader = await herd.settled()
        before, lead = herd.terms(), leader.replica.node.id
        own = herd.stores[lead]
        others = [store for store in herd.stores.values() if store is not own]
        stores = {"leader": [own], "followers": others, "all": [own, *others]}[who]
        began = time.monotonic()
        with slow(stores):
            assert isinstance(await leader.submit(token("slow")), Done)
        assert time.monotonic() - began >= SLOW_S
        assert herd.terms() == before
        assert leader.replica.leads
        assert isinstance(await leader.submit(token("next")), Done)

    play(story)


def test_a_hung_disk_makes_the_others_go_on_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader that could only send heartbeats would block all for ever: it falls silent."""
    monkeypatch.setattr(module, "DISK_S_MAX", 0.5)

    async def story(herd: Herd) -> None:
        old = await herd.settled()
        store = herd.stores[old.replica.node.id]
        with slow([store], seconds=4.0):
            lost = asyncio.create_task(old.submit(token("lost or not")))
            new = await herd.leads(other_than=old)
            assert isinstance(await new.submit(token("goes on")), Done)
        await asyncio.gather(lost, return_exceptions=True)
        await until(lambda: old.replica.node.lead == new.replica.node.id)

    play(story)


def test_a_follower_with_a_hung_disk_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may report what it likes: the leader counts for how long it has not answered."""
    monkeypatch.setattr(module, "DISK_S_MAX", 0.3)

    async def story(herd: Herd) -> None:
        leader = await herd.settled()
        lead = leader.replica.node.id
        hung, other = (node for number, node in herd.nodes.items() if number != lead)

        def unanswered_ms() -> dict[RaftId, int]:
            return leader.replica.unanswered_ms(now_ms(), since=leader.leader_since)

        with slow([herd.stores[hung.replica.node.id]], seconds=4.0):
            assert isinstance(await leader.submit(token("slow there")), Done)
            await until(lambda: unanswered_ms()[hung.replica.node.id] > 2000)
            assert unanswered_ms()[other.replica.node.id] < 2000
            assert unanswered_ms()[lead] == 0
        await until(lambda: unanswered_ms()[hung.replica.node.id] < 1000)

    play(story)


def test_proposals_are_limited_in_size_and_number() -> None:
    """One that is too long says its size; too many are refused while the others wait."""

    async def story(herd: Herd) -> None:
        leader = await herd.settled()
        text = "x" * PROPOSAL_BYTES_MAX
        with pytest.raises(ProposalTooLarge, match=r"takes 262\d+ bytes .* limit is 262144"):
            await leader.submit(token(text))
        stores = list(herd.stores.values())
        with slow(stores, seconds=1.0):
            waiting = [
                asyncio.create_task(leader.submit(token("next")))
                for _ in range(module.PROPOSALS_MAX)
            ]
            await asyncio.sleep(0)
            with pytest.raises(TooManyWait, match="256 proposals wait already"):
                await leader.submit(token("next"))
        await asyncio.gather(*waiting)
        follower = next(node for node in herd.nodes.values() if node is not leader)
        with pytest.raises(NotLeader, match="the Raft leader is"):
            await follower.submit(token("next"))

    play(story)


def test_a_deposed_leader_ends_no_lease() -> None:
    """M16: its proposal is in nobody's log once it has heard of its successor (etcd 12528, 15247).

    It is cut off while the lease's time is over on its clock, and does not know yet that another
    one leads; neither is what it decided proposed by anybody else, itself in a later term included.
    """

    async def story(herd: Herd) -> None:
        old = await herd.settled()
        raft_term, number = old.replica.ready_term, old.replica.node.id
        herd.cut_off.add(number)
        assert old.replica.ready_term == raft_term
        lost = asyncio.create_task(old.submit(EXPIRE, raft_term=raft_term))
        await until(lambda: EXPIRE in proposed(herd.stores[number]))
        new = await herd.leads(other_than=old)
        with pytest.raises(NotLeader, match=f"decided in Raft term {raft_term}"):
            await new.submit(EXPIRE, raft_term=raft_term)
        herd.cut_off.clear()
        with pytest.raises(NotLeader):
            await lost
        assert isinstance(await new.submit(token("after")), Done)
        nodes = herd.nodes.values()
        await until(lambda: len({node.replica.node.applied for node in nodes}) == 1)
        for store in herd.stores.values():
            assert [type(command) for command in proposed(store)] == [IssueToken]
        assert {node.replica.facts.lease for node in nodes} == {LEASE}
        assert isinstance(await new.submit(EXPIRE, raft_term=new.replica.ready_term), Done)

    play(story)


def proposed(store: SlowStore) -> list[AnyCommand]:
    """The commands in a log."""
    first, last = store.first_index(), store.last_index()
    found = store.entries(first, last + 1, None) if last >= first else []
    data = [entry.data for entry in found if entry.type == "normal" and entry.data]
    return [msgspec.msgpack.decode(one, type=Proposal).command for one in data]


def test_a_snapshot_that_fails_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A follower whose entries are gone from the leader's log catches up after three failures."""
    monkeypatch.setattr("pgherd.store.replica.LOG_ENTRIES_MAX", 20)
    monkeypatch.setattr("pgherd.store.replica.LOG_ENTRIES_KEPT", 5)

    async def story(herd: Herd) -> None:
        leader = await herd.settled()
        away = next(node for node in herd.nodes.values() if node is not leader)
        herd.cut_off.add(away.replica.node.id)
        for number in range(60):
            await leader.submit(token(f"t{number}"))
        assert leader.store.first_index() > away.store.last_index() + 1
        herd.snapshots_to_lose = 3
        herd.cut_off.clear()
        await until(lambda: away.replica.facts == leader.replica.facts)
        assert herd.snapshots_to_lose == 0
        assert away.store.snapshot().index > 0

        def is_fed_again() -> bool:
            return leader.replica.status().progress[away.replica.node.id].state == "replicate"

        await until(is_fed_again, "the leader's word that it is fed again")
        raft = RaftSeen(1, "leader", 1, 1, has_quorum=True)
        page = herd.metrics.render(facts=leader.replica.facts, reports={}, raft=raft)
        assert b"pgherd_raft_snapshot_seconds_count " in page
        assert b"pgherd_raft_snapshot_seconds_count 0.0" not in page

    play(story)


@pytest.mark.fault(60)
def test_a_retry_to_the_next_leader_is_applied_once() -> None:
    """The answer is lost with the leader; who asks the next one hears of the first attempt."""

    async def story(herd: Herd) -> None:
        old = await herd.settled()
        wish = RequestSwitchover("s1", None, "somebody")
        before = Proposal("asker", 1, 1, token("once"), old.replica.node.applied)
        assert await old.propose(before) == Done()
        herd.cut_off.add(old.replica.node.id)
        lost = Proposal("asker", 2, 1, wish, old.replica.node.applied)
        unanswered = asyncio.create_task(old.propose(lost))
        new = await herd.leads(other_than=old)
        assert isinstance(await new.propose(before), Done)
        assert isinstance(await new.propose(lost), Refused), "a wish of an unborn cluster"
        applied = new.replica.node.applied
        assert (await new.propose(lost)).code == "not_stable"  # type: ignore[union-attr] # Refused
        assert new.replica.node.applied > applied
        herd.cut_off.clear()
        with pytest.raises(NotLeader):
            await unanswered
        await until(lambda: old.replica.facts == new.replica.facts)
        assert list(new.replica.facts.tokens) == ["once"]

    play(story)


def test_a_failed_write_of_promises_ends_the_part_in_consensus() -> None:
    """What the disk holds is unknown then: the caller is told, and so is the owner."""

    async def story(herd: Herd) -> None:
        leader = await herd.settled()
        store = herd.stores[leader.replica.node.id]
        store.disk.fail_next("full")
        with pytest.raises(StoreFailed):
            await leader.save_promises(Promises(incarnation="f00d"))
        assert leader.stopped
        assert [failure.full for failure in herd.failures] == [True]  # type: ignore[attr-defined]
        await herd.leads(other_than=leader)

    play(story)
