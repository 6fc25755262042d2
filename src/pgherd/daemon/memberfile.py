"""What a node knows of its membership outside of its Raft store: `member.json` beside it.

It says that this node has been a member, so that an empty or broken store is never taken for a new
one, who the others are and where, and how far their stores had come. Nothing here is promised with:
a copy that is late says too little, never something wrong. `asks` is the exception: once it is
there, the store beside it counts no more, and the node waits to be re-admitted.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec

from pgherd.api.herd import Seat
from pgherd.api.joining import admission
from pgherd.model.errors import OperatorError
from pgherd.model.facts import Facts
from pgherd.model.ids import NodeId, RaftId
from pgherd.peer.storemarks import StoreMark
from pgherd.postgres.files import write_atomic
from pgherd.telemetry import logs

log = logs.get("daemon")

MEMBER_FILE = "member.json"
MARKS_EVERY = 30
"""Looks between two writes of the marks alone: so much may be forgotten of them in a power cut."""


class MemberFile(msgspec.Struct, frozen=True):
    """raft_id, store: under which this node took part last; 0 and "" when that is not known.

    asks: the new store with which it asks to be re-admitted, "" while it has not lost its own ·
    members: the others · marks: their stores.
    """

    cluster: str
    node: NodeId
    raft_id: RaftId = RaftId(0)
    store: str = ""
    asks: str = ""
    members: tuple[Seat, ...] = ()
    marks: tuple[StoreMark, ...] = ()


def read_member(directory: Path, *, cluster: str, node: NodeId) -> MemberFile | None:
    """What is written there; None when nothing is. Broken, it still says: has been a member."""
    path = directory / MEMBER_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=MemberFile)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError:
        return MemberFile(cluster=cluster, node=node)
    except OSError as error:
        hint = "check owner and permissions of this file, and its disk"
        raise OperatorError(f"cannot read {path}: {error.strerror}", hint) from error


def write_member(directory: Path, known: MemberFile, *, durable: bool = True) -> None:
    """Replace the file as a whole. durable: on disk when this returns. Raises OSError."""
    text = msgspec.json.encode(known).decode()
    write_atomic(directory / MEMBER_FILE, text, user=None, durable=durable)


def declare_lost(path: Path, known: MemberFile) -> MemberFile:
    """Write down that the store beside this counts no more. Raises OSError."""
    known = msgspec.structs.replace(known, asks=known.asks or secrets.token_hex(6))
    write_member(path, known)
    return known


class MemberKeeper:
    """Keeps the file of a node that takes part."""

    def __init__(
        self,
        directory: Path,
        known: MemberFile,
        *,
        facts: Callable[[], Facts],
        marks: Callable[[], tuple[StoreMark, ...]],
    ) -> None:
        self._directory = directory
        self._known = known
        self._facts = facts
        self._marks = marks
        self._looks = 0

    async def keep(self) -> None:
        """Look whether something is new, and write it: members at once, marks now and then."""
        facts, known = self._facts(), self._known
        self._looks += 1
        members = known.members
        if known.node in facts.members:
            members = admission(facts, known.node, known.raft_id).members
        moved = members != known.members
        if not moved and self._looks < MARKS_EVERY:
            return
        self._looks = 0
        now = msgspec.structs.replace(known, members=members, marks=self._marks())
        if now == known:
            return
        self._known = now
        try:
            await asyncio.to_thread(write_member, self._directory, now, durable=moved)
        except OSError as error:
            log.warning("member.not-written", reason=error.strerror)
