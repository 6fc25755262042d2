"""Prove that no bytes from outside crash a node, fill its memory, or pass for a message."""

from __future__ import annotations

import asyncio
import os
import random
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgherd.model.facts import Floor
from pgherd.model.ids import Lsn, MemberKey, NodeId, Position, RaftId, Term
from pgherd.model.observation import Observation, Sender, ServerSeen
from pgherd.model.promises import Promises
from pgherd.peer import frame as frames
from pgherd.peer.chunks import Parcel, crc_marks
from pgherd.peer.frame import (
    FRAME_BYTES_MAX,
    HEADER,
    KNOWN,
    Channel,
    FrameError,
    Hello,
    Splitter,
    encode,
    pack,
)
from pgherd.peer.outbox import RAFT_FRAMES_MAX, Outbox
from pgherd.peer.peers import CHUNK
from pgherd.raft.types import ConfState, Entry, Msg, Snapshot

A, B = NodeId("a"), NodeId("b")
FRAMES = int(
    os.environ.get("PGHERD_SOAK") or (2_000_000 if os.environ.get("PGHERD_FULL") else 200_000)
)
DECODERS = (
    frames.decode_hello,
    frames.decode_welcome,
    frames.decode_text,
    frames.decode_number,
    frames.decode_request,
    frames.decode_response,
    frames.decode_report,
    frames.decode_message,
    frames.decode_chunk,
    frames.decode_taken,
)


@given(
    st.lists(st.tuples(st.sampled_from(sorted(KNOWN)), st.binary(max_size=300)), max_size=8),
    st.data(),
)
def test_frames_survive_any_split(sent: list[tuple[Channel, bytes]], data: st.DataObject) -> None:
    """However the stream is cut, the same frames come out."""
    stream = b"".join(pack(channel, body) for channel, body in sent)
    splitter, got = Splitter(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        got += splitter.feed(stream[:size])
        stream = stream[size:]
    assert got == sent


@given(st.binary(max_size=200))
def test_decoders_raise_frame_error_only(body: bytes) -> None:
    """Random bodies are decoded or refused with FrameError, never anything else."""
    for decode in DECODERS:
        try:
            decode(body)
        except FrameError:
            pass


def test_deep_nesting_is_refused() -> None:
    """A body of nothing but nested arrays does not overflow the stack."""
    for decode in DECODERS:
        with pytest.raises(FrameError):
            decode(b"\x91" * 100_000)


def test_local_raft_messages_are_refused() -> None:
    """Nobody campaigns for us from outside."""
    with pytest.raises(FrameError, match="local type Hup"):
        frames.decode_message(encode(Msg(type="Hup")))


def test_messages_of_a_newer_version_with_more_fields_are_read() -> None:
    """Unknown fields are skipped, so that nodes can be upgraded one at a time."""
    body = msgspec.msgpack.encode({"type": "App", "term": 3, "added_later": [1, 2]})
    assert frames.decode_message(body) == Msg(type="App", term=3)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (HEADER.pack(4097, 1, Channel.HELLO), "limit is 4096"),
        (HEADER.pack(2**32 - 1, 1, Channel.HELLO), "limit is 4096"),
        (HEADER.pack(1, 2, Channel.HELLO), "version 2"),
        (HEADER.pack(1, 1, 99), "unknown channel 99"),
        (b"GET / HTTP/1.1", "version"),
    ],
)
def test_a_bad_header_is_refused_before_its_body_comes(header: bytes, reason: str) -> None:
    """The header alone decides; nothing is buffered for it."""
    with pytest.raises(FrameError, match=reason):
        Splitter().feed(header)


def test_the_outbox_keeps_order_and_limits() -> None:
    """Urgent first, then the newest report, Raft in order, calls last; the oldest Raft goes."""
    box = Outbox()
    box.put_call(b"call")
    assert all(box.put_raft(b"%d." % n) for n in range(RAFT_FRAMES_MAX))
    assert not box.put_raft(b"last")
    box.put_report(b"old")
    box.put_report(b"new")
    box.put_urgent(b"urgent")
    out = box.take(1 << 20)
    assert out.startswith(b"urgentnew1.2.3.")
    assert out.endswith(b"lastcall")
    assert not box


