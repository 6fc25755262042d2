"""Named places between the steps of an act, at which a test makes the agent die, wait or fail.

Nothing is read and nothing is done unless PGHERD_FAILPOINT is set: `NAME=panic`, `NAME=error` or
`NAME=sleep(MS)`, with `@N` behind it for the N-th time that the place is reached only; several with
`;` between them. Or a path: then the file that lies there says the same whenever a place is
reached, and is taken away by the first agent that it strikes: once in a whole herd.

Names: `before.ACT` and `after.ACT` for every act (`before.promote`), and `ACT.STEP` where one says
`await reached(...)` between two of its steps.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import Counter
from pathlib import Path

import msgspec

from pgherd.act.hands import ActFailed, log
from pgherd.model.errors import OperatorError

VARIABLE = "PGHERD_FAILPOINT"
FORM = re.compile(
    r"(?P<name>[a-z_.]+)=(?:(?P<kind>panic|error)|sleep\((?P<ms>\d+)\))(?:@(?P<nth>\d+))?"
)


class Failpoint(msgspec.Struct, frozen=True):
    """What happens at a place. kind: panic, error, sleep · nth: only that time, 0: always."""

    name: str
    kind: str
    ms: int = 0
    nth: int = 0


def parse(text: str) -> dict[str, Failpoint]:
    """Read `NAME=ACTION;...`; OperatorError when it is something else."""
    found = {}
    for part in filter(None, (one.strip() for one in text.split(";"))):
        form = FORM.fullmatch(part)
        if form is None:
            raise OperatorError(
                f"{VARIABLE}: {part!r} is no failpoint",
                "write name=panic, name=sleep(100) or name=error@2, or unset it",
            )
        made = Failpoint(
            name=form["name"],
            kind=form["kind"] or "sleep",
            ms=int(form["ms"] or 0),
            nth=int(form["nth"] or 0),
        )
        found[made.name] = made
    return found


class Failpoints:
    """What was asked for, and how often each place was reached."""

    def __init__(self, text: str) -> None:
        self._file = Path(text) if text.startswith("/") else None
        self._fixed = {} if self._file is not None else parse(text)
        self._reached: Counter[str] = Counter()

    def __bool__(self) -> bool:
        return self._file is not None or bool(self._fixed)

    async def strike(self, name: str) -> None:
        """Do at this place what was asked for it."""
        self._reached[name] += 1
        point = self._taken(name) if self._file is not None else self._fixed.get(name)
        if point is None or point.nth not in (0, self._reached[name]):
            return
        log.warning("failpoint.reached", name=name, kind=point.kind)
        if point.kind == "panic":
            await asyncio.sleep(0.05)  # the line above is written by a thread
            os.kill(os.getpid(), signal.SIGKILL)
        if point.kind == "error":
            raise ActFailed(f"failpoint {name}")
        await asyncio.sleep(point.ms / 1000)

    def _taken(self, name: str) -> Failpoint | None:
        """What the file says of this place, if it is there and nobody else has taken it."""
        assert self._file is not None
        try:
            point = parse(self._file.read_text()).get(name)
            if point is not None:
                self._file.rename(self._file.with_suffix(".taken"))
        except FileNotFoundError:
            return None
        return point


POINTS = Failpoints(os.environ.get(VARIABLE, ""))


async def reached(name: str) -> None:
    """A place between two steps."""
    if POINTS:
        await POINTS.strike(name)


def act_name(kind: type) -> str:
    """The name of an act in the names of places: `DrainAndStop` is `drain_and_stop`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()
