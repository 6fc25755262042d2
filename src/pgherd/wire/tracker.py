"""What can be known of a session from its bytes: whether it is idle, and whether it is clean.

Theory of operation. Both directions are shown to a `Tracker` as they pass. Every message that the
server answers with ReadyForQuery (Query, Sync, FunctionCall) opens a *cycle*; ReadyForQuery ends
the oldest one. A session is idle when no cycle is open, nothing was sent outside one, no message
is cut, and the last ReadyForQuery said "outside a transaction".

It is clean when its server process keeps nothing of it that a new one would not have, once it got
the startup parameters and `settings` (what ParameterStatus reports). Everything is taken for
unclean that is not known to be harmless: command tags are on a list, statements are searched for
words, and a SET counts as tracked only if the server reports that parameter. What the bytes do not
show is a function that keeps something by itself: users of such functions must not let their
sessions be moved. DISCARD ALL makes a session clean again. Prepared statements do not make it
unclean: the messages that made them are kept, once the server has confirmed them, so that another
process can be given the same (`renewal`).

Pure. Costs a step per message that is neither a row nor COPY data.
"""

from __future__ import annotations

import re
import sys
from collections import deque

from pgherd.wire.frames import Frame, Frames
from pgherd.wire.marks import kept_by
from pgherd.wire.query import error_of

STATEMENT_BYTES_MAX = 64 * 1024
"""A longer statement is not searched, and taken for unclean."""

SERVER_BYTES_MAX = 4096
"""Of a command tag or a reported parameter."""

TAGS_MAX = 1000
PREPARED_MAX = 1000
PREPARED_BYTES_MAX = 1024 * 1024
"""Of all statements of one session that are kept to be prepared anew."""

OPENS_CYCLE = frozenset(b"QSF")
_OUTSIDE = frozenset(b"PBEDC")
_TEXTS = frozenset(b"QP")
_BULK = frozenset(b"d")
_NOT_READ = frozenset(b"DdTt2nsA")
_READ_CLIENT = frozenset(b"QPC")
_READ_SERVER = frozenset(b"CSZEN")
_WAIT_CANCELLED = re.compile(rb"\AS[^\0]*\0VWARNING\0C01000\0(?:[^\0]+\0)*RSyncRepWaitForLSN\0")
"""PostgreSQL's warning that it acknowledges a commit that no standby has confirmed (syncrep.c). Its
words are in the server's language; severity, SQLSTATE and the routine that says it are not. A RAISE
of somebody's own has another routine."""

