"""The server's side of a simple query: rows, notices and the end of an answer as bytes.

Owns the encoding (PostgreSQL docs, "Message Formats") of what the proxy answers by itself, without
a server. All values travel as text. What is told, and to whom, is `relay`'s; errors are `answer`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pgherd.wire.query import NULL_LENGTH, as_text

Cell = str | int | bool | None
READY = b"Z\x00\x00\x00\x05I"
"""Outside a transaction: there are none here."""
EMPTY = b"I\x00\x00\x00\x04"

_TEXT, _INT8, _BOOL = (25, -1), (20, 8), (16, 1)
"""Type and its size (pg_type.dat)."""


def described(columns: Sequence[str], sample: Sequence[Cell] = ()) -> bytes:
    """A RowDescription. sample: a row whose values tell the columns' types; text without one."""
    body = len(columns).to_bytes(2, "big")
    for place, name in enumerate(columns):
        oid, size = _type_of(sample[place]) if sample else _TEXT
        body += _text(name) + bytes(6) + oid.to_bytes(4, "big")
        body += size.to_bytes(2, "big", signed=True) + (-1).to_bytes(4, "big", signed=True)
        body += bytes(2)
    return _message(b"T", body)


def row(cells: Sequence[Cell]) -> bytes:
    """A DataRow."""
    body = len(cells).to_bytes(2, "big")
    for cell in cells:
        if cell is None:
            body += NULL_LENGTH.to_bytes(4, "big")
        else:
            encoded = _text(as_text(cell))[:-1]
            body += len(encoded).to_bytes(4, "big") + encoded
    return _message(b"D", body)


def completed(tag: str) -> bytes:
    """A CommandComplete."""
    return _message(b"C", _text(tag))


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, tag: str) -> bytes:
    """A whole result."""
    told = list(rows)
    sample = [_known(column) for column in zip(*told, strict=True)] if told else ()
    return described(columns, sample) + b"".join(map(row, told)) + completed(tag)


def notice(message: str) -> bytes:
    """A NoticeResponse."""
    fields = ((b"S", "NOTICE"), (b"V", "NOTICE"), (b"C", "00000"), (b"M", message))
    return _message(b"N", b"".join(name + _text(value) for name, value in fields) + b"\0")


def _known(column: Sequence[Cell]) -> Cell:
    """A value that tells the type of a column."""
    return next((cell for cell in column if cell is not None), None)


def _type_of(cell: Cell) -> tuple[int, int]:
    if isinstance(cell, bool):
        return _BOOL
    return _INT8 if isinstance(cell, int) else _TEXT


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


def _text(value: str) -> bytes:
    return value.replace("\0", "").encode("utf-8", "surrogateescape") + b"\0"
