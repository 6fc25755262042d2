"""The client's side of a plain session: requests to bytes, a server's messages to rows.

Owns the encoding (PostgreSQL docs, "Message Formats") of what an agent asks its own server, and the
reading of the answer. All values travel as text. Knows no COPY and no passwords: the agent comes in
through the Unix socket by peer authentication. Leaves sockets and time to `postgres`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from pgherd.wire.startup import PROTOCOL_MAJOR, ProtocolViolation

Row = tuple[Any, ...]
Value = str | int | bool | Sequence[str] | Sequence[int] | None

TERMINATE = b"X\x00\x00\x00\x04"
SYNC = b"S\x00\x00\x00\x04"
MESSAGE_BYTES_MAX = 64 << 20
HEADER_BYTES = 5
NULL_LENGTH = 0xFFFFFFFF


class ServerError(Exception):
    """The server's own words. fatal: the session is over."""

    def __init__(self, message: str, sqlstate: str, *, fatal: bool) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.fatal = fatal


# --- requests ------------------------------------------------------------------------------------


def startup(parameters: Mapping[str, str]) -> bytes:
    """The first message of a session."""
    body = b"".join(_text(name) + _text(value) for name, value in parameters.items()) + b"\0"
    return (len(body) + 8).to_bytes(4, "big") + (PROTOCOL_MAJOR << 16).to_bytes(4, "big") + body


def simple(statement: str) -> bytes:
    """Run one or more statements without parameters."""
    return _message(b"Q", _text(statement))


def prepare(name: str, statement: str) -> bytes:
    """Name a statement with parameters $1, $2, ...; "" is the name of the one in passing."""
    return _message(b"P", _text(name) + _text(statement) + bytes(2))


def run(name: str, values: Sequence[Value]) -> bytes:
    """Run a named statement with these values and end the request."""
    body = b"\0" + _text(name) + bytes(2) + len(values).to_bytes(2, "big")
    body += b"".join(_parameter(value) for value in values) + bytes(2)
    execute = _message(b"E", b"\0" + bytes(4))
    return _message(b"B", body) + _message(b"D", b"P\0") + execute + SYNC


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


def _text(value: str) -> bytes:
    encoded = value.encode()
    if b"\0" in encoded:
        raise ValueError("PostgreSQL takes no text with a zero byte")
    return encoded + b"\0"


def _parameter(value: Value) -> bytes:
    if value is None:
        return NULL_LENGTH.to_bytes(4, "big")
    encoded = as_text(value).encode()
    return len(encoded).to_bytes(4, "big") + encoded


def as_text(value: str | int | bool | Sequence[str] | Sequence[int]) -> str:
    """A value as PostgreSQL reads it; a sequence becomes an array."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, int):
        return str(value)
    return "{" + ",".join(_element(each) for each in value) + "}"


def _element(value: str | int) -> str:
    if not isinstance(value, str):
        return str(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


# --- answers -------------------------------------------------------------------------------------


class Answers:
    """Reads what a server says, one answer after the other.

    `feed` returns whether the answer to the last request is complete; `take` hands it out. An
    answer ends with ReadyForQuery, or with a fatal error. The session's beginning is one as well.
    """

    def __init__(self) -> None:
        self.backend_pid = 0
        self._buffer = bytearray()
        self._readers: list[Callable[[str], Any]] = []
        self._rows: list[Row] = []
        self._error: ServerError | None = None
        self._is_complete = False

    def feed(self, data: bytes) -> bool:
        """Take bytes. Raises ProtocolViolation for what no PostgreSQL says."""
        buffer = self._buffer
        buffer += data
        while len(buffer) >= HEADER_BYTES and not self._is_complete:
            length = int.from_bytes(buffer[1:HEADER_BYTES], "big")
            if not 4 <= length <= MESSAGE_BYTES_MAX:
                raise ProtocolViolation(f"a message of {length} bytes")
            if len(buffer) < 1 + length:
                break
            kind, body = bytes(buffer[:1]), bytes(buffer[HEADER_BYTES : 1 + length])
            del buffer[: 1 + length]
            try:
                self._take_message(kind, body)
            except (ValueError, msgspec.MsgspecError) as error:
                raise ProtocolViolation(f"a message that cannot be read: {error}") from error
        return self._is_complete

    def take(self) -> list[Row]:
        """The rows of the complete answer. Raises the server's error."""
        rows, error = self._rows, self._error
        self._rows, self._error, self._readers, self._is_complete = [], None, [], False
        if error is not None:
            raise error
        return rows

    def _take_message(self, kind: bytes, body: bytes) -> None:
        match kind:
            case b"D":
                self._rows.append(self._row(body))
            case b"T":
                self._readers = list(_columns(body))
            case b"Z":
                self._is_complete = True
            case b"E":
                self._error = error_of(body)
                self._is_complete = self._error.fatal
            case b"K":
                self.backend_pid = int.from_bytes(body[:4], "big")
            case b"R" if body[:4] != bytes(4):
                text = "the server asks the agent for a password instead of letting it in by peer"
                self._error = ServerError(text, "28000", fatal=True)
                self._is_complete = True
            case _:
                pass  # parameters, notices, completions: nothing that an answer needs

    def _row(self, body: bytes) -> Row:
        values: list[Any] = []
        at = 2
        for read in self._readers:
            length = int.from_bytes(body[at : at + 4], "big")
            at += 4
            if length == NULL_LENGTH:
                values.append(None)
                continue
            values.append(read(body[at : at + length].decode("utf-8", "replace")))
            at += length
        return tuple(values)


def error_of(body: bytes) -> ServerError:
    """The error in an ErrorResponse."""
    fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}
    severity = fields.get(b"V") or fields.get(b"S", "")
    message = fields.get(b"M") or "the server reports an error without a text"
    return ServerError(message, fields.get(b"C", ""), fatal=severity in ("FATAL", "PANIC"))


def _columns(body: bytes) -> list[Callable[[str], Any]]:
    """How to read each column that a RowDescription announces."""
    readers = []
    at = 2
    for _ in range(int.from_bytes(body[:2], "big")):
        at = body.index(b"\0", at) + 1
        oid = int.from_bytes(body[at + 6 : at + 10], "big")
        readers.append(READERS.get(oid, str))
        at += 18
    return readers


def _integers(text: str) -> list[int]:
    return [int(item) for item in text[1:-1].split(",") if item]


READERS: dict[int, Callable[[str], Any]] = {
    16: lambda text: text == "t",
    20: int,
    21: int,
    23: int,
    26: int,
    114: msgspec.json.decode,
    700: float,
    701: float,
    1005: _integers,
    1007: _integers,
    1016: _integers,
}
"""By the type's OID (pg_type.dat): bool, integers, oid, json, floats, arrays of integers. All else
stays text."""
