"""Our login at a server in a client's name, with the keys that the client's proof gave us.

Owns the exchange from the startup packet to the first ReadyForQuery. What the server says in it
that is for the client (parameters, notices, an error) is kept as it came. Asks for protocol 3.0:
3.2 would only lengthen a cancel key that no client sees. Leaves sockets, TLS and time to `relay`.
"""

from __future__ import annotations

from pgherd.wire import scram
from pgherd.wire.login import startup_packet
from pgherd.wire.query import HEADER_BYTES, ServerError, error_of
from pgherd.wire.scram import Keys, ScramClient, WrongProof
from pgherd.wire.startup import CancelKey, ProtocolViolation, read_key

MESSAGE_BYTES_MAX = 64 * 1024
GREETING_BYTES_MAX = 64 * 1024


_STANDS_BY = b"S\0\0\0\x16in_hot_standby\0on\0"
"""The whole message (ParameterStatus): PostgreSQL says it at every login, since 14."""


class EntryImpossible(Exception):
    """The server asks for something that a client's keys cannot give. hint: what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class ServerEntry:
    """One login. nonce: printable text that nobody can guess · end_point: hash of the server's
    certificate inside TLS, b"" where there is none: it is used when the server offers the binding.
    """

    def __init__(
        self,
        parameters: tuple[tuple[str, str], ...],
        keys: Keys,
        *,
        nonce: str,
        end_point: bytes = b"",
    ) -> None:
        self.is_over = False
        self.greeting = b""
        self.ready = b""
        self.key: CancelKey | None = None
        self.refusal = b""
        self.error: ServerError | None = None
        self._parameters = parameters
        self._keys = keys
        self._nonce = nonce
        self._end_point = end_point
        self._buffer = bytearray()
        self._scram: ScramClient | None = None
        self._is_proved = True

    @property
    def stands_by(self) -> bool:
        """Whether the server says that it is in recovery: whatever writes fails there, 25006."""
        return _STANDS_BY in self.greeting

    def start(self) -> bytes:
        """The first message."""
        return startup_packet(self._parameters)

    def feed(self, data: bytes) -> bytes:
        """Take what the server said; what to say to it. `is_over` once nothing more is to come.

        Then either `ready` is there, or `refusal` (the server's ErrorResponse) with `error`.
        Raises ProtocolViolation and EntryImpossible.
        """
        buffer = self._buffer
        buffer += data
        said = b""
        while len(buffer) >= HEADER_BYTES and not self.is_over:
            length = int.from_bytes(buffer[1:HEADER_BYTES], "big")
            if not 4 <= length <= MESSAGE_BYTES_MAX:
                raise ProtocolViolation(f"a message of {length} bytes from the server")
            if len(buffer) < 1 + length:
                break
            message = bytes(buffer[: 1 + length])
            del buffer[: 1 + length]
            said += self._take(message, message[HEADER_BYTES:])
        return said

    def _take(self, message: bytes, body: bytes) -> bytes:
        match message[:1]:
            case b"R":
                return self._authenticate(int.from_bytes(body[:4], "big"), body[4:])
            case b"S" | b"N":
                self.greeting += message
                if len(self.greeting) > GREETING_BYTES_MAX:
                    raise ProtocolViolation("the server's greeting is too long")
            case b"K":
                self.key = read_key(body)
            case b"Z":
                self.ready, self.is_over = message, True
            case b"E":
                self.refusal, self.error, self.is_over = message, error_of(body), True
            case _:
                raise ProtocolViolation(f"message type {message[0]} in the server's login")
        return b""

    def _authenticate(self, kind: int, data: bytes) -> bytes:
        match kind:
            case 0:
                if not self._is_proved:
                    raise ProtocolViolation("the server skipped its proof")
                return b""
            case 10:
                return self._begin(data)
            case 11:
                if self._scram is None or self._is_proved:
                    raise ProtocolViolation("the server went on with no exchange")
                return _response(self._scram.final(data))
            case 12:
                return self._check(data)
        asked = {2: "Kerberos", 3: "a clear password", 5: "an md5 password", 7: "GSSAPI", 9: "SSPI"}
        raise EntryImpossible(
            f"the server asks for {asked.get(kind, f'authentication {kind}')}",
            "Let its access rules ask this proxy's address for scram-sha-256.",
        )

    def _begin(self, data: bytes) -> bytes:
        offered = data.decode("ascii", "replace").split("\0")
        if scram.MECHANISM not in offered:
            raise ProtocolViolation("the server offers no SCRAM-SHA-256")
        binds = scram.MECHANISM_PLUS in offered
        self._scram = ScramClient(
            self._keys, nonce=self._nonce, end_point=self._end_point if binds else b""
        )
        self._is_proved = False
        first = self._scram.first()
        name = self._scram.mechanism.encode() + b"\0"
        return _response(name + len(first).to_bytes(4, "big") + first)

    def _check(self, data: bytes) -> bytes:
        try:
            if self._scram is None:
                raise WrongProof
            self._scram.check(data)
        except WrongProof as error:
            raise ProtocolViolation("the server does not know this user's verifier") from error
        self._is_proved = True
        return b""


def _response(body: bytes) -> bytes:
    return b"p" + (4 + len(body)).to_bytes(4, "big") + body
