"""The soak record: what was simulated and explored beyond CI, by commit, and the sums of seeds.

Owns docs/reference/soak.md: it is read, one line is added, the sums are made anew. Fresh seeds are
those behind the last recorded one, so that no run repeats another. Leaves running to the two
command lines.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

PAGE = Path("docs", "reference", "soak.md")
"""Relative to the repository, where ./dev runs everything."""
FRESH_FROM = 1_000_001
"""Seeds below belong to CI and to people."""
SIMULATORS = ("raft", "herd")

HEAD = """# Soak record

Written by `./dev sim raft --seeds N --record` and `./dev sim herd --seeds N --record`; do not edit.

These seeds are beyond those of every change in CI (the same for each change), and no two runs share
one. A seed belongs to its commit: `./dev sim raft --seed N` there runs it again. A `+` after the
commit: with changes that were not committed. Failures are seeds that broke an invariant; each is
kept as a scenario or a test, and mended.

A herd seed lives for 300 simulated seconds or a little more: a birth, storms with a judgement after
each, a calm, and the clean loss of its primary (`docs/adr/0027-a-herd-lives-long.md`). Those of the
first runs, with 63 s each, had one storm.
"""
SUMS = """
## Together

| simulator | runs | seeds | simulated hours | faults | elections | writes | failures |
|---|---:|---:|---:|---:|---:|---:|---:|
"""
EXPLORED = """
## Explorer

Written by `./dev sim explore --states N --record`: states of the safety protocol's small scopes,
visited without chance ([the explorer](../design/explorer.md)). exhausted: scopes without a state
left to visit.

| day | commit | scopes | exhausted | states | failures |
|---|---|---:|---:|---:|---:|
"""
RUNS = """
## Runs

| day | commit | simulator | first | last | seeds | simulated hours | faults | elections | writes \
| failures |
|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|
"""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One line. seeds: those that counted, of `first` to `last`; writes: acknowledged ones."""

    day: str
    commit: str
    simulator: str
    first: int
    last: int
    seeds: int
    hours: float
    faults: int
    elections: int
    writes: int
    failures: int


class Explored(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the explorer."""

    day: str
    commit: str
    scopes: int
    exhausted: int
    states: int
    failures: int


Line = TypeVar("Line", bound=msgspec.Struct)


class Result(Protocol):
    """What both simulators count of one seed."""

    @property
    def seed(self) -> int: ...
    @property
    def simulated_seconds(self) -> float: ...
    @property
    def faults(self) -> dict[str, int]: ...
    @property
    def elections(self) -> int: ...
    @property
    def acks(self) -> int: ...
    @property
    def broken(self) -> str: ...


def run_of(simulator: str, results: Sequence[Result], *, first: int, commit: str) -> Run:
    """The line of some results that count, as of today."""
    return Run(
        day=today(),
        commit=commit,
        simulator=simulator,
        first=first,
        last=results[-1].seed,
        seeds=len(results),
        hours=round(sum(result.simulated_seconds for result in results) / 3600, 2),
        faults=sum(sum(result.faults.values()) for result in results),
        elections=sum(result.elections for result in results),
        writes=sum(result.acks for result in results),
        failures=sum(bool(result.broken) for result in results),
    )


def today() -> str:
    """The day of a run."""
    return time.strftime("%Y-%m-%d", time.gmtime())


def next_seed(simulator: str, page: Path = PAGE) -> int:
    """The first seed that no recorded run has used."""
    used = [run.last for run in read(page) if run.simulator == simulator]
    return max([FRESH_FROM - 1, *used]) + 1


def record(run: Run, page: Path = PAGE) -> None:
    """Add a run to the page."""
    page.write_text(text_of([*read(page), run], read_explored(page)), encoding="utf-8")


def record_explored(line: Explored, page: Path = PAGE) -> None:
    """Add a line of the explorer to the page."""
    page.write_text(text_of(read(page), [*read_explored(page), line]), encoding="utf-8")


def read(page: Path = PAGE) -> list[Run]:
    """The runs of a page; none when there is no page."""
    return _rows(page, "## Runs", Run)


def read_explored(page: Path = PAGE) -> list[Explored]:
    """The explorer's lines of a page."""
    return _rows(page, "## Explorer", Explored)


def _rows(page: Path, heading: str, kind: type[Line]) -> list[Line]:
    if not page.exists():
        return []
    part = page.read_text(encoding="utf-8").partition(heading)[2].partition("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines()]
    return [
        msgspec.convert(dict(zip(kind.__struct_fields__, row, strict=True)), kind, strict=False)
        for row in cells
        if re.fullmatch(r"\d{4}-\d\d-\d\d", row[0])
    ]


def text_of(runs: Sequence[Run], explored: Sequence[Explored] = ()) -> str:
    """The page."""
    sums = "".join(
        _sum_line(name, [run for run in runs if run.simulator == name]) for name in SIMULATORS
    )
    rows = "".join(
        f"| {run.day} | {run.commit} | {run.simulator} | {run.first} | {run.last} | {run.seeds} "
        f"| {run.hours:.2f} | {run.faults} | {run.elections} | {run.writes} | {run.failures} |\n"
        for run in runs
    )
    visited = "".join(
        f"| {one.day} | {one.commit} | {one.scopes} | {one.exhausted} | {one.states} "
        f"| {one.failures} |\n"
        for one in explored
    )
    return f"{HEAD}{SUMS}{sums}{EXPLORED}{visited}{RUNS}{rows}"


def _sum_line(name: str, runs: Sequence[Run]) -> str:
    numbers = [len(runs), sum(run.seeds for run in runs)]
    rest = [
        sum(getattr(run, field) for run in runs)
        for field in ("faults", "elections", "writes", "failures")
    ]
    hours = f"{sum(run.hours for run in runs):.2f}"
    return f"| {' | '.join(map(str, [name, *numbers, hours, *rest]))} |\n"


def commit() -> str:
    """The commit that seeds belong to; with a + when the source differs from it."""
    try:
        name = _git("rev-parse", "--short", "HEAD")
        return name + ("+" if _git("status", "--porcelain", "--", "src") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()