HARMLESS = frozenset(
    {"BEGIN", "START TRANSACTION", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE"}
    | {"PREPARE TRANSACTION", "COMMIT PREPARED", "ROLLBACK PREPARED", "SET CONSTRAINTS"}
    | {"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "COPY", "FETCH", "MOVE", "SHOW", "EXPLAIN"}
    | {"DECLARE CURSOR", "CLOSE CURSOR", "CLOSE CURSOR ALL", "LOCK TABLE", "TRUNCATE TABLE"}
    | {"NOTIFY", "UNLISTEN", "CALL", "VACUUM", "ANALYZE", "REINDEX", "CLUSTER", "CHECKPOINT"}
    | {"DEALLOCATE", "DEALLOCATE ALL", "RESET", "DISCARD TEMP", "DISCARD PLANS"}
    | {"DISCARD SEQUENCES", "CREATE TABLE AS", "SELECT INTO", "REFRESH MATERIALIZED VIEW"}
    | {"GRANT", "REVOKE", "COMMENT"}
    | {
        f"{verb} {what}"
        for verb in ("CREATE", "ALTER", "DROP")
        for what in ("TABLE", "INDEX", "VIEW", "SEQUENCE", "SCHEMA", "FUNCTION", "TYPE")
    }
)
"""Command tags after which the server process keeps nothing, unless a word of the statement says
so."""

_SETS = re.compile(rb"(?:^|;)\s*set\s+(?:session\s+)?(\w+)")
_DEALLOCATES = re.compile(rb'\bdeallocate\s+(?:prepare\s+)?("(?:[^"]|"")+"|\w+)', re.IGNORECASE)
_ALIASES = {"names": "client_encoding", "time": "timezone"}
_LOCAL = {"local", "transaction"}
"""What stands where else a name does: it ends with the transaction."""

_NOT_SET_AGAIN = {"session_authorization"}
_COUNT = re.compile(r"[ \d]+$")


class Tracker:
    """One session from its first ReadyForQuery on. See the module's theory of operation."""

    __slots__ = (
        "_client",
        "_copies_in",
        "_cycles",
        "_deallocates",
        "_done",
        "_is_outside",
        "_pending",
        "_prepared",
        "_prepared_bytes",
        "_reasons",
        "_server",
        "_set_names",
        "_sets",
        "_simple",
        "errors",
        "is_over",
        "settings",
        "status",
        "wait_cancelled",
    )

    def __init__(self) -> None:
        self.settings: dict[str, str] = {}
        """What ParameterStatus said last."""
        self.status = ord("I")
        self.wait_cancelled = b""
        """The message in which the server says that it stopped waiting for a standby."""
        self.is_over = False
        """Whether the client said its Terminate, or the server its last word (a FATAL error)."""
        self._client = Frames(skip=_BULK, keep=_READ_CLIENT, keep_bytes=STATEMENT_BYTES_MAX)
        self._server = _server_frames()
        self._cycles = bytearray()
        self._done = self._simple = 0
        self._is_outside = False
        self._copies_in = False
        self._reasons: dict[str, int] = {}
        self._prepared: dict[bytes, tuple[int, bytes]] = {}  # name -> cycle, Parse's body
        self._pending: deque[tuple[int, bytes | None, bytes | None]] = deque()
        self._prepared_bytes = 0
        self.errors = 0
        self._deallocates: dict[int, list[bytes]] = {}
        self._sets = 0
        self._set_names: dict[int, list[str]] = {}

    @property
    def at_boundary(self) -> bool:
        """Whether the server's stream stands between two messages."""
        return self._server.at_boundary

    @property
    def client_at_boundary(self) -> bool:
        """Whether the client's stream stands between two messages."""
        return self._client.at_boundary

    @property
    def is_busy(self) -> bool:
        """Whether the client said something that the server has not answered to the end."""
        return bool(self._cycles) or self._is_outside or not self.client_at_boundary

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, nothing is under way, and no transaction is open."""
        return not self.is_busy and self.at_boundary and self.status == ord("I")

    @property
    def awaits_client(self) -> bool:
        """Whether nothing goes on until the client says more, the rest of a message or of COPY
        data included."""
        return self._copies_in or not (self._cycles or self._is_outside)

    @property
    def is_answering(self) -> bool:
        """Whether the server has a whole cycle to answer, and no COPY data to take."""
        return bool(self._cycles) and not self._copies_in

    @property
    def is_resting(self) -> bool:
        """Whether the client listens or takes WAL: it may be silent for ever."""
        return "LISTEN" in self._reasons or "replication" in self._reasons

    @property
    def takes_wal(self) -> bool:
        """Whether WAL streams to the client now, which has no end of its own."""
        return "replication" in self._reasons and bool(self._cycles)

    @property
    def is_clean(self) -> bool:
        """Whether another server process could stand in for this session's."""
        return not self._reasons

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not clean, for people."""
        return tuple(self._reasons)

    @property
    def goes_on(self) -> bool:
        """Whether what the client says next belongs to something that has begun at the server.

        That is a batch without its Sync, COPY data, a message that is cut, a transaction, or what a
        receiver of WAL confirms.
        """
        if self._is_outside or self._copies_in or not self.client_at_boundary:
            return True
        if self.takes_wal:
            return True
        return not self._cycles and self.status != ord("I")

    @property
    def answered(self) -> tuple[int, int]:
        """How many cycles the server has ended: those of one Query, and all others."""
        return self._simple, self._done - self._simple

    @property
    def statements(self) -> tuple[bytes, ...]:
        """The Parse messages of what is prepared, in their order."""
        bodies = [body for _, body in self._prepared.values()]
        return tuple(b"P" + (4 + len(body)).to_bytes(4, "big") + body for body in bodies)

    def restart(self, settings: dict[str, str]) -> None:
        """An idle session goes on at another server process, which was given `statements`."""
        assert not self.is_busy
        self.settings = settings
        self.status = ord("I")
        self.is_over = False
        self._server = _server_frames()

    def client(self, data: bytes) -> None:
        """Take bytes of the client. Raises ProtocolViolation for what is no message."""
        for frame in self._client.feed(data):
            self.client_frame(frame)

    def client_frame(self, frame: Frame) -> None:
        """Take a message of the client."""
        kind = frame.kind
        if kind in _TEXTS:
            self._statement(frame)
        elif kind == ord("C"):
            self._close(frame.body)
        elif kind in b"cf":
            self._copy_ended()
        elif kind == ord("X"):
            self.is_over = True
        elif kind == ord("F"):
            self._blame("a function call", self._cycle())
        if kind in OPENS_CYCLE:
            self._cycles.append(kind)
            self._is_outside = False
        elif kind in _OUTSIDE:
            self._is_outside = True

    def server(self, data: bytes) -> None:
        """Take bytes of the server. Raises ProtocolViolation for what is no message."""
        for frame in self._server.feed(data):
            self.server_frame(frame.kind, frame.body)

    def server_frame(self, kind: int, body: bytes) -> None:
        """Take a message of the server."""
        match kind:
            case 0x5A:  # Z
                self._ready(body)
            case 0x43:  # C
                self._completed(body)
            case 0x53:  # S
                self._parameter(body)
            case 0x47:  # G
                self._copies_in = True
            case 0x31 | 0x33:  # 1, 3
                self._confirmed()
            case 0x45:  # E
                self._failed(body)
            case 0x4E:  # N
                self._notice(body)
            case 0x57:  # W
                self._blame("replication", self._done + 1)
            case _:
                pass  # key data, NoData, suspended portals: nothing that stays

    def _cycle(self) -> int:
        """The number of the cycle that the client's next ending message belongs to."""
        return self._done + len(self._cycles) + 1

    def _blame(self, why: str, cycle: int) -> None:
        self._reasons[why] = cycle

    def _statement(self, frame: Frame) -> None:
        body, cycle = frame.body, self._cycle()
        if frame.kind == ord("P"):
            name, _, text = body.partition(b"\0")
            self._parse(name, body if frame.is_whole else None, cycle)
            body = text
        if not frame.is_whole:
            self._blame(f"a statement of more than {len(body)} bytes", cycle)
            return
        lower = body.lower()
        if (mark := kept_by(lower)) is not None:
            self._blame(mark, cycle)
        if b"deallocate" in lower:
            self._deallocates.setdefault(cycle, []).extend(_DEALLOCATES.findall(body))
        if b"set" in lower and (names := _SETS.findall(lower)):
            found = self._set_names.setdefault(cycle, [])
            found += [name.decode("ascii", "replace") for name in names]

    def _parse(self, name: bytes, body: bytes | None, cycle: int) -> None:
        """A statement is to be prepared; it is kept once the server confirms it."""
        if len(self._prepared) + len(self._pending) >= PREPARED_MAX:
            self._blame(f"more than {PREPARED_MAX} prepared", cycle)
            body = None
        elif self._prepared_bytes + len(body or b"") > PREPARED_BYTES_MAX:
            self._blame(f"statements of more than {PREPARED_BYTES_MAX} bytes prepared", cycle)
            body = None
        self._pending.append((cycle, name, body))

    def _close(self, body: bytes) -> None:
        name = body[1:].rstrip(b"\0") if body[:1] == b"S" else None
        self._pending.append((self._cycle(), name, None))

    def _confirmed(self) -> None:
        """ParseComplete or CloseComplete, of the oldest that has none yet."""
        if not self._pending:
            self._blame("an answer to nothing", self._done + 1)
            return
        cycle, name, body = self._pending.popleft()
        if name is None:
            return
        self._forget(name)
        if body is not None:
            self._prepared[name] = cycle, body
            self._prepared_bytes += len(body)

    def _forget(self, name: bytes) -> None:
        known = self._prepared.pop(name, None)
        if known is not None:
            self._prepared_bytes -= len(known[1])

    def _forget_before(self, cycle: int) -> None:
        """All that was prepared is gone, but what a later cycle prepares."""
        for name in [name for name, (at, _) in self._prepared.items() if at < cycle]:
            self._forget(name)

    def _deallocated(self) -> None:
        """A statement was forgotten by SQL; its name is in the cycle's text, or unknown."""
        names = self._deallocates.get(self._done + 1, [])
        if not names:
            self._blame("DEALLOCATE", self._done + 1)
            return
        name = names.pop(0)
        quoted = name[1:-1].replace(b'""', b'"') if name[:1] == b'"' else name.lower()
        self._forget(quoted)

    def _copy_ended(self) -> None:
        """The server ignored every Sync that it read while it took COPY data (protocol, "COPY")."""
        if not self._copies_in:
            return
        self._copies_in = False
        self._cycles = self._cycles.replace(b"S", b"")
        self._is_outside = not self._cycles

    def _failed(self, body: bytes) -> None:
        self.is_over = self.is_over or error_of(body).fatal
        self.errors += 1
        if self._copies_in:
            self._copies_in = False
            self._blame("a COPY that failed", self._done + 1)

    def _parameter(self, body: bytes) -> None:
        name, _, value = body.decode("utf-8", "replace").partition("\0")
        found = {sys.intern(name): sys.intern(value.rstrip("\0"))}
        self.settings = {**self.settings, **found}  # who has the last ones may keep them

    def _notice(self, body: bytes) -> None:
        if _WAIT_CANCELLED.match(body):
            self.wait_cancelled = b"N" + (4 + len(body)).to_bytes(4, "big") + body

    def _completed(self, body: bytes) -> None:
        tag = _tags.get(body) or _tag(body)
        if tag == "DEALLOCATE":
            self._deallocated()
        elif tag == "DEALLOCATE ALL":
            self._forget_before(self._done + 1)
        elif tag in HARMLESS:
            return
        elif tag == "SET":
            self._sets += 1
        elif tag == "DISCARD ALL":
            now = self._done + 1
            self._reasons = {why: at for why, at in self._reasons.items() if at >= now}
            self._forget_before(now)
        else:
            self._blame(tag, self._done + 1)

    def _ready(self, body: bytes) -> None:
        self.status = body[0] if body else 0
        self._copies_in = False
        self._done += 1
        names = self._set_names.pop(self._done, []) if self._set_names else []
        if self._sets:
            self._judge_sets(names)
        while self._pending and self._pending[0][0] <= self._done:
            self._pending.popleft()  # an error before it: the server did not even look at it
        if self._deallocates:
            self._deallocates.pop(self._done, None)
        if self._cycles:
            if self._cycles.pop(0) == ord("Q"):
                self._simple += 1
                self._forget(b"")  # a simple query takes the place of the one without a name
        else:
            self._blame("an answer to nothing", self._done)

    def _judge_sets(self, names: list[str]) -> None:
        tracked = {name.lower() for name in self.settings} - _NOT_SET_AGAIN | _LOCAL
        unknown = [name for name in names if _ALIASES.get(name, name) not in tracked]
        if unknown or len(names) != self._sets:
            self._blame(f"SET {unknown[0]}" if unknown else "SET", self._done)
        self._sets = 0


def _server_frames() -> Frames:
    return Frames(skip=_NOT_READ, keep=_READ_SERVER, keep_bytes=SERVER_BYTES_MAX)


_tags: dict[bytes, str] = {}
"""What command tags say without their counts; the same few come again and again."""


def _tag(body: bytes) -> str:
    tag = _COUNT.sub("", body.rstrip(b"\0").decode("ascii", "replace"))
    if len(_tags) < TAGS_MAX:
        _tags[body] = tag
    return tag
