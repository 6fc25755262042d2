"""The herd in simulation: no invariant breaks on the real code.

PGHERD_SIM_SEEDS says how many seeds must count (default 300), PGHERD_SIM_FIRST where they begin;
figures are appended to the file that PGHERD_COUNTS names, one `name=number` a line.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from pgherd.sim.run import Result, run_seed

SEEDS = int(os.environ.get("PGHERD_SIM_SEEDS", "300"))
FIRST = int(os.environ.get("PGHERD_SIM_FIRST", "1"))
PROCESSES = 2
VOID_PART_MAX = 0.1
KEPT = sorted((Path(__file__).parent.parent / "data" / "sim").glob("*.txt"))


@pytest.mark.timeout(900)
def test_seeds_hold_every_invariant() -> None:
    """Every seed keeps I1 to I20 and comes right again after its faults; enough of them count."""
    room = SEEDS + int(SEEDS * VOID_PART_MAX)
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(run_seed, range(FIRST, FIRST + room), chunksize=8))
    broken = [result for result in results if result.broken]
    assert not broken, failure(broken[0])
    counted = [result for result in results if not result.void]
    assert len(counted) >= SEEDS, f"only {len(counted)} of {room} seeds count"
    write_counts(counted)


def failure(result: Result) -> str:
    """What a person needs to go on."""
    lines = "\n".join(result.journal)
    return (
        f"{lines}\nseed {result.seed} breaks {result.broken}: {result.text}\n"
        f"replay: python -m pgherd.sim herd --seed {result.seed}"
    )


def write_counts(results: Iterable[Result]) -> None:
    sums: Counter[str] = Counter()
    for result in results:
        sums["seeds"] += 1
        sums["sim_failovers"] += result.failovers
        sums["sim_elections"] += result.elections
        sums["sim_faults"] += sum(result.faults.values())
        sums["sim_acks"] += result.acks
        sums["sim_votes_moved"] += result.votes_moved
        sums["sim_joined"] += result.joined
        sums["sim_left"] += result.left
        sums[f"sim_{result.shape}"] += 1
        sums["sim_seconds"] += int(result.simulated_seconds)
    path = os.environ.get("PGHERD_COUNTS")
    if path:
        with open(path, "a", encoding="utf-8") as out:
            out.writelines(f"{name}={count}\n" for name, count in sorted(sums.items()))


def test_same_seed_same_run() -> None:
    """A seed reproduces its run: same events, same acknowledgements, same end."""
    assert run_seed(4) == run_seed(4)


def kept_seeds(path: Path) -> list[int]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [int(line.split()[1]) for line in lines if line.startswith("seed ")]


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_kept_seeds_hold(path: Path) -> None:
    """Seeds that once broke an invariant do so no more; the file tells the story."""
    seeds = kept_seeds(path)
    assert seeds
    for seed in seeds:
        result = run_seed(seed)
        assert not result.broken, failure(result)
