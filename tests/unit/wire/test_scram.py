"""Proves the SCRAM exchange against RFC 7677's example, each end against the other, and fuzz."""

from __future__ import annotations

import contextlib
from base64 import b64decode

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgherd.wire import scram
from pgherd.wire.scram import (
    MECHANISM,
    MECHANISM_PLUS,
    Keys,
    ScramClient,
    ScramServer,
    Verifier,
    WrongProof,
    keys_of,
    mock,
    parse,
)
from pgherd.wire.startup import ProtocolViolation

SALT = b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
PENCIL = keys_of("pencil", salt=SALT, iterations=4096)
STORED = (
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
    "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)
CLIENT_NONCE, SERVER_NONCE = "rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
CLIENT_FIRST = f"n,,n=user,r={CLIENT_NONCE}".encode()
SERVER_FIRST = f"r={CLIENT_NONCE}{SERVER_NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode()
CLIENT_FINAL = (
    f"c=biws,r={CLIENT_NONCE}{SERVER_NONCE},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
).encode()
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def known(keys: Keys, salt: bytes = SALT, iterations: int = 4096) -> Verifier:
    return Verifier(iterations, salt, keys.stored, keys.server)


def test_a_verifier_holds_the_keys_of_rfc_7677() -> None:
    """The keys that follow from the RFC's example (user "user", password "pencil")."""
    text = scram.verifier("pencil", salt=SALT)
    assert text == STORED
    assert parse(text) == known(PENCIL)
    assert scram.matches(text, "pencil")
    assert not scram.matches(text, "Pencil")


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "md5abc",
        "md5" + "0" * 32,
        "SCRAM-SHA-256$x:y$z",
        STORED[:-4] + "AAA=",
        STORED + ":",
        "SCRAM-SHA-1" + STORED[13:],
        STORED.replace("4096", "0"),
        STORED.replace("=", "!"),
    ],
)
def test_nothing_else_is_a_verifier(broken: str) -> None:
    """What PostgreSQL may keep besides, and what nobody should."""
    assert not scram.matches(broken, "pencil")


def test_both_ends_say_what_rfc_7677_says() -> None:
    """Its example, byte for byte, from both ends; the server's end learns the client's key."""
    client = ScramClient(PENCIL, nonce=CLIENT_NONCE, user="user")
    assert client.first() == CLIENT_FIRST
    assert client.final(SERVER_FIRST) == CLIENT_FINAL
    client.check(SERVER_FINAL)
    server = ScramServer(known(PENCIL), nonce=SERVER_NONCE)
    assert server.first(MECHANISM, CLIENT_FIRST) == SERVER_FIRST
    assert server.final(CLIENT_FINAL) == (SERVER_FINAL, PENCIL)


keys = st.builds(Keys, st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
nonces = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=","), min_size=1
)


@given(keys, nonces, nonces, st.binary(max_size=64), st.binary(min_size=1, max_size=40))
def test_keys_that_fit_get_in_and_come_out(
    mine: Keys, ours: str, theirs: str, end_point: bytes, salt: bytes
) -> None:
    """With and without a binding; what the server's end learns lets it in elsewhere."""
    client = ScramClient(mine, nonce=ours, end_point=end_point)
    server = ScramServer(known(mine, salt), nonce=theirs, end_point=end_point)
    assert client.mechanism == (MECHANISM_PLUS if end_point else MECHANISM)
    final, learnt = server.final(client.final(server.first(client.mechanism, client.first())))
    client.check(final)
    assert learnt == mine


@given(keys, keys, nonces)
def test_other_keys_stay_out(mine: Keys, other: Keys, nonce: str) -> None:
    """A wrong client key is refused; a server without the verifier is found out."""
    client = ScramClient(mine, nonce=nonce)
    server = ScramServer(known(other), nonce="x")
    proof = client.final(server.first(MECHANISM, client.first()))
    if mine.client != other.client:
        with pytest.raises(WrongProof):
            server.final(proof)
    if mine != other:
        false = ScramServer(known(Keys(mine.client, other.server)), nonce="x")
        client = ScramClient(mine, nonce=nonce)
        answer, _ = false.final(client.final(false.first(MECHANISM, client.first())))
        if mine.server != other.server:
            with pytest.raises(WrongProof):
                client.check(answer)


