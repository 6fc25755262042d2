"""Planted errors of mode async; which invariants must notice each, and in which herd."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

from msgspec.structs import replace

from pgherd.ledger import commands as cmd
from pgherd.plan import bylease
from pgherd.plan.rule import Decision, Situation
from pgherd.sim import acts, run, world
from pgherd.sim.clock import SECOND
from pgherd.sim.commits import Commits
from pgherd.sim.planting import attribute
from pgherd.sim.plants import herd_rule, without_member_rule, without_wardens
from pgherd.sim.run import Result
from pgherd.sim.shapes import ASYNC, ASYNC_PAIR, Shape

Plant = Callable[[ExitStack], None]


def lease_not_awaited(stack: ExitStack) -> None:
    """An election does without the old primary at once."""
    stack.enter_context(attribute(bylease, "lease_is_over", lambda facts: True))


def writes_on(stack: ExitStack) -> None:
    """Who writes alone goes on when its lease runs out, and nobody ends it."""
    without_member_rule(stack, 71)
    without_wardens(stack)


def closed_when_written(stack: ExitStack) -> None:
    """Who cannot prove in time that it is closed tries again, and is not stopped."""
    stack.enter_context(attribute(acts, "hold_or_stop", acts.close_and_probe))
    without_wardens(stack)


def nobody_wards(stack: ExitStack) -> None:
    """Only agents keep deadlines, and one of them is stopped."""
    without_wardens(stack)


def any_lag(stack: ExitStack) -> None:
    """How far a winner is behind is not looked at."""

    def lenient(s: Situation) -> Decision | None:
        policy = replace(s.policy, max_lag_bytes=1 << 60)
        return bylease.choose(replace(s, policy=policy))

    herd_rule(stack, 306, lenient)


def nothing_recorded(stack: ExitStack) -> None:
    """A failover by lease says that nothing was lost."""

    def silent(s: Situation) -> Decision | None:
        decision = bylease.choose(s)
        if decision is None or not isinstance(decision.command, cmd.Elect):
            return decision
        return replace(decision, command=replace(decision.command, lost_bytes=0))

    herd_rule(stack, 306, silent)


def quorum_as_async(stack: ExitStack) -> None:
    """The lease counts as soon as the mode is async, whatever the old primary knows of it."""
    stack.enter_context(attribute(bylease, "wrote_alone", lambda facts: not facts.sync.voters))


def slow_checkpointer(stack: ExitStack) -> None:
    """No error but bad luck: every second process takes seconds to read its configuration."""
    honest = Commits._lag

    def slow(server: Commits) -> int:
        late = server.world.stale_chance and server.rng.random() < 0.5
        return server.rng.randrange(2 * SECOND, 4 * SECOND) if late else honest(server)

    stack.enter_context(attribute(Commits, "_lag", slow))


def lenient_operator(stack: ExitStack) -> None:
    """No error either: much may be lost, as long as it is said."""
    stack.enter_context(attribute(world, "MAX_LAG_BYTES", 1 << 30))


class Plot(NamedTuple):
    """A planted error, what must notice it, and the herd and the luck in which it matters."""

    plant: Plant
    noticed: tuple[str, ...]
    shape: Shape = ASYNC
    luck: Plant = lambda stack: None


CUT_OFF = Shape("cut", size=5, witnesses=2, kinds=("mode.async.cut", "mode.quorum"))
BEHIND = replace(ASYNC_PAIR, kinds=("primary.lost.ahead",))
LONELY = replace(ASYNC, kinds=("primary.isolated",))
STOPPED = replace(ASYNC, kinds=("agent.paused", "agent.killed"))

PLOTS: dict[str, Plot] = {
    "lease-not-awaited": Plot(lease_not_awaited, ("I8", "I7")),
    "writes-on": Plot(writes_on, ("I8", "I16")),
    "closed-when-written": Plot(closed_when_written, ("I8", "I16"), LONELY, slow_checkpointer),
    "nobody-wards": Plot(nobody_wards, ("I8", "I16"), STOPPED),
    "any-lag": Plot(any_lag, ("I7",), BEHIND),
    "nothing-recorded": Plot(nothing_recorded, ("I7",), BEHIND, lenient_operator),
    "quorum-as-async": Plot(quorum_as_async, ("I8", "I7", "I10"), CUT_OFF),
}


def run_plot(name: str, seed: int, *, planted: bool) -> Result:
    """One seed of a plot, with its error or, under the same bad luck, without."""
    plot = PLOTS[name]
    with ExitStack() as stack:
        plot.luck(stack)
        stack.enter_context(attribute(run, "shape_of", lambda seed: plot.shape))
        if planted:
            plot.plant(stack)
        return run.run_seed(seed)
