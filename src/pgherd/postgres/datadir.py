"""A data directory seen from outside: what it is, whether it may be started, how it is born.

Never connects, never changes a directory that exists. The caller decides what follows.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import stat
from enum import StrEnum
from pathlib import Path

import msgspec

from pgherd.model.errors import OperatorError, PostgresError
from pgherd.postgres import conf, pgcontrol, processes
from pgherd.postgres.binaries import Binaries
from pgherd.postgres.files import make_directory, read_text, sync_directory
from pgherd.postgres.identity import PostgresUser, owner_uid
from pgherd.postgres.pgcontrol import ControlData
from pgherd.postgres.tools import run_tool

PID_FILE = "postmaster.pid"
FORBIDDEN_MODE = 0o027
INITDB_TIMEOUT_S = 120.0


BACKUP_LABEL = "backup_label"


class DirKind(StrEnum):
    """NONE: nothing there · UNUSABLE: must not be started, see `problem` · STOPPED · RUNNING."""

    NONE = "none"
    UNUSABLE = "unusable"
    STOPPED = "stopped"
    RUNNING = "running"


class DirState(msgspec.Struct, frozen=True):
    """One look at a data directory.

    pid = of the running postmaster · leftovers = processes that outlived their postmaster: no
    start before they are gone · foreign_pid = the pid in postmaster.pid now belongs to somebody
    else, who must not be harmed.
    """

    kind: DirKind
    problem: str = ""
    hint: str = ""
    pid: int = 0
    pid_file: processes.PidFile | None = None
    leftovers: tuple[int, ...] = ()
    foreign_pid: int = 0
    control: ControlData | None = None
    incarnation: str = ""

    @property
    def clean(self) -> bool:
        """Whether it is stopped and was shut down in order."""
        return self.kind is DirKind.STOPPED and self.control is not None and self.control.clean


async def inspect(
    data_dir: Path, *, binaries: Binaries, user: PostgresUser | None, system_id: str = ""
) -> DirState:
    """Look at a directory. system_id: the cluster it has to belong to, when that is known."""
    seen = await asyncio.to_thread(_outside, data_dir, binaries.major, user)
    if seen.kind not in (DirKind.STOPPED, DirKind.RUNNING):
        return seen
    try:
        control = await pgcontrol.read(binaries.bin_dir, data_dir, user=user)
    except PostgresError as error:
        return _unusable(error.message, f"pg_controldata -D {data_dir}")
    if system_id and control.system_id != system_id:
        return _unusable(
            f"{data_dir} belongs to another cluster (system identifier {control.system_id}, "
            f"ours is {system_id})",
            f"mv {data_dir} {data_dir}.other   (pgherd then takes a new copy)",
        )
    return msgspec.structs.replace(seen, control=control)


def is_whole(state: DirState, data_dir: Path) -> bool:
    """Whether what a base backup or a rewind made of it has been replayed to its end.

    Until then it comes up only with WAL of its source. A server renames the label when it starts,
    and notes in pg_control where the end is. False where nobody can say.
    """
    if state.control is None or state.control.backup_start:
        return False
    return not (data_dir / BACKUP_LABEL).exists()


def _outside(data_dir: Path, major: int, user: PostgresUser | None) -> DirState:
    try:
        if not data_dir.exists() or (data_dir.is_dir() and not any(data_dir.iterdir())):
            return DirState(DirKind.NONE)
    except PermissionError:
        return _unusable(f"{data_dir} cannot be read by pgherd", f"ls -ld {data_dir}")
    problem = _wrong_place(data_dir, major) or _wrong_rights(data_dir, user)
    return problem if problem is not None else _occupants(data_dir)


def _wrong_place(data_dir: Path, major: int) -> DirState | None:
    version = read_text(data_dir / "PG_VERSION").strip() if data_dir.is_dir() else ""
    if not version:
        return _unusable(
            f"{data_dir} exists, is not empty and is no PostgreSQL data directory",
            "set postgresql.data_dir to an empty or new directory",
        )
    if version != str(major):
        return _unusable(
            f"{data_dir} is of PostgreSQL {version}, the programs are of {major}",
            f"install PostgreSQL {version}, or upgrade the directory with pg_upgrade",
        )
    return None


def _wrong_rights(data_dir: Path, user: PostgresUser | None) -> DirState | None:
    status = data_dir.stat()
    if status.st_uid != owner_uid(user):
        name = user.name if user is not None else str(os.geteuid())
        return _unusable(
            f"{data_dir} belongs to uid {status.st_uid}, PostgreSQL runs as {name}",
            f"chown -R {name} {data_dir}",
        )
    if stat.S_IMODE(status.st_mode) & FORBIDDEN_MODE:
        return _unusable(
            f"{data_dir} is open to others (mode {stat.S_IMODE(status.st_mode):04o})",
            f"chmod 0700 {data_dir}",
        )
    return None


def _occupants(data_dir: Path) -> DirState:
    """Who runs in a directory that is sound from outside."""
    incarnation = conf.read_incarnation(data_dir)
    pid_file = processes.parse_pid_file(read_text(data_dir / PID_FILE))
    present = processes.of_directory(data_dir)
    if pid_file is not None and pid_file.pid in present:
        return DirState(
            DirKind.RUNNING, pid=pid_file.pid, pid_file=pid_file, incarnation=incarnation
        )
    if pid_file is not None and processes.is_hidden(pid_file.pid):
        return _unusable(
            f"{data_dir} may be in use by PostgreSQL process {pid_file.pid} of another user",
            f"ps -fp {pid_file.pid}",
        )
    alive = pid_file is not None and bool(processes.command_name(pid_file.pid))
    return DirState(
        DirKind.STOPPED,
        pid_file=pid_file,
        leftovers=present,
        foreign_pid=pid_file.pid if pid_file is not None and alive else 0,
        incarnation=incarnation,
    )


def major_of(data_dir: Path) -> int:
    """Of which major version a directory's data is; 0 where there is none that can be read."""
    try:
        version = read_text(data_dir / "PG_VERSION").strip()
    except OSError:
        return 0
    return int(version) if version.isdigit() else 0


