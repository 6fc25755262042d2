"""Who is to blame: the exceptions that rooms raise for what their caller cannot plan.

Owns the few classes and their exit codes. Expected outcomes are values, not exceptions; an
exception carries what was being done, why it failed and, for people, what to do next.
"""

from __future__ import annotations

from typing import ClassVar


class PgherdError(Exception):
    """The base of all: a message, and a hint that says what to do or type next."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class OperatorError(PgherdError):
    """What a person asked for or configured cannot be done as it stands."""

    exit_code: ClassVar[int] = 2


class PeerError(PgherdError):
    """Another node, or the network to it, did not do its part."""


class PostgresError(PgherdError):
    """PostgreSQL, its tools or its data directory did not do their part."""


class BugError(PgherdError):
    """pgherd itself is wrong: report it."""
