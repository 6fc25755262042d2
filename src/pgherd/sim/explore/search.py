"""The search: breadth first, until there is no new state; and a path told again.

A state is checked when it is first reached, a step when it is first taken. Breadth first makes the
first violation one of the shortest.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import NamedTuple

from pgherd.sim.explore.engine import Explorer
from pgherd.sim.explore.scope import Scope
from pgherd.sim.explore.values import State


class Result(NamedTuple):
    """What a search found. path: the places of the steps that lead to the violation."""

    scope: str
    states: int
    depth: int
    exhausted: bool
    seconds: float
    broken: str = ""
    path: tuple[int, ...] = ()


def explore(name: str, scope: Scope, *, states_max: int) -> Result:
    """Visit states until all are known, one breaks an invariant, or there are enough."""
    began = perf_counter()
    explorer = Explorer(scope)
    first = explorer.first()
    came: dict[State, int] = {first: 0}
    parents, places = [0], [0]
    layer, depth = [first], 0

    def result(*, exhausted: bool, broken: str = "", path: tuple[int, ...] = ()) -> Result:
        seconds = perf_counter() - began
        return Result(name, len(came), depth, exhausted, seconds, broken, path)

    def path_to(number: int, last: int) -> tuple[int, ...]:
        back = [last]
        while number:
            back.append(places[number])
            number = parents[number]
        return tuple(reversed(back))

    while layer:
        depth += 1
        fresh: list[State] = []
        for state in layer:
            number = came[state]
            for place, step in enumerate(explorer.steps(state)):
                broken = step.broken
                if step.state not in came:
                    broken = broken or explorer.broken(step.state)
                    came[step.state] = len(came)
                    parents.append(number)
                    places.append(place)
                    fresh.append(step.state)
                if broken:
                    return result(exhausted=False, broken=broken, path=path_to(number, place))
            if len(came) >= states_max:
                return result(exhausted=False)
        layer = fresh
    return result(exhausted=True)


def story(scope: Scope, path: tuple[int, ...]) -> Iterator[str]:
    """The steps of a path as lines, and what they break."""
    explorer = Explorer(scope)
    state = explorer.first()
    for number, place in enumerate(path, 1):
        steps = list(explorer.steps(state))
        if place >= len(steps):
            yield f"{number:3} there is no way {place} from here: this word is of another program"
            return
        step = steps[place]
        yield f"{number:3} {step.label}"
        state = step.state
        broken = step.broken or explorer.broken(state)
        if broken:
            yield f"    BROKEN {broken}"
