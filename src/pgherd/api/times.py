"""Times of the API: ISO 8601 in UTC out, that or a duration in. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from pgherd.api.failures import Problem
from pgherd.config.units import parse_duration_ms


def iso(unix_ms: int) -> str | None:
    """A wall-clock time as ISO 8601 in UTC; None for "never"."""
    if unix_ms <= 0:
        return None
    moment = datetime.fromtimestamp(unix_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def unix_ms_of(text: str | None, *, now_ms: int) -> int:
    """When an operator means: a time with its zone, or so long from now; 0 for never."""
    if text is None:
        return 0
    try:
        return now_ms + parse_duration_ms(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Problem(422, "invalid", f"{text} is no time", hint="as in 2h, or 2026-01-31T23:00Z")
    at_ms = int(moment.timestamp() * 1000)
    if at_ms <= now_ms:
        raise Problem(422, "invalid", f"{text} is over", hint="name a time to come, as in 2h")
    return at_ms


def time_of(text: str, *, now_ms: int) -> int | None:
    """A time that was: so long ago, or a time with its zone; None for what is neither."""
    try:
        return now_ms - parse_duration_ms(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return int(moment.timestamp() * 1000) if moment.tzinfo is not None else None
