"""A client's login at a proxy that ends TLS and SCRAM itself.

Theory of operation. Bytes go in with `feed`, and `next` hands out one step after the other; a step
that asks for something is answered by the caller before it calls `next` again. Nothing is known of
sockets: after `BeginTls` the caller feeds what it has decrypted.

    OPENING    (SSLRequest | GSSENCRequest)* then CancelRequest | StartupMessage
    NAMED      the user is known: `AskVerifier`, answered with `give`
    ASKED      AuthenticationSASL was sent: SASLInitialResponse is awaited
    ANSWERED   AuthenticationSASLContinue was sent: SASLResponse is awaited
    OVER       `Authenticated`: what else comes is the session's

A user without a verifier goes through the same exchange against a made up one and fails at its end,
as with PostgreSQL: nobody can ask which users there are. No limit of this module lets a client that
has proved nothing make us keep more than one startup packet or one SASL message.
"""

from __future__ import annotations

from enum import Enum, auto

import msgspec

from pgherd.wire import scram
from pgherd.wire.answer import REFUSE_ENCRYPTION
from pgherd.wire.query import HEADER_BYTES
from pgherd.wire.scram import Keys, ScramServer, Verifier, WrongProof
from pgherd.wire.startup import (
    PROTOCOL_MAJOR,
    CancelKey,
    CancelRequest,
    DirectTls,
    GssEncRequest,
    ProtocolViolation,
    SslRequest,
    StartupMessage,
    read_packet,
)

ACCEPT_TLS = b"S"
MINOR_NEWEST = 2
"""Of protocol 3; 3.2 (PostgreSQL 18) has longer cancel keys and nothing else that is new."""

REQUESTS_MAX = 4
USER_BYTES_MAX = 63
"""PostgreSQL cuts longer names off (NAMEDATALEN)."""

SASL_BYTES_MAX = scram.MESSAGE_BYTES_MAX + 64
_PASSWORD = ord("p")
_NOT_AUTHORISED = "28000"
_EXTENSION = "_pq_."


class BeginTls(msgspec.Struct, frozen=True):
    """Send ACCEPT_TLS, do the handshake, call `tls_began`; from then on feed what it decrypts."""


class Say(msgspec.Struct, frozen=True):
    """Send these bytes."""

    data: bytes


class AskVerifier(msgspec.Struct, frozen=True):
    """Find out this user's verifier and `give` it. user: as PostgreSQL would look it up."""

    user: str


class Cancels(msgspec.Struct, frozen=True):
    """This is no session but a CancelRequest."""

    key: CancelKey


class Authenticated(msgspec.Struct, frozen=True):
    """The client knows its password. final: the last word of the exchange, still to be sent."""

    keys: Keys
    startup: StartupMessage
    final: bytes


Step = BeginTls | Say | AskVerifier | Cancels | Authenticated


class LoginRefused(Exception):
    """The password is wrong, or there is none that we could check: PostgreSQL's own words."""

    def __init__(self, user: str) -> None:
        super().__init__(f'password authentication failed for user "{user}"')
        self.sqlstate = "28P01"


class _State(Enum):
    OPENING = auto()
    NAMED = auto()
    ASKED = auto()
    ANSWERED = auto()
    OVER = auto()


