"""What a running daemon takes of a file that was read again, key by key, and what has to wait.

Owns the comparison, and the settings in force afterwards: new where a key can change while the
daemon runs, as before where it needs a restart. Leaves bringing them into force to `daemon`, and
asking PostgreSQL which parameters need its restart to `postgres`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pgherd.config.describe import Described, change_of, value_of, walk
from pgherd.config.fields import Change
from pgherd.config.proxy import Listener
from pgherd.config.section import Section
from pgherd.config.settings import Settings

LISTENERS = "proxy.listeners"
SWITCHED = ("raft.tls", "api.tls")
"""Other files come into force at once; that there are any, or none, is for the next start."""


@dataclass(frozen=True, slots=True)
class Changed:
    """One key that differs. old and new are the values themselves; secrets show as references."""

    key: str
    old: Any
    new: Any
    change: Change


@dataclass(frozen=True, slots=True)
class Taken:
    """What becomes of a file that was read again.

    settings: in force from now on · applied: what of them is new · waits: keys whose value in the
    file is another one than what is in force, and comes with the next start of the daemon.
    """

    settings: Settings
    applied: tuple[Changed, ...]
    waits: tuple[Changed, ...]


def diff(old: Settings, new: Settings) -> tuple[Changed, ...]:
    """Every key whose value differs, in the order of the file."""
    found = []
    for described in walk():
        if described.is_section:
            continue
        before, after = value_of(old, described), value_of(new, described)
        if before != after:
            found.append(Changed(described.key, old=before, new=after, change=change_of(described)))
    return tuple(found)


def strongest(changes: tuple[Changed, ...]) -> Change:
    """What all changes together need."""
    kinds = {changed.change for changed in changes}
    for kind in (Change.RESTART, Change.RELOAD):
        if kind in kinds:
            return kind
    return Change.LIVE


def take(old: Settings, new: Settings) -> Taken:
    """Lay over what is in force what can change while the daemon runs. Pure."""
    settings = old
    for described in walk():
        if described.is_section or (described.path[0] == "postgresql" and old.kind != new.kind):
            continue
        value = _taken(described, value_of(old, described), value_of(new, described))
        if value != value_of(settings, described):
            settings = _with(settings, described.attributes, value)
    waits = list(diff(settings, new))
    if old.kind != new.kind and all(one.key != "node.witness" for one in waits):
        waits.insert(0, Changed("postgresql", old.kind.value, new.kind.value, Change.RESTART))
    return Taken(settings, applied=diff(old, settings), waits=tuple(waits))


def _taken(described: Described, old: Any, new: Any) -> Any:
    """The value in force of one key, once the file says `new`."""
    if described.key == LISTENERS:
        return _listeners(old, new)
    if described.key in SWITCHED and (old is None or new is None):
        return old
    return old if change_of(described) is Change.RESTART else new


def _listeners(old: tuple[Listener, ...], new: tuple[Listener, ...]) -> tuple[Listener, ...]:
    """The ports are those that peers know; what a port that stays does may change."""
    wanted = {_place(one): one for one in new}
    kept = tuple(wanted.get(_place(one), one) for one in old)
    return new if set(wanted) == {_place(one) for one in old} else kept


def _place(one: Listener) -> tuple[int, str, str]:
    return one.port, one.route, one.pool


def _with(section: Any, attributes: tuple[str, ...], value: Any) -> Any:
    """A copy of a section with one value below it changed."""
    first, *rest = attributes
    inner = _with(getattr(section, first), tuple(rest), value) if rest else value
    assert isinstance(section, Section)
    copy = section.model_copy(update={first: inner})
    assert isinstance(copy, type(section))
    if first not in section.model_fields_set and isinstance(inner, Section):
        copy.model_fields_set.discard(first)  # that `postgresql` was written says what a node is
    return copy
