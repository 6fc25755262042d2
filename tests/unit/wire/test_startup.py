"""Proves that startup packets are read from any cut of the stream, within bounds, and nothing else.

The fuzz tests feed arbitrary and near-valid bytes: only ProtocolViolation may come out.
"""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgherd.wire.opening import Opening, ends_idle, ends_ready
from pgherd.wire.startup import (
    CANCEL_CODE,
    GSSENC_CODE,
    SSL_CODE,
    STARTUP_BYTES_MAX,
    CancelKey,
    CancelRequest,
    DirectTls,
    GssEncRequest,
    ProtocolViolation,
    SslRequest,
    StartupMessage,
    encode_cancel,
    read_packet,
)

CODES = [CANCEL_CODE, SSL_CODE, GSSENC_CODE, 3 << 16, (3 << 16) | 2, 2 << 16, 80877105]


def packet(code: int, body: bytes = b"") -> bytes:
    return (8 + len(body)).to_bytes(4, "big") + code.to_bytes(4, "big") + body


STARTUP = packet(3 << 16, b"user\0ann\0database\0shop\0\0")


def test_each_packet_is_read() -> None:
    """One example of each, with its length."""
    assert read_packet(packet(SSL_CODE)) == SslRequest()
    assert read_packet(packet(GSSENC_CODE)) == GssEncRequest()
    assert read_packet(b"\x16\x03\x01") == DirectTls()
    assert read_packet(STARTUP) == StartupMessage(
        len(STARTUP), 0, (("user", "ann"), ("database", "shop"))
    )


@pytest.mark.parametrize("size", [4, 32, 256])
def test_cancel_keys_of_every_length_survive(size: int) -> None:
    """Protocol 3.0 has 4 bytes, 3.2 up to 256."""
    key = CancelKey(4711, bytes(range(256))[:size])
    raw = encode_cancel(key)
    assert read_packet(raw) == CancelRequest(len(raw), key)


def test_a_packet_is_awaited_byte_by_byte() -> None:
    """Every proper prefix asks for more."""
    for cut in range(len(STARTUP)):
        assert read_packet(STARTUP[:cut]) is None


@pytest.mark.parametrize(
    ("raw", "sqlstate"),
    [
        ((7).to_bytes(4, "big"), "08P01"),
        ((STARTUP_BYTES_MAX + 1).to_bytes(4, "big"), "08P01"),
        (b"GET / HTTP/1.1\r\n", "08P01"),
        (packet(SSL_CODE, b"x"), "08P01"),
        (packet(CANCEL_CODE, b"pid!"), "08P01"),
        (packet(CANCEL_CODE, b"pid!" + bytes(257)), "08P01"),
        (packet(2 << 16, b"user\0ann\0\0"), "0A000"),
        (packet(3 << 16, b"user\0ann"), "08P01"),
        (packet(3 << 16, b"user\0ann\0alone\0\0"), "08P01"),
        (packet(3 << 16), "08P01"),
    ],
)
def test_what_is_no_startup_is_a_violation(raw: bytes, sqlstate: str) -> None:
    """Bad lengths are refused from the first four bytes on, bad bodies when complete."""
    with pytest.raises(ProtocolViolation) as caught:
        read_packet(raw)
    assert caught.value.sqlstate == sqlstate


near_valid = st.builds(
    lambda length, code, body: length.to_bytes(4, "big") + code.to_bytes(4, "big") + body,
    st.integers(0, STARTUP_BYTES_MAX + 10),
    st.sampled_from(CODES),
    st.binary(max_size=300),
)


@given(st.one_of(st.binary(max_size=600), near_valid))
def test_fuzz_of_one_packet(raw: bytes) -> None:
    """Any bytes: a packet no longer than they are, None, or ProtocolViolation."""
    with contextlib.suppress(ProtocolViolation):
        found = read_packet(raw)
        assert found is None or found.length <= len(raw)


