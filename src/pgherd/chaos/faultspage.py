"""The page of faults: each row of the catalogue with what covers it, or "not yet".

Pure. Owns the page's text. What covers a row is told to it: tests that carry the row's marker, as
pytest collects them; kinds of chaos that have struck in a recorded run; kinds of the simulator.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from pgherd.chaos.catalogue import GROUPS, ROWS, SIMULATED
from pgherd.chaos.kinds import KINDS

NOT_YET = "not yet"
HEAD = """# Faults

Written by `./dev docs`; do not edit. Each row of the catalogue of faults, and where it happens:

- **test**: a test of that name in which the fault happens; it carries `@pytest.mark.fault(N)`, is
  listed as pytest collects it, and CI counts the marked tests that ran
- **chaos**: a kind of `./dev chaos` on real PostgreSQL, with how often it struck in the runs of
  [the record](soak.md); a kind that never struck there covers nothing
- **simulated**: a kind of fault of `./dev sim herd`, of which CI wants every one to strike

"""


class Marked(msgspec.Struct, frozen=True, order=True):
    """A test that covers a row. place: its file and name, without parameters."""

    row: int
    place: str


def page(marked: Iterable[Marked], struck: Mapping[str, int]) -> str:
    """The whole page."""
    covering = cover(marked, struck)
    really = sum(any(map(is_real, covering[row])) for row in ROWS)
    covered = sum(bool(covering[row]) for row in ROWS)
    parts = [
        HEAD,
        f"{covered} of {len(ROWS)} rows are covered, {really} of them outside of the simulator and "
        "of tests of single rooms (`tests/unit`).\n",
    ]
    for group, rows in GROUPS.items():
        parts.append(f"\n## {group}\n\n| row | fault | covered by |\n|---:|---|---|\n")
        parts += [
            f"| {row} | {title} | {'<br>'.join(covering[row]) or NOT_YET} |\n"
            for row, title in rows.items()
        ]
    parts.append(kinds_text(struck))
    return "".join(parts)


def is_real(text: str) -> bool:
    """Whether what covers a row broke real servers, disks or networks."""
    return not text.startswith(("simulated", "test `tests/unit/"))


def cover(marked: Iterable[Marked], struck: Mapping[str, int]) -> dict[int, list[str]]:
    """Row -> what covers it, tests first."""
    found: dict[int, list[str]] = {row: [] for row in ROWS}
    for one in sorted(set(marked)):
        found[one.row].append(f"test `{one.place}`")
    for kind in KINDS.values():
        for row in kind.rows:
            if struck.get(kind.name):
                found[row].append(f"chaos `{kind.name}` ({struck[kind.name]})")
    for name, rows in SIMULATED.items():
        for row in rows:
            found[row].append(f"simulated `{name}`")
    return found


def kinds_text(struck: Mapping[str, int]) -> str:
    """Every kind of chaos with its row, how it is done and undone."""
    rows = "".join(
        f"| `{kind.name}` | {kind.primitive} | {', '.join(map(str, kind.rows)) or 'beyond'} "
        f"| {kind.target} | {kind.how} | {kind.undone} | {struck.get(kind.name, 0)} |\n"
        for kind in KINDS.values()
    )
    return (
        "\n## Kinds of chaos\n\n"
        "By: K kill, P pause, N network, D disk, M memory and processes, S SQL, F files, "
        "O operator. struck: in recorded runs.\n\n"
        "| kind | by | rows | whom | how | undone | struck |\n|---|---|---|---|---|---|---:|\n"
        f"{rows}"
    )
