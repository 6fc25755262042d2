"""The live parameters of a server: what they are with an upstream, and whether they took effect.

A live parameter counts only after it was read back from the server, with the file that set it.
"""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import LiteralString

from pgherd.postgres import conf, failoverslots
from pgherd.postgres import settings as parameters
from pgherd.postgres.pending import unusable
from pgherd.postgres.session import Session

VERIFY_POLL_S = 0.003
VERIFY_TIMEOUT_S = 2.0
MARK = "pgherd.told"
"""A parameter of ours without any effect: its value says which writing of the files was read."""
SETTINGS_SQL: LiteralString = """
SELECT name, setting, source, coalesce(sourcefile, ''), context
FROM pg_settings WHERE name = ANY($1)
"""

MARK_SQL: LiteralString = "SELECT coalesce(current_setting($1, true), '')"

COMMIT_SQL: LiteralString = """
SELECT sourcefile FROM pg_file_settings WHERE lower(name) = 'synchronous_commit'
 ORDER BY seqno DESC LIMIT 1
"""


def parameters_of(
    names: str, conninfo: str | None, slot: str | None, delay: str = "0", fetch: str = ""
) -> dict[str, str]:
    """The live parameters of a server with this upstream; without one it is told to drain.

    delay: of its replay, in ms; "0" where there is none, and in whatever is to drain · fetch: the
    command by which it gets WAL from the archive, beside the upstream or without one.
    """
    quiet = {} if conninfo or fetch else parameters.sealed()
    late = {parameters.DELAY: delay} if delay != "0" else {}
    pause = parameters.FETCHING_RETRY_MS if conninfo else parameters.ARCHIVE_RETRY_MS
    paused = {"wal_retrieve_retry_interval": str(pause)} if fetch else {}
    whence = {**upstream(conninfo, slot), "restore_command": fetch}
    return {"synchronous_standby_names": names, **quiet, **paused, **whence, **late}


def delay_of(now: dict[str, str]) -> str:
    """The delay of replay among live parameters, in ms."""
    return now.get(parameters.DELAY, "0")


def upstream(conninfo: str | None, slot: str | None) -> dict[str, str]:
    """From whom it streams, and through which slot."""
    return {"primary_conninfo": conninfo or "", "primary_slot_name": slot or ""}


def named(now: dict[str, str], text: str, commit: str) -> dict[str, str]:
    """The live parameters with other names.

    Whom logical slots wait for stays as it is while the gate is closed; a commit's own wait
    (synchronous_commit) is never another than usual then, or it would pass the gate.
    """
    kept = {name: value for name, value in now.items() if name != parameters.COMMIT}
    kept["synchronous_standby_names"] = text
    if text == parameters.CLOSED_NAMES:
        return kept
    opened = {parameters.COMMIT: commit} if commit else {}
    return {**kept, failoverslots.STANDBY_SLOTS: failoverslots.waited_for(text), **opened}


def wrong(row: tuple[str, str, str, str, str], wanted: dict[str, str]) -> str:
    """What is wrong with one row of pg_settings; "" when it is ours.

    Of what no running server can change its value alone counts: one that we took over was started
    without our files and our command line.
    """
    name, setting, source, file, context = row
    fixed = context == "postmaster"
    if not fixed and source == "configuration file" and Path(file).name != conf.CONF:
        return f"{name} is set in {Path(file).name}"
    if not fixed and source not in ("configuration file", "command line"):
        return f"{name} comes from {source}"
    value = wanted[name]
    has_unit = value[:1].isdigit() and not value.isdigit()
    return "" if has_unit or setting == value else f"{name} is {setting!r}, not {value!r}"


async def commit_elsewhere(session: Session) -> list[str]:
    """Which other file sets synchronous_commit; our own sessions never show the server's value."""
    rows = await session.rows(COMMIT_SQL)
    files = [Path(file).name for (file,) in rows]
    return [f"{parameters.COMMIT} is set in {file}" for file in files if file != conf.CONF]


def new_mark() -> dict[str, str]:
    """The mark of the next writing of the files."""
    return {MARK: secrets.token_hex(4)}


async def verified(acting: Session, wanted: dict[str, str], *, alert: str = "") -> str:
    """Read the live parameters back until they are as wanted; else say what is wrong.

    The mark stands for all that cannot be compared. The postmaster reads before it tells its
    children, and takes no connection in between: when a session of ours shows the mark, whoever
    connects later meets new parameters and access lines.
    alert: a word in what is wrong for which waiting longer is no use.
    """
    names = sorted(parameters.RELOADABLE & set(wanted))
    deadline = asyncio.get_running_loop().time() + VERIFY_TIMEOUT_S
    while True:
        rows = await acting.rows(SETTINGS_SQL, [names])
        found = [text for text in (wrong(row, wanted) for row in rows) if text]
        if not found:
            found = await commit_elsewhere(acting) or await unread(acting, wanted)
        late = asyncio.get_running_loop().time() > deadline
        if not found or (alert and any(alert in text for text in found)):
            return "; ".join(found)
        if late:
            return "; ".join([*found, await unusable(acting)]).removesuffix("; ")
        await asyncio.sleep(VERIFY_POLL_S)


async def unread(acting: Session, wanted: dict[str, str]) -> list[str]:
    """Whether the files are not those that were read last, where they have a mark."""
    mark = wanted.get(MARK, "")
    if not mark or await acting.row(MARK_SQL, [MARK]) == (mark,):
        return []
    return ["its files were not read again"]
