"""`python -m pgherd.sim herd`: run seeds, replay one, or run a mutant.

`raft` (raft/cli.py) and `explore` (explore/cli.py) have command lines of their own.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import count

from pgherd.sim import record
from pgherd.sim.explore.cli import main as explore
from pgherd.sim.mutants import cli as mutants
from pgherd.sim.mutants.search import SEEDS_MAX
from pgherd.sim.mutants.table import MUTANTS
from pgherd.sim.raft.cli import main as raft
from pgherd.sim.run import Result, run_seed

BATCH = 20
"""Seeds for each process before their results are looked at."""


def main() -> int:
    """Run what the command line asks for; 1 when an invariant broke."""
    if sys.argv[1:2] == ["raft"]:
        return raft(sys.argv[2:])
    if sys.argv[1:2] == ["explore"]:
        return explore(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m pgherd.sim")
    parser.add_argument("what", choices=["herd"])
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds must count")
    parser.add_argument("--first-seed", type=int, help="default 1; with --record a fresh one")
    parser.add_argument("--seed", type=int, help="replay this one and print everything")
    parser.add_argument("--storms", type=int, default=0, help="with --seed: only its first storms")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="run with a planted error")
    parser.add_argument("--mutants", action="store_true", help="catch all mutants, print a table")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the seeds")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at a failure")
    parser.add_argument("--record", action="store_true", help="write the counts into the docs")
    args = parser.parse_args()
    if args.mutant and args.seed is not None:
        return mutants.replay(args.mutant, args.seed)
    if args.mutants or args.mutant:
        names = [args.mutant] if args.mutant else list(MUTANTS)
        seeds = args.seeds if args.seeds != parser.get_default("seeds") else SEEDS_MAX
        return mutants.try_mutants(
            names,
            first=args.first_seed or 1,
            seeds=seeds,
            jobs=args.jobs,
            is_recorded=args.record,
        )
    fresh = record.next_seed("herd") if args.record else 1
    args.first_seed = args.first_seed or fresh
    if args.seed is not None:
        return replay(args.seed, storms=args.storms)
    return many(args)


def replay(seed: int, *, storms: int) -> int:
    result = run_seed(seed, verbose=True, storms=storms)
    print_failure(result)
    print(f"seed {seed}: {result.broken or 'all invariants hold'}")
    return 1 if result.broken else 0


def many(args: argparse.Namespace) -> int:
    at = record.commit()
    began, failed = time.perf_counter(), 0
    results: list[Result] = []
    void = 0
    for result in seeds_from(args.first_seed, jobs=args.jobs):
        if result.void:
            void += 1
            continue
        results.append(result)
        if result.broken:
            failed += 1
            print_failure(result)
            if not args.keep_going:
                break
        if len(results) >= args.seeds:
            break
    print_sum(results, void=void, seconds=time.perf_counter() - began)
    if args.record:
        record.record(record.run_of("herd", results, first=args.first_seed, commit=at))
    return 1 if failed else 0


def seeds_from(first: int, *, jobs: int) -> Iterator[Result]:
    """Results of consecutive seeds, in their order, without end."""
    if jobs <= 1:
        yield from map(run_seed, count(first))
        return
    with ProcessPoolExecutor(jobs) as pool:
        while True:
            seeds = range(first, first + jobs * BATCH)
            yield from pool.map(run_seed, seeds)
            first = seeds.stop


def print_failure(result: Result) -> None:
    if not result.broken:
        return
    print("\n".join(result.journal))
    print(f"seed {result.seed}: {result.broken} broken: {result.text}")
    print(f"replay: python -m pgherd.sim herd --seed {result.seed}", flush=True)


def print_sum(results: list[Result], *, void: int, seconds: float) -> None:
    faults: Counter[str] = Counter()
    for result in results:
        faults.update(result.faults)
    hours = sum(result.simulated_seconds for result in results) / 3600
    print(f"seeds={len(results)} void={void} failed={sum(bool(r.broken) for r in results)}")
    print(f"simulated_hours={hours:.2f} in {seconds:.0f} s, {len(results) / seconds:.2f} seeds/s")
    print(f"sim_elections={sum(r.elections for r in results)}")
    print(f"sim_failovers={sum(r.failovers for r in results)}")
    print(f"sim_votes_moved={sum(r.votes_moved for r in results)}")
    print(f"sim_joined={sum(r.joined for r in results)}")
    print(f"sim_left={sum(r.left for r in results)}")
    print(f"sim_acks={sum(r.acks for r in results)}")
    print(f"sim_checks={sum(r.evaluated for r in results)}")
    print(f"sim_faults={sum(faults.values())}")
    print(f"sim_fault_kinds={len(faults)}")
    for name, often in sorted(faults.items()):
        print(f"  {name:28} {often}")


if __name__ == "__main__":
    sys.exit(main())
