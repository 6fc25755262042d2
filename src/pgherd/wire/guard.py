"""Keep a client's session inside of the promise: its statements pass through here to the server.

Bytes pass as they come. Only a Query or Parse message is kept until it is whole, and read when it
names one of the two parameters of `lowering`:

    client_min_messages above `warning`  is made `warning`, where the words show the value
    synchronous_commit below `on`        is refused, with `has_floor`
    either, with a value that cannot be seen, as set_config() of a parameter: refused as well

A statement is refused by sending another in its place, which fails in the server with our words: so
the error comes in its turn, and a transaction fails as by any other error. Of a statement longer
than STATEMENT_BYTES_MAX nothing is kept or read.

Pure. Owns what is kept; leaves the words' meaning to `lowering`.
"""

from __future__ import annotations

from pgherd.wire.answer import Refusal
from pgherd.wire.frames import LENGTH_MAX
from pgherd.wire.lowering import (
    COMMIT,
    HIDING,
    LOUD_ENOUGH,
    MESSAGES,
    Found,
    settings_in,
)
from pgherd.wire.query import HEADER_BYTES, Row, simple
from pgherd.wire.startup import ProtocolViolation
from pgherd.wire.tracker import STATEMENT_BYTES_MAX

NOT_ALLOWED = "42501"
_READ = frozenset(b"QP")
_COPY_DATA = ord("d")
NAMES_BYTES = 4096
"""The beginning of a message that has all names in it."""

_HINT_FLOOR = "proxy.sync_floor of this node keeps it at on or remote_apply."
_HINT_SEEN = "Write the value out: the proxy has to see it."


class Guard:
    """One client's statements. has_floor: whether synchronous_commit must not be lowered ·
    whole_bytes: every message up to this length but COPY data passes once it is whole, a longer one
    once its names are there; 0: only those that are read.
    """

    __slots__ = ("_has_floor", "_held", "_left", "_most", "_whole_bytes")

    def __init__(self, *, has_floor: bool, whole_bytes: int = 0) -> None:
        self._has_floor = has_floor
        self._whole_bytes = whole_bytes
        self._most = whole_bytes or STATEMENT_BYTES_MAX
        self._held = b""  # the beginning of a message that is not whole
        self._left = 0  # bytes of one that passes unread

    @property
    def holds(self) -> bool:
        """Whether the client said something that did not pass yet."""
        return bool(self._held)

    def take(self) -> bytes:
        """Hand out what did not pass yet: it will come again."""
        held, self._held = self._held, b""
        return held

    def client(self, data: bytes) -> bytes:
        """Take bytes of the client; what the server shall get. Raises ProtocolViolation."""
        at = 0
        if self._left:
            at = min(self._left, len(data))
            self._left -= at
            if at == len(data):
                return data
        if self._held:
            data, self._held = self._held + data, b""
        end, passed = len(data), []
        begun = 0
        while at < end:
            if end - at < HEADER_BYTES:
                break
            length = int.from_bytes(data[at + 1 : at + HEADER_BYTES], "big")
            if not 4 <= length <= LENGTH_MAX:
                raise ProtocolViolation(f"a message of {length} bytes")
            after = at + 1 + length
            is_read = data[at] in _READ and length <= self._most
            if after > end and (is_read or self._waits(data[at], length, end - at)):
                break
            if after > end:
                self._left, at = after - end, end
                break
            if is_read and (other := self._instead(data, at, after)) is not None:
                passed += [data[begun:at], other]
                begun = after
            at = after
        self._held = data[at:]
        if not passed:
            return data[:at] if self._held else data
        return b"".join((*passed, data[begun:at]))

    def _waits(self, kind: int, length: int, there: int) -> bool:
        if not self._whole_bytes or kind == _COPY_DATA:
            return False
        return length <= self._whole_bytes or there < NAMES_BYTES

    def _instead(self, data: bytes, at: int, after: int) -> bytes | None:
        """What to send in place of a message; None: it is fine."""
        start = at + HEADER_BYTES
        body = data[start:after]
        name_bytes = body.find(b"\0") + 1 if data[at] == ord("P") else 0
        zero = body.find(b"\0", name_bytes)
        text = body[name_bytes : zero if zero >= 0 else len(body)]
        found = settings_in(text)
        if not found:
            return None
        refusal = self._refusal(found)
        if refusal is not None:
            text = failing(refusal, has_parameters=data[at] == ord("P") and b"$1" in text)
        else:
            louder = _louder(text, found)
            if louder == text:
                return None
            text = louder
        rest = body[zero:] if zero >= 0 else b""
        whole = body[:name_bytes] + text + rest
        return data[at : at + 1] + (4 + len(whole)).to_bytes(4, "big") + whole

    def _refusal(self, found: list[Found]) -> Refusal | None:
        if self._has_floor and (low := [one for one in found if one.is_low]):
            value = low[0].value
            return floor_refusal(value) if value else _unseen(COMMIT)
        return _unseen(MESSAGES) if any(one.is_dark for one in found) else None


def floor_refusal(value: str, whence: str = "") -> Refusal:
    """What a client is told whose commits would not wait for a standby."""
    text = f'{COMMIT} "{value}"{whence} is below what this cluster promises'
    return Refusal(NOT_ALLOWED, f"pgherd: {text}", _HINT_FLOOR)


ASK_SETTINGS = (simple(f"SHOW {COMMIT}"), simple(f"SHOW {MESSAGES}"))
"""What to ask a server after a login: its answers know what role, database and server keep. Apart,
since a walsender takes them so."""


class TooQuiet(Exception):
    """The session would not be told of a cancelled wait: log in again with `made_loud`."""


def check_settings(rows: list[Row], *, has_floor: bool) -> Refusal | None:
    """Judge the answers to ASK_SETTINGS; the refusal that it asks for. Raises TooQuiet."""
    (commit,), (messages,) = rows
    if has_floor and Found(COMMIT, commit, 0, 0).is_low:
        return floor_refusal(commit, " of this role or database")
    if messages in HIDING:
        raise TooQuiet
    return None


def startup_refusal(asked: dict[str, str]) -> Refusal | None:
    """As for a statement, of what a session's startup parameters ask for."""
    value = asked.get(COMMIT, "on")
    return floor_refusal(value) if Found(COMMIT, value, 0, 0).is_low else None


def _unseen(name: str) -> Refusal:
    return Refusal(NOT_ALLOWED, f"pgherd: {name} is given a value that cannot be seen", _HINT_SEEN)


def _louder(text: bytes, found: list[Found]) -> bytes:
    """The same statements, with warnings heard."""
    for one in sorted(found, key=lambda one: -one.start):
        if one.hides:
            mark = text[one.end - 1 : one.end]
            quote = mark if mark in (b"'", b'"') else b""
            text = text[: one.start] + quote + LOUD_ENOUGH.encode() + quote + text[one.end :]
    return text


def failing(refusal: Refusal, *, has_parameters: bool) -> bytes:
    """A statement that fails with these words, in a transaction as outside.

    has_parameters: the client will send values with it, so it has to fail as it is parsed (22P02).
    """
    if has_parameters:
        return f"SELECT '{_quoted(refusal.message)}'::int".encode()
    said = {"ERRCODE": refusal.sqlstate, "MESSAGE": refusal.message, "HINT": refusal.hint}
    options = ", ".join(f"{name} = '{_quoted(text)}'" for name, text in said.items())
    return f"DO $pgherd$BEGIN RAISE EXCEPTION USING {options}; END$pgherd$".encode()


def _quoted(text: str) -> str:
    return text.replace("'", "''").replace("$pgherd$", "")
