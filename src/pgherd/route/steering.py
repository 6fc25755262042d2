"""Where one client's statements go (`route: auto`): what its session has said so far, and wants.

Theory of operation. A server is wanted for one cycle (`wire.cycles`), outside a transaction. If all
of its statements are reads, a replica gets it; a cycle that begins with BEGIN READ ONLY goes to a
replica with all of its transaction; everything else goes to the primary. A statement that was
prepared is known by its name from then on. What is not known is for the primary.

The client's own word comes next: a hint in a comment counts for its statement, `pgherd.route` for
the session. `primary` always holds; `replica` moves what is doubtful, and never a known write.

Pure. Leaves texts to `classifier` and everything that has to wait to `relay`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from pgherd.route.choose import Route
from pgherd.route.classifier import Seen
from pgherd.route.lexis import Hint
from pgherd.route.mark import Mark, ReadYourWrites, parse_mark
from pgherd.route.statement import Begins, Kind, Shape, Verdict
from pgherd.route.wishes import Wish, wish_in
from pgherd.wire import table
from pgherd.wire.answer import Refusal, error_response
from pgherd.wire.cycles import Cycle, Said

NAMES_MAX = 5000
"""Prepared statements that are known by name; those of more are for the primary."""

UNKNOWN = Seen(b"unknown", Shape(Kind.DOUBT, "a statement of an unknown name", changes=True))
STRANGE = Seen(b"strange", Shape(Kind.WRITE, "a message that is not looked into", changes=True))
UNFINISHED = Seen(b"unfinished", Shape(Kind.WRITE, "a batch that goes on", changes=True))

_INVALID, _UNKNOWN_NAME, _NOT_SUPPORTED = "22023", "42704", "0A000"
_HINT_NAMES = "There are pgherd.route, pgherd.trace, pgherd.min_lsn and, to SHOW, pgherd.lsn_token."
_PARSED, _BOUND, _CLOSED = b"1\0\0\0\x04", b"2\0\0\0\x04", b"3\0\0\0\x04"
_NO_PARAMETERS, _NO_DATA = b"t\0\0\0\x06\0\0", b"n\0\0\0\x04"


class Decision(msgspec.Struct, frozen=True):
    """Where a cycle goes. kind: the worst of its statements' · why: for people · is_reading: it
    begins a transaction that a replica holds · changes: names may mean something else afterwards ·
    keys: of its statements.
    """

    route: Route
    kind: Kind
    why: str
    is_reading: bool = False
    changes: bool = False
    seen: tuple[Seen, ...] = ()


class Explained(msgspec.Struct, frozen=True):
    """What became of the last statement, for SHOW pgherd.route."""

    route: str = ""
    backend: str = ""
    why: str = ""


class Steering:
    """One session's. See the module's theory of operation.

    written: how far its own writes reach · least: what it asked to see · last: for people.
    """

    def __init__(self, mode: ReadYourWrites) -> None:
        self.mode = mode
        self.wish: Route = Route.AUTO
        self.traces = False
        self.written: Mark | None = None
        self.least: Mark | None = None
        self.last = Explained()
        self._names: dict[bytes, Seen] = {}
        self._wishes: dict[bytes, Wish] = {}

    @property
    def known(self) -> Mapping[bytes, Seen]:
        """What the client's names for statements stand for."""
        return self._names

    @property
    def needed(self) -> Mark | None:
        """What a replica has to have replayed for this client."""
        own = self.written if self.mode is ReadYourWrites.SESSION else None
        marks = [mark for mark in (own, self.least) if mark is not None]
        return max(marks, default=None)

    def wrote(self, mark: Mark) -> None:
        """Everything that this client wrote lies before a mark; older terms' marks are done with:
        a primary has all that was acknowledged before its term."""
        self.written = mark
        if self.least is not None and self.least.term < mark.term:
            self.least = mark

    # Where to

    def decide(
        self,
        cycle: Cycle,
        look: Callable[[bytes], Seen],
        judge: Callable[[Seen], Verdict],
    ) -> Decision:
        """Where a cycle goes that begins outside a transaction."""
        seen = self._statements(cycle, look)
        if not cycle.is_whole:
            seen.append(UNFINISHED)
        if cycle.is_strange:
            seen.append(STRANGE)
        verdicts = [judge(one) for one in seen]
        worst = _worst(verdicts)
        begins = [one.shape.begins for one in seen]
        is_reading = begins[:1] == [Begins.READING]
        if Begins.READING in begins[1:]:
            worst = Verdict(Kind.DOUBT, "a transaction that begins within a batch")
        changes = any(one.shape.changes for one in seen)
        route, why = self._route(worst, [one.hint for one in seen])
        if is_reading and route is Route.REPLICA:
            why = f"a transaction that only reads: {why}" if why != "a read" else "BEGIN READ ONLY"
        return Decision(
            route, worst.kind, why, is_reading and route is Route.REPLICA, changes, tuple(seen)
        )

    def _route(self, worst: Verdict, hints: list[Hint]) -> tuple[Route, str]:
        wish, whose = self.wish, "pgherd.route"
        if Hint.PRIMARY in hints:
            wish, whose = Route.PRIMARY, "a hint"
        elif Hint.REPLICA in hints:
            wish, whose = Route.REPLICA, "a hint"
        if wish is Route.PRIMARY:
            return Route.PRIMARY, f"{whose} says primary"
        if worst.kind is Kind.READ:
            return Route.REPLICA, worst.why
        if wish is Route.REPLICA and worst.kind is Kind.DOUBT:
            return Route.REPLICA, f"{whose} says replica: {worst.why}"
        return Route.PRIMARY, worst.why

    def _statements(self, cycle: Cycle, look: Callable[[bytes], Seen]) -> list[Seen]:
        """What runs in a cycle, each statement once."""
        found: dict[tuple[bytes, Hint], Seen] = {}
        for said in cycle.said:
            if said.kind in "QP":
                seen = look(said.text)
                if said.kind == "P":
                    seen = self._prepared(said.name, seen)
                found[seen.key, seen.hint] = seen
            elif said.kind == "B" or (said.kind == "D" and not said.is_portal):
                seen = self._names.get(said.name, UNKNOWN)
                found[seen.key, seen.hint] = seen
            elif said.kind == "C" and not said.is_portal:
                self._names.pop(said.name, None)
        return list(found.values())

    def _prepared(self, name: bytes, seen: Seen) -> Seen:
        """Know a statement by its name. If there is one of that name the server refuses, and the
        name goes on meaning that one: then it is known as neither."""
        if name and self._names.get(name, seen) != seen:
            seen = UNKNOWN
        if len(self._names) < NAMES_MAX or name in self._names:
            self._names[name] = seen
        return seen

    # What the client asks the proxy for

    def answered(self, cycle: Cycle, status: int) -> bytes | None:
        """The answer to a cycle that is for the proxy; None if it is for a server.

        status: of the transaction, as ReadyForQuery says it.
        """
        if not cycle.is_whole or cycle.is_strange or not self._is_ours(cycle):
            return None
        ready = b"Z\0\0\0\x05" + bytes((status,))
        answer, wish, has_failed = b"", None, False
        for said in cycle.said:
            if said.kind in "QP":
                wish = wish_in(said.text)
                if said.kind == "P" and wish is not None:
                    self._wishes[said.name] = wish
            elif said.kind == "B" or (said.kind in "DC" and not said.is_portal):
                wish = self._wishes.get(said.name)
            if has_failed:
                continue
            part = self._part(said, wish)
            has_failed = part[:1] == b"E"
            answer += part
        return answer + ready

    def _is_ours(self, cycle: Cycle) -> bool:
        """Whether all that is said in it is for the proxy. A name means what was prepared last."""
        here = set(self._wishes)
        others = ours = 0
        for said in cycle.said:
            is_named = said.kind == "B" or (said.kind in "DC" and not said.is_portal)
            if said.kind in "QP" and wish_in(said.text) is not None:
                here.add(said.name)
                ours += 1
            elif said.kind in "QP":
                here.discard(said.name)
                self._wishes.pop(said.name, None)
                others += 1
            elif is_named and said.name in here:
                ours += 1
            elif is_named:
                others += 1
        return bool(ours) and not others

    def _part(self, said: Said, wish: Wish | None) -> bytes:
        """The answer to one message."""
        match said.kind:
            case "Q":
                assert wish is not None
                return self._described(wish) + self._done(wish)
            case "P":
                return _PARSED
            case "B":
                return _BOUND
            case "C":
                if not said.is_portal:
                    self._wishes.pop(said.name, None)
                return _CLOSED
            case "D" if wish is not None:
                before = b"" if said.is_portal else _NO_PARAMETERS
                return before + (self._described(wish) or _NO_DATA)
            case "E" if wish is not None:
                return self._done(wish)
        return b""

    def _described(self, wish: Wish) -> bytes:
        return table.described(_COLUMNS.get(wish.name, ())) if self._shows(wish) else b""

    def _shows(self, wish: Wish) -> bool:
        return wish.verb == "show" and wish.name in _COLUMNS

    def _done(self, wish: Wish) -> bytes:
        if self._shows(wish):
            return table.row(self._shown(wish.name)) + table.completed("SHOW")
        refusal = self._set(wish)
        if refusal is not None:
            return error_response(refusal, severity="ERROR")
        return table.completed("SET")

    def _shown(self, name: str) -> tuple[str, ...]:
        match name:
            case "route":
                return str(self.wish), self.last.route, self.last.backend, self.last.why
            case "trace":
                return ("on" if self.traces else "off",)
            case "min_lsn":
                return (str(self.least) if self.least is not None else "",)
        known = max((one for one in (self.written, self.least) if one is not None), default=None)
        return (str(known) if known is not None else "",)

    def _set(self, wish: Wish) -> Refusal | None:
        """Do it, or say why not."""
        name, value = wish.name, wish.value.lower()
        if wish.verb == "show" or name not in ("route", "trace", "min_lsn"):
            return Refusal(_UNKNOWN_NAME, f'pgherd: there is no "pgherd.{name}"', _HINT_NAMES)
        if wish.is_local:
            hint = "Use SET, or a hint: /* pgherd: primary */"
            return Refusal(_NOT_SUPPORTED, f"pgherd: SET LOCAL pgherd.{name} is not known", hint)
        if name == "route":
            if value not in ("", "auto", "primary", "replica"):
                return _invalid(wish, "auto, primary or replica")
            self.wish = Route(value or "auto")
        elif name == "trace":
            if value not in ("", "on", "off", "true", "false", "1", "0"):
                return _invalid(wish, "on or off")
            self.traces = value in ("on", "true", "1")
        else:
            return self._ask_for(wish)
        return None

    def _ask_for(self, wish: Wish) -> Refusal | None:
        if self.mode is ReadYourWrites.OFF:
            hint = "An operator sets it to session or token."
            return Refusal(_NOT_SUPPORTED, "pgherd: proxy.read_your_writes is off here", hint)
        mark = parse_mark(wish.value) if wish.value else None
        if wish.value and mark is None:
            return _invalid(wish, "what SHOW pgherd.lsn_token said, as '7:0/3000148'")
        self.least = mark
        return None


_COLUMNS: dict[str, tuple[str, ...]] = {
    "route": ("pgherd.route", "last_route", "last_backend", "last_reason"),
    "trace": ("pgherd.trace",),
    "min_lsn": ("pgherd.min_lsn",),
    "lsn_token": ("pgherd.lsn_token",),
}


def _invalid(wish: Wish, wanted: str) -> Refusal:
    text = f'pgherd: "{wish.value}" is not a value of pgherd.{wish.name}'
    return Refusal(_INVALID, text, f"Write {wanted}.")


def _worst(verdicts: list[Verdict]) -> Verdict:
    """The first of the worst kind; a cycle without statements is for the primary."""
    for kind in (Kind.WRITE, Kind.DOUBT):
        for verdict in verdicts:
            if verdict.kind is kind:
                return verdict
    return verdicts[0] if verdicts else Verdict(Kind.DOUBT, "no statement")
