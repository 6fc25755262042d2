"""Bytes of the durable records, and the CRCs that bind them together.

Every log record's CRC covers its content, its index and its predecessor's CRC, so a missing,
moved or altered record breaks the chain. The state record holds both ends of the chain and the
CRCs of all other records, so it vouches for the whole store as of one transaction.
"""

from __future__ import annotations

import struct
import zlib

import msgspec

from pgherd.model.promises import Promises
from pgherd.raft.types import ConfState, Entry, EntryType, Hard, Snapshot
from pgherd.store.base import Identity

LINK = struct.Struct(">QI")
MARK = struct.Struct(">4sQQI")
MARK_MAGIC = b"pgh1"
MARK_SLOT_BYTES = MARK.size + 4


class State(msgspec.Struct, frozen=True, array_like=True):
    """The record that vouches for all others. sequence counts transactions, upwards from 1."""

    sequence: int
    hard: Hard
    conf: ConfState
    base_index: int = 0
    base_term: int = 0
    base_crc: int = 0
    last_index: int = 0
    last_crc: int = 0
    others: dict[str, int] = {}


class Mark(msgspec.Struct, frozen=True):
    """The newest transaction known to be durable, kept outside of the database."""

    sequence: int = 0
    last_index: int = 0
    last_crc: int = 0


_encode = msgspec.msgpack.encode
_record = msgspec.msgpack.Decoder(tuple[int, EntryType, bytes])
_state = msgspec.msgpack.Decoder(State)
_promises = msgspec.msgpack.Decoder(Promises)
_identity = msgspec.msgpack.Decoder(Identity)
_snapshot = msgspec.msgpack.Decoder(Snapshot)


def encode_entry(entry: Entry) -> bytes:
    """An entry without its index, which is the row's key."""
    return _encode((entry.term, entry.type, entry.data))


def decode_entry(index: int, data: bytes) -> Entry:
    """The entry of a row."""
    term, kind, content = _record.decode(data)
    return Entry(term=term, index=index, type=kind, data=content)


def chain(index: int, before: int, data: bytes) -> int:
    """The CRC of a record at index whose predecessor's CRC is `before`."""
    return zlib.crc32(data, zlib.crc32(LINK.pack(index, before)))


def named(name: str, data: bytes) -> int:
    """The CRC of a record that has a name instead of an index."""
    return zlib.crc32(data, zlib.crc32(name.encode()))


def encode(value: State | Promises | Identity | Snapshot) -> bytes:
    """The content of a named record."""
    return _encode(value)


def decode_state(data: bytes) -> State:
    """Read the state record."""
    return _state.decode(data)


def decode_promises(data: bytes) -> Promises:
    """Read the promises."""
    return _promises.decode(data)


def decode_identity(data: bytes) -> Identity:
    """Read the identity."""
    return _identity.decode(data)


def decode_snapshot(data: bytes) -> Snapshot:
    """Read the snapshot."""
    return _snapshot.decode(data)


def encode_mark(mark: Mark) -> bytes:
    """One slot of the mark file."""
    body = MARK.pack(MARK_MAGIC, mark.sequence, mark.last_index, mark.last_crc)
    return body + zlib.crc32(body).to_bytes(4, "big")


def decode_mark(data: bytes) -> Mark:
    """The newest readable slot; an empty mark when none is, for it only narrows ambiguity."""
    marks = [Mark()]
    for at in range(0, len(data) - MARK_SLOT_BYTES + 1, MARK_SLOT_BYTES):
        body = data[at : at + MARK.size]
        crc = int.from_bytes(data[at + MARK.size : at + MARK_SLOT_BYTES], "big")
        magic, sequence, last_index, last_crc = MARK.unpack(body)
        if magic == MARK_MAGIC and zlib.crc32(body) == crc:
            marks.append(Mark(sequence, last_index, last_crc))
    return max(marks, key=lambda mark: mark.sequence)
