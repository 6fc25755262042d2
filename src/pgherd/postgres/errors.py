"""The two ways in which this room fails, named after who has to act."""

from __future__ import annotations


class PostgresError(Exception):
    """PostgreSQL or one of its tools did not do what was asked; the reason is for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class OperatorError(Exception):
    """Something that only a person can put right, with the next command to type."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}\n  next: {hint}")
        self.message = message
        self.hint = hint
