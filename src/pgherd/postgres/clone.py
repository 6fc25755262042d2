"""A new copy of a peer's data directory: taken beside the old one, swapped in by rename.

The old directory is kept beside the new one. Copies that were kept before are removed only when
their last position is known and lies in the cluster's history; what might be ahead is never
deleted.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import msgspec

from pgherd.model.errors import PostgresError
from pgherd.model.ids import Position
from pgherd.postgres import conf, datadir
from pgherd.postgres.binaries import Binaries
from pgherd.postgres.files import read_text, sync_directory, write_atomic
from pgherd.postgres.identity import PostgresUser
from pgherd.postgres.progress import OnProgress, teller
from pgherd.postgres.tools import run_tool

LAST_POSITION = "pgherd.last-position"
SYSTEM_ID_BYTES = 8
"""What pg_control begins with, in every version."""
OWN_FILES = ("postgresql.conf", conf.AUTO_CONF, "pg_hba.conf", "pg_ident.conf")
"""Files of this node that a copy of a peer must not replace: an operator may have edited them."""

FOREIGN_FILES = (conf.CONF, conf.RAN, conf.RECOVERY_SIGNAL, "postmaster.opts", LAST_POSITION)
"""Files of the source; without pgherd.conf the include fails, so nobody starts it by hand."""


class Swapped(msgspec.Struct, frozen=True):
    """What a swap left behind: the old directory's new name, and what was removed."""

    kept: Path | None
    removed: tuple[Path, ...] = ()


async def basebackup(
    data_dir: Path,
    *,
    binaries: Binaries,
    user: PostgresUser | None,
    conninfo: str,
    incarnation: str,
    slot: str | None = None,
    max_rate: str | None = None,
    on_progress: OnProgress | None = None,
    timeout_s: float = 86_400.0,
) -> Path:
    """Copy a running peer beside `data_dir`; return the copy, complete and durable.

    The copy is a standby of this node's own: the source's parameters and name are taken out.
    """
    side = await asyncio.to_thread(datadir.make_side, data_dir, user)
    argv = [
        binaries.program("pg_basebackup"),
        *("-D", str(side), "-d", conninfo, "--wal-method=stream", "--checkpoint=fast"),
        *("--progress", "--no-password", "--label=pgherd"),
        *([f"--slot={slot}"] if slot else []),
        *([f"--max-rate={max_rate}"] if max_rate else []),
    ]
    try:
        result = await run_tool(
            argv, user=user, timeout_s=timeout_s, on_error_line=teller(on_progress)
        )
        if result.code != 0:
            raise PostgresError(f"pg_basebackup: {result.last_words()}")
        await asyncio.to_thread(make_own, side, data_dir, incarnation, user=user)
    except BaseException:
        await asyncio.to_thread(shutil.rmtree, side, ignore_errors=True)
        raise
    return side


async def swap_in(
    side: Path,
    data_dir: Path,
    *,
    user: PostgresUser | None,
    last: Position | None,
    settled: Position | None,
) -> Swapped:
    """Put a copy in the place of a stopped server's directory.

    last = the old directory's final position, None when unknown · settled = a position of the
    cluster's history that holds everything acknowledged; older kept copies at or below it go.
    """
    return await asyncio.to_thread(_swap, side, data_dir, user, last, settled)


def parse_position(text: str) -> Position | None:
    """Read a kept directory's last position; None when it is unknown."""
    try:
        return msgspec.json.decode(text, type=Position)
    except msgspec.DecodeError:
        return None


def make_own(side: Path, data_dir: Path, incarnation: str, *, user: PostgresUser | None) -> None:
    """Turn the copy of a peer's directory into one of this node."""
    write_atomic(side / conf.STANDBY_SIGNAL, "", user=user)
    conf.write_incarnation(side, incarnation, user=user)
    for name in FOREIGN_FILES:
        (side / name).unlink(missing_ok=True)
    if identity_of(data_dir) == identity_of(side) != b"":
        for name in OWN_FILES:
            text = read_text(data_dir / name)
            if text:
                write_atomic(side / name, text, user=user)
    sync_directory(side)


def identity_of(data_dir: Path) -> bytes:
    """Version and system identifier, b"" where there is no data directory.

    The files of another cluster's directory, which is to be kept aside, are not this node's own.
    """
    try:
        with (data_dir / "global" / "pg_control").open("rb") as file:
            return (data_dir / "PG_VERSION").read_bytes() + file.read(SYSTEM_ID_BYTES)
    except OSError:
        return b""


def _swap(
    side: Path,
    data_dir: Path,
    user: PostgresUser | None,
    last: Position | None,
    settled: Position | None,
) -> Swapped:
    if not data_dir.exists() or not any(data_dir.iterdir()):
        datadir.move_in(side, data_dir)
        return Swapped(None)
    older = kept_copies(data_dir)
    position = msgspec.json.encode(last).decode() if last is not None else ""
    write_atomic(data_dir / LAST_POSITION, position, user=user)
    aside = data_dir.with_name(f"{data_dir.name}.old-{_next_number(older)}")
    data_dir.rename(aside)
    try:
        datadir.move_in(side, data_dir)
    except PostgresError:
        aside.rename(data_dir)
        raise
    removable = [path for path in older if _may_go(path, settled)]
    for path in removable:
        shutil.rmtree(path, ignore_errors=True)
    return Swapped(aside, tuple(removable))


def kept_copies(data_dir: Path) -> list[Path]:
    """The directories that earlier swaps left beside this one."""
    return sorted(path for path in data_dir.parent.glob(f"{data_dir.name}.old-*") if path.is_dir())


def _next_number(older: list[Path]) -> int:
    numbers = [path.name.rpartition("-")[2] for path in older]
    return 1 + max((int(number) for number in numbers if number.isdigit()), default=0)


def _may_go(path: Path, settled: Position | None) -> bool:
    position = parse_position(read_text(path / LAST_POSITION))
    return settled is not None and position is not None and position <= settled
