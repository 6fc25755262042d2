"""`python -m pgherd.sim herd`: run seeds, replay one, or run a mutant.

`raft` (raft/cli.py) and `explore` (explore/cli.py) have command lines of their own.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from pgherd.sim import record
from pgherd.sim.explore.cli import main as explore
from pgherd.sim.mutants import MUTANTS, run_mutant
from pgherd.sim.raft.cli import main as raft
from pgherd.sim.run import Result, run_seed


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
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="run with a planted error")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at a failure")
    parser.add_argument("--record", action="store_true", help="write the counts into the docs")
    args = parser.parse_args()
    fresh = record.next_seed("herd") if args.record else 1
    args.first_seed = args.first_seed or fresh
    if args.mutant:
        return mutant(args)
    if args.seed is not None:
        return replay(args.seed)
    return many(args)


def replay(seed: int) -> int:
    result = run_seed(seed, verbose=True)
    print_failure(result, "")
    print(f"seed {seed}: {result.broken or 'all invariants hold'}")
    return 1 if result.broken else 0


def mutant(args: argparse.Namespace) -> int:
    first, seeds = args.first_seed, args.seeds
    if args.seed is not None:
        first, seeds = args.seed, 1
    caught = run_mutant(args.mutant, first=first, seeds=seeds, verbose=args.seed is not None)
    if caught is None:
        print(f"mutant {args.mutant}: not caught within {seeds} seeds")
        return 1
    print_failure(caught, f" --mutant {args.mutant}")
    return 0


def many(args: argparse.Namespace) -> int:
    at = record.commit()
    began, seed, failed = time.perf_counter(), args.first_seed, 0
    results: list[Result] = []
    void = 0
    while len(results) < args.seeds:
        result = run_seed(seed)
        seed += 1
        if result.void:
            void += 1
            continue
        results.append(result)
        if result.broken:
            failed += 1
            print_failure(result, "")
            if not args.keep_going:
                break
    print_sum(results, void=void, seconds=time.perf_counter() - began)
    if args.record:
        record.record(record.run_of("herd", results, first=args.first_seed, commit=at))
    return 1 if failed else 0


def print_failure(result: Result, more: str) -> None:
    if not result.broken:
        return
    print("\n".join(result.journal))
    print(f"seed {result.seed}: {result.broken} broken: {result.text}")
    print(f"replay: python -m pgherd.sim herd --seed {result.seed}{more}")


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
    for name, count in sorted(faults.items()):
        print(f"  {name:28} {count}")


if __name__ == "__main__":
    sys.exit(main())
