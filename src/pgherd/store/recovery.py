"""Read a whole database back and believe it only if every record is vouched for.

Owns the checks at open: CRC of every record, the unbroken chain of the log from base to end, and
that all records are those that the state record names. Anything else is StoreDamaged. Leaves what
SQLite itself complains of to its caller.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import msgspec

from pgherd.model.promises import Promises
from pgherd.raft.types import Entry, Snapshot
from pgherd.store import codec
from pgherd.store.base import StoreDamaged
from pgherd.store.codec import State
from pgherd.store.image import Image

T = TypeVar("T")


def read_image(database: sqlite3.Connection) -> tuple[State, Image, list[int]]:
    """The state record, the content of the store, and the CRC of each log entry."""
    named = dict(database.execute("SELECT name, record FROM named"))
    rows = database.execute("SELECT idx, record, crc FROM log ORDER BY idx").fetchall()
    state = read_state(named.pop("state", None))
    if named.keys() != state.others.keys():
        raise StoreDamaged("a record is missing or does not belong there")
    image = Image()
    image.hard, image.conf = state.hard, state.conf
    image.base_index, image.base_term = state.base_index, state.base_term
    image.identity = read_named(named, state, "identity", codec.decode_identity)
    promises = read_named(named, state, "promises", codec.decode_promises)
    image.promises = promises if promises is not None else Promises()
    snapshot = read_named(named, state, "snapshot", codec.decode_snapshot)
    image.snapshot = snapshot if snapshot is not None else Snapshot()
    image.log, crcs = read_log(rows, state)
    if image.hard.commit > image.last_index:
        raise StoreDamaged("the log ends before the commit index")
    return state, image, crcs


def read_state(record: object) -> State:
    """The state record, if its CRC fits."""
    if not isinstance(record, bytes) or len(record) < 4:
        raise StoreDamaged("the state record (term and vote) is missing")
    if codec.named("state", record[4:]) != int.from_bytes(record[:4], "big"):
        raise StoreDamaged("the state record (term and vote) fails its CRC")
    return decoded("state", codec.decode_state, record[4:])


def read_named(
    named: dict[str, object], state: State, name: str, decode: Callable[[bytes], T]
) -> T | None:
    """A named record, if it is the one that the state record names; None if there is none."""
    record = named.get(name)
    if record is None:
        return None
    if not isinstance(record, bytes) or codec.named(name, record) != state.others[name]:
        raise StoreDamaged(f"the record of {name} fails its CRC")
    return decoded(name, decode, record)


def read_log(
    rows: list[tuple[object, object, object]], state: State
) -> tuple[list[Entry], list[int]]:
    """All entries from base to end and their CRCs, each bound to the one before."""
    entries: list[Entry] = []
    crcs: list[int] = []
    before = state.base_crc
    for expected, (index, record, crc) in enumerate(rows, start=state.base_index + 1):
        if index != expected:
            raise StoreDamaged(f"log entry {expected} is missing")
        if not isinstance(record, bytes) or crc != codec.chain(expected, before, record):
            raise StoreDamaged(f"log entry {expected} fails its CRC")
        before = codec.chain(expected, before, record)
        decode = partial(codec.decode_entry, expected)
        entries.append(decoded(f"log entry {expected}", decode, record))
        crcs.append(before)
    if (state.base_index + len(entries), before) != (state.last_index, state.last_crc):
        raise StoreDamaged(f"the log does not end at {state.last_index} as it should")
    return entries, crcs


def decoded(what: str, decode: Callable[[bytes], T], data: bytes) -> T:
    """Decode content whose CRC fits; a failure then means another program wrote it."""
    try:
        return decode(data)
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        raise StoreDamaged(f"{what} cannot be read: {error}") from error
