"""Ids by which what a request set off is found again everywhere: W3C Trace Context.

Owns the form of `traceparent` (https://www.w3.org/TR/trace-context/, version 00) and which trace
the task at work belongs to. Nothing is exported from here: the ids stand in log lines, in answers,
and in what consensus keeps of an order.
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar

import msgspec

HEADER = "traceparent"
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NONE = "0" * 32
_NO_SPAN = "0" * 16
_INVALID_VERSION = "ff"


class Trace(msgspec.Struct, frozen=True):
    """A request's place in a trace. parent: the caller's span, "" where this began it."""

    id: str
    span: str
    parent: str = ""
    flags: str = "00"

    @property
    def header(self) -> str:
        """As `traceparent` says it to whoever is next."""
        return f"00-{self.id}-{self.span}-{self.flags}"


_current: ContextVar[Trace | None] = ContextVar("trace", default=None)


def begin(header: str) -> Trace:
    """The trace of a request: the caller's, if its header can be read, else a new one."""
    found = _FORM.fullmatch(header.strip())
    span = secrets.token_hex(8)
    if found is None or found[1] == _INVALID_VERSION or (found[1] == "00" and found[5]):
        return Trace(secrets.token_hex(16), span)
    if found[2] == _NONE or found[3] == _NO_SPAN:
        return Trace(secrets.token_hex(16), span)
    return Trace(found[2], span, parent=found[3], flags=found[4])


def enter(trace: Trace) -> None:
    """From here on the task at work, and what it starts, belongs to this trace."""
    _current.set(trace)


def current() -> Trace | None:
    """The trace of the task at work."""
    return _current.get()
