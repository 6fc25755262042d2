"""A primary cannot write when its WAL stands still under sessions that wait: nothing else."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from pgherd.model.ids import Instant, Lsn
from pgherd.observe.deaths import SHORT_LIFE_MS, Deaths
from pgherd.observe.progress import WriteProgress
from pgherd.observe.recovering import estimate


class Seen(NamedTuple):
    """One look: when, how far WAL is durable and written, who waits for its device."""

    at: int
    flush: int
    insert: int
    waiting: int


def stalled_ms(looks: list[Seen]) -> int:
    progress, found = WriteProgress(), 0
    for look in looks:
        now = Instant(look.at)
        if progress.stands_still(flush=Lsn(look.flush), insert=Lsn(look.insert)):
            found = progress.waits(look.waiting, now=now)
        else:
            progress.moved(Lsn(look.flush), now=now)
            found = 0
    return found


SECONDS = range(0, 10_000, 1000)


@pytest.mark.parametrize(
    ("story", "looks", "longest", "least"),
    [
        ("an idle server", [Seen(at, 50, 50, 0) for at in SECONDS], 0, 0),
        ("reads alone left WAL that nobody waits for", [Seen(t, 50, 90, 0) for t in SECONDS], 0, 0),
        ("commits wait for standbys or locks", [Seen(t, 90, 90, 0) for t in SECONDS], 0, 0),
        ("a bulk load", [Seen(t, 50 + t, 90 + t, 40) for t in SECONDS], 0, 0),
        (
            "a disk whose every flush takes three seconds",
            [Seen(t, 50 + t // 3000, 900, 9) for t in SECONDS],
            3000,
            0,
        ),
        ("a frozen device", [Seen(t, 50, 90, 1) for t in SECONDS], 9000, 9000),
        (
            "a node that stood still itself",
            [Seen(0, 50, 90, 1), Seen(1000, 50, 90, 1), Seen(61_000, 50, 90, 1)],
            3000,
            3000,
        ),
        (
            "a device that thawed",
            [*(Seen(t, 50, 90, 1) for t in SECONDS), Seen(10_000, 90, 95, 1)],
            0,
            0,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_counts_as_a_stall(story: str, looks: list[Seen], longest: int, least: int) -> None:
    assert least <= stalled_ms(looks) <= longest, story


def test_short_lives_in_a_row_are_counted() -> None:
    """The first death counts one; a life that lasted begins the count anew."""
    deaths = Deaths()
    assert [deaths.died(lived_ms=lived) for lived in (SHORT_LIFE_MS, 10, 10)] == [1, 2, 3]
    deaths.lives(lived_ms=SHORT_LIFE_MS - 1)
    assert deaths.in_a_row == 3
    deaths.lives(lived_ms=SHORT_LIFE_MS)
    assert deaths.in_a_row == 0
    assert deaths.died(lived_ms=5) == 1


def test_what_is_left_of_a_recovery() -> None:
    """At the speed that was seen; unknown until it moved, nothing once it is through."""
    known = {"redo": Lsn(100), "end": Lsn(1100)}
    first = (Lsn(300), Instant(5000))
    standing = estimate(**known, first=first, at=Lsn(300), now=Instant(6000))
    assert (standing.total_bytes, standing.left_bytes, standing.left_ms) == (1000, 800, -1)
    moving = estimate(**known, first=first, at=Lsn(500), now=Instant(7000))
    assert (moving.left_bytes, moving.left_ms) == (600, 6000)
    assert estimate(**known, first=first, at=Lsn(1200), now=Instant(9000)).left_bytes == 0
