"""Running mutants: one storm each, and the search for a seed whose storm shows the error.

A seed shows an error only if one of the expected invariants breaks with it and none without it:
else the storm, not the error, would be what was noticed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import date
from random import Random

import msgspec

from pgherd.model.facts import Mode
from pgherd.sim import giving
from pgherd.sim.clock import SECOND
from pgherd.sim.faults import KINDS, MOVING, Chaos
from pgherd.sim.mutants.kind import Mutant
from pgherd.sim.mutants.plots import PLOTS
from pgherd.sim.mutants.table import MUTANTS
from pgherd.sim.run import Result, begin, judge, recover
from pgherd.sim.world import World

SEEDS_MAX = 120
STORM = 44 * SECOND
ALL_KINDS = KINDS | MOVING | PLOTS


class Catch(msgspec.Struct, frozen=True):
    """How a mutant was caught. tried: so many seeds; result: None when it was not."""

    name: str
    tried: int
    seconds: float
    result: Result | None = None

    @property
    def replay(self) -> str:
        """The command that shows it again."""
        seed = self.result.seed if self.result is not None else 1
        return f"./dev sim herd --mutant {self.name} --seed {seed}"


def run_one(mutant: Mutant, seed: int, *, planted: bool = True, verbose: bool = False) -> Result:
    """One seed under the mutant's own faults, with or without the error."""
    mode = mutant.shape.mode or Mode.QUORUM
    policy = giving.policy() if mutant.gives_up else None
    world = World(seed, shape=mutant.shape, policy=policy, mode=mode)
    world.stale_chance, world.verbose = mutant.stale, verbose
    chaos = Chaos(world, Random(seed))
    chaos.kinds = {kind: ALL_KINDS[kind] for kind in mutant.faults}

    def story() -> None:
        if mutant.gives_up:
            giving.story(world, chaos.rng)
            return
        begin(world)
        chaos.schedule(first=0, last=STORM - 2 * SECOND, count=mutant.count)
        world.clock.run_until(world.clock.now + STORM)
        chaos.end()
        recover(world)

    with ExitStack() as stack:
        if planted:
            mutant.install(stack)
        return judge(world, story)


def catch(name: str, *, seeds: Iterable[int], verbose: bool = False) -> Catch:
    """Run seeds until an expected invariant notices the error. The bound is the seeds given."""
    mutant, began, tried = MUTANTS[name], time.perf_counter(), 0
    for seed in seeds:
        tried += 1
        result = run_one(mutant, seed, verbose=verbose)
        if result.broken in mutant.caught_by and not run_one(mutant, seed, planted=False).broken:
            return Catch(name, tried, time.perf_counter() - began, result)
    return Catch(name, tried, time.perf_counter() - began)


def order(first: int, known: int | None, *, seeds: int = SEEDS_MAX) -> Iterable[int]:
    """Seeds to try: the one that showed it last, if it is known, then all from the first on."""
    if known is not None:
        yield known
    yield from (seed for seed in range(first, first + seeds) if seed != known)


def of_the_day(day: date, *, least: int) -> list[str]:
    """All mutants, in the order of a day: within a few days each is among the first ones."""
    names = sorted(MUTANTS)
    Random(0).shuffle(names)  # what is alike should not come on the same day
    first = day.toordinal() * least % len(names)
    return names[first:] + names[:first]
