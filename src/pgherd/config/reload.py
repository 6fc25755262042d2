"""The difference of two settings, key by key, and what each changed key needs.

Owns the comparison only. Leaves applying it to `daemon`, and asking PostgreSQL which parameters
need its restart to `postgres`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pgherd.config.describe import change_of, value_of, walk
from pgherd.config.fields import Change
from pgherd.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Changed:
    """One key that differs. old and new are the values themselves; secrets show as references."""

    key: str
    old: Any
    new: Any
    change: Change


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
