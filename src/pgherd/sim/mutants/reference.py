"""The herd's mutants as a part of docs/reference/mutants.md, and what the page remembers of them.

Owns the form of that part. The page keeps who noticed each, at which seed, from the last
`./dev sim herd --mutants --record`: it is where the next search begins. All else is the table's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pgherd.sim.mutants.kind import Mutant
from pgherd.sim.mutants.search import SEEDS_MAX
from pgherd.sim.mutants.table import PARTS
from pgherd.sim.noticed import Noticed, read_rows

HEAD = f"""## The herd's protocol

Each line takes a rule of the safety protocol away, for the length of a run, in the deciders, the
ledger or the simulated hands. It must be noticed by one of the named invariants within {SEEDS_MAX}
seeds, and the same seed must hold without it. A seed is one storm of 44 simulated seconds, of the
faults that make the rule's window likely; those named `plot.` are several strokes in a row, made
for mutants alone. `./dev sim herd --mutants` tries all of them; CI tries ten or more a day, others
every day. `./dev sim herd --mutant NAME --seed N` shows one. *Noticed* is from the last
`./dev sim herd --mutants --record`.
"""

COLUMNS = "| mutant | mistake | faults | invariants that may | noticed |\n|---|---|---|---|---|\n"


class Alone(NamedTuple):
    """A rule that can be taken away without harm, because another one does the same.

    mutant: which takes all of them away; "" where none does.
    """

    rule: str
    why: str
    mutant: str


ALONE = (
    Alone(
        "only reports that are fresh are counted",
        "what is counted in a report is a durable promise and names its term",
        "old-seals-count",
    ),
    Alone(
        "a seal is given to one elector",
        "an election is a compare-and-set on term and elector in the ledger: a second one of the "
        "same term is refused",
        "old-seals-count",
    ),
    Alone(
        "a rewind needs the leader's checkpoint",
        "`pg_rewind` then sees no need, which is taken for an error and leads to a copy",
        "rewinds-too-early",
    ),
    Alone(
        "nobody rewinds on an equal timeline",
        "WAL behind a promotion counts as that reign's, recorded or not, so its fork is unknown",
        "rewinds-equal-timeline",
    ),
    Alone(
        "a rewind leaves a floor",
        "the marker stays until the server is up, which takes the WAL that its source had; and no "
        "rewind begins before the term is stable",
        "no-floor",
    ),
    Alone(
        "a new copy has a new name",
        "a copy of the present leader has everything; what is dangerous is to count it before",
        "rebuilt-keeps-its-vote",
    ),
    Alone(
        "a primary that died begins a new term",
        "a primary sends only what its disk has, and starts closed: on a disk that keeps what it "
        "flushed its log goes on as it was",
        "restarted-in-place",
    ),
    Alone(
        "who is in V is not removed",
        "its place in V stays behind and can never be sealed: elections wait, nothing is lost",
        "removed-while-counted",
    ),
)

ALONE_HEAD = """
### Rules that another one covers

Taken away alone these change nothing that an invariant could see, as another rule does the same.
The mutant takes both away.

| rule | why it is not missed | mutant |
|---|---|---|
"""


def read(page: Path) -> dict[str, Noticed]:
    """What the page says of each mutant of this part."""
    return read_rows(page, r"`([a-z-]+)`")


def text_of(noticed: Mapping[str, Noticed]) -> str:
    """This part of the page."""
    parts = []
    for title, rows in PARTS.items():
        lines = "".join(_row(name, one, noticed.get(name)) for name, one in rows.items())
        parts.append(f"\n### {title}\n\n{COLUMNS}{lines}")
    alone = "".join(f"| {rule} | {why} | `{mutant}` |\n" for rule, why, mutant in ALONE)
    return f"{HEAD}{''.join(parts)}{ALONE_HEAD}{alone}"


def by_number(invariant: str) -> tuple[str, int]:
    """I9 before I10; one without a number by its name."""
    number = invariant[1:]
    return (invariant[0], int(number)) if number.isdigit() else (invariant, 0)


def _row(name: str, mutant: Mutant, noticed: Noticed | None) -> str:
    faults = ", ".join(f"`{kind}`" for kind in dict.fromkeys(mutant.faults))
    faults = "an operator's story" if mutant.gives_up else faults
    seen = f"{noticed.invariant} at seed {noticed.seed}" if noticed else "not recorded"
    invariants = ", ".join(sorted(mutant.caught_by, key=by_number))
    return f"| `{name}` | {mutant.sentence} | {faults} | {invariants} | {seen} |\n"
