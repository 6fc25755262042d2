"""All mutants, by what they are errors of."""

from __future__ import annotations

from pgherd.sim.mutants import (
    byhand,
    consensus,
    elections,
    feeds,
    forwards,
    gates,
    leases,
    losses,
    overrides,
    rejoins,
    seals,
    syncsets,
    tended,
)
from pgherd.sim.mutants.kind import Mutant

PARTS: dict[str, dict[str, Mutant]] = {
    "Promises and seals": seals.ROWS,
    "Elections": elections.ROWS,
    "Catching up in an election": forwards.ROWS,
    "Cascading replicas": feeds.ROWS,
    "The gate": gates.ROWS,
    "The sync set": syncsets.ROWS,
    "Coming back": rejoins.ROWS,
    "Servers promoted by hand": byhand.ROWS,
    "Fences and overrides": overrides.ROWS,
    "Leases": leases.ROWS,
    "Loss by an operator's word": losses.ROWS,
    "Who votes in consensus": consensus.ROWS,
    "What operators ask for": tended.ROWS,
}
MUTANTS: dict[str, Mutant] = {
    name: mutant for rows in PARTS.values() for name, mutant in rows.items()
}
