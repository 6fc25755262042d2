"""Starting a postmaster so that it outlives us, and seeing how the start went.

Own session, no inherited terminal, output to our log file; not through asyncio's subprocess, whose
transport kills its child when it is closed. All functions block.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from pgherd.model.errors import OperatorError, PostgresError
from pgherd.postgres import processes
from pgherd.postgres.binaries import Binaries
from pgherd.postgres.files import make_directory, read_text
from pgherd.postgres.identity import PostgresUser
from pgherd.postgres.settings import ON_COMMAND_LINE
from pgherd.postgres.tools import as_user, clean_environment

SOCKET_PATH_BYTES_MAX = 107
OOM_SCORE = Path("/proc/self/oom_score_adj")


def socket_path(socket_dir: Path, port: int) -> str:
    """The server's Unix socket."""
    return str(socket_dir / f".s.PGSQL.{port}")


def check_socket_path(socket_dir: Path, port: int) -> None:
    """Refuse a folder that the kernel cannot name in a socket address."""
    path = socket_path(socket_dir, port) + ".lock"
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise OperatorError(
            f"the socket path {path} is longer than {SOCKET_PATH_BYTES_MAX} bytes",
            "set postgresql.socket_dir to a shorter path",
        )


def command_line(binaries: Binaries, data_dir: Path, values: dict[str, str]) -> list[str]:
    """The postmaster's arguments: what no file may change."""
    argv = [binaries.program("postgres"), "-D", str(data_dir)]
    for name in ON_COMMAND_LINE:
        argv += ["-c", f"{name}={values[name]}"]
    return argv


def spawn(
    argv: list[str], *, data_dir: Path, log_file: Path, user: PostgresUser | None
) -> subprocess.Popen[bytes]:
    """Start the postmaster; it is ours to reap, nobody's to kill by accident."""
    log = _open_log(log_file, user)
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment(read_text(OOM_SCORE)),
            cwd=data_dir,
            start_new_session=True,
            **as_user(user),
        )
    except OSError as error:
        raise PostgresError(f"cannot start {argv[0]}: {error}") from error
    finally:
        os.close(log)


def environment(oom_score: str) -> dict[str, str]:
    """The postmaster's environment. oom_score: our own oom_score_adj, as the kernel tells it.

    Where the kernel is to spare us it spares the postmaster too, and not what it forks: a session
    that takes all memory should be what it kills, and not whatever else runs here (PostgreSQL
    documentation, "Linux Memory Overcommit").
    """
    spared = {"PG_OOM_ADJUST_FILE": str(OOM_SCORE)} if oom_score.strip().startswith("-") else {}
    return {**clean_environment(), **spared}


def _open_log(log_file: Path, user: PostgresUser | None) -> int:
    make_directory(log_file.parent, user=user, mode=0o755)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        log = os.open(log_file, flags, 0o640)
    except OSError as error:
        raise OperatorError(
            f"cannot write PostgreSQL's log {log_file}: {error.strerror}",
            f"ls -ld {log_file.parent}",
        ) from error
    if user is not None:
        os.fchown(log, user.uid, user.gid)
    return log


def clear_stale_locks(data_dir: Path, socket_dir: Path, port: int) -> None:
    """Remove lock files that name a process which is not PostgreSQL's.

    PostgreSQL itself removes those of pids that are free; a re-used pid of the same user, or a
    zombie that nobody reaps, would stop its start for good. The caller has made sure that nothing
    runs in the data directory.
    """
    _clear(data_dir / "postmaster.pid", data_dir)
    _clear(Path(socket_path(socket_dir, port) + ".lock"), None)


def _clear(path: Path, data_dir: Path | None) -> None:
    named = processes.parse_pid_file(read_text(path))
    if named is None or not Path(f"/proc/{named.pid}").exists():
        return
    mine = processes.belongs(named.pid, data_dir) if data_dir else processes.is_server(named.pid)
    if not mine:
        path.unlink(missing_ok=True)


def why_not(log_tail: str, *, port: int) -> Exception:
    """The error for a postmaster that died at its start, from the end of its log."""
    if "Address already in use" in log_tail or "could not create any TCP/IP sockets" in log_tail:
        return OperatorError(
            f"port {port} cannot be used: {log_tail}", f"ss -ltnp 'sport = :{port}'"
        )
    if "Is another postmaster already running" in log_tail or "lock file" in log_tail:
        return OperatorError(
            f"another PostgreSQL uses this port or directory: {log_tail}",
            f"ss -lxp | grep PGSQL.{port}",
        )
    if "shared memory segment: No space left on device" in log_tail:
        return OperatorError(
            f"the kernel has no shared memory segment left: {log_tail}",
            "ipcs -m   (those that nobody is attached to: ipcrm -m ID; or raise kernel.shmmni)",
        )
    if "No space left on device" in log_tail:
        return OperatorError(f"the disk is full: {log_tail}", "df -h")
    return PostgresError(f"PostgreSQL ended while it started: {log_tail}")
