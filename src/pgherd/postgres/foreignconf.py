"""The configuration of a server that pgherd did not make: read, carried over, added to.

Nothing of an operator's is deleted: what is changed is kept under another name first (`takeover`).
The text functions are pure; `flattened` reads files.
"""

from __future__ import annotations

import re
from pathlib import Path

from pgherd.model.errors import OperatorError
from pgherd.postgres.conf import CONF
from pgherd.postgres.settings import (
    AT_LEAST,
    CHOICES,
    MATCHED_DEFAULTS,
    ServerSettings,
    defaults,
)

PLACES = ("data_directory", "hba_file", "ident_file", "config_file", "external_pid_file")
"""Where files are: under pgherd all of them are in the data directory."""

BEGIN, END = "# pgherd begins", "# pgherd ends"
DEPTH_MAX = 10
_LINE = re.compile(
    r"^\s*(?P<name>[A-Za-z_][\w.]*)\s*=?\s*(?P<value>'(?:[^']|'')*'|[^\s#]*)\s*(?:#.*)?$"
)
_HBA_TYPES = {"local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"}


def settings_of(text: str) -> dict[str, str]:
    """What a postgresql.conf without includes sets; the last line of a name counts."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        pair = pair_of(line)
        if pair is not None:
            found[pair[0]] = pair[1]
    return found


def pair_of(line: str) -> tuple[str, str] | None:
    """A line's parameter, in small letters, and its value; None where it sets nothing."""
    match = _LINE.match(line)
    if match is None:
        return None
    value = match["value"]
    if value.startswith("'"):
        value = value[1:-1].replace("''", "'").replace("\\\\", "\\")
    return match["name"].lower(), value


def flattened(path: Path, *, depth: int = 0) -> str:
    """A postgresql.conf with what it includes in the place of the includes.

    A copy of the data directory goes to machines that do not have the included files.
    """
    if depth > DEPTH_MAX:
        raise OperatorError(f"{path} includes itself", f"see the include lines of {path}")
    lines: list[str] = []
    for line in read(path).splitlines():
        pair = pair_of(line)
        included = _included(path, *pair) if pair is not None else None
        if included is None or (pair is not None and Path(pair[1]).name == CONF):
            lines.append(line)
            continue
        lines.append(f"#{line}   # put in here by pgherd adopt")
        for file in included:
            lines.append(flattened(file, depth=depth + 1).rstrip("\n"))
    return "\n".join(lines) + "\n"


def _included(path: Path, name: str, value: str) -> list[Path] | None:
    """The files that a line includes; None where it is no such line."""
    there = path.parent / value
    if name == "include":
        return [there]
    if name == "include_if_exists":
        return [there] if there.exists() else []
    if name == "include_dir":
        found = there.glob("*.conf") if there.is_dir() else ()
        return sorted(file for file in found if not file.name.startswith("."))
    return None


def read(path: Path) -> str:
    """A file of an operator's. Raises OperatorError."""
    try:
        return path.read_text(errors="replace")
    except OSError as error:
        raise OperatorError(f"cannot read {path}: {error.strerror}", f"ls -l {path}") from error


def at_home(text: str) -> str:
    """A postgresql.conf for the data directory itself: no line says where files are."""
    lines = []
    for line in text.splitlines():
        pair = pair_of(line)
        moved = pair is not None and pair[0] in PLACES
        lines.append(f"#{line}   # by pgherd adopt" if moved else line)
    return "\n".join(lines) + "\n"


def carried(settings: dict[str, str]) -> dict[str, str]:
    """Of an operator's parameters those that pgherd.conf would otherwise overrule by its defaults.

    The rest stays where it is, in postgresql.conf.
    """
    ours = {*defaults(ServerSettings(passfile="")), *MATCHED_DEFAULTS, *AT_LEAST, "wal_level"}
    return {
        name: value
        for name, value in sorted(settings.items())
        if name in ours and (name not in CHOICES or value in CHOICES[name])
    }


def hba_lines(text: str, *, file: Path) -> list[str]:
    """The lines of a pg_hba.conf, as `postgresql.hba` takes them. Raises OperatorError."""
    found: list[str] = []
    for line in outside_of_block(text).replace("\\\n", " ").splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        if words[0] not in _HBA_TYPES or len(words) < 4 or any(word[0] == "@" for word in words):
            raise OperatorError(
                f"{file}: pgherd cannot carry over {line.strip()!r}",
                "write it out as TYPE DATABASE USER [ADDRESS] METHOD, reload, then again",
            )
        found.append(" ".join(words))
    return found


def with_block(text: str, lines: list[str]) -> str:
    """A pg_hba.conf or pg_ident.conf with these lines first, in place of those of before."""
    return "\n".join([BEGIN, *lines, END]) + "\n" + outside_of_block(text)


def outside_of_block(text: str) -> str:
    """The same without the block that `with_block` made."""
    before, begin, rest = text.partition(BEGIN + "\n")
    _, end, after = rest.partition(END + "\n")
    return before + after if begin and end else text
