"""Prove that no bytes from outside crash a node, fill its memory, or pass for a message."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgherd.model.ids import NodeId
from pgherd.peer import frame as frames
from pgherd.peer.frame import HEADER, Channel, FrameError, Hello, Splitter, encode, pack
from pgherd.peer.outbox import RAFT_FRAMES_MAX, Outbox
from pgherd.raft.types import Entry, Msg

A, B = NodeId("a"), NodeId("b")
DECODERS = (
    frames.decode_hello,
    frames.decode_text,
    frames.decode_number,
    frames.decode_request,
    frames.decode_response,
    frames.decode_report,
    frames.decode_message,
)


@given(
    st.lists(st.tuples(st.sampled_from(Channel), st.binary(max_size=300)), max_size=8), st.data()
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
            return pack(Channel(chance.randint(1, 9)), body)
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
        a.peers.send_raft(B, Msg(type="Snap", context=bytes(17 * 1024 * 1024)))
        await wait(lambda: B in a.unreachable, "told")
        a.peers.send_raft(B, Msg(type="Heartbeat"))
        await wait(lambda: len(b.raft) == 1, "the next one arrives")

    tell(story(), plain_herd)
