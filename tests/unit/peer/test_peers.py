"""Prove that nodes exchange Raft messages, reports and requests, and find each other again."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from pgherd.model.errors import OperatorError
from pgherd.model.ids import NodeId
from pgherd.peer.errors import PeerRefused, PeerUnreachable
from pgherd.peer.frame import FRAME_BYTES_MAX, HEADER, Channel, Welcome, encode, pack
from pgherd.peer.link import Link
from pgherd.raft.types import Entry, Msg, Snapshot

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")


def append(index: int, size: int = 10) -> Msg:
    return Msg(
        type="App", frm=1, to=2, index=index, entries=(Entry(1, index, "normal", bytes(size)),)
    )


def test_three_nodes_exchange_messages_and_reports(herd: Any, tell: Any, wait: Any) -> None:
    """Every message arrives once, in order, under the sender's name; reports reach all."""

    async def story() -> None:
        a, b, c = await herd.of("a", "b", "c")
        for index in range(1, 101):
            a.peers.send_raft(B, append(index))
        c.peers.send_raft(B, Msg(type="Heartbeat", frm=3, to=2, context=b"x"))
        a.peers.send_report(a.report(1))
        await wait(lambda: len(b.raft) == 101 and b.reports and c.reports, "all delivered")
        assert [m.index for n, m in b.raft if n == A] == list(range(1, 101))
        assert next(m for n, m in b.raft if n == C).context == b"x"
        assert b.reports[0] == c.reports[0] == a.report(1)
        assert set(a.peers.rtt_s()) == {B, C}

    tell(story(), herd)


def test_requests_are_answered_refused_or_fail(herd: Any, tell: Any) -> None:
    """An answer, a refusal with its reason, a handler's bug without its details, a timeout."""

    async def story() -> None:
        a, b = await herd.of("a", "b")
        assert await a.peers.request(B, "echo", b"hi", timeout_s=5) == b"a echo hi"
        big = bytes(3_000_000)
        assert (await a.peers.request(B, "big", big, timeout_s=20))[6:] == big
        many = [a.peers.request(B, "n", str(i).encode(), timeout_s=5) for i in range(50)]
        assert await asyncio.gather(*many) == [f"a n {i}".encode() for i in range(50)]
        with pytest.raises(PeerRefused, match="not today"):
            await a.peers.request(B, "refuse", b"", timeout_s=5)
        with pytest.raises(PeerRefused, match=r"internal error: ZeroDivisionError$"):
            await a.peers.request(B, "bug", b"", timeout_s=5)
        b.serve = never
        with pytest.raises(PeerUnreachable, match="did not answer") as late:
            await a.peers.request(B, "echo", b"", timeout_s=0.05)
        assert late.value.sent
        with pytest.raises(PeerUnreachable) as unknown:
            await a.peers.request(NodeId("nobody"), "echo", b"", timeout_s=5)
        assert not unknown.value.sent

    async def never(node: NodeId, kind: str, body: bytes) -> bytes:
        await asyncio.Event().wait()
        return b""

    tell(story(), herd)


def test_a_big_snapshot_arrives_and_does_not_delay_heartbeats(
    herd: Any, tell: Any, wait: Any
) -> None:
    """A snapshot larger than a frame comes whole; heartbeats sent after it overtake it."""

    async def story() -> None:
        a, b = await herd.of("a", "b")
        data = bytes(range(256)) * 80_000
        assert len(data) > FRAME_BYTES_MAX
        a.peers.send_raft(B, Msg(type="Snap", frm=1, to=2, snapshot=Snapshot(9, 1, data=data)))
        a.peers.send_raft(B, Msg(type="Heartbeat", frm=1, to=2))
        await wait(lambda: len(b.raft) == 2, "both delivered")
        assert [m.type for _, m in b.raft] == ["Heartbeat", "Snap"]
        assert b.raft[1][1].snapshot.data == data
        await wait(lambda: a.snapshots == [(B, True)], "the sender knows")

    tell(story(), herd)


