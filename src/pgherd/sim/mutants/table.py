"""All mutants, by what they are errors of."""

from __future__ import annotations

from pgherd.sim.mutants import (
    consensus,
    elections,
    fences,
    gates,
    leases,
    losses,
    rejoins,
    seals,
    syncsets,
)
from pgherd.sim.mutants.kind import Mutant

PARTS: dict[str, dict[str, Mutant]] = {
    "Promises and seals": seals.ROWS,
    "Elections": elections.ROWS,
    "The gate": gates.ROWS,
    "The sync set": syncsets.ROWS,
    "Coming back": rejoins.ROWS,
    "Leases": leases.ROWS,
    "Fencing": fences.ROWS,
    "Loss by an operator's word": losses.ROWS,
    "Who votes in consensus": consensus.ROWS,
}
MUTANTS: dict[str, Mutant] = {
    name: mutant for rows in PARTS.values() for name, mutant in rows.items()
}
