"""`python -m pgherd.sim explore`: explore scopes, replay a word, or catch the planted mistakes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack

from pgherd.sim import record
from pgherd.sim.explore.mutants import MUTANT_STATES, MUTANTS, is_caught, run_mutant
from pgherd.sim.explore.scopes import SCOPES
from pgherd.sim.explore.search import Result, explore, story

STATES = 100_000


def main(words: list[str]) -> int:
    """Run what the command line asks for; 1 when an invariant broke, or a mistake got away."""
    parser = argparse.ArgumentParser(prog="python -m pgherd.sim explore", description=__doc__)
    parser.add_argument("--states", type=int, help="how many states to visit, over all scopes")
    parser.add_argument("--scope", choices=sorted(SCOPES), help="this scope alone")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="with this mistake planted")
    parser.add_argument("--mutants", action="store_true", help="catch them all, print a table")
    parser.add_argument("--replay", metavar="TRACE", help="print the steps of SCOPE:1.2.3")
    parser.add_argument("--record", action="store_true", help="write the counts into the docs")
    options = parser.parse_args(words)
    if options.replay:
        return replay(options.replay)
    if options.mutant or options.mutants:
        names = [options.mutant] if options.mutant else list(MUTANTS)
        return catch(names, states=options.states or MUTANT_STATES, tell=bool(options.mutant))
    names = [options.scope] if options.scope else list(SCOPES)
    return run_scopes(names, options.states or STATES, is_recorded=options.record)


# -- scopes --------------------------------------------------------------------------------------


def run_scopes(names: list[str], states: int, *, is_recorded: bool = False) -> int:
    """Explore scopes, each with its share of the states; what one leaves over the next ones get."""
    at = record.commit()
    results: list[Result] = []
    for result in explored(names, states):
        print(line_of(result), flush=True)
        results.append(result)
        if result.broken:
            print(failure(result, result.scope))
            break
    seconds = sum(result.seconds for result in results)
    visited = sum(result.states for result in results)
    print(
        f"explore_states={visited} in {seconds:.0f} s, {visited / max(seconds, 1e-3):.0f} states/s"
    )
    print(f"explore_scopes={len(results)}")
    if is_recorded:
        record.record_explored(line_for_record(results, at))
    return 1 if any(result.broken for result in results) else 0


def line_for_record(results: list[Result], commit: str) -> record.Explored:
    """What the page says of a run."""
    return record.Explored(
        day=record.today(),
        commit=commit,
        scopes=len(results),
        exhausted=sum(result.exhausted for result in results),
        states=sum(result.states for result in results),
        failures=sum(bool(result.broken) for result in results),
    )


def explored(names: list[str], states: int) -> Iterator[Result]:
    """Results of scopes in turn."""
    left, shares = states, sum(SCOPES[name].share for name in names)
    for name in names:
        mine = left * SCOPES[name].share // shares
        result = explore(name, SCOPES[name], states_max=max(1, mine))
        left, shares = left - result.states, shares - SCOPES[name].share
        yield result


def line_of(result: Result) -> str:
    """One scope's figures."""
    ended = "all of them" if result.exhausted else "limit reached"
    broken = f"  {result.broken}" if result.broken else ""
    return (
        f"{result.scope:12} {result.states:8} states, depth {result.depth:3}, {ended:13} "
        f"{result.seconds:5.1f} s{broken}"
    )


def failure(result: Result, word: str) -> str:
    """The shortest way to a violation, and how to see it again."""
    lines = [*told(word, result.path), f"{result.scope}: {result.broken}"]
    return "\n".join([*lines, f"replay: ./dev sim explore --replay {word_of(word, result.path)}"])


def word_of(scope: str, path: tuple[int, ...]) -> str:
    """A path as a word that the shell takes as it is."""
    return f"{scope}:{'.'.join(map(str, path))}"


# -- replays and mistakes ------------------------------------------------------------------------


def told(word: str, path: tuple[int, ...]) -> list[str]:
    """The story of a path in a scope, or in a mistake's scope with the mistake in it."""
    with ExitStack() as stack:
        if word in MUTANTS:
            MUTANTS[word].plant(stack)
            return list(story(MUTANTS[word].scope, path))
        return list(story(SCOPES[word], path))


def replay(trace: str) -> int:
    """Print a path; 1 when it breaks something."""
    name, _, places = trace.partition(":")
    if name not in SCOPES and name not in MUTANTS:
        print(f"{name} is no scope and no mistake; ./dev sim explore --help names them")
        return 2
    if not all(place.isdigit() for place in places.split(".")):
        print(f"{places} is no path: write it as it was printed, {name}:1.2.3")
        return 2
    lines = told(name, tuple(map(int, places.split("."))))
    print("\n".join(lines))
    return 1 if any("BROKEN" in line for line in lines) else 0


def catch(names: list[str], *, states: int, tell: bool) -> int:
    """Explore with each mistake; 1 if one got away or was noticed by the wrong invariant."""
    caught = 0
    for name in names:
        result = run_mutant(name, states_max=states)
        caught += is_caught(name, result)
        if tell and result.broken:
            print(failure(result, name))
        noticed = result.broken.partition(" ")[0] or "nobody"
        wrong = "" if is_caught(name, result) else "  WRONG"
        print(
            f"{name:18} {MUTANTS[name].sentence:66} {noticed:7} "
            f"{result.states:7} states, {result.depth:2} steps{wrong}",
            flush=True,
        )
    print(f"explore_mutants={caught} of {len(names)}")
    return 0 if caught == len(names) else 1
