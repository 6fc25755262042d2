"""Whether a server takes parameters and lines of access, before anybody is told them.

By its own pg_settings (kind, range, words, whether they can change at all), and then by its own
program, which reads them as at a start and says what else is wrong. Changes nothing. The judging of
rows is pure.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import LiteralString

import msgspec

from pgherd.model.pgconfig import MATCHED, ConfigAsked, ConfigChecked
from pgherd.postgres import accesscheck
from pgherd.postgres import settings as parameters
from pgherd.postgres.server import PostgresServer
from pgherd.postgres.settings import Place
from pgherd.postgres.tools import run_tool
from pgherd.wire.query import Row

CHECK_TIMEOUT_S = 10.0
ROLES = ("primary", "replica")
AT_START = ("postmaster",)
RESERVED = ("superuser_reserved_connections", "reserved_connections")
KNOWN_SQL: LiteralString = """
SELECT name, vartype, context, coalesce(unit, ''), coalesce(min_val, ''), coalesce(max_val, ''),
  coalesce(array_to_string(enumvals, ','), ''), current_setting(name) FROM pg_settings
"""
NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)\s*")
SIZES = {"B": 1, "kB": 1 << 10, "8kB": 8 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
TIMES = {"us": 1, "ms": 1000, "s": 10**6, "min": 60 * 10**6, "h": 3600 * 10**6, "d": 86400 * 10**6}
SWITCH = re.compile(r"on|of|off|t|tr|tru|true|f|fa|fal|fals|false|y|ye|yes|n|no|1|0", re.I)


class Known(msgspec.Struct, frozen=True):
    """One row of pg_settings."""

    name: str
    kind: str
    context: str
    unit: str = ""
    least: str = ""
    most: str = ""
    words: str = ""
    shown: str = ""


async def check(server: PostgresServer, asked: ConfigAsked) -> ConfigChecked:
    """Ask a running server. Raises PostgresError where it cannot be asked."""
    known = read(await server.acting.rows(KNOWN_SQL))
    place = Place(str(server.data_dir), server.port, str(server.socket_dir))
    owned = parameters.derive(server.settings, place)
    found = problems(asked.parameters, known, owned)
    for where, some in sorted(asked.others.items()):
        wrong = problems(some, known, owned) + too_late(where, some, known)
        found += [f"{where}: {text}" for text in wrong]
    if not found:
        found = await by_program(server, asked)
    if asked.access is not None:
        wanted = msgspec.structs.replace(server.settings, access=asked.access)
        found += await accesscheck.problems(server, wanted)
    apart = [name for some in asked.others.values() for name in some]
    names = [name for name in (*asked.parameters, *apart, *asked.names) if name in known]
    local = {name.lower() for name in server.settings.parameters} - set(MATCHED)
    return ConfigChecked(
        problems=tuple(found),
        contexts={name: known[name].context for name in names},
        running={name: known[name].shown for name in names},
        overridden=tuple(sorted(local & set(asked.parameters))),
    )


def read(rows: Iterable[Row]) -> dict[str, Known]:
    """Rows of KNOWN_SQL by name, as people write it."""
    return {row[0].lower(): Known(*row) for row in rows}


def problems(wanted: dict[str, str], known: dict[str, Known], owned: dict[str, str]) -> list[str]:
    """Why values cannot be, one sentence each. owned: pgherd's own values; more is taken."""
    found = [problem(name, value, known) for name, value in sorted(wanted.items())]
    for name in parameters.AT_LEAST:
        value, least = wanted.get(name, ""), owned.get(name, "")
        if value.isdigit() and least.isdigit() and int(value) < int(least):
            found.append(f"{name} = {value}: this cluster's replication needs at least {least}")
    if "archive_command" in wanted and "archive_command" in owned:
        found.append("archive_command: the section archive of the nodes' files sets it")
    return [text for text in (*found, too_few_sessions(wanted, known)) if text]


