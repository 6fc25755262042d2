"""Connection strings of libpq as keyword=value pairs (PostgreSQL docs, "Connection Strings").

Owns writing and reading them. Which pairs, is the callers'.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from pgherd.model.errors import PostgresError

URI = re.compile(r"postgres(ql)?://")
VALUE = r"'(?:[^'\\]|\\.)*'|(?!')(?:[^\s\\]|\\.)*"
PAIR = re.compile(rf"\s*([^\s=]+)\s*=\s*({VALUE})(?=\s|$)", re.ASCII | re.DOTALL)
PLAIN = re.compile(r"[\w.:/@-]+", re.ASCII)


def write(pairs: Mapping[str, str]) -> str:
    """A connection string of these pairs; empty values are left out."""
    return " ".join(f"{key}={_quoted(value)}" for key, value in pairs.items() if value)


def read(text: str) -> dict[str, str]:
    """The pairs of a connection string; of a URI host, port and parameters.

    Raises PostgresError for what libpq would refuse.
    """
    if URI.match(text):
        return _read_uri(text)
    pairs: dict[str, str] = {}
    at = 0
    rest = text.rstrip()
    while at < len(rest):
        found = PAIR.match(rest, at)
        if found is None:
            raise PostgresError(f"a connection string cannot be read from its character {at + 1}")
        pairs[found[1]] = _unquoted(found[2])
        at = found.end()
    return pairs


def _read_uri(text: str) -> dict[str, str]:
    try:
        parts = urlsplit(text)
        pairs = {"host": parts.hostname or "", "port": str(parts.port or "")}
    except ValueError as error:
        raise PostgresError(f"a connection URI cannot be read: {error}") from error
    return pairs | dict(parse_qsl(parts.query))


def _quoted(value: str) -> str:
    if PLAIN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _unquoted(value: str) -> str:
    if value[:1] == "'":
        value = value[1:-1]
    return re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