class ClientLogin:
    """See the module's theory of operation.

    nonce: printable text that nobody can guess · offers_tls: TLS can be begun here · needs_tls: and
    without it nobody gets in.
    """

    def __init__(self, *, nonce: str, offers_tls: bool = False, needs_tls: bool = False) -> None:
        self.startup: StartupMessage | None = None
        self.is_encrypted = False
        self._nonce = nonce
        self._offers_tls = offers_tls
        self._needs_tls = needs_tls
        self._state = _State.OPENING
        self._buffer = bytearray()
        self._requests = 0
        self._end_point = b""
        self._scram: ScramServer | None = None
        self._has_verifier = False

    @property
    def user(self) -> str:
        """Who logs in, as far as it is known."""
        return _named(self.startup, "user") if self.startup is not None else ""

    def feed(self, data: bytes) -> None:
        """Take bytes of the client."""
        self._buffer += data

    def rest(self) -> bytes:
        """Hand out what the client said after its login."""
        left = bytes(self._buffer)
        self._buffer.clear()
        return left

    def next(self) -> Step | None:
        """The next step; None while more bytes are needed.

        Raises ProtocolViolation, and LoginRefused for a wrong password.
        """
        match self._state:
            case _State.OPENING if self.startup is not None:
                return self._ask()  # the versions have been negotiated
            case _State.OPENING:
                return self._open()
            case _State.ASKED:
                return self._first()
            case _State.ANSWERED:
                return self._final()
            case _State.NAMED | _State.OVER:
                return None

    def tls_began(self, end_point: bytes) -> None:
        """TLS is there. end_point: hash of the certificate that was shown, b"" for none."""
        self.is_encrypted = True
        self._end_point = end_point

    def give(self, known: Verifier | None, *, mock_nonce: bytes) -> Say:
        """Answer `AskVerifier`; None where the user has none. The request for its proof."""
        assert self._state is _State.NAMED, self._state
        user = self.user.encode("utf-8", "surrogateescape")[:USER_BYTES_MAX]
        self._has_verifier = known is not None
        self._scram = ScramServer(
            known or scram.mock(user, mock_nonce), nonce=self._nonce, end_point=self._end_point
        )
        self._state = _State.ASKED
        names = "".join(f"{name}\0" for name in scram.mechanisms(self._end_point)) + "\0"
        return Say(authentication(10, names.encode()))

    def _open(self) -> Step | None:
        packet = read_packet(self._buffer)
        if packet is None:
            return None
        del self._buffer[: packet.length]
        match packet:
            case CancelRequest():
                self._state = _State.OVER
                return Cancels(packet.key)
            case StartupMessage():
                return self._named(packet)
            case SslRequest() | GssEncRequest():
                return self._encrypt(packet)
            case DirectTls():
                raise ProtocolViolation("TLS without a request is not taken on this port")

    def _encrypt(self, packet: SslRequest | GssEncRequest) -> Step:
        self._requests += 1
        if self._requests > REQUESTS_MAX:
            raise ProtocolViolation("too many encryption requests")
        if self._buffer:  # somebody in between may have slipped it in (CVE-2021-23214)
            raise ProtocolViolation("received unencrypted data after encryption request")
        if isinstance(packet, SslRequest) and self._offers_tls and not self.is_encrypted:
            return BeginTls()
        return Say(REFUSE_ENCRYPTION)

    def _named(self, packet: StartupMessage) -> Step:
        self.startup = packet
        if self._needs_tls and not self.is_encrypted:
            raise ProtocolViolation("this port takes no connections without TLS", _NOT_AUTHORISED)
        if not self.user:
            text = "no PostgreSQL user name specified in startup packet"
            raise ProtocolViolation(text, _NOT_AUTHORISED)
        unknown = [name for name, _ in packet.parameters if name.startswith(_EXTENSION)]
        if packet.minor > MINOR_NEWEST or unknown:
            minor = min(packet.minor, MINOR_NEWEST)
            self.startup = msgspec.structs.replace(packet, minor=minor, parameters=_known(packet))
            return Say(negotiate(minor, unknown))
        return self._ask()

    def _ask(self) -> Step:
        self._state = _State.NAMED
        return AskVerifier(_looked_up(self.user))

    def _first(self) -> Step | None:
        body = self._take_response()
        if body is None:
            return None
        name, found, rest = body.partition(b"\0")
        length = int.from_bytes(rest[:4], "big", signed=True)
        if not found or length != len(rest) - 4:
            raise ProtocolViolation("malformed SASLInitialResponse")
        assert self._scram is not None
        answer = self._scram.first(name.decode("ascii", "replace"), rest[4:])
        self._state = _State.ANSWERED
        return Say(authentication(11, answer))

    def _final(self) -> Step | None:
        body = self._take_response()
        if body is None:
            return None
        assert self._scram is not None
        assert self.startup is not None
        self._state = _State.OVER
        try:
            answer, keys = self._scram.final(body)
        except WrongProof as error:
            raise LoginRefused(self.user) from error
        if not self._has_verifier:
            raise LoginRefused(self.user)
        return Authenticated(keys, self.startup, authentication(12, answer))

    def _take_response(self) -> bytes | None:
        """The body of a SASL message; None while it is not whole."""
        buffer = self._buffer
        if buffer and buffer[0] != _PASSWORD:
            raise ProtocolViolation(f"expected SASL response, got message type {buffer[0]}")
        if len(buffer) < HEADER_BYTES:
            return None
        length = int.from_bytes(buffer[1:HEADER_BYTES], "big")
        if not 4 <= length <= SASL_BYTES_MAX:
            raise ProtocolViolation(f"invalid length of SASL message: {length}")
        if len(buffer) < 1 + length:
            return None
        body = bytes(buffer[HEADER_BYTES : 1 + length])
        del buffer[: 1 + length]
        return body


def authentication(kind: int, data: bytes = b"") -> bytes:
    """A message of the authentication exchange; 0 is its happy end."""
    return b"R" + (8 + len(data)).to_bytes(4, "big") + kind.to_bytes(4, "big") + data


def negotiate(minor: int, unknown: list[str]) -> bytes:
    """NegotiateProtocolVersion: what we speak, and the options that we do not know."""
    names = b"".join(_encoded(name) + b"\0" for name in unknown)
    body = (PROTOCOL_MAJOR << 16 | minor).to_bytes(4, "big") + len(unknown).to_bytes(4, "big")
    return b"v" + (4 + len(body) + len(names)).to_bytes(4, "big") + body + names


def key_data(key: CancelKey) -> bytes:
    """BackendKeyData."""
    body = key.pid.to_bytes(4, "big") + key.secret
    return b"K" + (4 + len(body)).to_bytes(4, "big") + body


def startup_packet(parameters: tuple[tuple[str, str], ...], *, minor: int = 0) -> bytes:
    """A StartupMessage, with the very bytes that `read_packet` read the parameters from."""
    pairs = (_encoded(name) + b"\0" + _encoded(value) + b"\0" for name, value in parameters)
    body = (PROTOCOL_MAJOR << 16 | minor).to_bytes(4, "big") + b"".join(pairs) + b"\0"
    return (4 + len(body)).to_bytes(4, "big") + body


def _looked_up(user: str) -> str:
    """A name as PostgreSQL looks for it; one that is no text is nobody's."""
    encoded = user.encode("utf-8", "surrogateescape")
    if encoded.decode("utf-8", "ignore") != user:
        return encoded[:USER_BYTES_MAX].decode("utf-8", "replace")
    return encoded[:USER_BYTES_MAX].decode("utf-8", "ignore")


def _known(message: StartupMessage) -> tuple[tuple[str, str], ...]:
    return tuple(pair for pair in message.parameters if not pair[0].startswith(_EXTENSION))


def _named(message: StartupMessage, name: str) -> str:
    """The last one counts, as with PostgreSQL."""
    return dict(message.parameters).get(name, "")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
