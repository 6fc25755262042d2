"""The herds that are simulated: how many nodes of which kind, with which faults of their own.

Most seeds are three data members; the others are there for what three cannot show. A seed keeps
its shape for ever, or the seeds that are kept in tests/data/sim would tell another story.
"""

from __future__ import annotations

import msgspec

from pgherd.model.facts import MAX_VOTERS, Mode


class Shape(msgspec.Struct, frozen=True):
    """One herd. witnesses: the last ones of `size` · spares: hosts that may join.

    zones: the nodes lie in so many, in turn · kinds: faults that only this shape has, or has more
    often · later_kinds: those that it has in later storms only · mode: in which it begins, None for
    any · nofailover: so many of the last data nodes may not lead · preferred: so many of the first
    come first · fence: nobody is promoted before a fencing command was successful · tended:
    operators ask for work while faults strike · cascading: so many stream each from the one before
    it · delayed: the last one replays late.
    """

    name: str = "three"
    size: int = 3
    witnesses: int = 0
    spares: int = 0
    zones: int = 1
    max_voters: int = MAX_VOTERS
    kinds: tuple[str, ...] = ()
    later_kinds: tuple[str, ...] = ()
    mode: Mode | None = None
    nofailover: int = 0
    preferred: int = 0
    fence: bool = False
    tended: bool = False
    cascading: int = 0
    delayed: int = 0


THREE = Shape()
PAIR = Shape("pair", size=2)
FIVE = Shape("five", size=5)
SEVEN = Shape("seven", size=7)
NINE = Shape("nine", size=9, zones=3, kinds=("voter.lost", "zone.lost", "disk.hung"))
WITNESS = Shape("witness", witnesses=1)
MOVES = Shape(
    "moves",
    size=4,
    spares=4,
    max_voters=3,
    kinds=("voter.lost", "member.joins", "member.leaves"),
    later_kinds=("leader.leaves", "member.joins.failover"),
)
ASYNC = Shape(
    "async",
    kinds=(
        "mode.async",
        "mode.quorum",
        "primary.isolated",
        "primary.node.crashed",
        "primary.node.paused",
    ),
    mode=Mode.ASYNC,
)
ASYNC_PAIR = Shape(
    "async-pair",
    witnesses=1,
    kinds=("primary.lost.ahead", "mode.async", "mode.quorum", "primary.isolated"),
    mode=Mode.ASYNC,
)
LONE = Shape(
    "lone",
    kinds=("lone.holder", "lone.holder", "primary.isolated", "failover", "agent.killed"),
    later_kinds=("mode.async", "mode.quorum"),
    nofailover=1,
    preferred=1,
)
BY_HAND = Shape("by-hand", kinds=("promoted.by.hand", "promoted.by.hand.unseen"))
FENCED = Shape(
    "fenced",
    size=5,
    witnesses=2,
    kinds=("fence.fails", "fence.hangs", "given.up", "primary.isolated", "primary.node.paused"),
    fence=True,
)

TENDED = Shape(
    "tended",
    kinds=("work.rolling", "work.restart", "work.switchover.due", "work.stop"),
    later_kinds=(
        "work.reinit",
        "work.restart.due",
        "work.reload",
        "paused",
        "maintenance",
        "config.up",
        "config.down",
        "config.bad",
        "config.trial",
    ),
    tended=True,
)

CASCADE = Shape("cascade", size=5, cascading=2, delayed=1)
CASCADE_FOUR = Shape("cascade-four", size=4, cascading=1, delayed=1)
CASCADES_FROM = 10**9
"""Seeds from here on are of these two, in turn; nobody else draws them."""

UPGRADED = Shape(
    "upgraded",
    kinds=("work.upgrade", "work.rolling", "work.restart", "work.switchover.due"),
    later_kinds=("work.stop", "work.reinit", "paused", "maintenance"),
    tended=True,
)

COMMON = {0: PAIR, 9: NINE, 4: MOVES, 10: ASYNC, 12: WITNESS}
TENDED_SEEDS = (11, 35)
"""Of 64: no seed that is kept from before is among them."""
UPGRADED_SEEDS = (59,)
"""Likewise."""
RARE = {18: LONE, 21: BY_HAND, 25: SEVEN, 26: ASYNC_PAIR, 29: FENCED}


def shape_of(seed: int) -> Shape:
    """Three nodes mostly; of 32 seeds four have five, and one or two each is of another shape."""
    if seed >= CASCADES_FROM:
        return CASCADE_FOUR if seed % 2 else CASCADE
    if seed % 64 in TENDED_SEEDS:
        return TENDED
    if seed % 64 in UPGRADED_SEEDS:
        return UPGRADED
    if seed % 8 == 7:
        return FIVE
    return RARE.get(seed % 32) or COMMON.get(seed % 16, THREE)
