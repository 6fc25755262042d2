"""Durations and sizes as people write them: `1500ms`, `3s`, `5m`; `16MB`, `1GB`.

Owns the units and their spelling in both directions. A bare number is refused, for no reader can
tell its unit; only 0 needs none. Sizes count in 1024s, as PostgreSQL's do.
"""

from __future__ import annotations

import re

DURATION_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
SIZE_BYTES = {"TB": 1 << 40, "GB": 1 << 30, "MB": 1 << 20, "kB": 1 << 10, "B": 1}

_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)")


def parse_duration_ms(text: object) -> int:
    """Read a duration as whole milliseconds; ValueError when it is none."""
    return _parse(text, units=DURATION_MS, what="a duration", example="1500ms, 3s or 5m")


def parse_size_bytes(text: object) -> int:
    """Read a size as whole bytes; ValueError when it is none."""
    return _parse(text, units=SIZE_BYTES, what="a size", example="512kB, 16MB or 1GB")


def format_duration(ms: int) -> str:
    """Write milliseconds in the largest unit that is exact."""
    return _format(ms, DURATION_MS)


def format_size(size_bytes: int) -> str:
    """Write bytes in the largest unit that is exact."""
    return _format(size_bytes, SIZE_BYTES)


def _parse(text: object, *, units: dict[str, int], what: str, example: str) -> int:
    if text == 0 and not isinstance(text, bool):
        return 0
    if isinstance(text, int | float) and not isinstance(text, bool):
        raise ValueError(f"{text} has no unit: write {what} such as {example}")
    found = _QUANTITY.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"{text!r} is not {what}: write for example {example}")
    names = {unit.lower(): factor for unit, factor in units.items()}
    factor = names.get(found[2].lower())
    if factor is None:
        raise ValueError(f"{found[2]!r} is not a unit of {what}: use {', '.join(units)}")
    exact = float(found[1]) * factor if "." in found[1] else int(found[1]) * factor
    if exact != int(exact):
        raise ValueError(f"{text!r} is finer than the smallest unit, {list(units)[-1]}")
    return int(exact)


def _format(value: int, units: dict[str, int]) -> str:
    for unit, factor in units.items():
        if value % factor == 0 and value:
            return f"{value // factor}{unit}"
    return f"0{list(units)[-1]}" if value == 0 else str(value)
