"""Follow both directions of a session until its first ReadyForQuery.

Theory of operation. A relay passes bytes on as they are and shows them to an `Opening`, which
learns three things: which packets the client sent, whether the session became opaque (TLS or
GSSAPI encryption was agreed), and the cancel key. It never changes a byte, never waits, and holds
at most one startup packet and one BackendKeyData. Once `done` it need not be shown anything more.

    client: (SSLRequest | GSSENCRequest)* then StartupMessage | CancelRequest | TLS handshake
    server: one byte per request (N: stay plain, S or G: opaque from here), then typed messages:
            authentication, ParameterStatus, BackendKeyData (K) ... ReadyForQuery (Z)
"""

from __future__ import annotations

from pgherd.wire.startup import (
    CANCEL_KEY_BYTES_MAX,
    CancelKey,
    CancelRequest,
    DirectTls,
    GssEncRequest,
    Packet,
    ProtocolViolation,
    SslRequest,
    StartupMessage,
    read_key,
    read_packet,
)

REQUESTS_MAX = 4
"""Encryption requests in one session; clients send at most one of each kind."""

_KEY_MESSAGE_BYTES_MAX = 4 + 4 + CANCEL_KEY_BYTES_MAX
_READY = b"Z\x00\x00\x00\x05"


class Opening:
    """One session's beginning. See the module's theory of operation."""

    __slots__ = (
        "_answers",
        "_from_client",
        "_from_server",
        "_requests",
        "_skip",
        "_started",
        "done",
        "key",
        "offers_tls",
        "opaque",
    )

    def __init__(self) -> None:
        self.opaque = False
        self.done = False
        self.key: CancelKey | None = None
        self.offers_tls: bool | None = None
        self._answers: list[Packet] = []
        self._requests = 0
        self._started = False
        self._from_client = bytearray()
        self._from_server = bytearray()
        self._skip = 0

    def client(self, data: bytes) -> list[Packet]:
        """The packets that are complete with these bytes. Raises ProtocolViolation."""
        packets: list[Packet] = []
        if self._client_is_read():
            return packets
        self._from_client += data
        while (packet := read_packet(self._from_client)) is not None:
            del self._from_client[: packet.length]
            self._note(packet)
            packets.append(packet)
            if self._client_is_read():
                self._from_client.clear()
        return packets

    def _client_is_read(self) -> bool:
        return self._started or self.done

    def server(self, data: bytes) -> None:
        """Take what the server said: answers to requests first, messages after."""
        while data and self._answers and not self.done:
            if data[:1] not in (b"N", b"S", b"G"):
                self._answers.clear()  # an ErrorResponse in place of an answer
                break
            request = self._answers.pop(0)
            self._answer(request, data[:1])
            data = data[1:]
        if not self.done and data:
            self._from_server += data
            self._read_messages()

    def _note(self, packet: Packet) -> None:
        match packet:
            case SslRequest() | GssEncRequest():
                self._requests += 1
                self._answers.append(packet)
                if self._requests > REQUESTS_MAX:
                    raise ProtocolViolation("too many encryption requests")
            case DirectTls():
                self._become_opaque()
            case StartupMessage() | CancelRequest():
                self._started = True

    def _answer(self, request: Packet, answer: bytes) -> None:
        if isinstance(request, SslRequest):
            self.offers_tls = answer == b"S"
        if answer != b"N":
            self._become_opaque()

    def _become_opaque(self) -> None:
        self.opaque = True
        self._finish()

    def _finish(self) -> None:
        self.done = self._started = True
        self._answers.clear()
        self._from_client.clear()
        self._from_server.clear()

    def _read_messages(self) -> None:
        buffer = self._from_server
        while not self.done:
            if self._skip:
                passed = min(self._skip, len(buffer))
                del buffer[:passed]
                self._skip -= passed
            if self._skip or len(buffer) < 5:
                return
            length = int.from_bytes(buffer[1:5], "big")
            is_ready = bytes(buffer[:5]) == _READY
            if is_ready and len(buffer) < len(_READY) + 1:
                return
            if is_ready:
                self._finish()
            elif length < 4:
                self._become_opaque()  # not this protocol: relay it blindly
            elif buffer[0] == ord("K") and length <= _KEY_MESSAGE_BYTES_MAX:
                if len(buffer) < 1 + length:
                    return
                self._learn(bytes(buffer[5 : 1 + length]))
                self._skip = 1 + length
            else:
                self._skip = 1 + length

    def _learn(self, body: bytes) -> None:
        try:
            self.key = read_key(body)
        except ProtocolViolation:
            self.key = None  # cancels then go to every server


def ends_ready(tail: bytes) -> bool:
    """Whether a plain server stream whose last bytes are these stands at a message boundary.

    Looks only for ReadyForQuery at the very end. Row data that ends a chunk with the same six
    bytes is taken for it; a relay may use this where a wrong answer costs a broken session at most.
    """
    return len(tail) >= 6 and tail[-6:-1] == _READY and tail[-1] in b"ITE"


def ends_idle(tail: bytes) -> bool:
    """As `ends_ready`, and outside a transaction."""
    return ends_ready(tail) and tail[-1] == ord("I")
