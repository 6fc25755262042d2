"""Which of some libraries and extensions are not installed for a server.

Libraries are looked for as PostgreSQL does (dynamic_library_path, $libdir); what extensions there
are only the server knows. The answer is about what is on disk now, not about what was loaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import LiteralString

import msgspec

from pgherd.postgres.session import Login, Session

LIBDIR_SQL: LiteralString = """
SELECT setting, current_setting('dynamic_library_path') FROM pg_config WHERE name = 'PKGLIBDIR'
"""
ABSENT_SQL: LiteralString = """
SELECT name FROM unnest($1::text[]) AS name EXCEPT SELECT name::text FROM pg_available_extensions
ORDER BY 1
"""
DATABASES_SQL: LiteralString = """
SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname LIMIT $1
"""
IN_USE_SQL: LiteralString = "SELECT extname::text FROM pg_extension WHERE extname <> 'plpgsql'"
DATABASES_MAX = 32
EXTENSIONS_MAX = 64
SUFFIXES = ("", ".so", ".dylib")


class Places(msgspec.Struct, frozen=True):
    """Where a server looks: $libdir, and its dynamic_library_path."""

    libdir: Path
    path: str


async def places(session: Session) -> Places:
    """Ask a server."""
    libdir, path = await session.row(LIBDIR_SQL)
    return Places(Path(libdir), path)


def moved(where: Places, *, running: Path | None, next_bin: Path) -> Places:
    """Where the next start looks: another installation has its libraries at the same distance.

    running: the bin folder of the server that was asked, where that is known. Blocks.
    """
    if running is None or running == next_bin:
        return where
    libdir = Path(os.path.normpath(next_bin / os.path.relpath(where.libdir, running)))
    return Places(libdir, where.path) if libdir.is_dir() else where


def missing(names: Iterable[str], where: Places) -> tuple[str, ...]:
    """Which libraries are not there. Blocks."""
    return tuple(sorted({name for name in names if not _is_there(name, where)}))


def _is_there(name: str, where: Places) -> bool:
    libdir = str(where.libdir)
    if "/" in name:
        folders = [""]
    else:
        folders = [part.replace("$libdir", libdir) for part in where.path.split(os.pathsep) if part]
    name = name.replace("$libdir", libdir)
    return any(
        os.path.isfile(os.path.join(folder, name + suffix))
        for folder in folders
        for suffix in SUFFIXES
    )


async def absent(session: Session, extensions: tuple[str, ...]) -> tuple[str, ...]:
    """Which extensions a server could not make."""
    if not extensions:
        return ()
    return tuple(row[0] for row in await session.rows(ABSENT_SQL, [list(extensions)]))


async def in_use(login: Login) -> tuple[str, ...]:
    """What the databases of a primary have, by name; each is asked in a session of its own."""
    session, found = Session(login), set()
    try:
        databases = [row[0] for row in await session.rows(DATABASES_SQL, [DATABASES_MAX])]
    finally:
        await session.close()
    for name in databases:
        session = Session(msgspec.structs.replace(login, database=name))
        try:
            found |= {row[0] for row in await session.rows(IN_USE_SQL)}
        finally:
            await session.close()
    return tuple(sorted(found)[:EXTENSIONS_MAX])
