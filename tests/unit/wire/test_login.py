"""Proves both logins of a terminating proxy against each other, and that bad bytes only violate."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgherd.wire.entry import EntryImpossible, ServerEntry
from pgherd.wire.login import (
    AskVerifier,
    Authenticated,
    BeginTls,
    Cancels,
    ClientLogin,
    LoginRefused,
    Say,
    authentication,
    key_data,
    negotiate,
    startup_packet,
)
from pgherd.wire.scram import Keys, Verifier, keys_of
from pgherd.wire.startup import (
    SSL_REQUEST,
    CancelKey,
    ProtocolViolation,
    StartupMessage,
    encode_cancel,
    read_packet,
)

KEYS = keys_of("right", salt=b"salt", iterations=1)
KNOWN = Verifier(1, b"salt", KEYS.stored, KEYS.server)
ANN = (("user", "ann"), ("database", "shop"), ("options", "-c geqo=off"))
GSSENC_REQUEST = (8).to_bytes(4, "big") + (80877104).to_bytes(4, "big")
READY = b"Z\x00\x00\x00\x05I"


def message(kind: bytes, body: bytes) -> bytes:
    return kind + (4 + len(body)).to_bytes(4, "big") + body


def meet(
    keys: Keys, known: Verifier | None, *, end_point: bytes = b"", cut: int = 10_000
) -> tuple[ServerEntry, Authenticated]:
    """Let our end that logs in talk to our end that lets in, with every chunk cut."""
    entry = ServerEntry(ANN, keys, nonce="client", end_point=end_point)
    login = ClientLogin(nonce="server")
    login.tls_began(end_point)
    said = entry.start()
    while True:
        for at in range(0, len(said), cut):
            login.feed(said[at : at + cut])
        answer = b""
        while (step := login.next()) is not None:
            match step:
                case AskVerifier("ann"):
                    answer += login.give(known, mock_nonce=b"m" * 32).data
                case Say(data):
                    answer += data
                case Authenticated():
                    greeting = message(b"S", b"TimeZone\0UTC\0")
                    key = key_data(CancelKey(7, b"1234"))
                    rest = step.final + authentication(0) + greeting + key + READY
                    for at in range(0, len(rest), cut):
                        entry.feed(rest[at : at + cut])
                    return entry, step
                case _:
                    raise AssertionError(step)
        said = b"".join(entry.feed(answer[at : at + cut]) for at in range(0, len(answer), cut))


@pytest.mark.parametrize("end_point", [b"", b"hash"])
@pytest.mark.parametrize("cut", [1, 7, 10_000])
def test_one_end_lets_the_other_in(end_point: bytes, cut: int) -> None:
    """The keys come out, the greeting is kept as it came, and so are the parameters."""
    entry, proved = meet(KEYS, KNOWN, end_point=end_point, cut=cut)
    assert proved.keys == KEYS
    assert proved.startup.parameters == ANN
    assert (entry.greeting, entry.ready) == (message(b"S", b"TimeZone\0UTC\0"), READY)
    assert entry.key == CancelKey(7, b"1234")
    assert entry.is_over
    assert entry.error is None


@pytest.mark.parametrize("known", [None, Verifier(1, b"salt", bytes(32), KEYS.server)])
def test_without_the_right_verifier_nobody_gets_in(known: Verifier | None) -> None:
    """An unknown user fails where a wrong password does, with the same words."""
    with pytest.raises(LoginRefused, match='password authentication failed for user "ann"'):
        meet(KEYS, known)


def opened(*said: bytes, **wishes: bool) -> list[object]:
    """The steps that these bytes lead to."""
    login, steps = ClientLogin(nonce="x", **wishes), []
    for data in said:
        login.feed(data)
        while (step := login.next()) is not None:
            steps.append(step)
    return steps


def test_encryption_is_answered_once() -> None:
    """TLS where it is offered, N for the rest; nothing may follow a request unencrypted."""
    start = startup_packet(ANN)
    assert opened(GSSENC_REQUEST, SSL_REQUEST, start) == [Say(b"N"), Say(b"N"), AskVerifier("ann")]
    assert opened(GSSENC_REQUEST, SSL_REQUEST, offers_tls=True) == [Say(b"N"), BeginTls()]
    login = ClientLogin(nonce="x", offers_tls=True, needs_tls=True)
    login.feed(SSL_REQUEST)
    assert login.next() == BeginTls()
    login.tls_began(b"hash")
    login.feed(SSL_REQUEST)
    assert login.next() == Say(b"N")
    login.feed(start)
    assert login.next() == AskVerifier("ann")
    assert b"SCRAM-SHA-256-PLUS" in login.give(None, mock_nonce=b"").data
    for bad in ((SSL_REQUEST + start,), (SSL_REQUEST,) * 5, (b"\x16\x03",)):
        with pytest.raises(ProtocolViolation):
            opened(*bad, offers_tls=False)
    with pytest.raises(ProtocolViolation, match="without TLS"):
        opened(start, offers_tls=True, needs_tls=True)


def test_a_cancel_request_is_no_login() -> None:
    """With a key of either length."""
    for size in (4, 32):
        key = CancelKey(4711, b"s" * size)
        assert opened(encode_cancel(key)) == [Cancels(key)]


def test_versions_and_options_of_the_future_are_negotiated() -> None:
    """What we do not know is named and not passed on."""
    future = startup_packet((*ANN, ("_pq_.weather", "fine")), minor=7)
    assert opened(future) == [Say(negotiate(2, ["_pq_.weather"])), AskVerifier("ann")]
    login = ClientLogin(nonce="x")
    login.feed(future)
    login.next()
    assert login.startup is not None
    assert (login.startup.minor, login.startup.parameters) == (2, ANN)
    assert opened(startup_packet(ANN, minor=2)) == [AskVerifier("ann")]


def test_names_are_looked_up_as_postgresql_does() -> None:
    """Cut at 63 bytes, between characters; the last of two counts; and none is an error."""
    long = "ü" * 40
    body = b"user\0ann\xff\0\0"
    packet = (8 + len(body)).to_bytes(4, "big") + (3 << 16).to_bytes(4, "big") + body
    assert opened(packet) == [AskVerifier("ann\ufffd")]
    assert opened(startup_packet((("user", long),))) == [AskVerifier("ü" * 31)]
    assert opened(startup_packet((("user", "a"), ("user", "b")))) == [AskVerifier("b")]
    with pytest.raises(ProtocolViolation, match="no PostgreSQL user name") as caught:
        opened(startup_packet((("database", "x"),)))
    assert caught.value.sqlstate == "28000"


@given(st.lists(st.tuples(st.binary(min_size=1), st.binary()), max_size=8))
def test_parameters_are_passed_on_byte_for_byte(pairs: list[tuple[bytes, bytes]]) -> None:
    """Also where they are not UTF-8."""
    clean = [(name.replace(b"\0", b"x"), value.replace(b"\0", b"")) for name, value in pairs]
    body = b"".join(name + b"\0" + value + b"\0" for name, value in clean) + b"\0"
    packet = (8 + len(body)).to_bytes(4, "big") + (3 << 16).to_bytes(4, "big") + body
    found = read_packet(packet)
    assert isinstance(found, StartupMessage)
    assert startup_packet(found.parameters) == packet


@pytest.mark.parametrize(("kind", "asked"), [(3, "clear"), (5, "md5"), (7, "GSSAPI"), (99, "99")])
def test_a_server_that_asks_for_something_else_gets_nothing(kind: int, asked: str) -> None:
    """Keys open SCRAM and nothing else."""
    entry = ServerEntry(ANN, KEYS, nonce="x")
    with pytest.raises(EntryImpossible, match=asked):
        entry.feed(authentication(kind, b"salt"))


def test_a_server_that_proves_nothing_is_left() -> None:
    """It began the exchange and then would skip its end, or signs with other keys."""
    for rest in (
        authentication(0),
        authentication(12, b"v=AAAA"),
        authentication(11, b"r=x,s=,i=1"),
    ):
        entry = ServerEntry(ANN, KEYS, nonce="abc")
        assert entry.feed(authentication(10, b"SCRAM-SHA-256\0\0")).startswith(b"p")
        with pytest.raises(ProtocolViolation):
            entry.feed(rest)
    with pytest.raises(ProtocolViolation, match="offers no SCRAM"):
        ServerEntry(ANN, KEYS, nonce="x").feed(authentication(10, b"OAUTHBEARER\0\0"))


def test_a_binding_is_used_only_where_both_have_it() -> None:
    """A server without TLS offers none; ours is then left out."""
    entry = ServerEntry(ANN, KEYS, nonce="x", end_point=b"hash")
    assert b"n,,n=" in entry.feed(authentication(10, b"SCRAM-SHA-256\0\0"))
    entry = ServerEntry(ANN, KEYS, nonce="x", end_point=b"hash")
    both = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"
    assert b"p=tls-server-end-point,,n=" in entry.feed(authentication(10, both))


def test_a_refusal_is_kept_as_it_came() -> None:
    """Its bytes are for the client, its code for us."""
    entry = ServerEntry(ANN, KEYS, nonce="x")
    refusal = message(b"E", b"SFATAL\0VFATAL\0C3D000\0Mdatabase does not exist\0\0")
    entry.feed(refusal)
    assert entry.is_over
    assert entry.refusal == refusal
    assert entry.error is not None
    assert entry.error.sqlstate == "3D000"


chunks = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([SSL_REQUEST, GSSENC_REQUEST, startup_packet(ANN)]),
        st.binary(max_size=40).map(lambda body: message(b"p", body)),
        st.binary(max_size=40).map(lambda body: message(b"p", b"SCRAM-SHA-256\0" + body)),
    ),
    max_size=6,
)


@settings(max_examples=500)
@given(chunks, st.booleans())
def test_bad_bytes_of_a_client_only_violate(said: list[bytes], offers_tls: bool) -> None:
    """Nothing but ProtocolViolation comes out, nobody gets in, and the buffer stays small."""
    login = ClientLogin(nonce="x", offers_tls=offers_tls)
    with contextlib.suppress(ProtocolViolation):
        for data in said:
            login.feed(data)
            while (step := login.next()) is not None:
                assert not isinstance(step, Authenticated)
                if isinstance(step, AskVerifier):
                    login.give(KNOWN, mock_nonce=b"")


@settings(max_examples=500)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.tuples(
                st.sampled_from([b"R", b"S", b"N", b"K", b"Z", b"E"]), st.binary(max_size=40)
            ).map(lambda pair: message(*pair)),
            st.tuples(st.sampled_from([0, 10, 11, 12]), st.binary(max_size=40)).map(
                lambda pair: authentication(*pair)
            ),
        ),
        max_size=6,
    )
)
def test_bad_bytes_of_a_server_only_violate(said: list[bytes]) -> None:
    """Nothing but ProtocolViolation and EntryImpossible comes out."""
    entry = ServerEntry(ANN, KEYS, nonce="x")
    with contextlib.suppress(ProtocolViolation, EntryImpossible):
        for data in said:
            entry.feed(data)
