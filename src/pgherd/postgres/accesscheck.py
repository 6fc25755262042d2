"""Whether a server takes its lines about who may log in, before it is told to use them.

PostgreSQL shows how it reads the two files as they lie there (pg_hba_file_rules, and from 15 on
pg_ident_file_mappings), while it goes on with what it read last. So they are written, looked at,
and written back where they are not to stay. In between nothing of ours has it read them; should the
server end then, they are written anew before its start.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString

from pgherd.model.errors import PostgresError
from pgherd.postgres import access, conf
from pgherd.postgres.files import read_text, write_atomic
from pgherd.postgres.settings import HBA_FILE, IDENT_FILE, ServerSettings
from pgherd.wire.query import Row

if TYPE_CHECKING:
    from pgherd.postgres.server import PostgresServer

MAPPINGS_SINCE = 15
HBA_SQL: LiteralString = """
SELECT line_number, error, type IS NULL FROM pg_hba_file_rules WHERE error IS NOT NULL ORDER BY 1
"""
IDENT_SQL: LiteralString = """
SELECT line_number, error, map_name IS NULL FROM pg_ident_file_mappings
WHERE error IS NOT NULL ORDER BY 1
"""


class AccessRefused(PostgresError):
    """The server does not take who may log in; what it had stays."""


async def problems(server: PostgresServer, wanted: ServerSettings) -> list[str]:
    """Why it would not take these, one sentence each; nothing is changed."""
    found = access.misplaced(wanted.access.hba, wanted.access.ident)
    return found or await _tried(server, wanted, stays=False)


async def take_up(server: PostgresServer, wanted: ServerSettings) -> None:
    """Write the files for the next reload. Raises AccessRefused, and leaves what was there."""
    found = await _tried(server, wanted, stays=True)
    if found:
        raise AccessRefused(f"PostgreSQL does not take who may log in: {'; '.join(found)}")


async def _tried(server: PostgresServer, wanted: ServerSettings, *, stays: bool) -> list[str]:
    async with server.conf_lock:
        before = await asyncio.to_thread(_read, server.data_dir)
        good = False
        try:
            await asyncio.to_thread(
                conf.write_rules, server.data_dir, wanted, user=server.user, durable=stays
            )
            found = await _ask(server, wanted)
            good = stays and not found
        finally:
            if not good:
                await asyncio.to_thread(_write_back, server, before)
    return found


async def _ask(server: PostgresServer, wanted: ServerSettings) -> list[str]:
    rules = await asyncio.to_thread(_read, server.data_dir)
    found = judged("hba", rules[HBA_FILE], wanted.access.hba, await server.acting.rows(HBA_SQL))
    if server.binaries.major >= MAPPINGS_SINCE:
        rows = await server.acting.rows(IDENT_SQL)
        found += judged("ident", rules[IDENT_FILE], wanted.access.ident, rows)
    return found


def judged(name: str, text: str, mine: tuple[str, ...], rows: list[Row]) -> list[str]:
    """What the server says, by the cluster's own count of lines. Pure.

    rows: line of the file, what is wrong, whether the line is of no use at all; what is only odd is
    said of the cluster's lines alone, for a node's own may have been so for years.
    """
    lines = text.splitlines()
    begin = lines.index(access.BEGIN.format(name)) + 1 if mine else len(lines)
    found = []
    for number, error, useless in rows:
        place = number - begin
        if 0 < place <= len(mine):
            found.append(f"{name} line {place}: {mine[place - 1]!r}: {error}")
        elif useless:
            found.append(f"{name}: {lines[number - 1]!r}: {error}")
    return found


def _read(data_dir: Path) -> dict[str, str]:
    return {name: read_text(data_dir / name) for name in (HBA_FILE, IDENT_FILE)}


def _write_back(server: PostgresServer, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        write_atomic(server.data_dir / name, text, user=server.user, durable=False)
