"""The soak record: what was simulated, explored and attacked beyond CI, by commit, and its sums.

Owns docs/reference/soak.md: it is read, one line is added, the sums are made anew. Fresh seeds are
those behind the last recorded one, so that no run repeats another. Leaves running to the
command lines.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
from msgspec.structs import astuple

PAGE = Path("docs", "reference", "soak.md")
"""Relative to the repository, where ./dev runs everything."""
LINE = re.compile(r"\d{4}-\d\d-\d\d|[a-z_]+(\.[a-z_]+)+|switchover|failover")
"""How the lines that are kept begin: with a day, or with a kind of fault."""
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
ATTACKED = """
## Chaos on real clusters

Written by `./dev chaos --minutes N --record`: faults on real PostgreSQL, in network namespaces or
on loopback ([the catalogue](faults.md)). acknowledged: writes, changes of registers and probes;
wrong: what any checker said; together: sums, and the most kinds of any run.

| day | commit | ground | PostgreSQL | seed | minutes | faults | kinds | double | failovers \
| acknowledged | probes refused | lost | wrong |
|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
"""
STRUCK = """
## Kinds of chaos

How often each kind struck in those runs ([what they are](faults.md)).

| kind | struck |
|---|---:|
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


class Attacked(msgspec.Struct, frozen=True, kw_only=True):
    """One line of chaos on a real cluster. double: faults that came in pairs count once here."""

    day: str
    commit: str
    ground: str
    postgres: str
    seed: int
    minutes: float
    faults: int
    kinds: int
    double: int
    failovers: int
    acknowledged: int
    refused: int
    lost: int
    wrong: int


class Struck(msgspec.Struct, frozen=True, kw_only=True):
    """How often a kind of chaos struck, in all recorded runs."""

    kind: str
    times: int


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
    _write(page, runs=[*read(page), run])


def record_explored(line: Explored, page: Path = PAGE) -> None:
    """Add a line of the explorer to the page."""
    _write(page, explored=[*read_explored(page), line])


def record_attacked(line: Attacked, struck: Mapping[str, int], page: Path = PAGE) -> None:
    """Add a line of chaos to the page, and how often each kind struck."""
    sums = Counter(read_struck(page)) + Counter(struck)
    _write(page, attacked=[*read_attacked(page), line], struck=sums)


def read(page: Path = PAGE) -> list[Run]:
    """The runs of a page; none when there is no page."""
    return _rows(page, "## Runs", Run)


def read_explored(page: Path = PAGE) -> list[Explored]:
    """The explorer's lines of a page."""
    return _rows(page, "## Explorer", Explored)


def read_attacked(page: Path = PAGE) -> list[Attacked]:
    """The lines of chaos of a page."""
    return _rows(page, "## Chaos on real clusters", Attacked)


def read_struck(page: Path = PAGE) -> dict[str, int]:
    """How often each kind of chaos struck in the runs of a page."""
    return {one.kind: one.times for one in _rows(page, "## Kinds of chaos", Struck)}


def made_anew(page: Path = PAGE) -> str:
    """The page as it would be written now, from its own lines."""
    return text_of(read(page), read_explored(page), read_attacked(page), read_struck(page))


def _write(
    page: Path,
    *,
    runs: Sequence[Run] | None = None,
    explored: Sequence[Explored] | None = None,
    attacked: Sequence[Attacked] | None = None,
    struck: Mapping[str, int] | None = None,
) -> None:
    text = text_of(
        read(page) if runs is None else runs,
        read_explored(page) if explored is None else explored,
        read_attacked(page) if attacked is None else attacked,
        read_struck(page) if struck is None else struck,
    )
    page.write_text(text, encoding="utf-8")


def _rows(page: Path, heading: str, kind: type[Line]) -> list[Line]:
    if not page.exists():
        return []
    part = page.read_text(encoding="utf-8").partition(heading)[2].partition("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines()]
    return [
        msgspec.convert(dict(zip(kind.__struct_fields__, row, strict=True)), kind, strict=False)
        for row in cells
        if len(row) == len(kind.__struct_fields__) and LINE.fullmatch(row[0])
    ]


def text_of(
    runs: Sequence[Run],
    explored: Sequence[Explored] = (),
    attacked: Sequence[Attacked] = (),
    struck: Mapping[str, int] | None = None,
) -> str:
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
    lines = "".join(_attacked_line(one) for one in [*attacked, *_attacked_sum(attacked)])
    kinds = "".join(f"| {kind} | {times} |\n" for kind, times in sorted((struck or {}).items()))
    return f"{HEAD}{SUMS}{sums}{EXPLORED}{visited}{ATTACKED}{lines}{STRUCK}{kinds}{RUNS}{rows}"


def _attacked_line(one: Attacked) -> str:
    cells = [f"{value:g}" if isinstance(value, float) else value for value in astuple(one)]
    return f"| {' | '.join(map(str, cells))} |\n"


def _attacked_sum(attacked: Sequence[Attacked]) -> list[Attacked]:
    """All lines together, as one; kinds: the most of any run."""
    if not attacked:
        return []
    summed = ("faults", "double", "failovers", "acknowledged", "refused", "lost", "wrong")
    sums = {field: sum(getattr(one, field) for one in attacked) for field in summed}
    return [
        Attacked(
            day="together",
            commit="",
            ground="",
            postgres="",
            seed=0,
            minutes=sum(one.minutes for one in attacked),
            kinds=max(one.kinds for one in attacked),
            **sums,
        )
    ]


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
