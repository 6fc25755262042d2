"""Prepared statements of clients that share servers: names that mean the same on every server.

Theory of operation. A client calls a statement what it likes; a server knows it by a name that is
made of its text, its types and the settings that its meaning may depend on, so that clients that
prepare the same share one. What a client's name stands for is kept with its text (`Named`), and a
server's shelf knows what is prepared there, and when that was. A statement that a client prepared
after the server's copy is not on that server: between the two a table may have been altered, and
the client has to get what a preparation at its own time would have given.

Time is a number that grows with every statement that is prepared, `moment`. A copy whose
preparation or end was perhaps skipped, after an error, is DOUBTFUL: closed, then prepared anew.

Pure. Leaves what is said to servers to `lane`.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from itertools import count
from weakref import WeakValueDictionary

from pgherd.wire.plain import is_plain
from pgherd.wire.renewal import FIXED
from pgherd.wire.shared import NAME as APPLICATION_NAME

SHELF_MAX = 200
"""Statements that are kept prepared on one server."""

_numbers = count(1)

PREFIX = b"pgherd_"
NOBODYS = PREFIX + b"none"
"""A name that no statement has."""

DOUBTFUL = -1
_DIGEST_BYTES = 20


class Moments:
    """The number that grows, one for all clients of a process."""

    def __init__(self) -> None:
        self.now = 0


class Statement:
    """A text with its types, as a Parse message has them after the name. number: its own."""

    __slots__ = ("__weakref__", "_is_plain", "name", "number", "rest")

    def __init__(self, name: bytes, rest: bytes | None) -> None:
        self.name = name
        self.rest = rest
        self.number = next(_numbers)
        self._is_plain: bool | None = None

    @property
    def is_plain(self) -> bool:
        """Whether running it leaves nothing behind (`plain`)."""
        if self._is_plain is None:
            text = (self.rest or b"").partition(b"\0")[0]
            self._is_plain = self.rest is not None and is_plain(text)
        return self._is_plain


class Named:
    """What a client's name stands for. cycle: of its preparation, as the tracker counts."""

    __slots__ = ("cycle", "moment", "statement")

    def __init__(self, statement: Statement, moment: int, cycle: int) -> None:
        self.statement = statement
        self.moment = moment
        self.cycle = cycle


class Shelf:
    """What is prepared on one server, the least recently used first."""

    __slots__ = ("_moments", "unnamed")

    def __init__(self) -> None:
        self._moments: dict[bytes, int] = {}
        self.unnamed = 0
        """When the statement without a name was prepared; 0: there is none."""

    def has(self, name: bytes, since: int) -> bool:
        """Whether it was prepared here at this moment or later; then it was used just now."""
        moment = self._moments.pop(name, None)
        if moment is None:
            return False
        self._moments[name] = moment
        return moment >= since

    def put(self, name: bytes, moment: int) -> bool:
        """It is prepared now; whether an older copy has to be closed before."""
        is_old = self._moments.pop(name, None) is not None
        self._moments[name] = moment
        return is_old

    def doubt(self, name: bytes) -> None:
        """Nobody knows whether it is prepared."""
        self._moments[name] = DOUBTFUL

    def elsewhere(self) -> list[tuple[int, int]]:
        """What somebody has to know who lends the server in our place: statements that clients have
        names for, by their numbers, and their moments.
        """
        found = ((_known.get(name), moment) for name, moment in self._moments.items())
        return [(one.number, moment) for one, moment in found if one is not None]

    def doubt_all(self) -> None:
        """Somebody may have closed all of them."""
        self._moments = dict.fromkeys(self._moments, DOUBTFUL)
        self.unnamed = DOUBTFUL

    def doubt_unnamed(self) -> None:
        """Nobody knows which statement has no name, or whether one has none."""
        self.unnamed = DOUBTFUL

    def overdue(self) -> bytes | None:
        """Take off what was not used for longest, if there are too many; it is to be closed."""
        if len(self._moments) <= SHELF_MAX:
            return None
        name = next(iter(self._moments))
        del self._moments[name]
        return name


_known: WeakValueDictionary[bytes, Statement] = WeakValueDictionary()
"""Statements that clients have names for: a thousand clients with the same one keep it once."""


def statement(rest: bytes, salt: bytes) -> Statement:
    """The statement of this text. salt: of the settings that it was prepared under."""
    name = PREFIX + blake2b(rest, digest_size=_DIGEST_BYTES, key=salt).hexdigest().encode()
    found = _known.get(name)
    if found is None:
        found = _known[name] = Statement(name, rest)
    return found


def salt_of(settings: Mapping[str, str]) -> bytes:
    """What statements that are prepared under these settings have in common."""
    digest = blake2b(digest_size=16)
    for name in sorted(settings):
        if name not in FIXED and name != APPLICATION_NAME:
            digest.update(f"{name}={settings[name]}\0".encode("utf-8", "surrogatepass"))
    return digest.digest()