def test_the_bulk_lane_hangs_up_when_idle_and_dials_again(
    herd: Any, tell: Any, wait: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is down before and after a snapshot, nobody is called unreachable, and it works again."""
    monkeypatch.setattr("pgherd.peer.peers.TICK_S", 0.02)
    monkeypatch.setattr("pgherd.peer.link.SILENT_TICKS_MAX", 200)

    async def story() -> None:
        a, b = await herd.of("a", "b")
        bulk = a.peers._links[B, 1]
        for count in (1, 2):
            assert not bulk.is_up
            a.peers.send_raft(B, Msg(type="Snap", frm=1, to=2, snapshot=Snapshot(9, 1)))
            await wait(lambda count=count: len(b.raft) == count, "snapshot")
            await wait(lambda: not bulk.is_up, "hung up")
        assert (a.unreachable, a.peers.problems()) == ([], {})

    tell(story(), herd)


def test_a_long_frame_on_a_slow_line_is_no_silence(
    plain_herd: Any, tell: Any, wait: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An append that takes many ticks comes whole: the bulk lane is neither idle nor dead."""
    monkeypatch.setattr("pgherd.peer.peers.TICK_S", 0.05)
    monkeypatch.setattr("pgherd.peer.link.BULK_SILENT_TICKS_MAX", 10)
    monkeypatch.setattr("pgherd.peer.link.IDLE_TICKS_MAX", 3)

    async def story() -> None:
        a = await plain_herd.start("a")
        got = bytearray()

        async def sip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            hello = await reader.readexactly(HEADER.size)
            await reader.readexactly(HEADER.unpack(hello)[0])
            writer.write(pack(Channel.WELCOME, encode(Welcome(B))))
            while data := await reader.read(64 * 1024):
                got.extend(data)
                await asyncio.sleep(0.01)
            writer.close()

        server = await asyncio.start_server(sip, "127.0.0.1", 0)
        a.peers.set_peers({B: ("127.0.0.1", server.sockets[0].getsockname()[1])})
        size = 12_000_000
        a.peers.send_raft(B, append(1, size=size))
        await wait(lambda: len(got) > size, "all of it", seconds=30)
        a.peers.set_peers({})
        server.close()

    tell(story(), plain_herd)


def test_a_restarted_peer_is_found_again(herd: Any, tell: Any, wait: Any) -> None:
    """The loss is told, requests under way fail at once, and the new process is connected soon."""

    async def story() -> None:
        a, b = await herd.of("a", "b")
        port = b.peers.port
        asked = asyncio.ensure_future(a.peers.request(B, "wait", b"", timeout_s=30))
        b.serve = lambda *_: asyncio.Event().wait()
        await asyncio.sleep(0.05)
        await b.peers.stop()
        with pytest.raises(PeerUnreachable) as lost:
            await asked
        assert lost.value.sent
        await wait(lambda: B in a.unreachable and not a.peers.connected()[B], "loss told")
        a.peers.send_raft(B, append(1))
        await wait(lambda: "refused" in a.peers.problems().get(B, ""), "the reason is known")
        again = await herd.start("b", port=port)
        herd.introduce()
        await herd.connected()
        a.peers.send_raft(B, append(2))
        await wait(lambda: [m.index for _, m in again.raft][-1:] == [2], "messages flow again")

    tell(story(), herd)


def test_dialling_backs_off_and_a_word_from_the_peer_ends_the_wait(
    plain_herd: Any, tell: Any, wait: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is not there is dialled ever less often, up to a limit; and at once when it calls us."""
    monkeypatch.setattr("pgherd.peer.link.BACKOFF_S_MIN", 0.01)
    monkeypatch.setattr("pgherd.peer.link.BACKOFF_S_MAX", 60.0)
    waits: list[float] = []
    pause = Link._pause

    async def noting(self: Link, seconds: float) -> bool:
        waits.append(seconds)
        return await pause(self, seconds)

    monkeypatch.setattr(Link, "_pause", noting)

    async def story() -> None:
        a = await plain_herd.start("a")
        b = await plain_herd.start("b")
        port = b.peers.port
        await b.peers.stop()
        a.peers.set_peers({B: ("127.0.0.1", port)})
        await wait(lambda: len(waits) >= 7, "seven dials")
        assert all(later > 1.2 * earlier for earlier, later in pairwise(waits[:7]))
        assert waits[6] > 0.5
        again = await plain_herd.start("b", port=port)
        again.peers.set_peers({A: a.address})
        await plain_herd.connected()
        assert len(waits) <= 9

    tell(story(), plain_herd)


def test_a_peer_that_reads_nothing_costs_bounded_memory(
    plain_herd: Any, tell: Any, wait: Any
) -> None:
    """Against a peer that never reads, the queue drops its oldest messages and says so."""

    async def story() -> None:
        a = await plain_herd.start("a")
        held: list[asyncio.StreamWriter] = []

        async def swallow(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(pack(Channel.WELCOME, encode(Welcome(B))))
            held.append(writer)
            writer.transport.pause_reading()

        server = await asyncio.start_server(swallow, "127.0.0.1", 0)
        a.peers.set_peers({B: ("127.0.0.1", server.sockets[0].getsockname()[1])})
        await wait(lambda: a.peers.connected()[B], "connected")
        for index in range(20_000):
            a.peers.send_raft(B, append(index, size=4000))
            a.peers.send_raft(B, Msg(type="Heartbeat"))
            a.peers.send_report(a.report(index))
            if not index % 100:
                await asyncio.sleep(0)
        assert B in a.unreachable
        link = a.peers._links[B, 0]
        assert link.outbox._raft_bytes <= 5_000_000
        assert len(link.outbox._urgent) <= 512
        await wait(lambda: not a.peers.connected()[B], "given up as silent", seconds=15)
        server.close()
        for writer in held:
            writer.transport.abort()

    tell(story(), plain_herd)


def test_addresses_change_at_run_time(herd: Any, tell: Any, wait: Any) -> None:
    """A peer that moved is found at its new address; one that was removed is forgotten."""

    async def story() -> None:
        a, b = await herd.of("a", "b")
        await b.peers.stop()
        moved = await herd.start("b")
        herd.introduce()
        await herd.connected()
        a.peers.send_raft(B, append(1))
        await wait(lambda: len(moved.raft) == 1, "found at the new port")
        a.peers.set_peers({})
        assert a.peers.connected() == {}
        a.peers.send_raft(B, append(2))
        await wait(lambda: B in a.unreachable, "no such peer")

    tell(story(), herd)


def test_a_callback_that_fails_is_told_and_does_not_cut_the_connection(
    plain_herd: Any, tell: Any, wait: Any
) -> None:
    """The receiver's own bug goes to its loop's handler, and later messages still arrive."""

    async def story() -> None:
        a, b = await plain_herd.of("a", "b")
        told: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        b.peers._on_raft = lambda node, msg: 1 / 0 if msg.index == 1 else b.raft.append((node, msg))
        a.peers.send_raft(B, append(1))
        a.peers.send_raft(B, append(2))
        await wait(lambda: len(b.raft) == 1, "the second message")
        assert isinstance(told[0], ZeroDivisionError)

    tell(story(), plain_herd)


@pytest.mark.fault(76)
def test_a_taken_port_is_a_clear_error(plain_herd: Any, tell: Any) -> None:
    """Start fails with the address in the message and what to do."""

    async def story() -> None:
        a = await plain_herd.start("a")
        port = a.peers.port
        with pytest.raises(OperatorError, match=f"cannot listen on 127.0.0.1:{port}.*stop what"):
            await plain_herd.start("b", port=port)
        plain_herd.nodes.pop("b")

    tell(story(), plain_herd)
