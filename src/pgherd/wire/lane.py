"""The bytes between a client and the servers that it borrows: what each of them gets to see.

Theory of operation. A lane tracks its client's session (`tracker`) and passes bytes on, but for
prepared statements. The client's names are exchanged for those on the server's `shelf`. Where a
statement is missing there, its Parse goes before the message that needs it. The answers of what the
client did not say are not for the client: `_awaited` has one entry for each Parse and Close that a
server was sent, in order, with what the client gets in place of the answer.

 - A Parse of the client's is always a real one, so that its errors come as they would without a
   pool. An older copy under the same name is closed just before it.
 - A Close of the client's closes nothing, for others may use the statement: the server is asked to
   close what does not exist, which it answers in the same way, in its turn.
 - DEALLOCATE of such a name, as one statement alone, does the same.
 - An error makes the server skip what follows, up to Sync: at ReadyForQuery every entry of that
   cycle that is still awaited was skipped, and is undone.

RESET leads where the client's startup packet would have led: the server, which was started without
its wishes, is made to grant them again.

Messages that are read are passed on once they are whole; of a longer one the beginning is enough.
Pure. Costs a step per message in both directions.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from pgherd.wire.answer import Refusal
from pgherd.wire.frames import LENGTH_MAX, Frame
from pgherd.wire.guard import failing
from pgherd.wire.marks import recalls
from pgherd.wire.naming import name_of, renamed
from pgherd.wire.query import HEADER_BYTES, SYNC
from pgherd.wire.renewal import status
from pgherd.wire.shelf import NOBODYS, PREFIX, Moments, Named, Shelf, Statement, salt_of, statement
from pgherd.wire.startup import ProtocolViolation
from pgherd.wire.tracker import SERVER_BYTES_MAX, Tracker

TEXT_BYTES_MAX = 1024 * 1024
"""A longer statement cannot be prepared on another server, and is taken for unclean."""

NAMES_MAX = 5000
NAMES_BYTES_MAX = 16 * 1024 * 1024
"""What one client may have prepared. PostgreSQL has no such limit, but it keeps them too."""

_DATA = ord("d")
_READ = frozenset(b"CSZENGW13")
_DEALLOCATES = re.compile(
    rb'\s*deallocate\s+(?:prepare\s+)?(?!all\s*;?\s*\Z)("(?:[^"]|"")+"|\w+)\s*;?\s*\Z',
    re.IGNORECASE,
)
_DEALLOCATED = b"C\x00\x00\x00\x0fDEALLOCATE\x00"
_GONE = PREFIX + b"gone"
"""What a DEALLOCATE inside of a batch takes away in place of a client's statement."""

_TAKES_GONE = b"P" + (19 + len(_GONE)).to_bytes(4, "big") + b"\0DEALLOCATE " + _GONE + b"\0\0\0"

_NOT_RECALLED = Refusal(
    "55000",
    "pgherd: currval is not defined: what was drawn before may have been drawn from another server",
    "Use RETURNING, or draw and ask in one transaction; from now on this session keeps its server.",
)
_LIMIT_EXCEEDED = "54000"
_RESETS = (b"RESET\0", b"DISCARD ALL\0")

Undo = Callable[[], object]
Instead = tuple[bytes, int]
"""What a server gets for the beginning of a message, and how many bytes of its body that are."""