def garbage(chance: random.Random) -> bytes:
    """Something between noise and an almost right frame."""
    body = chance.randbytes(chance.randint(0, 400))
    match chance.randrange(6):
        case 0:
            return body
        case 1:
            return HEADER.pack(chance.getrandbits(32), 1, chance.randrange(12)) + body
        case 2:
            return pack(chance.choice(sorted(Channel)), body)
        case 3:
            good = encode(Msg(type="App", term=1, entries=(Entry(1, 1, "normal", b"x"),)))
            at = chance.randrange(len(good))
            return pack(Channel.RAFT, good[:at] + body[:3] + good[at:])
        case 4:
            return pack(
                Channel.REQUEST, encode([chance.getrandbits(64), "k", b""][: chance.randint(0, 3)])
            )
        case _:
            return pack(Channel.HELLO, encode(Hello(B, A, chance.randint(-5, 5))))


def read_request(body: bytes) -> None:
    """A request, and what it carries where that is a chunk of a snapshot."""
    request = frames.decode_request(body)
    if request.kind == CHUNK:
        frames.decode_chunk(request.body)


READERS: dict[Channel, Callable[[bytes], Any]] = {
    Channel.HELLO: frames.decode_hello,
    Channel.WELCOME: frames.decode_welcome,
    Channel.REFUSED: frames.decode_text,
    Channel.RAFT: frames.decode_message,
    Channel.REPORT: frames.decode_report,
    Channel.REQUEST: read_request,
    Channel.RESPONSE: frames.decode_response,
    Channel.PING: frames.decode_number,
    Channel.PONG: frames.decode_number,
}
"""What a channel's body is read with."""


def samples() -> list[bytes]:
    """Right frames of every channel, to be spoilt."""
    entries = tuple(Entry(3, n, "normal", b"data" * n) for n in range(1, 6))
    snapshot = Snapshot(9, 2, ConfState(voters=(1, 2, 3), learners=(4,)), b"state" * 50)
    report = Observation(
        node=B,
        raft_id=RaftId(2),
        sequence=7,
        server=ServerSeen(
            senders=(Sender(MemberKey(A, "f00d"), Term(3), "streaming", Lsn(8), Lsn(8)),)
        ),
        promises=Promises(promise=Term(7), floor=Floor(Position(Term(5), Lsn(9)), Lsn(8))),
        heard_ms={A: 12},
        alarms=("disk",),
    )
    chunk = Parcel(Msg(type="Snap", snapshot=snapshot), crc_marks(snapshot.data)).chunk(0)
    bodies: list[tuple[Channel, Any]] = [
        (Channel.HELLO, Hello(B, A, 1)),
        (Channel.WELCOME, frames.Welcome(A)),
        (Channel.REFUSED, "this is a, not c"),
        (Channel.RAFT, Msg(type="App", frm=1, to=2, term=3, index=9, entries=entries, commit=8)),
        (Channel.RAFT, Msg(type="Snap", frm=1, to=2, term=3, snapshot=snapshot)),
        (Channel.RAFT, Msg(type="AppResp", frm=2, to=1, term=3, index=9, reject=True)),
        (Channel.RAFT, Msg(type="ReadIndex", frm=2, to=1, term=3, context=b"a:1")),
        (Channel.REPORT, report),
        (Channel.REQUEST, frames.Request(4, "propose", b"body" * 20)),
        (Channel.REQUEST, frames.Request(5, "snapshot-chunk", encode(chunk))),
        (Channel.RESPONSE, frames.Response(4, b"body", None)),
        (Channel.PING, 2**40),
        (Channel.PONG, 2**40),
    ]
    return [pack(channel, encode(body)) for channel, body in bodies]


def spoilt(frame: bytes, chance: random.Random) -> bytes:
    """A frame with a few bits, bytes or lengths that are not as they were sent."""
    data = bytearray(frame)
    for _ in range(chance.choice((0, 1, 1, 1, 2, 4))):
        at = chance.randrange(len(data))
        match chance.randrange(6):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                data[at] = chance.choice(
                    b"\x00\x7f\x80\x90\xc0\xc1\xc6\xc9\xcf\xd3\xdb\xdd\xdf\xff"
                )
            case 2:
                del data[at : at + chance.randint(1, 8)]
            case 3:
                data[at:at] = chance.randbytes(chance.randint(1, 8))
            case 4:
                data[at:] = chance.randbytes(len(data) - at)
            case _:
                data[at:at] = data[at : at + chance.randint(1, 40)]
        if not data:
            return b""
    if chance.random() < 0.7 and len(data) >= HEADER.size:  # let the body be read at all
        HEADER.pack_into(data, 0, len(data) - HEADER.size, 1, frame[5])
    return bytes(data)


