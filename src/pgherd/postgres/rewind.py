"""pg_rewind: bring a server that left the history back to the point where it did.

Owns the run of the tool and what must survive it: pg_rewind copies the source's small files, also
those that name the source. The target has to be shut down in order; a crashed one is first started
as a standby without upstream and stopped, which replays its WAL without writing any (pg_rewind's
own single-user recovery refuses a standby and would end recovery with a checkpoint of its own).
Floor, dirty marker and the choice between rewind and rebuild are the caller's.
"""

from __future__ import annotations

import asyncio
import re
from enum import StrEnum
from pathlib import Path

import msgspec

from pgherd.model.errors import PostgresError
from pgherd.model.ids import Lsn, format_lsn, parse_lsn
from pgherd.postgres import conf, pgcontrol, processes, syncing
from pgherd.postgres.binaries import Binaries
from pgherd.postgres.clone import FOREIGN_FILES, OWN_FILES
from pgherd.postgres.files import read_text, write_atomic
from pgherd.postgres.identity import PostgresUser
from pgherd.postgres.progress import OnProgress, teller
from pgherd.postgres.tools import run_tool

DIVERGED = re.compile(r"diverged at WAL location ([0-9A-F]+/[0-9A-F]+)")


class RewindOutcome(StrEnum):
    """NOT_REQUIRED: the tool saw no divergence, which is an error when the plan asked for one."""

    DONE = "done"
    NOT_REQUIRED = "not_required"
    FAILED = "failed"


class RewindResult(msgspec.Struct, frozen=True):
    """How a rewind ended. touched: files may have changed, the directory must not be started."""

    outcome: RewindOutcome
    reason: str = ""
    touched: bool = False


async def rewind(
    data_dir: Path,
    *,
    binaries: Binaries,
    user: PostgresUser | None,
    conninfo: str,
    incarnation: str,
    fork: Lsn | None = None,
    restore: str = "",
    on_progress: OnProgress | None = None,
    timeout_s: float = 3_600.0,
) -> RewindResult:
    """Rewind a stopped server to the history of the primary at `conninfo` (with a dbname).

    Done means durable: the tool leaves flushing to one syncfs for each file system, where that can
    be relied on. fork: where the ledger says that the histories part. The tool finds its own point
    by timeline ids, which two isolated promotions choose alike: a dry run must find the same first.
    restore: the command that fetches, for WAL before the fork that is no longer here; the next
    start takes it out of the server's file again.
    """
    if processes.of_directory(data_dir):
        raise PostgresError(f"a server runs in {data_dir}, it cannot be rewound")
    control = await pgcontrol.read(binaries.bin_dir, data_dir, user=user)
    if not control.clean:
        return RewindResult(
            RewindOutcome.FAILED,
            f"it was not shut down in order ({control.state}); start it as a standby, then stop it",
        )
    if not control.checksums and not control.wal_log_hints:
        return RewindResult(RewindOutcome.FAILED, "it has neither checksums nor wal_log_hints")
    own = await asyncio.to_thread(_save, data_dir)
    argv = [
        binaries.program("pg_rewind"),
        *("-D", str(data_dir), f"--source-server={conninfo}"),
        *("--no-ensure-shutdown", "--progress"),
        *(["--no-sync"] if syncing.is_there() else []),
        *(["--restore-target-wal"] if restore else []),
    ]
    if restore:
        await asyncio.to_thread(_name_archive, data_dir, restore, user)
    try:
        if fork is not None:
            tried = await run_tool([*argv, "--dry-run"], user=user, timeout_s=timeout_s)
            problem = wrong_fork(tried.out + tried.err, fork)
            if tried.code == 0 and problem:
                return RewindResult(RewindOutcome.FAILED, problem)
        result = await run_tool(
            argv, user=user, timeout_s=timeout_s, on_error_line=teller(on_progress)
        )
    finally:
        await asyncio.to_thread(_restore, data_dir, own, incarnation, user)
    judged = judge(result.code, result.out + result.err, result.last_words())
    if judged.outcome is RewindOutcome.DONE and syncing.is_there():
        await asyncio.to_thread(syncing.sync_tree, data_dir)
    return judged


def wrong_fork(said: str, fork: Lsn) -> str:
    """What is wrong with the point that a dry run found; "" when it is the ledger's."""
    if "no rewind required" in said:
        return ""
    match = DIVERGED.search(said)
    found = parse_lsn(match[1]) if match is not None else None
    if found == fork:
        return ""
    where = format_lsn(found) if found is not None else "nowhere"
    return f"pg_rewind sees the histories part at {where}, the ledger at {format_lsn(fork)}"


def judge(code: int, said: str, last_words: str) -> RewindResult:
    """What pg_rewind's exit code and talk mean."""
    if code != 0:
        touched = "need to copy" in said or "copied" in said
        return RewindResult(RewindOutcome.FAILED, last_words, touched)
    if "no rewind required" in said:
        return RewindResult(RewindOutcome.NOT_REQUIRED)
    return RewindResult(RewindOutcome.DONE, touched=True)


def _name_archive(data_dir: Path, restore: str, user: PostgresUser | None) -> None:
    """pg_rewind asks the target's files for its restore_command."""
    values = conf.parse(read_text(data_dir / conf.CONF))
    conf.write_values(data_dir, {**values, "restore_command": restore}, user=user)


def _save(data_dir: Path) -> dict[str, str]:
    return {name: text for name in OWN_FILES if (text := read_text(data_dir / name))}


def _restore(
    data_dir: Path, own: dict[str, str], incarnation: str, user: PostgresUser | None
) -> None:
    """Give the directory back its own name and files; pgherd.conf is written by the next start."""
    write_atomic(data_dir / conf.STANDBY_SIGNAL, "", user=user)
    conf.write_incarnation(data_dir, incarnation, user=user)
    for name, text in own.items():
        write_atomic(data_dir / name, text, user=user)
    for name in FOREIGN_FILES:
        (data_dir / name).unlink(missing_ok=True)