def too_few_sessions(wanted: dict[str, str], known: dict[str, Known]) -> str:
    """Why nobody could log in, which PostgreSQL says only when it starts."""
    most, reserved = wanted.get("max_connections", ""), 0
    for name in RESERVED:
        value = wanted.get(name) or (known[name].shown if name in known else "0")
        reserved += int(value) if value.isdigit() else 0
    if not most.isdigit() or int(most) > reserved:
        return ""
    return f"max_connections = {most}: {reserved} of them are reserved, so it needs more"


def problem(name: str, value: str, known: dict[str, Known]) -> str:
    """Why a parameter cannot have a value; "" when pg_settings has nothing against it."""
    row = known.get(name)
    if row is None:
        if "." in name:
            return ""  # of an extension that is not loaded
        near = difflib.get_close_matches(name, known, n=1)
        return f"{name}: PostgreSQL has no such parameter" + (f"; {near[0]}?" if near else "")
    if row.context == "internal":
        return f"{name} cannot be set: it follows from how PostgreSQL or the cluster was made"
    if row.kind == "bool" and SWITCH.fullmatch(value) is None:
        return f"{name} = {value!r}: write on or off"
    if row.kind == "enum" and value.lower() not in row.words.lower().split(","):
        return f"{name} = {value!r}: write one of {row.words.replace(',', ', ')}"
    if row.kind in ("integer", "real"):
        return out_of_range(row, value)
    return ""


def out_of_range(row: Known, value: str) -> str:
    """Why this is no number, or not one that the parameter may have."""
    if row.name in MATCHED and not value.isdigit():
        return f"{row.name} = {value!r}: write a whole number from {row.least} to {row.most}"
    number = amount(value, row.unit)
    scale = f"{row.least} to {row.most}" + (f", in units of {row.unit}" if row.unit else "")
    if number is None:
        return f"{row.name} = {value!r} is not a number{unit_hint(row.unit)}; it may be {scale}"
    if not float(row.least) <= number <= float(row.most):
        return f"{row.name} = {value} is out of range; it may be {scale}"
    return ""


def amount(text: str, base: str) -> float | None:
    """A number in the parameter's own unit; None where it is none, or of another kind."""
    match = NUMBER.fullmatch(text)
    if match is None:
        return None
    units = SIZES if base in SIZES else TIMES if base in TIMES else {}
    if not match[2]:
        return float(match[1])
    if match[2] not in units or match[2] == "8kB":
        return None
    return round(float(match[1]) * units[match[2]] / units[base], 6)


def unit_hint(base: str) -> str:
    if base in SIZES:
        return " of bytes, with B, kB, MB, GB or TB"
    return " of time, with us, ms, s, min, h or d" if base in TIMES else ""


def too_late(where: str, wanted: dict[str, str], known: dict[str, Known]) -> list[str]:
    """What a role cannot set, for it comes and goes without a restart."""
    if where not in ROLES:
        return []
    fixed = [name for name in sorted(wanted) if name in known and known[name].context in AT_START]
    return [f"{name} needs a restart, and a role comes without one" for name in fixed]


async def by_program(server: PostgresServer, asked: ConfigAsked) -> list[str]:
    """Have the program read every set of them that comes to be in force together."""
    sets = {"": asked.parameters} if asked.parameters else {}
    sets |= {f"{where}: ": asked.parameters | some for where, some in asked.others.items()}
    found = [(where, await read_by_program(server, some)) for where, some in sorted(sets.items())]
    return [where + text for where, texts in found for text in texts]


async def read_by_program(server: PostgresServer, wanted: dict[str, str]) -> list[str]:
    """Have the program read them all as at a start; it ends at the first that it does not take."""
    values = [word for name, value in sorted(wanted.items()) for word in ("-c", f"{name}={value}")]
    argv = [server.binaries.program("postgres"), "-D", str(server.data_dir), "-C", "port", *values]
    result = await run_tool(argv, user=server.user, timeout_s=CHECK_TIMEOUT_S)
    return [] if result.code == 0 else [f"PostgreSQL says: {result.last_words()}"]
