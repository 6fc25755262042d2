"""A PostgreSQL server that pgherd did not make, looked at before it is taken over.

Changes nothing. Owns what is asked of it and how: of a running one through its Unix socket as the
user that owns it, of a stopped one through its files and programs. Blocks. What follows from the
answers is `cli.adopting`'s.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from pgherd.model.errors import OperatorError
from pgherd.postgres import foreignconf, processes, tree
from pgherd.postgres.binaries import NEEDED, Binaries
from pgherd.postgres.conf import AUTO_CONF, RECOVERY_SIGNAL, STANDBY_SIGNAL
from pgherd.postgres.files import read_text
from pgherd.postgres.identity import PostgresUser
from pgherd.postgres.tools import as_user, clean_environment

CONNECT_TIMEOUT_S = 5
CONFIG_TIMEOUT_S = 20
DEBIAN_ROOT = Path("/etc/postgresql")
UNIT = re.compile(r"/([^/]+\.service)(?:/|$)")
INTERPRETERS = ("python", "bash", "sh", "perl")
MANAGERS = ("patroni", "repmgrd", "pg_autoctl", "stolon-keeper")
ASKED = (
    *("wal_level", "max_wal_senders", "max_replication_slots", "hot_standby", "listen_addresses"),
    *("archive_mode", "archive_command", "synchronous_standby_names", "shared_preload_libraries"),
    *("port", "unix_socket_directories", "config_file", "hba_file", "ident_file"),
)
"""The parameters that a running server is asked for."""


class Answers(msgspec.Struct, frozen=True):
    """What a running server says. followers: application names of what streams from it.

    tablespaces: their places outside of the data directory · slots: of replication, with what kind
    they are of.
    """

    settings: dict[str, str]
    in_recovery: bool
    followers: tuple[str, ...]
    tablespaces: tuple[str, ...]
    slots: tuple[tuple[str, str], ...] = ()


class Stranger(msgspec.Struct, frozen=True):
    """A data directory, its owner, and what its files and processes say.

    major: of PG_VERSION · pid: of its postmaster, 0 when it does not run · standby: whether it is
    or was a copy of another server · config: its postgresql.conf · unit: the systemd service that
    its processes are in · start_conf: Debian's word on whether it is started at boot.
    """

    data_dir: Path
    owner: str
    major: int
    standby: bool
    config: Path
    pid: int = 0
    port: int = 0
    socket_dir: str = ""
    unit: str = ""
    start_conf: Path | None = None

    @property
    def debian(self) -> str:
        """What Debian's tools call it, as "15/main"; "" where they do not know it."""
        place = self.config.parent
        return f"{place.parent.name}/{place.name}" if self.start_conf is not None else ""

    def explicit(self) -> dict[str, str]:
        """The parameters that its files set, ALTER SYSTEM's last."""
        written = foreignconf.settings_of(foreignconf.flattened(self.config))
        return written | foreignconf.settings_of(read_text(self.data_dir / AUTO_CONF))

    def files(self) -> tuple[Path, Path]:
        """Where its pg_hba.conf and pg_ident.conf are, by its files."""
        said = self.explicit()
        hba = said.get("hba_file") or str(self.config.parent / "pg_hba.conf")
        ident = said.get("ident_file") or str(self.config.parent / "pg_ident.conf")
        return self.config.parent / hba, self.config.parent / ident


def look(data_dir: Path, *, config: Path | None = None, debian: Path = DEBIAN_ROOT) -> Stranger:
    """Look at a data directory from outside. Raises OperatorError where there is none.

    config: its postgresql.conf where that is neither in it nor where Debian has it.
    """
    try:
        version = (data_dir / "PG_VERSION").read_text().strip()
        owner = pwd.getpwuid(data_dir.stat().st_uid).pw_name
    except (OSError, KeyError) as error:
        raise OperatorError(
            f"{data_dir} is no data directory of PostgreSQL that can be read: {error}",
            "name it with --data-dir DIR; as a rule this needs root, or the user postgres",
        ) from error
    if not version.isdigit():
        raise OperatorError(
            f"{data_dir} is of PostgreSQL {version}; pgherd runs 14 to 18",
            "upgrade it first: pg_upgrade",
        )
    pid_file = processes.parse_pid_file(read_text(data_dir / "postmaster.pid"))
    runs = pid_file is not None and tree.belongs(pid_file.pid, data_dir)
    pid = pid_file.pid if pid_file is not None and runs else 0
    if pid_file is not None and not pid and processes.is_hidden(pid_file.pid):
        raise OperatorError(
            f"{data_dir} is in use by process {pid_file.pid} of another user", "use sudo"
        )
    config = config or _config_of(data_dir, pid, debian)
    signals = (data_dir / STANDBY_SIGNAL, data_dir / RECOVERY_SIGNAL)
    start_conf = config.parent / "start.conf"
    return Stranger(
        data_dir=data_dir,
        owner=owner,
        major=int(version),
        standby=any(path.exists() for path in signals),
        config=config,
        pid=pid,
        port=pid_file.port if pid_file is not None and pid else 0,
        socket_dir=pid_file.socket_dir if pid_file is not None and pid else "",
        unit=unit_of(pid) if pid else "",
        start_conf=start_conf if start_conf.exists() else None,
    )


def _config_of(data_dir: Path, pid: int, debian: Path) -> Path:
    """The configuration that it runs with, or would be started with."""
    for word in command_of(pid) if pid else ():
        name, equals, value = word.removeprefix("-c").removeprefix("--").partition("=")
        if equals and name.replace("-", "_") == "config_file":
            return Path(value)
    for file in sorted(debian.glob("*/*/postgresql.conf")):
        said = foreignconf.settings_of(read_text(file)).get("data_directory", "")
        if said and Path(said).absolute() == data_dir:
            return file
    return data_dir / "postgresql.conf"


