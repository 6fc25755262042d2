"""The first data directory of a cluster made by an operator's command: a backup that is restored.

It is made beside its place and renamed there when it is complete, so that a command that fails, or
is killed, leaves nothing behind. A recovery that the command has asked for is run to its target
here, on no port and for nobody, since pgherd itself starts servers as standbys only.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from pgherd.model.errors import PostgresError
from pgherd.postgres import clone, conf, datadir, launch, pgcontrol, processes
from pgherd.postgres.files import make_directory, read_text, tail, write_atomic
from pgherd.postgres.settings import HBA_FILE, IDENT_FILE
from pgherd.postgres.tools import run_tool

if TYPE_CHECKING:
    from pgherd.postgres.server import PostgresServer

POLL_S = 0.2
STOP_TIMEOUT_S = 300.0
IN_PRODUCTION = "in production"


async def make(server: PostgresServer, incarnation: str) -> None:
    """Fill a new directory by the command, and move it to its place. Raises PostgresError."""
    side = await asyncio.to_thread(datadir.make_side, server.data_dir, server.user)
    try:
        await _fill(server, side)
        if (side / conf.RECOVERY_SIGNAL).exists():
            await _recover(server, side)
        await asyncio.to_thread(_make_own, server, side, incarnation)
        await asyncio.to_thread(datadir.move_in, side, server.data_dir)
    finally:
        await asyncio.to_thread(shutil.rmtree, side, ignore_errors=True)


async def _fill(server: PostgresServer, side: Path) -> None:
    """Run the command; what it leaves must be a data directory of our major version."""
    command = server.settings.bootstrap
    result = await run_tool(
        [*command, str(side)],
        user=server.user,
        timeout_s=server.settings.bootstrap_timeout_s,
        variables={"PGDATA": str(side)},
    )
    if result.code != 0:
        raise PostgresError(f"{command[0]}: {result.last_words()}")
    version = read_text(side / "PG_VERSION").strip()
    if version != str(server.binaries.major):
        found = f"one of PostgreSQL {version}" if version else "none"
        raise PostgresError(
            f"{command[0]} was to leave a data directory of PostgreSQL {server.binaries.major}, "
            f"and left {found}"
        )
    await asyncio.to_thread(side.chmod, 0o700)


def _make_own(server: PostgresServer, side: Path, incarnation: str) -> None:
    """Nothing of the source's pgherd, if it had one, and a name of its own."""
    for name in clone.FOREIGN_FILES:
        (side / name).unlink(missing_ok=True)
    conf.write_incarnation(side, incarnation, user=server.user)


async def _recover(server: PostgresServer, side: Path) -> None:
    """Replay to the target that the restored files name, and end there in order."""
    await asyncio.to_thread(_prepare, server, side)
    log = server.log_file
    offset = log.stat().st_size if log.exists() else 0
    child = await asyncio.to_thread(
        launch.spawn, _command(server, side), data_dir=side, log_file=log, user=server.user
    )
    try:
        await _until_writing(server, side, child, offset)
        processes.send(child.pid, signal.SIGINT, data_dir=side)
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await processes.wait_gone(child.pid)
    except TimeoutError as error:
        raise PostgresError("the restored server did not stop in order") from error
    finally:
        if child.poll() is None:
            processes.send(child.pid, signal.SIGQUIT, data_dir=side)
        await asyncio.to_thread(child.wait)


def _prepare(server: PostgresServer, side: Path) -> None:
    """Files without which no server starts; the source may have had them in other places."""
    (side / conf.STANDBY_SIGNAL).unlink(missing_ok=True)  # it would win, and never end
    write_atomic(side / conf.CONF, conf.render({}), user=server.user)
    make_directory(server.socket_dir, user=server.user, mode=0o755)
    write_atomic(side / HBA_FILE, "local all all reject\n", user=server.user)
    write_atomic(side / IDENT_FILE, "", user=server.user)
    if not (side / "postgresql.conf").exists():
        write_atomic(side / "postgresql.conf", "", user=server.user)


def _command(server: PostgresServer, side: Path) -> list[str]:
    """Reachable by nobody, and open for writing at its target."""
    values = {
        "listen_addresses": "",
        "unix_socket_directories": str(server.socket_dir),
        "port": str(server.port),
        "hba_file": str(side / HBA_FILE),
        "ident_file": str(side / IDENT_FILE),
        "hot_standby": "off",
        "archive_mode": "off",
        "recovery_target_action": "promote",
        "synchronous_standby_names": "",
        "logging_collector": "off",
        "log_destination": "stderr",
    }
    argv = [server.binaries.program("postgres"), "-D", str(side)]
    for name, value in values.items():
        argv += ["-c", f"{name}={value}"]
    return argv


async def _until_writing(
    server: PostgresServer, side: Path, child: subprocess.Popen[bytes], offset: int
) -> None:
    """Wait until recovery has ended, by pg_control's word."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + server.settings.bootstrap_timeout_s
    while True:
        if child.poll() is not None:
            said = await asyncio.to_thread(tail, server.log_file, offset=offset)
            raise PostgresError(f"the restored server did not reach its target: {said}")
        control = await pgcontrol.read(server.binaries.bin_dir, side, user=server.user)
        if control.state == IN_PRODUCTION and not (side / conf.RECOVERY_SIGNAL).exists():
            return
        if loop.time() > deadline:
            raise PostgresError("the restored server did not reach its target in time")
        await asyncio.sleep(POLL_S)
