"""`./dev sim herd --mutants`, `--mutant NAME`: catch planted errors, or replay one."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

from pgherd.sim import mutantspage
from pgherd.sim.mutants.reference import read
from pgherd.sim.mutants.search import SEEDS_MAX, Catch, catch, order, run_one
from pgherd.sim.mutants.table import MUTANTS
from pgherd.sim.noticed import Noticed

HEAD = f"{'mutant':26} {'noticed':8} {'seed':>5} {'tried':>5} {'seconds':>7}  replay"


def replay(name: str, seed: int) -> int:
    """Tell one run with the error planted; 1 when nobody notices it, or not who should."""
    mutant = MUTANTS[name]
    result = run_one(mutant, seed, verbose=True)
    without = run_one(mutant, seed, planted=False).broken
    print(f"{name}: {mutant.sentence}")
    print(f"seed {seed}: {f'{result.broken} broken: {result.text}' if result.broken else 'holds'}")
    print(f"without the error {f'{without} is broken' if without else 'every invariant holds'}")
    return 0 if result.broken in mutant.caught_by and not without else 1


def try_mutants(
    names: list[str],
    *,
    first: int = 1,
    seeds: int = SEEDS_MAX,
    jobs: int = 1,
    is_recorded: bool = False,
) -> int:
    """Catch them and print a table; 1 if one got away. The seed that the page knows comes first."""
    known = read(mutantspage.PAGE)
    tries = [tuple(order(first, seed_of(known.get(name)), seeds=seeds)) for name in names]
    print(HEAD, flush=True)
    catches = []
    with ProcessPoolExecutor(jobs) as pool:
        for found in pool.map(try_mutant, names, tries):
            catches.append(found)
            print(table_line(found), flush=True)
    if is_recorded:
        noticed = {
            one.name: Noticed(one.result.broken, one.result.seed) for one in catches if one.result
        }
        mutantspage.record(herd_noticed=noticed)
    caught = sum(one.result is not None for one in catches)
    print(f"herd_mutants={caught} of {len(catches)}")
    return 0 if caught == len(catches) else 1


def seed_of(noticed: Noticed | None) -> int | None:
    return noticed.seed if noticed is not None else None


def try_mutant(name: str, seeds: tuple[int, ...]) -> Catch:
    """One mutant, in a process of the pool."""
    return catch(name, seeds=seeds)


def table_line(found: Catch) -> str:
    """Name, who noticed, at which seed, after how many seeds and seconds, how to see it."""
    tried = f"{found.tried:5} {found.seconds:7.1f}"
    if found.result is None:
        return f"{found.name:26} {'NOBODY':8} {'':5} {tried}  {MUTANTS[found.name].sentence}"
    line = f"{found.name:26} {found.result.broken:8} {found.result.seed:5} {tried}"
    return f"{line}  {found.replay}"
