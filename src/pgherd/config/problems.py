"""What is wrong with a configuration: one value per problem, and the error that carries them all.

Owns the form `file:line: key.path: message (what to do)`. Leaves finding problems to `load`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pgherd.model.errors import OperatorError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend. place: `file:line`, or the environment variable it came from."""

    place: str
    key: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        parts = [part for part in (self.place, self.key) if part]
        tail = f" ({self.hint})" if self.hint else ""
        line = ": ".join([*parts, self.message + tail])
        return "".join(one if one.isprintable() else repr(one)[1:-1] for one in line)


class ConfigError(OperatorError):
    """The configuration cannot be used; `problems` has every reason found, in reading order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Wrong(ValueError):
    """Raised inside a validator: what is wrong with one value, and what to write instead."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