@pytest.mark.parametrize(
    ("mechanism", "first", "code"),
    [
        ("SCRAM-SHA-1", CLIENT_FIRST, "08P01"),
        (MECHANISM_PLUS, CLIENT_FIRST, "08P01"),
        (MECHANISM, b"y,,n=,r=abc", "28000"),
        (MECHANISM, b"p=tls-server-end-point,,n=,r=abc", "08P01"),
        (MECHANISM, b"p=tls-unique,,n=,r=abc", "08P01"),
        (MECHANISM, b"n,a=root,n=,r=abc", "0A000"),
        (MECHANISM, b"n,,m=ext,n=,r=abc", "0A000"),
        (MECHANISM, b"n,,n=", "08P01"),
        (MECHANISM, b"n,,n=,r=", "08P01"),
        (MECHANISM, b"n,,n=,r=\x07", "08P01"),
        (MECHANISM, b"\xff", "08P01"),
        (MECHANISM, b"", "08P01"),
    ],
)
def test_a_first_message_that_is_not_one(mechanism: str, first: bytes, code: str) -> None:
    """PostgreSQL's codes; with a binding on offer a client that denies the offer was deceived."""
    server = ScramServer(known(PENCIL), nonce="x", end_point=b"hash")
    with pytest.raises(ProtocolViolation) as caught:
        server.first(mechanism, first)
    assert caught.value.sqlstate == code


@pytest.mark.parametrize(
    ("final", "code"),
    [
        (b"", "08P01"),
        (CLIENT_FINAL.replace(b"k0", b"k1"), "08P01"),
        (CLIENT_FINAL.replace(b"c=biws", b"c=eSws"), "28000"),
        (CLIENT_FINAL.replace(b"c=biws", b"c=*"), "08P01"),
        (CLIENT_FINAL[:-8], "08P01"),
        (CLIENT_FINAL.partition(b",p=")[0], "08P01"),
    ],
)
def test_a_final_message_that_is_not_one(final: bytes, code: str) -> None:
    """A nonce of another exchange, another binding, no proof."""
    server = ScramServer(known(PENCIL), nonce=SERVER_NONCE)
    server.first(MECHANISM, CLIENT_FIRST)
    with pytest.raises(ProtocolViolation) as caught:
        server.final(final)
    assert caught.value.sqlstate == code


def test_a_binding_to_another_certificate_is_refused() -> None:
    """Somebody in between has a certificate of his own."""
    client = ScramClient(PENCIL, nonce="abc", end_point=b"his")
    server = ScramServer(known(PENCIL), nonce="x", end_point=b"ours")
    with pytest.raises(ProtocolViolation, match="channel binding"):
        server.final(client.final(server.first(MECHANISM_PLUS, client.first())))


@pytest.mark.parametrize("answer", [b"", b"r=abc,s=AAAA,i=1", b"r=other,s=AAAA,i=1", b"\xff"])
def test_a_server_that_does_not_continue_our_nonce_gets_no_proof(answer: bytes) -> None:
    """It may be repeating what it heard before."""
    with pytest.raises(ProtocolViolation):
        ScramClient(PENCIL, nonce="abc").final(answer)


def test_a_user_without_a_verifier_is_asked_like_others() -> None:
    """The salt is PostgreSQL's own for that name, always the same, and no key fits."""
    one, again, other = mock(b"ann", b"n" * 32), mock(b"ann", b"n" * 32), mock(b"bob", b"n" * 32)
    assert one == again
    assert one.salt != other.salt
    assert (len(one.salt), one.iterations) == (16, 4096)
    server = ScramServer(one, nonce="x")
    client = ScramClient(PENCIL, nonce="abc")
    with pytest.raises(WrongProof):
        server.final(client.final(server.first(MECHANISM, client.first())))


def test_no_repr_shows_a_key() -> None:
    """A repr ends up in logs."""
    assert repr(PENCIL) == "Keys(...)"
    assert repr(known(PENCIL)) == "Verifier(...)"
    assert msgspec.structs.asdict(PENCIL)["client"] == PENCIL.client


@settings(max_examples=400)
@given(st.binary(max_size=80), st.binary(max_size=80), st.sampled_from([MECHANISM, MECHANISM_PLUS]))
def test_bad_bytes_only_violate(first: bytes, final: bytes, mechanism: str) -> None:
    """Nothing but ProtocolViolation and WrongProof comes out, whatever goes in."""
    for end_point in (b"", b"hash"):
        server = ScramServer(known(PENCIL), nonce=SERVER_NONCE, end_point=end_point)
        with contextlib.suppress(ProtocolViolation):
            server.first(mechanism, first)
        server = ScramServer(known(PENCIL), nonce=SERVER_NONCE)
        server.first(MECHANISM, CLIENT_FIRST)
        with contextlib.suppress(ProtocolViolation, WrongProof):
            server.final(final)
            raise AssertionError(final)
        with contextlib.suppress(ProtocolViolation):
            ScramClient(PENCIL, nonce="abc").final(first)
