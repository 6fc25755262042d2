"""The configuration files of a data directory that pgherd writes, and the one line it adds.

`pgherd.conf` is included by the last line of postgresql.conf, so it wins over the operator's own
settings there; postgresql.auto.conf (ALTER SYSTEM) would win over it and is therefore cleared of
the settings that safety rests on before every start. The text functions are pure, the others block.
"""

from __future__ import annotations

import re
from pathlib import Path

from pgherd.postgres import access, tlsfiles
from pgherd.postgres.files import read_text, write_atomic
from pgherd.postgres.identity import PostgresUser, peer_names
from pgherd.postgres.settings import (
    HBA_FILE,
    IDENT_FILE,
    PURGED_FROM_AUTO_CONF,
    ServerSettings,
)

CONF = "pgherd.conf"
INCARNATION = "pgherd.incarnation"
STANDBY_SIGNAL = "standby.signal"
RECOVERY_SIGNAL = "recovery.signal"
RAN = "pgherd.ran.json"
AUTO_CONF = "postgresql.auto.conf"
INCLUDE_LINE = f"include '{CONF}'"
HEADER = (
    "# Written by pgherd, replaced as a whole. Set postgresql.parameters in pgherd's configuration."
)
SETTING = re.compile(r"^\s*([A-Za-z_][\w.]*)\s*(?:=|\s)\s*(.*?)\s*$")


def render(values: dict[str, str]) -> str:
    """pgherd.conf from its parameters."""
    lines = [f"{name} = {quote(values[name])}" for name in sorted(values)]
    return "\n".join([HEADER, *lines]) + "\n"


def quote(value: str) -> str:
    """A value in the syntax of postgresql.conf."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def parse(text: str) -> dict[str, str]:
    """Read back a file that `render` wrote."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, quoted = line.partition(" = ")
        if equals and not line.startswith("#"):
            values[name] = quoted[1:-1].replace("''", "'").replace("\\\\", "\\")
    return values


def with_include(text: str, include: str = INCLUDE_LINE) -> str:
    """postgresql.conf with our include as its last effective line; all else as it was."""
    lines = text.splitlines()
    effective = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if effective and effective[-1].strip() == include and effective.count(include) == 1:
        return text
    kept = [line for line in lines if line.strip() != include]
    return "\n".join([*kept, include]) + "\n"


def purge(text: str) -> tuple[str, tuple[str, ...]]:
    """postgresql.auto.conf without the settings that safety rests on, and what was taken out."""
    kept: list[str] = []
    purged: list[str] = []
    for line in text.splitlines():
        match = SETTING.match(line)
        if match is not None and match[1].lower() in PURGED_FROM_AUTO_CONF:
            purged.append(line.strip())
        else:
            kept.append(line)
    return "\n".join(kept) + "\n", tuple(purged)


def write_for_start(
    data_dir: Path, values: dict[str, str], *, settings: ServerSettings, user: PostgresUser | None
) -> tuple[str, ...]:
    """Write every file that a start needs, durably; return what ALTER SYSTEM lost.

    standby.signal comes first: from then on no crash of ours leaves a directory that would open
    itself as a primary.
    """
    write_atomic(data_dir / STANDBY_SIGNAL, "", user=user)
    (data_dir / RECOVERY_SIGNAL).unlink(missing_ok=True)
    auto_text = read_text(data_dir / AUTO_CONF)
    cleared, purged = purge(auto_text)
    if purged:
        write_atomic(data_dir / AUTO_CONF, cleared, user=user)
    write_values(data_dir, values, user=user, durable=True)
    write_access(data_dir, settings, user=user)
    _include(data_dir, user=user)
    return purged


def write_access(data_dir: Path, settings: ServerSettings, *, user: PostgresUser | None) -> None:
    """Write who may log in, and the passwords that we log in to peers with."""
    write_rules(data_dir, settings, user=user)
    write_passfile(settings, user=user)


def write_rules(
    data_dir: Path, settings: ServerSettings, *, user: PostgresUser | None, durable: bool = True
) -> None:
    """Write who may log in."""
    hba, ident = access.hba_text(settings), access.ident_text(settings, peer_names(user))
    write_atomic(data_dir / HBA_FILE, hba, user=user, durable=durable)
    write_atomic(data_dir / IDENT_FILE, ident, user=user, durable=durable)


def write_values(
    data_dir: Path, values: dict[str, str], *, user: PostgresUser | None, durable: bool = False
) -> None:
    """Replace pgherd.conf."""
    write_atomic(data_dir / CONF, render(values), user=user, durable=durable)


def write_passfile(settings: ServerSettings, *, user: PostgresUser | None) -> None:
    """Write what libpq needs, readable by PostgreSQL's user only: passwords, and files of TLS."""
    tlsfiles.write(settings, user=user)
    write_atomic(Path(settings.passfile), access.passfile_text(settings), user=user)


def write_incarnation(data_dir: Path, incarnation: str, *, user: PostgresUser | None) -> None:
    """Name a data directory (PROTOCOL.md 2: Member)."""
    assert re.fullmatch(r"[0-9a-f]{6}", incarnation), incarnation
    write_atomic(data_dir / INCARNATION, incarnation + "\n", user=user)


def read_incarnation(data_dir: Path) -> str:
    """A data directory's name, "" when it has none."""
    return read_text(data_dir / INCARNATION).strip()


def _include(data_dir: Path, *, user: PostgresUser | None) -> None:
    path = data_dir / "postgresql.conf"
    text = read_text(path)
    wanted = with_include(text)
    if wanted != text:
        write_atomic(path, wanted, user=user)