class Lane(Tracker):
    """See the module's theory of operation.

    settings: what the client was told of parameters · wished: those of them that it asked for when
    it came · owed: where the server of now has something else, since they were reset there.
    """

    __slots__ = (
        "_awaited",
        "_base",
        "_cut",
        "_is_reset",
        "_left_client",
        "_left_server",
        "_moments",
        "_names",
        "_names_bytes",
        "_salt",
        "_salted",
        "_shelf",
        "_wished",
        "owed",
    )

    def __init__(
        self, settings: dict[str, str], moments: Moments, wished: Iterable[str] = ()
    ) -> None:
        super().__init__()
        self.settings = settings
        self.owed: dict[str, str] = {}
        self._wished = {name: settings[name] for name in wished if name in settings}
        self._base: Mapping[str, str] = {}
        self._is_reset = False
        self._moments = moments
        self._shelf = Shelf()
        self._names: dict[bytes, Named] = {}
        self._names_bytes = 0
        self._awaited: deque[tuple[int, bytes | None, Undo | None]] = deque()
        self._left_client = self._left_server = 0
        self._cut = b""
        self._salted: dict[str, str] | None = None
        self._salt = b""

    def borrow(self, shelf: Shelf, base: Mapping[str, str]) -> None:
        """Another server, with this on its shelf. base: what it goes back to with RESET."""
        assert not self._awaited
        self._shelf, self._base = shelf, base

    @property
    def settings_there(self) -> dict[str, str]:
        """What the server of now has."""
        return {**self.settings, **self.owed} if self.owed else self.settings

    @property
    def at_boundary(self) -> bool:
        return not self._left_server and not self._cut

    @property
    def client_at_boundary(self) -> bool:
        return not self._left_client

    def take_back(self, names: Iterable[bytes]) -> None:
        """Forget that statements were prepared that will be prepared again elsewhere."""
        for name in names:
            self._drop(name)

    # What passes elsewhere for a while

    def names_elsewhere(self) -> list[tuple[bytes, bytes, int, int]]:
        """Statements that may run without us: the client's and servers' names, numbers, moments."""
        return [
            (name, one.statement.name, one.statement.number, one.moment)
            for name, one in self._names.items()
            if one.statement.name and one.statement.is_plain
        ]

    def passed_elsewhere(self, *, simple: int, extended: int) -> None:
        """So many cycles were answered without us."""
        assert not self._cycles
        self._simple += simple
        self._done += simple + extended

    def unnamed_is(self, rest: bytes | None) -> None:
        """What the statement without a name is, from its Parse; None: there is none."""
        self._drop(b"")
        if rest is not None:
            self._moments.now += 1
            self._names[b""] = Named(Statement(b"", rest), self._moments.now, self._done)
            self._names_bytes += len(rest)

    def catch_up(self, said: bytes, heard: bytes, *, left: int) -> None:
        """A cycle began without us, as `riding.HandedOver` has it. Raises ProtocolViolation."""
        self.speak(said)
        self.hear(heard)
        self._left_server = left

    # The client's half

    def speak(self, data: bytes) -> bytes:
        """Take bytes of the client, as `Guard` with `whole_bytes` has them; what the server gets.

        Raises ProtocolViolation.
        """
        at, end = min(self._left_client, len(data)), len(data)
        self._left_client -= at
        passed: list[bytes] = []
        begun = 0
        while end - at >= HEADER_BYTES:
            kind, length = data[at], int.from_bytes(data[at + 1 : at + HEADER_BYTES], "big")
            if not 4 <= length <= LENGTH_MAX:
                raise ProtocolViolation(f"a message of {length} bytes")
            start, after = at + HEADER_BYTES, at + 1 + length
            if kind != _DATA:
                body = data[start : min(after, start + TEXT_BYTES_MAX)]
                other = self._said(kind, body, length - 4)
                if other is not None:
                    passed += [data[begun:at], other[0]]
                    begun = start + other[1]
            at = after
        self._left_client += max(0, at - end)
        if not passed:
            return data
        return b"".join((*passed, data[begun:]))

    def _said(self, kind: int, body: bytes, length: int) -> Instead | None:
        """Take one message. length: of its whole body."""
        cycle = self._cycle()
        other: Instead | None = None
        frame = Frame(kind, body, len(body) == length)
        if kind == ord("Q"):
            other = self._query(body, cycle, is_whole=len(body) == length)
        elif kind == ord("P"):
            other = self._parses(body, length, cycle)
        elif kind == ord("B"):
            portal, _, rest = body.partition(b"\0")
            other = self._uses(kind, portal + b"\0", rest, length, cycle)
        elif kind == ord("D") and body[:1] == b"S":
            other = self._uses(kind, b"S", body[1:], length, cycle)
        elif kind == ord("C"):
            other = self._closes(body, cycle)
        self.client_frame(frame)
        return other

    def _query(self, body: bytes, cycle: int, *, is_whole: bool) -> Instead | None:
        """A simple query ends the statement without a name; a DEALLOCATE alone is a Close."""
        is_alone = is_whole and not self.is_busy and self.status != ord("E")
        self._drop(b"")
        name = self._deallocated_by(body.rstrip(b"\0")) if is_alone else None
        if name is None:
            self._shelf.unnamed = 0  # else the server keeps it, and its next client must not get it
            is_first = is_alone and self.status == ord("I")
            return self._refused(ord("Q"), b"", body) if is_first else None
        self._drop(name)
        self._await(cycle, _DEALLOCATED)
        return message(b"C", b"S" + NOBODYS + b"\0") + SYNC, len(body)

    def _refused(self, kind: int, before: bytes, rest: bytes) -> Instead | None:
        """What fails in place of a statement that asks what the server gave in an earlier one: that
        may have been to somebody else. From then on the session keeps its server."""
        text, _, types = rest.partition(b"\0")
        if not (self.is_clean and recalls(text.lower())):
            return None
        fails = failing(_NOT_RECALLED, has_parameters=b"$1" in text)
        said = message(bytes((kind,)), before + fails + b"\0" + types)
        return said, len(before) + len(rest)

    def _deallocated_by(self, text: bytes) -> bytes | None:
        """The name of ours that a statement takes away."""
        match = _DEALLOCATES.match(text)
        if match is None:
            return None
        quoted = match[1]
        is_quoted = quoted[:1] == b'"'
        name = quoted[1:-1].replace(b'""', b'"') if is_quoted else quoted.lower()
        return name if name in self._names else None

    def _parses(self, body: bytes, length: int, cycle: int) -> Instead | None:
        name, rest = name_of(body)
        is_whole = len(body) == length
        self._moments.now += 1
        moment, shelf = self._moments.now, self._shelf
        if is_whole and self.status == ord("I") and not self._cycles:
            refused = self._refused(ord("P"), name + b"\0", rest)
            if refused is not None:
                self._await(cycle, None)
                return refused
        if name == b"":
            gone = self._deallocated_by(rest.partition(b"\0")[0])
            if gone is not None:
                return self._parses_deallocate(gone, rest, cycle)
            self._drop(b"")
            shelf.unnamed = moment
            found = Statement(b"", rest if is_whole else None)
            self._call(b"", found, moment, cycle)
            return None
        known = self._names.get(name)
        if known is not None:  # it exists already, which the server has to say
            before = self._provide(known, cycle)
            self._await(cycle, None)
            start, skipped = renamed(ord("P"), b"", name, known.statement.name, length)
            return before + start, skipped
        if is_whole:
            found = statement(rest, self._salt_now())
        else:
            found = Statement(PREFIX + b"long_%d" % moment, None)
        before = self._makes_room(found.name, moment, cycle)
        self._call(name, found, moment, cycle)
        start, skipped = renamed(ord("P"), b"", name, found.name, length)
        return before + start, skipped

    def _parses_deallocate(self, gone: bytes, rest: bytes, cycle: int) -> Instead:
        """DEALLOCATE in a batch: it takes away a statement that is made for it."""
        made = self._makes_gone(gone, cycle)
        self._call(b"", Statement(b"", rest), self._moments.now, cycle)
        self._shelf.unnamed = self._moments.now
        return made + _TAKES_GONE, 1 + len(rest)

    def _makes_gone(self, gone: bytes, cycle: int) -> bytes:
        known = self._names[gone]
        self._drop(gone)
        self._await(cycle, b"", partial(self._names.setdefault, gone, known))
        self._await(cycle, b"")
        return message(b"C", b"S" + _GONE + b"\0") + message(b"P", _GONE + b"\0\0\0\0")

    def _uses(
        self, kind: int, before: bytes, rest: bytes, length: int, cycle: int
    ) -> Instead | None:
        """Bind or Describe of a statement. before: what is said before its name."""
        name, _ = name_of(rest)
        known = self._names.get(name)
        if known is None:
            if name or not self._shelf.unnamed:
                return None
            return renamed(kind, before, name, NOBODYS, length)  # another client's is there
        provided = self._takes_gone(known, cycle) if kind == ord("B") and not name else b""
        provided = provided or self._provide(known, cycle)
        if not provided and not name:
            return None
        start, skipped = renamed(kind, before, name, known.statement.name, length)
        return provided + start, skipped

    def _takes_gone(self, known: Named, cycle: int) -> bytes:
        """What to say before a DEALLOCATE runs that was prepared before what it takes away."""
        gone = self._deallocated_by((known.statement.rest or b"").partition(b"\0")[0])
        if gone is None:
            return b""
        made = self._makes_gone(gone, cycle)
        self._moments.now += 1
        self._shelf.unnamed = known.moment = self._moments.now
        self._await(cycle, b"", self._shelf.doubt_unnamed)
        return made + _TAKES_GONE

    def _provide(self, known: Named, cycle: int) -> bytes:
        """What to say before a message that needs this statement; nothing, if it is there."""
        found, shelf = known.statement, self._shelf
        if not found.name:
            if shelf.unnamed == known.moment or found.rest is None:
                return b""
            shelf.unnamed = known.moment
            self._await(cycle, b"", shelf.doubt_unnamed)
            return message(b"P", b"\0" + found.rest)
        if shelf.has(found.name, known.moment) or found.rest is None:
            return b""
        self._moments.now += 1
        before = self._makes_room(found.name, self._moments.now, cycle)
        self._await(cycle, b"", partial(shelf.doubt, found.name))
        return before + message(b"P", found.name + b"\0" + found.rest)

    def _makes_room(self, name: bytes, moment: int, cycle: int) -> bytes:
        """What to say before a statement is prepared under this name."""
        shelf, said = self._shelf, b""
        closed = [name] if shelf.put(name, moment) else []
        overdue = shelf.overdue()
        closed += [] if overdue is None else [overdue]
        for each in closed:
            self._await(cycle, b"", partial(shelf.doubt, each))
            said += message(b"C", b"S" + each + b"\0")
        return said

    def _call(self, name: bytes, found: Statement, moment: int, cycle: int) -> None:
        """The client calls a statement so, once the server has confirmed it."""
        self._names[name] = Named(found, moment, cycle)
        self._names_bytes += len(found.rest or b"")
        if len(self._names) > NAMES_MAX or self._names_bytes > NAMES_BYTES_MAX:
            raise ProtocolViolation("too much is prepared in this session", _LIMIT_EXCEEDED)
        shelf = self._shelf

        def undo() -> None:
            self._drop(name)
            if name:
                shelf.doubt(found.name)
            else:
                shelf.doubt_unnamed()

        self._await(cycle, None, undo)

    def _closes(self, body: bytes, cycle: int) -> Instead | None:
        self._await(cycle, None)
        if body[:1] != b"S":
            return None
        name, _ = name_of(body[1:])
        known = self._names.get(name)
        if known is None:
            return None
        self._drop(name)
        if not name:
            self._shelf.unnamed = 0
            self._awaited[-1] = (cycle, None, self._shelf.doubt_unnamed)
            return None
        self._awaited[-1] = (cycle, None, partial(self._names.setdefault, name, known))
        return message(b"C", b"S" + NOBODYS + b"\0"), len(body)

    def _drop(self, name: bytes) -> None:
        known = self._names.pop(name, None)
        if known is not None:
            self._names_bytes -= len(known.statement.rest or b"")

    def _salt_now(self) -> bytes:
        """Of the settings of now; of nobody else while some are being set."""
        if self._set_names:
            return b"%d" % self._moments.now
        if self._salted is not self.settings:
            self._salted, self._salt = self.settings, salt_of(self.settings)
        return self._salt

    def _await(self, cycle: int, instead: bytes | None, undo: Undo | None = None) -> None:
        self._awaited.append((cycle, instead, undo))

    # The server's half

    def hear(self, data: bytes) -> bytes:
        """Take bytes of the server; what the client gets. Raises ProtocolViolation."""
        data = self._cut + data if self._cut else data
        at, end = min(self._left_server, len(data)), len(data)
        self._left_server -= at
        passed: list[bytes] = []
        begun = 0
        while end - at >= HEADER_BYTES:
            kind, length = data[at], int.from_bytes(data[at + 1 : at + HEADER_BYTES], "big")
            if not 4 <= length <= LENGTH_MAX:
                raise ProtocolViolation(f"a message of {length} bytes")
            after = at + 1 + length
            if kind in _READ:
                start = at + HEADER_BYTES
                kept = min(after, start + SERVER_BYTES_MAX)
                if kept > end:
                    break
                other = self._told(kind, data[start:kept])
                if other is not None:
                    passed += [data[begun:at], other]
                    begun = after
            at = after
        self._left_server += max(0, at - end)
        at = min(at, end)
        self._cut = data[at:]
        if not passed:
            return data[:at] if self._cut else data
        return b"".join((*passed, data[begun:at]))

    def _told(self, kind: int, body: bytes) -> bytes | None:
        """Take one message. What the client gets in its place; None: itself."""
        if kind in b"13":
            return self._confirmed_now()
        if kind == ord("S") and (self._is_reset or self.owed):
            return self._reported(body)
        self.server_frame(kind, body)
        return None

    def _reported(self, body: bytes) -> bytes | None:
        """A parameter that was reset goes back to what the client had asked for when it came."""
        name, _, value = body.decode("utf-8", "replace").rstrip("\0").partition("\0")
        wish = self._wished.get(name, value)
        if not self._is_reset or wish == value or self._base.get(name) != value:
            self.owed.pop(name, None)
            self.server_frame(ord("S"), body)
            return None
        self.owed[name] = value
        if self.settings.get(name) == wish:
            return b""
        self.settings = {**self.settings, name: wish}
        return status(name, wish)

    def _completed(self, body: bytes) -> None:
        self._is_reset = self._is_reset or body in _RESETS
        super()._completed(body)

    def _confirmed_now(self) -> bytes | None:
        """ParseComplete or CloseComplete: what the client gets in its place."""
        if not self._awaited:
            self._blame("an answer to nothing", self._done + 1)
            return None
        return self._awaited.popleft()[1]

    def _ready(self, body: bytes) -> None:
        super()._ready(body)
        self._is_reset = False
        skipped = []
        while self._awaited and self._awaited[0][0] <= self._done:
            skipped.append(self._awaited.popleft()[2])
        for undo in reversed(skipped):
            if undo is not None:
                undo()

    # What the tracker asks of statements

    def _parse(self, name: bytes, body: bytes | None, cycle: int) -> None:
        pass  # `_parses` has seen to it

    def _close(self, body: bytes) -> None:
        pass  # `_closes` has

    def _forget(self, name: bytes) -> None:
        pass  # `_query` has

    def _forget_before(self, cycle: int) -> None:
        for name in [name for name, known in self._names.items() if known.cycle < cycle]:
            self._drop(name)
        self._shelf.doubt_all()

    def _deallocated(self) -> None:
        pass  # of a statement of SQL's own, or of one of ours: then it was dropped


def message(kind: bytes, body: bytes) -> bytes:
    """One message."""
    return kind + (4 + len(body)).to_bytes(4, "big") + body
