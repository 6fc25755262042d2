"""`python -m pgherd.sim raft`: run seeds, replay one as a message diagram, or try the mutants."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext

from msgspec.structs import replace

from pgherd.sim import mutantspage, record
from pgherd.sim.noticed import Noticed
from pgherd.sim.raft.diagram import Diagram
from pgherd.sim.raft.faults import EFFECTS, KINDS
from pgherd.sim.raft.mutants import MUTANTS, SEEDS_MAX, Catch, Mutant, catch, planted_in
from pgherd.sim.raft.run import SIZES, Profile, Result, run_seed, run_seeds, shrunk

BATCH = 25
EVERYTHING_FROM = 400
"""From so many seeds on, what never happened is a failure of the simulator."""


def main(words: list[str]) -> int:
    """Run what the command line asks for; 1 when an invariant broke."""
    parser = argparse.ArgumentParser(prog="python -m pgherd.sim raft", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds must count")
    parser.add_argument("--first-seed", type=int, help="default 1; with --record a fresh one")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the seeds")
    parser.add_argument("--seed", type=int, help="replay this one and draw its messages")
    parser.add_argument("--skip", default="", help="with --seed: faults that do not strike, 0,2,5")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="replay with a planted mistake")
    parser.add_argument("--mutants", action="store_true", help="catch all mutants, print a table")
    parser.add_argument("--all-messages", action="store_true", help="draw heartbeats too")
    parser.add_argument("--record", action="store_true", help="write the counts into the docs")
    options = parser.parse_args(words)
    first = options.first_seed or 1
    if options.mutants or (options.mutant and options.seed is None):
        chosen = [options.mutant] if options.mutant else list(MUTANTS)
        seeds = options.seeds if options.seeds != parser.get_default("seeds") else SEEDS_MAX
        return try_mutants(
            chosen, first=first, seeds=seeds, jobs=options.jobs, is_recorded=options.record
        )
    if options.seed is not None:
        skip = tuple(int(number) for number in options.skip.split(",") if number)
        return replay(
            options.seed,
            mutant=MUTANTS.get(options.mutant),
            skip=skip,
            all_kinds=options.all_messages,
        )
    if options.record:
        first = options.first_seed or record.next_seed("raft")
    return many(first=first, count=options.seeds, jobs=options.jobs, is_recorded=options.record)


def replay(seed: int, *, mutant: Mutant | None, skip: tuple[int, ...], all_kinds: bool) -> int:
    """Draw one run."""
    diagram = Diagram(out=print, all_kinds=all_kinds)
    profile = mutant.profile if mutant else Profile()
    with planted_in(mutant) if mutant else nullcontext():
        result = run_seed(seed, replace(profile, skip=skip), watch=diagram.watch)
    print(f"seed {seed}: {f'{result.broken} broken: {result.text}' if result.broken else 'holds'}")
    return 1 if result.broken else 0


# -- many ----------------------------------------------------------------------------------------


def many(*, first: int, count: int, jobs: int, is_recorded: bool = False) -> int:
    """Run seeds until so many have counted; void ones are run and replaced."""
    at = record.commit()
    began = time.perf_counter()
    results: list[Result] = []
    void = failed = 0
    for result in seeds_from(first, count=count, jobs=jobs):
        if result.void:
            void += 1
            continue
        results.append(result)
        if result.broken:
            failed += 1
            print(failure(result), flush=True)
        if len(results) >= count:
            break
    seconds = time.perf_counter() - began
    print_sum(results, void=void, seconds=seconds)
    if is_recorded:
        record.record(record.run_of("raft", results, first=first, commit=at))
    never = missing(results)
    if never:
        print(f"never happened: {' '.join(never)}")
    return 1 if failed or never else 0


def seeds_from(first: int, *, count: int, jobs: int) -> Iterator[Result]:
    """Results of consecutive seeds, in their order, without end."""
    if jobs <= 1:
        while True:
            yield from run_batch(first)
            first += BATCH
    size = count // BATCH + jobs
    with ProcessPoolExecutor(jobs) as pool:
        while True:
            for batch in pool.map(run_batch, range(first, first + size * BATCH, BATCH)):
                yield from batch
            first += size * BATCH
            size = jobs


def run_batch(first: int) -> list[Result]:
    """Some seeds in one go."""
    return list(run_seeds(range(first, first + BATCH)))


def missing(results: list[Result]) -> list[str]:
    """Kinds of faults that never struck, effects that none had, sizes of groups that never were."""
    if len(results) < EVERYTHING_FROM:
        return []
    happened = {name for result in results for name in (*result.faults, *result.effects)}
    sizes = {result.size for result in results}
    never = [name for name in (*KINDS, *EFFECTS) if name not in happened]
    return never + [f"size_{size}" for size in sorted({*SIZES} - sizes)]


def failure(result: Result) -> str:
    """The end of a failing run with as few faults as it needs, and how to see it again."""
    profile, diagram = shrunk(result), Diagram(all_kinds=False)
    again = run_seed(result.seed, profile, watch=diagram.watch)
    lines = list(diagram.lines)
    if again.broken != result.broken:
        lines.append(f"NOT REPRODUCED: {again.broken} {again.text}")
    skip = f" --skip {','.join(map(str, profile.skip))}" if profile.skip else ""
    lines.append(f"seed {result.seed}: {result.broken} broken: {result.text}")
    lines.append(f"faults that it takes: {' '.join(again.faults) or 'none'}")
    lines.append(f"replay: ./dev sim raft --seed {result.seed}{skip}  # at {record.commit()}")
    return "\n".join(lines)


def print_sum(results: list[Result], *, void: int, seconds: float) -> None:
    """The counts of a run."""
    faults: Counter[str] = Counter()
    effects: Counter[str] = Counter()
    for result in results:
        faults.update(result.faults)
        effects.update(result.effects)
    hours = sum(result.simulated_seconds for result in results) / 3600
    print(f"raft_seeds={len(results)} void={void} failed={sum(bool(r.broken) for r in results)}")
    print(f"simulated_hours={hours:.2f} in {seconds:.0f} s, {len(results) / seconds:.2f} seeds/s")
    print(f"raft_elections={sum(r.elections for r in results)}")
    print(f"raft_acks={sum(r.acks for r in results)} raft_reads={sum(r.reads for r in results)}")
    print(f"raft_checks={sum(r.evaluated for r in results)}")
    print(f"raft_faults={sum(faults.values())}")
    for name, number in sorted(faults.items()):
        print(f"  {name:28} {number}")
    print(f"raft_effects={sum(effects.values())}")
    for name, number in sorted(effects.items()):
        print(f"  {name:28} {number}")


# -- mutants -------------------------------------------------------------------------------------


def try_mutants(
    names: list[str], *, first: int, seeds: int, jobs: int, is_recorded: bool = False
) -> int:
    """Catch them and print a table; 1 if one got away or was noticed by the wrong invariant."""
    catches: list[Catch] = []
    with ProcessPoolExecutor(jobs) as pool:
        for name, tried, result in pool.map(
            try_mutant, names, [first] * len(names), [seeds] * len(names)
        ):
            catches.append(Catch(MUTANTS[name], tried, result))
            print(table_line(catches[-1]), flush=True)
    if is_recorded:
        noticed = {one.mutant.name: noticed_by(one.result) for one in catches if one.result}
        mutantspage.record(raft_noticed=noticed)
    caught = sum(one.is_as_expected for one in catches)
    print(f"raft_mutants={caught} of {len(catches)}")
    return 0 if caught == len(catches) else 1


def noticed_by(result: Result) -> Noticed:
    """What the page says of a run that failed."""
    return Noticed(result.broken, result.seed)


def try_mutant(name: str, first: int, seeds: int) -> tuple[str, int, Result | None]:
    """One mutant, in a process of the pool."""
    found = catch(MUTANTS[name], first=first, seeds=seeds)
    return name, found.tried, found.result


def table_line(found: Catch) -> str:
    """Name, mistake, who noticed, after how many seeds."""
    mutant, result = found.mutant, found.result
    noticed = result.broken if result is not None else "nobody"
    wrong = "" if found.is_as_expected else f"  WRONG, expected {'/'.join(mutant.caught_by)}"
    return f"{mutant.name:5} {mutant.mistake:64} {noticed:7} {found.tried:5} seeds{wrong}"