@pytest.mark.timeout(180)
def test_fuzzed_frames_are_read_or_refused(count: Callable[..., None]) -> None:
    """200,000 spoilt frames: no other exception, no long wait, no memory kept for any of them."""
    chance = random.Random("frames")
    right, splitter = samples(), Splitter(FRAME_BYTES_MAX)
    refused = read = 0
    slowest_s = 0.0
    tracemalloc.start()
    for number in range(FRAMES):
        if number == FRAMES // 10:
            settled = tracemalloc.get_traced_memory()[0]
        began = time.perf_counter()
        try:
            for channel, body in splitter.feed(spoilt(chance.choice(right), chance)):
                if channel is not Channel.LATER:
                    READERS[channel](body)
                    read += 1
        except FrameError:
            refused += 1
            splitter = Splitter(FRAME_BYTES_MAX)  # the connection is closed with it
        if splitter.waiting > 4096:  # as its silence is, one day
            splitter = Splitter(FRAME_BYTES_MAX)
        slowest_s = max(slowest_s, time.perf_counter() - began)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused > FRAMES // 10
    assert read > FRAMES // 10
    assert kept - settled < 256 * 1024, "memory grows with the frames"
    assert peak < 8 * 1024 * 1024, "one frame takes far more memory than it has bytes"
    assert slowest_s < 1.0
    count(frames=FRAMES)


@pytest.mark.parametrize("seed", [1, 2])
def test_thousands_of_garbage_frames_do_no_harm(plain_herd: Any, tell: Any, seed: int) -> None:
    """Strangers and greeted peers send garbage; the node stays up and answers a proper peer."""
    chance = random.Random(seed)

    async def attack(address: tuple[str, int], *, greet: bool) -> None:
        reader, writer = await asyncio.open_connection(*address)
        if greet:
            writer.write(pack(Channel.HELLO, encode(Hello(NodeId("x"), A))))
        try:
            for _ in range(chance.randint(1, 5)):
                writer.write(garbage(chance))
                await writer.drain()
            writer.write_eof()
            await reader.read()
        except ConnectionError:
            pass
        writer.close()

    async def story() -> None:
        a, b = await plain_herd.of("a", "b")
        for _ in range(100):
            await asyncio.gather(*(attack(a.address, greet=n % 2 == 0) for n in range(10)))
        await plain_herd.connected()  # garbage under its name has cut it off now and then
        assert await b.peers.request(A, "echo", b"alive", timeout_s=5) == b"b echo alive"
        assert a.peers._door.guests() <= {B, NodeId("x")}

    tell(story(), plain_herd)


def test_strangers_are_limited_in_number_and_time(
    plain_herd: Any, tell: Any, wait: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silent connections beyond the limit are cut at once, the others at the deadline."""
    monkeypatch.setattr("pgherd.peer.door.STRANGERS_MAX", 10)
    monkeypatch.setattr("pgherd.peer.door.GREETING_S_MAX", 0.3)

    async def story() -> None:
        a = await plain_herd.start("a")
        held = [await asyncio.open_connection(*a.address) for _ in range(30)]
        for reader, writer in held:
            try:
                async with asyncio.timeout(5):
                    assert await reader.read() == b""
            except ConnectionError:
                pass
            writer.close()
        await wait(lambda: not a.peers._door._strangers, "all gone")

    tell(story(), plain_herd)


def test_an_oversize_message_is_dropped_and_told(plain_herd: Any, tell: Any, wait: Any) -> None:
    """What does not fit into a frame is not sent; the connection stays."""

    async def story() -> None:
        a, b = await plain_herd.of("a", "b")
        a.peers.send_raft(B, Msg(type="App", context=bytes(17 * 1024 * 1024)))
        await wait(lambda: B in a.unreachable, "told")
        a.peers.send_raft(B, Msg(type="Heartbeat"))
        await wait(lambda: len(b.raft) == 1, "the next one arrives")

    tell(story(), plain_herd)
