"""How PostgreSQL comes to run the small program for WAL: where it lies, and by which interpreter.

The program is copied beside the server's socket, so that its user can read it wherever pgherd is
installed, and an upgrade changes no command line. Several servers may have their sockets in one
directory, so names carry the port. All functions block.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from pgherd.model.errors import OperatorError
from pgherd.postgres import conf, walprogram
from pgherd.postgres.files import make_directory, read_text, write_atomic
from pgherd.postgres.identity import PostgresUser
from pgherd.postgres.tools import as_user, clean_environment

TRY_S = 10.0
WORKS = "import sys; sys.exit(sys.version_info < (3, 11))"


def socket_path(socket_dir: Path, port: int) -> Path:
    """Where the agent answers the program."""
    return socket_dir / f"pgherd-{port}{walprogram.SOCKET}"


def prepare(socket_dir: Path, port: int, user: PostgresUser | None) -> tuple[str, ...]:
    """Put the program into its place; interpreter, program and socket.

    Raises OperatorError where PostgreSQL's user can run no Python.
    """
    interpreter = find(user)
    make_directory(socket_dir, user=user, mode=0o755)
    place = socket_dir / f"pgherd-wal-{port}.py"
    text = Path(walprogram.__file__).read_text(encoding="utf-8")
    if read_text(place) != text:
        write_atomic(place, text, user=user, mode=0o644)
    return interpreter, str(place), str(socket_path(socket_dir, port))


def find(user: PostgresUser | None) -> str:
    """A Python that PostgreSQL's user can run: ours, else the system's."""
    for candidate in (sys.executable, shutil.which("python3") or "", "/usr/bin/python3"):
        if candidate and runs(candidate, user):
            return candidate
    raise OperatorError(
        "PostgreSQL's user can run no Python of version 3.11 or later",
        "install the system's python3, or pgherd where that user can read it",
    )


def runs(interpreter: str, user: PostgresUser | None) -> bool:
    """Whether a user can run it."""
    try:
        ended = subprocess.run(
            [interpreter, "-I", "-S", "-c", WORKS],
            timeout=TRY_S,
            capture_output=True,
            env=clean_environment(),
            cwd="/",
            **as_user(user),
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ended.returncode == 0


def push(prepared: tuple[str, ...]) -> str:
    """archive_command."""
    return _line(prepared, "push", "%p %f")


def fetch(prepared: tuple[str, ...]) -> str:
    """restore_command."""
    return _line(prepared, "fetch", "%f %p")


def _line(prepared: tuple[str, ...], verb: str, rest: str) -> str:
    """The shell is replaced by the program: a signal or an exit code is the program's own."""
    interpreter, program, socket = (shlex.quote(word).replace("%", "%%") for word in prepared)
    return f"exec {interpreter} -I -S {program} {verb} {socket} {rest}"


def written(data_dir: Path) -> str:
    """The archive_command in the server's file."""
    text = read_text(data_dir / conf.CONF)
    return conf.parse(text).get("archive_command", "") if os.path.isdir(data_dir) else ""