@given(
    st.lists(st.tuples(st.booleans(), st.one_of(st.binary(max_size=400), near_valid)), max_size=12)
)
def test_fuzz_of_a_conversation_is_bounded(steps: list[tuple[bool, bytes]]) -> None:
    """Any bytes from both sides: only ProtocolViolation, and never more held than two packets."""
    opening = Opening()
    with contextlib.suppress(ProtocolViolation):
        for is_client, data in steps:
            if is_client:
                opening.client(data)
            else:
                opening.server(data)
            assert len(opening._from_client) <= STARTUP_BYTES_MAX + len(data)
            assert len(opening._from_server) <= 300 + len(data)


SERVER = (
    b"R\x00\x00\x00\x08\x00\x00\x00\x00"
    + b"S\x00\x00\x00\x09a\x00b\x00\x00"
    + b"K\x00\x00\x00\x0c\x00\x00\x00\x07\x01\x02\x03\x04"
    + b"Z\x00\x00\x00\x05I"
)


@given(st.data())
def test_the_key_is_learnt_from_any_cut(data: st.DataObject) -> None:
    """A plain start after a refused SSLRequest, cut anywhere in both directions."""
    opening = Opening()
    seen = []
    for part in cuts(data, packet(SSL_CODE)):
        seen += opening.client(part)
    opening.server(b"N")
    for part in cuts(data, STARTUP):
        seen += opening.client(part)
    for part in cuts(data, SERVER):
        assert not opening.done
        opening.server(part)
    assert [type(one) for one in seen] == [SslRequest, StartupMessage]
    assert (opening.done, opening.opaque, opening.offers_tls) == (True, False, False)
    assert opening.key == CancelKey(7, b"\x01\x02\x03\x04")


def cuts(data: st.DataObject, raw: bytes) -> list[bytes]:
    at = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=5)))
    return [raw[a:b] for a, b in zip([0, *at], [*at, len(raw)], strict=True)]


@pytest.mark.parametrize(("code", "answer"), [(SSL_CODE, b"S"), (GSSENC_CODE, b"G")])
def test_an_encrypted_session_is_opaque(code: int, answer: bytes) -> None:
    """After the server agreed, nothing is read any more, whatever it looks like."""
    opening = Opening()
    opening.client(packet(code))
    opening.server(answer)
    assert opening.opaque
    assert opening.done
    assert opening.client(b"GET / HTTP/1.1") == []


def test_direct_tls_is_opaque_from_the_first_byte() -> None:
    """PostgreSQL 17 clients may begin with the handshake."""
    opening = Opening()
    assert opening.client(b"\x16\x03\x01\x02\x00" + bytes(500)) == [DirectTls()]
    assert opening.opaque


def test_a_cancel_may_follow_a_refused_encryption() -> None:
    """libpq 17 asks for TLS before it cancels."""
    opening = Opening()
    opening.client(packet(SSL_CODE))
    opening.server(b"N")
    key = CancelKey(1, b"abcd")
    assert opening.client(encode_cancel(key)) == [CancelRequest(16, key)]


def test_an_error_in_place_of_an_answer_is_passed_over() -> None:
    """A server that cannot fork says E at once."""
    opening = Opening()
    opening.client(packet(SSL_CODE))
    opening.server(b"E\x00\x00\x00\x05\x00")
    assert not opening.opaque


def test_endless_requests_are_a_violation() -> None:
    """A client that only ever asks for encryption is sent away."""
    with pytest.raises(ProtocolViolation):
        Opening().client(packet(SSL_CODE) * 5)


@pytest.mark.parametrize(
    ("tail", "is_ready", "is_idle"),
    [
        (b"Z\x00\x00\x00\x05I", True, True),
        (b"Z\x00\x00\x00\x05T", True, False),
        (b"Z\x00\x00\x00\x05E", True, False),
        (b"Z\x00\x00\x00\x05X", False, False),
        (b"\x00\x00\x00\x05I", False, False),
        (b"", False, False),
    ],
)
def test_the_end_of_a_stream_tells_where_it_stands(
    tail: bytes, is_ready: bool, is_idle: bool
) -> None:
    """Only a whole ReadyForQuery at the end counts."""
    assert ends_ready(tail) is is_ready
    assert ends_idle(tail) is is_idle