def running_pid(data_dir: Path) -> int:
    """The postmaster that runs in a directory, by its pid file and by what it is; 0 if none."""
    pid_file = processes.parse_pid_file(read_text(data_dir / PID_FILE))
    if pid_file is None or not processes.belongs(pid_file.pid, data_dir):
        return 0
    return pid_file.pid


def _unusable(problem: str, hint: str) -> DirState:
    return DirState(DirKind.UNUSABLE, problem=problem, hint=hint)


async def initdb(
    data_dir: Path,
    *,
    binaries: Binaries,
    user: PostgresUser | None,
    superuser: str,
    incarnation: str,
    parameters: dict[str, str],
) -> None:
    """Make a new cluster beside its place and rename it there when it is complete and durable.

    Checksums on; passwords are scram; the superuser has none (see `identity`).
    """
    side = await asyncio.to_thread(make_side, data_dir, user)
    try:
        result = await _run_initdb(side, "C.UTF-8", binaries, user, superuser)
        if result and "locale" in result:
            await asyncio.to_thread(_empty, side)
            result = await _run_initdb(side, "C", binaries, user, superuser)
        if result:
            raise PostgresError(f"initdb: {result}")
        await _note_limits(side, binaries, user, parameters)
        await asyncio.to_thread(conf.write_incarnation, side, incarnation, user=user)
        await asyncio.to_thread(move_in, side, data_dir)
    finally:
        await asyncio.to_thread(shutil.rmtree, side, ignore_errors=True)


async def _run_initdb(
    side: Path, locale: str, binaries: Binaries, user: PostgresUser | None, superuser: str
) -> str:
    """Run initdb; "" when it worked, else what it said."""
    argv = [
        binaries.program("initdb"),
        *("-D", str(side), "-U", superuser, "-E", "UTF8", f"--locale={locale}"),
        *("--data-checksums", "--no-instructions"),
        *("--auth-local=peer", "--auth-host=scram-sha-256"),
    ]
    result = await run_tool(argv, user=user, timeout_s=INITDB_TIMEOUT_S)
    return "" if result.code == 0 else result.last_words()


async def _note_limits(
    side: Path, binaries: Binaries, user: PostgresUser | None, parameters: dict[str, str]
) -> None:
    """Write the operator's limits into pg_control, where initdb leaves its own defaults.

    A standby refuses to start with less than pg_control says, and pgherd starts every server as a
    standby: without this a max_connections below 100 could never take effect.
    """
    wanted = {name: parameters[name] for name in pgcontrol.DEMANDED if name in parameters}
    if not wanted:
        return
    options = [word for name, value in wanted.items() for word in ("-c", f"{name}={value}")]
    argv = [binaries.program("postgres"), "--single", "-D", str(side), *options, "template1"]
    result = await run_tool(argv, user=user, timeout_s=INITDB_TIMEOUT_S)
    if result.code != 0:
        raise PostgresError(f"{' '.join(options)}: {result.last_words()}")


def make_side(data_dir: Path, user: PostgresUser | None) -> Path:
    """An empty directory beside a data directory, to be filled and renamed into its place."""
    if data_dir.is_mount():
        raise OperatorError(
            f"{data_dir} is a mount point, so no new copy can be renamed into its place",
            f"set postgresql.data_dir to a folder below it, e.g. {data_dir}/data",
        )
    side = data_dir.with_name(f"{data_dir.name}.side-{secrets.token_hex(4)}")
    make_directory(data_dir.parent, user=user)
    try:
        side.mkdir(mode=0o700)
        if user is not None:
            os.chown(side, user.uid, user.gid)
    except OSError as error:
        raise OperatorError(
            f"cannot create {side}: {error.strerror}", f"ls -ld {data_dir.parent}"
        ) from error
    return side


def move_in(side: Path, data_dir: Path) -> None:
    """Rename a complete directory to its place, which must be free (absent or empty)."""
    try:
        os.rename(side, data_dir)
    except OSError as error:
        raise PostgresError(f"cannot rename {side} to {data_dir}: {error.strerror}") from error
    sync_directory(data_dir.parent)


def _empty(side: Path) -> None:
    for entry in side.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def oldest_segment(names: list[str], segment_bytes: int) -> int:
    """The first byte of WAL that is still there, from the file names in pg_wal; 0 if none."""
    per_id = (1 << 32) // segment_bytes
    numbers = [
        int(name[8:16], 16) * per_id + int(name[16:24], 16)
        for name in names
        if len(name) == 24 and all(letter in "0123456789ABCDEF" for letter in name)
    ]
    return min(numbers) * segment_bytes if numbers else 0
