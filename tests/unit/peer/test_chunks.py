"""Prove that a snapshot in chunks comes whole or not at all, whatever happens to it on its way."""

from __future__ import annotations

import random
import zlib
from typing import Any

import pytest
from msgspec.structs import replace

from pgherd.model.ids import NodeId
from pgherd.peer import chunks
from pgherd.peer.chunks import CHUNK_BYTES, IDLE_TICKS_MAX, Assembly, Parcel, crc_marks, whole
from pgherd.peer.courier import SETBACKS_MAX
from pgherd.peer.errors import PeerRefused
from pgherd.peer.frame import Chunk, Lane
from pgherd.raft.types import ConfState, Msg, Snapshot

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
DATA = bytes(random.Random("snapshot").randbytes(5 * CHUNK_BYTES + 17))
CONF = ConfState(voters=(1, 2))


def snap(*, index: int = 9, data: bytes = DATA, term: int = 3) -> Msg:
    return Msg(type="Snap", frm=1, to=2, term=term, snapshot=Snapshot(index, 2, CONF, data))


def parcel(message: Msg) -> Parcel:
    assert message.snapshot is not None
    return Parcel(message, crc_marks(message.snapshot.data))


def spoilt(chunk: Chunk) -> Chunk:
    return replace(chunk, data=b"\x00" + chunk.data[1:] if chunk.data[0] else b"\x01")


def deliver(assembly: Assembly, message: Msg, *, at: int = 0) -> tuple[Msg | None, int]:
    """Send all chunks as wanted; the message as it arrived, and how many chunks it took."""
    sent, of = 0, parcel(message)
    while True:
        chunk, sent = of.chunk(at), sent + 1
        at = assembly.take(A, chunk)
        if assembly.is_complete(chunk):
            return whole(*assembly.give()), sent
        assert sent < 50, "it never ends"


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, len(DATA)])
def test_any_size_comes_as_it_was(size: int) -> None:
    """Also nothing at all; with the last chunk's CRC being the whole's."""
    message = snap(data=DATA[:size])
    assert deliver(Assembly(), message) == (message, max(1, -(-size // CHUNK_BYTES)))
    assert crc_marks(DATA[:size])[-1] == zlib.crc32(DATA[:size])


@pytest.mark.parametrize("cut", range(6))
@pytest.mark.fault(58)
def test_after_every_cut_it_goes_on_where_it_was(cut: int) -> None:
    """The first chunk asks how far it is; those that had come are not sent again."""
    assembly, of = Assembly(), parcel(snap())
    for number in range(cut):
        assembly.take(A, of.chunk(number * CHUNK_BYTES))
    assert assembly.held_bytes == cut * CHUNK_BYTES
    again = snap(term=4)  # the same leader, elected anew
    assert deliver(assembly, again) == (again, 6 - cut + (1 if cut else 0))


def test_a_spoilt_chunk_is_asked_for_again() -> None:
    """It is not kept, and the right one is taken after it."""
    assembly, of = Assembly(), parcel(snap())
    assert assembly.take(A, of.chunk(0)) == CHUNK_BYTES
    assert assembly.take(A, spoilt(of.chunk(CHUNK_BYTES))) == CHUNK_BYTES
    assert deliver(assembly, snap(), at=CHUNK_BYTES) == (snap(), 5)


def test_a_beginning_of_another_snapshot_is_noticed() -> None:
    """Same place in the log, same size, other bytes: asked twice in vain, then all anew."""
    assembly = Assembly()
    assembly.take(A, parcel(snap(data=bytes(len(DATA)))).chunk(0))
    message, sent = deliver(assembly, snap())
    assert (message, sent) == (snap(), 3 + 6)


@pytest.mark.fault(58)
def test_chunks_may_be_lost_doubled_delayed_or_spoilt() -> None:
    """Whatever the line does, what is handed over is what was sent, or there is nothing yet."""
    for seed in range(300):
        assert came_through(random.Random(seed)), f"seed {seed}: it never came"


def came_through(chance: random.Random) -> bool:
    """Send one snapshot over a line with every fault; whether it came in the end, as it was."""
    message = snap(data=DATA[: chance.randrange(len(DATA))])
    assembly, of = Assembly(), parcel(message)
    at, late = 0, [of.chunk(0)]
    for _ in range(400):
        chunk = of.chunk(at)
        late.append(chunk)
        match chance.randrange(8):
            case 0:
                continue  # lost
            case 1 if chunk.data:
                chunk = spoilt(chunk)
            case 2:
                chunk = chance.choice(late)
            case 3:
                at = 0
                continue  # the connection was lost, the sender begins anew
        at = assembly.take(A, chunk)
        if assembly.is_complete(chunk):
            assert whole(*assembly.give()) == message
            assert assembly.held_bytes == 0
            return True
    return False


def test_a_newer_leader_takes_over_and_an_older_one_is_refused() -> None:
    """One snapshot at a time: of the newest Raft term."""
    assembly = Assembly()
    assembly.take(A, parcel(snap(term=3)).chunk(0))
    assert assembly.take(B, parcel(snap(term=4, index=10)).chunk(0)) == CHUNK_BYTES
    with pytest.raises(PeerRefused, match="b sends a snapshot in a newer Raft term"):
        assembly.take(A, parcel(snap(term=3)).chunk(0))
    assert assembly.take(A, parcel(snap(term=5)).chunk(CHUNK_BYTES)) == 0, "from the beginning"


def test_an_abandoned_beginning_is_forgotten() -> None:
    """Its memory is given back after a while without a chunk."""
    assembly, of = Assembly(), parcel(snap())
    assembly.take(A, of.chunk(0))
    for _ in range(IDLE_TICKS_MAX):
        assembly.tick()
    assert assembly.held_bytes == CHUNK_BYTES
    assembly.tick()
    assert assembly.held_bytes == 0


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"size": chunks.SNAPSHOT_BYTES_MAX + 1}, "the limit is"),
        ({"at": -1}, "a chunk from -1"),
        ({"at": len(DATA)}, "of 655377 bytes"),
        ({"data": b""}, "from 0 to 0"),
        ({"message": Msg(type="App")}, "no snapshot"),
        ({"message": Msg(type="Snap")}, "no snapshot"),
    ],
)
def test_what_cannot_be_a_chunk_is_refused(changes: dict[str, Any], why: str) -> None:
    """Nothing is kept of it."""
    assembly = Assembly()
    with pytest.raises(PeerRefused, match=why):
        assembly.take(A, replace(parcel(snap()).chunk(0), **changes))
    assert assembly.held_bytes == 0


