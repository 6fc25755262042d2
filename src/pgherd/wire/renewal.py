"""Make a new server process what an old one was to its client: settings and prepared statements.

Theory of operation. After the login the session says one simple query with a `set_config` for
every parameter whose value the client was told and the new process does not have, then the Parse
messages of all that was prepared and a Sync. None of the answers is for the client. What the new
process reports otherwise in the end (its version, say) the client is told as the change that it is.

A parameter that no session may set is left as it is. Whoever logged in as somebody and is somebody
else now cannot be made anew, and neither can a statement that the new server does not take.

Pure. Leaves sockets and time to `relay`, and which session may be made anew to `tracker`.
"""

from __future__ import annotations

from collections.abc import Mapping

from pgherd.wire.frames import Frames
from pgherd.wire.query import SYNC, error_of, simple

FIXED = frozenset(
    {"server_version", "server_encoding", "integer_datetimes", "is_superuser", "in_hot_standby"}
)
"""Reported parameters that a session cannot set."""

_WHO = "session_authorization"
_UNREADABLE = "\ufffd"
_LAST = "client_encoding"
_BODY_BYTES_MAX = 4096


class RenewalImpossible(Exception):
    """The new server process cannot be made what the old one was."""


class Renewal:
    """One session's. told: what the client knows of parameters · statements: Parse messages."""

    def __init__(self, told: Mapping[str, str], statements: tuple[bytes, ...]) -> None:
        self.settings: dict[str, str] = {}
        self._told = dict(told)
        self._statements = statements
        self._frames = Frames(skip=b"", keep=b"SEZ", keep_bytes=_BODY_BYTES_MAX)
        self._left = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to come."""
        return not self._left

    def start(self, greeting: bytes = b"") -> bytes:
        """What to say after a login; greeting: the messages of it, unless `settings` has what they
        say. Raises RenewalImpossible.
        """
        self.feed(greeting)
        wrong = {
            name: value
            for name, value in self._told.items()
            if name not in FIXED and self.settings.get(name, value) != value
        }
        if _WHO in wrong:
            raise RenewalImpossible("the session's user is not who logged in")
        if any(_UNREADABLE in value for value in wrong.values()):
            raise RenewalImpossible("a parameter's value is no text")
        said = b""
        if wrong:
            names = sorted(wrong, key=lambda name: (name == _LAST, name))
            said += simple("; ".join(_set(name, wrong[name]) for name in names))
            self._left += 1
        if self._statements:
            said += b"".join(self._statements) + SYNC
            self._left += 1
        return said

    def feed(self, data: bytes) -> None:
        """Take what the server said. Raises RenewalImpossible and ProtocolViolation."""
        for frame in self._frames.feed(data):
            if frame.kind == ord("S"):
                name, _, value = frame.body.decode("utf-8", "replace").partition("\0")
                self.settings[name] = value.rstrip("\0")
            elif frame.kind == ord("Z"):
                self._left -= 1
            elif frame.kind == ord("E"):
                error = error_of(frame.body)
                raise RenewalImpossible(str(error)) from error

    def news(self) -> bytes:
        """ParameterStatus messages for what the client knows otherwise."""
        return b"".join(
            status(name, value)
            for name, value in self.settings.items()
            if self._told.get(name) != value
        )


def _set(name: str, value: str) -> str:
    return f"SELECT pg_catalog.set_config({_literal(name)}, {_literal(value)}, false)"


def _literal(text: str) -> str:
    """As a constant that is the same whatever standard_conforming_strings says."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def status(name: str, value: str) -> bytes:
    """A ParameterStatus message."""
    body = name.encode() + b"\0" + value.encode("utf-8", "replace") + b"\0"
    return b"S" + (4 + len(body)).to_bytes(4, "big") + body
