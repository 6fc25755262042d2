"""What became of a configuration file that a node read again."""

from __future__ import annotations

import msgspec


class Mistake(msgspec.Struct, frozen=True):
    """Something that was not taken. place: the file and its line, or what refused it."""

    place: str
    key: str
    message: str
    hint: str = ""


class Reloaded(msgspec.Struct, frozen=True):
    """status: reloaded · partly: some of it was refused · rejected: the file has mistakes, and
    nothing was changed.

    applied: keys with a new value in force · needs_restart: keys whose value in the file comes with
    the next start of the daemon, those of earlier reloads included · pending_parameters: of
    PostgreSQL, that wait for its restart.
    """

    status: str
    changes_detected: int = 0
    applied: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    rejected: tuple[Mistake, ...] = ()
    pending_parameters: tuple[str, ...] = ()
