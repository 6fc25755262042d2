"""A table of checks: each a row with a stable id, a severity, what it means, how it is mended.

Owns the forms of rows and verdicts. A row's function looks at one node (or at the herd) and says
`well` or `ill`; None where the question does not arise there. What it needs and was not gathered it
takes with `need`, which makes the check unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from pgherd.model.checkup import (
    Agent,
    Database,
    HerdFacts,
    Machine,
    NodeFacts,
    Place,
    Process,
    Status,
    Told,
)
from pgherd.model.observation import Observation

T = TypeVar("T")


class NotKnownError(Exception):
    """A check has to do without what it needs; the text says why."""


class Verdict(msgspec.Struct, frozen=True):
    """What a check says. fix: in place of the row's."""

    is_ill: bool
    text: str
    fix: str = ""


class Patient(msgspec.Struct, frozen=True):
    """Who is looked at."""

    node: NodeFacts

    @property
    def machine(self) -> Machine:
        """Of this node."""
        return self.part(self.node.machine, "machine")

    @property
    def database(self) -> Database:
        """Of this node."""
        return self.part(self.node.database, "database")

    @property
    def told(self) -> Told:
        """By this node's configuration."""
        return self.part(self.node.told, "told")

    @property
    def agent(self) -> Agent:
        """What only the running daemon knows."""
        return self.part(self.node.agent, "agent")

    @property
    def report(self) -> Observation:
        """What this node tells the others."""
        return self.part(self.node.report, "agent")

    def part(self, value: T | None, name: str) -> T:
        """A part of the facts. Raises NotKnownError."""
        return need(value, self.node.problems.get(name) or f"{name} was not looked at")

    def place(self, name: str) -> Place | None:
        """A directory of this node; None where it has none of that name."""
        places = self.part(self.node.places, "places")
        found = next((one for one in places if one.name == name), None)
        if found is not None and found.problem:
            raise NotKnownError(f"{found.path}: {found.problem}")
        return found

    def process(self, name: str) -> Process | None:
        """A process of this node; None where it does not run."""
        found = self.part(self.node.processes, "processes")
        return next((one for one in found if one.name == name), None)


Look = Callable[[Patient], Verdict | None]
LookAtHerd = Callable[[HerdFacts], Verdict | None]


class Check(msgspec.Struct, frozen=True):
    """A row. means: what waits if nothing is done · slow: left out of a quick check-up.

    needs_server: a question for data members alone. One of look and herd is there.
    """

    id: str
    severity: Status
    means: str
    fix: str
    look: Look | None = None
    herd: LookAtHerd | None = None
    slow: bool = False
    needs_server: bool = False


class Table:
    """Rows in the order in which they are written."""

    def __init__(self) -> None:
        self.rows: list[Check] = []

    def check(
        self,
        name: str,
        severity: Status,
        *,
        means: str,
        fix: str,
        slow: bool = False,
        server: bool = False,
    ) -> Callable[[Look], Look]:
        """A row about one node."""

        def add(look: Look) -> Look:
            row = Check(name, severity, means, fix, look=look, slow=slow, needs_server=server)
            self.rows.append(row)
            return look

        return add

    def herd(
        self, name: str, severity: Status, *, means: str, fix: str
    ) -> Callable[[LookAtHerd], LookAtHerd]:
        """A row about all of them together."""

        def add(look: LookAtHerd) -> LookAtHerd:
            self.rows.append(Check(name, severity, means, fix, herd=look))
            return look

        return add


def need(value: T | None, why: str) -> T:
    """A value that has to be there. Raises NotKnownError."""
    if value is None:
        raise NotKnownError(why)
    return value


def well(text: str) -> Verdict:
    """Nothing is wrong."""
    return Verdict(False, text)


def ill(text: str, fix: str = "") -> Verdict:
    """Something is."""
    return Verdict(True, text, fix)


def judged(is_ill: bool, text: str, fix: str = "") -> Verdict:
    """The same words, whichever it is."""
    return Verdict(is_ill, text, fix)


def size(count: int) -> str:
    """Bytes as people read them."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} TB"


def listed(names: object) -> str:
    """Some names in a sentence."""
    return ", ".join(str(one) for one in names)  # type: ignore[attr-defined] # any iterable