@pytest.mark.fault(58)
def test_a_cut_transfer_is_told_and_goes_on(tls_herd: Any, tell: Any, wait: Any) -> None:
    """The line breaks in the middle: the sender hears it, sends again, and not all of it."""
    big = snap(data=DATA * 20)

    async def story() -> None:
        a, b = await tls_herd.of("a", "b")
        offered: list[int] = []
        ask = a.peers._courier._ask

        async def counting(to: NodeId, body: bytes) -> bytes:
            offered.append(len(body))
            if len(offered) == 40:
                a.peers._links[B, Lane.BULK]._wire.abort()
            return await ask(to, body)

        a.peers._courier._ask = counting
        a.peers.send_raft(B, big)
        a.peers.send_raft(B, big)  # the core asks twice: one transfer
        await wait(lambda: a.snapshots == [(B, False)], "told")
        assert b.raft == []
        a.peers.send_raft(B, big)
        await wait(lambda: a.snapshots == [(B, False), (B, True)], "sent")
        assert [message for _, message in b.raft] == [big]
        assert len(offered) <= -(-len(DATA) * 20 // CHUNK_BYTES) + 3
        assert b.peers._assembly.held_bytes == 0

    tell(story(), tls_herd)


def test_a_transfer_that_cannot_succeed_ends(
    plain_herd: Any, tell: Any, wait: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every chunk comes spoilt; or the snapshot is too large: the core hears that it failed."""

    async def story() -> None:
        a, b = await plain_herd.of("a", "b")
        asked = 0
        ask = a.peers._courier._ask

        async def counting(to: NodeId, body: bytes) -> bytes:
            nonlocal asked
            asked += 1
            return await ask(to, body)

        a.peers._courier._ask = counting
        monkeypatch.setattr(Parcel, "chunk", lambda self, at: spoilt(CHUNK(self, at)))
        a.peers.send_raft(B, snap())
        await wait(lambda: a.snapshots == [(B, False)], "told")
        assert asked == SETBACKS_MAX
        monkeypatch.setattr(Parcel, "chunk", CHUNK)
        monkeypatch.setattr(chunks, "SNAPSHOT_BYTES_MAX", 1000)
        a.peers.send_raft(B, snap())
        await wait(lambda: len(a.snapshots) == 2, "told again")
        assert (a.snapshots[1], b.raft) == ((B, False), [])
        monkeypatch.setattr(chunks, "SNAPSHOT_BYTES_MAX", 10**6)
        a.peers.send_raft(B, snap())
        await wait(lambda: len(b.raft) == 1, "delivered at last")

    tell(story(), plain_herd)


CHUNK = Parcel.chunk


def test_a_newer_snapshot_replaces_the_one_under_way(plain_herd: Any, tell: Any, wait: Any) -> None:
    """Of the older one nothing is told: the core has moved on. To a peer that moved it failed."""
    newer = snap(index=12, data=DATA * 3)

    async def story() -> None:
        a, b = await plain_herd.of("a", "b")
        a.peers.send_raft(B, snap(data=DATA * 40))
        await wait(lambda: b.peers._assembly.held_bytes > 0, "under way")
        a.peers.send_raft(B, newer)
        await wait(lambda: a.snapshots == [(B, True)], "the newer one")
        assert [message for _, message in b.raft] == [newer]
        a.peers.send_raft(C, snap())
        await wait(lambda: C in a.unreachable, "nobody of that name")
        a.peers.send_raft(B, snap(index=13, data=DATA * 40))
        await wait(lambda: b.peers._assembly.held_bytes > 0, "under way again")
        a.peers.set_peers({})
        assert a.snapshots == [(B, True)], "never within the call"
        await wait(lambda: a.snapshots == [(B, True), (B, False)], "told, or the core waits")

    tell(story(), plain_herd)
