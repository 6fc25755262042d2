"""The mutants as a part of a page: each mistake, the scenario and the invariant that notice it.

Owns the form of that part of docs/reference/mutants.md (`sim.mutantspage`). The page keeps
who noticed, and after how many seeds, from the last `./dev sim raft --mutants --record`; all else
comes from the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pgherd.sim.noticed import Noticed, read_rows
from pgherd.sim.raft.mutants import MUTANTS, NOT_EXPRESSED, SEEDS_MAX, Mutant

HEAD = f"""## The consensus core

Each line is a mistake that other implementations of Raft made, planted into this one for the length
of a run. It must be noticed twice: by a told scenario (`tests/data/`), whose text then goes
otherwise, and by an invariant of the simulator within {SEEDS_MAX:,} seeds. CI plants all of them,
every time. `./dev sim raft --mutant M6 --seed 5` draws one. *Noticed* is from the last
`./dev sim raft --mutants --record`.

| mutant | mistake | planted in | scenario | invariants that may | noticed |
|---|---|---|---|---|---|
"""
LEFT_OUT = """
Two mistakes have no switch:

| mutant | mistake | why not | what stands for it |
|---|---|---|---|
"""


def read(page: Path) -> dict[str, Noticed]:
    """What the page says of each mutant of this part."""
    return read_rows(page, r"(M\d+\w?)")


def text_of(noticed: Mapping[str, Noticed]) -> str:
    """This part of the page."""
    rows = "".join(_row(mutant, noticed.get(mutant.name)) for mutant in MUTANTS.values())
    rest = "".join(f"| {' | '.join(one)} |\n" for one in NOT_EXPRESSED)
    return f"{HEAD}{rows}{LEFT_OUT}{rest}"


def _row(mutant: Mutant, noticed: Noticed | None) -> str:
    places = ", ".join(f"`{_name(where)}.{name}`" for where, name, _ in mutant.patches)
    seen = f"{noticed.invariant} at seed {noticed.seed}" if noticed else "not recorded"
    scenario = f"`{mutant.scenario}.txt`"
    invariants = ", ".join(mutant.caught_by)
    return f"| {mutant.name} | {mutant.mistake} | {places} | {scenario} | {invariants} | {seen} |\n"


def _name(where: object) -> str:
    """A module or a class, by its last name."""
    return str(getattr(where, "__name__", "")).rsplit(".", 1)[-1]
