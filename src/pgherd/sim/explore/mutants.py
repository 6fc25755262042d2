"""The planted mistakes: the smallest scope in which each does harm, and who must notice it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import msgspec

from pgherd.sim.explore import plants
from pgherd.sim.explore.scope import Scope
from pgherd.sim.explore.search import Result, explore
from pgherd.sim.plants import lsn_only

replace = msgspec.structs.replace

MUTANT_STATES = 40_000
"""Enough for every one of them, with room."""


class Mutant(msgspec.Struct, frozen=True):
    """One mistake. caught_by: the invariants of which any must notice it, in this scope."""

    sentence: str
    plant: Callable[[ExitStack], None]
    caught_by: tuple[str, ...]
    scope: Scope


def run_mutant(name: str, *, states_max: int) -> Result:
    """Explore the scope of a mistake with the mistake in it."""
    mutant = MUTANTS[name]
    with ExitStack() as stack:
        mutant.plant(stack)
        return explore(name, mutant.scope, states_max=states_max)


def is_caught(name: str, result: Result) -> bool:
    """Whether one of the expected invariants noticed."""
    return result.broken.partition(" ")[0] in MUTANTS[name].caught_by


TWO = Scope("", data=2, witness=True, voters=1)
ALONE = Scope("", data=2, voters=0, k=0)
FOUR = Scope("", data=4, voters=3, k=1, num_sync=2)
SHORT = Scope("", num_sync=2, crashes=1, mortal=(0,), unstreamed=1)
PAIR = Scope("", data=3, voters=1)
LONE = Scope("", barred=1)
SPLIT = Scope("", data=3, reign=2, terms=3)

MUTANTS: dict[str, Mutant] = {
    "no-seal": Mutant("A sealed member goes on receiving.", plants.no_seal, ("I12",), TWO),
    "claims-the-target": Mutant(
        "A candidate says that it is at the target before it has caught up.",
        plants.claims_the_target,
        ("I12", "I7"),
        LONE,
    ),
    "open-gate": Mutant(
        "The names are set at the promotion, not after STABLE.", plants.open_gate, ("I9",), TWO
    ),
    "empty-is-async": Mutant(
        "No voters is taken for asynchronous mode: anybody may lead.",
        plants.empty_is_async,
        ("I7", "I14"),
        ALONE,
    ),
    "kd-not-lowered": Mutant(
        "kd stays when k is lowered.",
        plants.kd_not_lowered,
        ("I10",),
        replace(FOUR, k=2, unstreamed=2, generations=2),
    ),
    "kd-not-carried": Mutant(
        "A larger k of an unfinished term makes the next seal set smaller.",
        partial(plants.elected_with, kd_too=True),
        ("I10",),
        SHORT,
    ),
    "r-without-min": Mutant(
        "R' follows from k' without kd.",
        partial(plants.elected_with, kd_too=False),
        ("I10",),
        SHORT,
    ),
    "below-floor": Mutant(
        "A rewound member counts before it has regained its floor.",
        plants.below_floor,
        ("I14",),
        replace(SPLIT, writes=0),
    ),
    "no-promise-fsync": Mutant(
        "A promise counts before it is durable.",
        plants.no_promise_fsync,
        ("I13",),
        replace(TWO, falls=1, mortal=(1,)),
    ),
    "lsn-only": Mutant("Positions are compared by LSN alone.", lsn_only, ("I7",), SPLIT),
    "emptied-names": Mutant(
        "A gate is closed through empty names.", plants.emptied_names, ("I19", "I10"), TWO
    ),
    "add-swapped": Mutant(
        "A voter is added in PostgreSQL before the ledger.",
        plants.added_last,
        ("I10",),
        replace(PAIR, generations=2),
    ),
    "remove-swapped": Mutant(
        "A voter is removed in the ledger before PostgreSQL.",
        plants.removed_first,
        ("I10",),
        Scope("", unstreamed=1, generations=2),
    ),
    "raise-swapped": Mutant(
        "k is raised in the ledger before PostgreSQL.",
        plants.raised_first,
        ("I10",),
        replace(FOUR, generations=2),
    ),
    "lower-swapped": Mutant(
        "k is lowered in PostgreSQL before the ledger.",
        plants.lowered_last,
        ("I10",),
        replace(FOUR, k=2, unstreamed=2, generations=2),
    ),
    "empty-swapped": Mutant(
        "The names are emptied before the ledger has no voters.",
        plants.empty_first,
        ("I10", "I19"),
        Scope("", data=2, voters=1, unstreamed=1, generations=2),
    ),
    "restore-swapped": Mutant(
        "Synchrony returns in the ledger before PostgreSQL.",
        plants.restored_first,
        ("I10",),
        replace(ALONE, generations=2),
    ),
    "no-barrier": Mutant(
        "A set counts as settled when it is written.",
        plants.no_barrier,
        ("I10",),
        Scope("", unstreamed=1, generations=2),
    ),
    "stale-senders": Mutant(
        "A gate is closed, and walsenders that read older names go on.",
        plants.stale_senders,
        ("I9",),
        Scope(""),
    ),
    "no-probe": Mutant(
        "Names that were empty are taken for closed when they are written.",
        plants.no_probe,
        ("I9", "I10", "I19"),
        replace(ALONE, terms=3),
    ),
    "adopts-before-rewind": Mutant(
        "A member adopts the leader before its own WAL is marked as another history.",
        plants.adopts_before_rewind,
        ("I18", "I7"),
        SPLIT,
    ),
    "acts-behind": Mutant(
        "A restarted agent acts on the ledger as it was long before it died.",
        plants.acts_behind,
        ("I10",),
        Scope("", unstreamed=1, generations=2, agents=1, mortal=(0,)),
    ),
    "keeps-its-name": Mutant(
        "A rebuilt voter keeps its vote.",
        plants.keeps_its_name,
        ("I22", "I10"),
        replace(PAIR, voters=2, wipes=1, mortal=(1,)),
    ),
    "no-rescue": Mutant(
        "A restored ledger is believed as it was saved.",
        plants.no_rescue,
        ("I20", "I7"),
        replace(SPLIT, restores=1),
    ),
    "rescue-trusts-two": Mutant(
        "A restored ledger takes it that two have all that was acknowledged.",
        plants.rescue_trusts_two,
        ("I10",),
        replace(ALONE, restores=1),
    ),
    "taken-as-it-looks": Mutant(
        "A promotion in a reign that a restored ledger does not know is not looked at.",
        plants.taken_as_it_looks,
        ("I18",),
        Scope("", data=2, witness=True, voters=1, writes=0, unknown=True),
    ),
    "unsealed-by-timer": Mutant(
        "A member unseals itself after a while.", plants.unsealed_by_timer, ("I12",), TWO
    ),
}