def command_of(pid: int) -> list[str]:
    """The words of a process's command line; none when it is gone."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [word for word in raw.decode(errors="replace").split("\0") if word]


def unit_of(pid: int) -> str:
    """The service whose processes systemd counts this one to; "" where it is in none."""
    try:
        text = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""
    found = [match[1] for line in text.splitlines() if (match := UNIT.search(line))]
    return next((unit for unit in found if "postgres" in unit), "")


def programs_of(pid: int) -> str:
    """The bin folder of a running server, "auto" where it has not all of the programs."""
    try:
        place = Path(os.readlink(f"/proc/{pid}/exe")).parent
    except OSError:
        return "auto"
    return str(place) if all((place / name).exists() for name in NEEDED) else "auto"


def manager_of(data_dir: Path) -> str:
    """Another program that starts and promotes this server, as "patroni (process 12)"; "" if none.

    One whose own configuration names another directory is none of ours.
    """
    for entry in Path("/proc").iterdir():
        words = command_of(int(entry.name)) if entry.name.isdigit() else []
        name = next((name for name in MANAGERS if _runs(words, name)), "")
        if name and _minds(words, data_dir):
            return f"{name} (process {entry.name})"
    return ""


def _runs(words: list[str], name: str) -> bool:
    """Whether it is this program: by itself, or as a script of an interpreter."""
    called = [Path(word).name for word in words[:4]]
    by = called and called[0].startswith(INTERPRETERS)
    return name in (called[1:] if by else called[:1])


def _minds(words: list[str], data_dir: Path) -> bool:
    """Whether a manager's words or the files that they name are of this directory, or of none."""
    texts = [" ".join(words)]
    for word in words[1:]:
        file = Path(word.rpartition("=")[2])
        with contextlib.suppress(OSError):
            if file.is_absolute() and file.suffix in (".yml", ".yaml", ".conf", ".cfg"):
                texts.append(file.read_text(errors="replace"))
    names = re.findall(
        r"(?:data_dir|data_directory|--pgdata|-D)['\"]?[\s:=]+['\"]?(/[^\s'\"]+)", "\n".join(texts)
    )
    return not names or any(Path(name).absolute() == data_dir for name in names)


@contextlib.contextmanager
def as_owner(owner: str) -> Iterator[None]:
    """Be the server's user for a moment, as root: its socket may let nobody else in."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(pwd.getpwnam(owner).pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)


def ask(stranger: Stranger, *, superuser: str, database: str) -> Answers:
    """Ask a running server. Raises OperatorError where it lets its own user not in."""
    with _connect(stranger, superuser, database) as connection:
        rows = connection.execute(
            "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", (list(ASKED),)
        ).fetchall()
        (is_superuser, in_recovery) = connection.execute(
            "SELECT rolsuper, pg_is_in_recovery() FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
        followers = connection.execute(
            "SELECT application_name FROM pg_stat_replication WHERE state <> 'backup' ORDER BY 1"
        ).fetchall()
        spaces = connection.execute(
            "SELECT pg_tablespace_location(oid) FROM pg_tablespace "
            "WHERE spcname NOT IN ('pg_default', 'pg_global') ORDER BY 1"
        ).fetchall()
        slots = connection.execute(
            "SELECT slot_name, slot_type FROM pg_replication_slots WHERE NOT temporary ORDER BY 1"
        ).fetchall()
    if not is_superuser:
        raise OperatorError(
            f"the role {superuser} is no superuser of {stranger.data_dir}",
            "name one with --superuser NAME",
        )
    return Answers(
        settings=dict(rows),
        in_recovery=in_recovery,
        followers=tuple(name for (name,) in followers),
        tablespaces=tuple(place for (place,) in spaces),
        slots=tuple((name, kind) for name, kind in slots if not name.startswith("pgherd_")),
    )


def _connect(stranger: Stranger, superuser: str, database: str) -> Any:
    import psycopg  # as ourselves: its files may be closed to the server's user

    try:
        with as_owner(stranger.owner):
            return psycopg.connect(
                host=stranger.socket_dir or "127.0.0.1",
                port=stranger.port,
                user=superuser,
                dbname=database,
                connect_timeout=CONNECT_TIMEOUT_S,
                application_name="pgherd-adopt",
                client_encoding="UTF8",
                options="-c search_path=pg_catalog -c statement_timeout=10s",
                autocommit=True,
            )
    except psycopg.Error as error:
        why = " ".join(str(error).split())
        raise OperatorError(
            f"the system user {stranger.owner} cannot log in as {superuser}: {why}",
            f"put `local all {superuser} peer` first into pg_hba.conf and reload it, or stop the "
            "server and adopt it stopped; another superuser: --superuser NAME",
        ) from error


def check_config(stranger: Stranger, binaries: Binaries, user: PostgresUser | None) -> None:
    """Refuse files with which its own server would not start any more."""
    argv = [binaries.program("postgres"), "-D", str(stranger.data_dir), "-C", "data_directory"]
    done = subprocess.run(
        [*argv, "-c", f"config_file={stranger.config}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=CONFIG_TIMEOUT_S,
        env=clean_environment(),
        cwd="/",
        **as_user(user),
    )
    if done.returncode != 0:
        raise OperatorError(
            f"{stranger.config} cannot be used: {' '.join(done.stderr.split())}",
            "mend it until its own server starts with it, then again",
        )
