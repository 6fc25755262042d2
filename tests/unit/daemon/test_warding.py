"""What an agent tells its warden, when it wakes, and what it tells people of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pgherd.daemon.warden import Warden
from pgherd.daemon.warding import DEAF_MS, LOOK_MS, Warding
from pgherd.model import action as act
from pgherd.model.demotion import WARDEN_MS
from pgherd.model.ids import CLOSED_NAMES, Instant, Term
from pgherd.model.observation import Server, ServerSeen
from pgherd.postgres import tree
from pgherd.telemetry.boottime import now_ms

TTL_MS = 5000
OPEN = ServerSeen(state=Server.PRIMARY, names="", pid=os.getpid())
CLOSED = msgspec.structs.replace(OPEN, names=CLOSED_NAMES)
OPENS = act.SetNames(term=Term(3), generation=5, names="")


class Pair:
    """An agent's end of the pipe, and the warden's."""

    def __init__(self, place: Path, *, wired: bool = True) -> None:
        self.place = place
        self.end, self.mine = os.pipe()
        os.set_blocking(self.mine, False)
        self.said: list[str] = []
        self.warden = Warden(self.end, str(place / "verdict"), self.said.append)
        self.told: list[tuple[str, str]] = []
        self.woken = 0
        self.wired = wired
        self.warding = self.another_agent()

    def another_agent(self) -> Warding:
        """One that has told nothing yet."""
        return Warding(
            self.mine if self.wired else None,
            data_dir=self.place,
            verdict=self.place / "verdict",
            watchdog=None,
            tell=lambda *what: self.told.append(what),
            wake=self._wake,
        )

    def _wake(self) -> None:
        self.woken += 1

    def before(
        self, server: ServerSeen, planned: act.Action | None = None, *, ends_in: int | None
    ) -> int:
        """One look of the agent; the deadline that it gave."""
        now = now_ms()
        deadline = Instant(now + ends_in) if ends_in is not None else None
        assert self.warding.before(planned, server, deadline=deadline, ttl_ms=TTL_MS, now=now)
        return deadline or 0

    def words(self) -> list[bytes]:
        """What went through the pipe since the last time."""
        try:
            return os.read(self.end, 65536).split(b"\0")[:-1]
        except BlockingIOError:
            return []


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    os.close(made.end)
    os.close(made.mine)


def play(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(story())


def test_the_warden_knows_before_a_server_opens_alone(pair: Pair) -> None:
    """Once for each renewal, once when all is at rest, and nothing else."""

    async def story() -> None:
        pair.before(CLOSED, ends_in=4000)
        assert pair.words() == []
        until = pair.before(CLOSED, OPENS, ends_in=4000)
        started = tree.start_ticks(os.getpid())
        wanted = f"watch {until + WARDEN_MS} {os.getpid()} {started} {pair.place}"
        assert pair.words() == [wanted.encode()]
        for _ in range(3):
            pair.warding.before(
                None, OPEN, deadline=Instant(until), ttl_ms=TTL_MS, now=Instant(until - 3000)
            )
        assert pair.words() == []
        pair.before(OPEN, ends_in=4100)
        assert len(pair.words()) == 1
        pair.before(CLOSED, ends_in=4100)
        pair.before(CLOSED, ends_in=4100)
        assert pair.words() == [b"rest"]
        assert pair.woken == 0

    play(story)


def test_closed_names_end_no_deadline_before_they_count(pair: Pair) -> None:
    """They are written, and the act that proves them still runs: seed 58 of the simulator."""

    async def story() -> None:
        pair.before(OPEN, ends_in=4000)
        assert len(pair.words()) == 1
        pair.warding.doing = act.HoldWrites
        pair.before(CLOSED, ends_in=4000)
        assert pair.words() == []
        pair.warding.doing = lambda: None
        pair.before(CLOSED, ends_in=4000)
        assert pair.words() == [b"rest"]

    play(story)


def test_a_lease_that_is_over_adds_nothing(pair: Pair) -> None:
    """Whoever knows no lease, as with amnesia, leaves the deadline of before in force."""

    async def story() -> None:
        pair.before(OPEN, ends_in=100)
        assert len(pair.words()) == 1
        pair.before(OPEN, ends_in=None)
        pair.before(OPEN, ends_in=-1)
        assert pair.words() == []
        assert pair.warding.watched
        await asyncio.sleep(0.3)
        assert pair.woken == 1

    play(story)


def test_the_next_agent_takes_nothing_back(pair: Pair) -> None:
    """It finds closed names, of which it cannot know whether they count: the deadline stands."""

    async def story() -> None:
        pair.before(OPEN, ends_in=4000)
        pair.words()
        pair.warding = pair.another_agent()
        pair.before(CLOSED, ends_in=None)
        assert pair.words() == []

    play(story)


def test_at_rest_is_told_at_once_and_not_taken_back(pair: Pair) -> None:
    """The act has proven it; what was seen of the server before does not count any more."""

    async def story() -> None:
        pair.before(OPEN, ends_in=50)
        pair.warding.at_rest()
        pair.before(OPEN, ends_in=-1)
        assert [word[:5] for word in pair.words()] == [b"watch", b"rest"]
        await asyncio.sleep(0.2)
        assert pair.woken == 0

    play(story)


def test_what_the_warden_did_is_told_once(pair: Pair) -> None:
    """By whichever agent looks first: into the journal, and for a while into the warnings."""

    async def story() -> None:
        (pair.place / "verdict").write_text("123 456 PostgreSQL in /x was killed: why\n")
        pair.before(CLOSED, ends_in=None)
        assert pair.told == [("warden.killed", "PostgreSQL in /x was killed: why")]
        assert not (pair.place / "verdict").exists()
        [said] = pair.warding.warnings(now=now_ms())
        assert said == "the warden ended a server: PostgreSQL in /x was killed: why"
        pair.before(CLOSED, ends_in=None)
        assert len(pair.told) == 1
        assert pair.warding.warnings(now=Instant(now_ms() + 700_000)) == []

    play(story)


def test_a_warden_that_does_not_run_is_noticed(pair: Pair) -> None:
    """Its supervisor is stopped: what it was told waits in the pipe."""

    async def story() -> None:
        until = pair.before(OPEN, ends_in=4000)
        later = Instant(now_ms() + max(DEAF_MS, LOOK_MS) + 1)
        same = {"deadline": Instant(until), "ttl_ms": TTL_MS}
        pair.warding.before(None, OPEN, now=later, **same)
        [said] = pair.warding.warnings(now=later)
        assert "the warden does not answer" in said
        pair.warden.hear()
        pair.warding.before(None, OPEN, now=Instant(later + LOOK_MS), **same)
        assert pair.warding.warnings(now=later) == []

    play(story)


def test_an_agent_without_a_warden_says_so(tmp_path: Path) -> None:
    """Started by hand, or by a supervisor of an older program; only where it matters."""
    lonely = Pair(tmp_path, wired=False)

    async def story() -> None:
        lonely.before(CLOSED, ends_in=4000)
        assert lonely.warding.warnings(now=now_ms()) == []
        lonely.before(OPEN, ends_in=4000)
        [said] = lonely.warding.warnings(now=now_ms())
        assert "it has no warden" in said
        lonely.warding.at_rest()

    play(story)
    assert lonely.words() == []


def test_a_full_pipe_stops_nobody(pair: Pair) -> None:
    async def story() -> None:
        for number in range(3000):
            pair.before(OPEN, ends_in=4000 + number)
        pair.warding.at_rest()

    play(story)


def test_both_ends_understand_each_other(pair: Pair) -> None:
    """The last word counts, however many wait; one that is only half there waits for the rest."""

    async def story() -> None:
        pair.before(OPEN, ends_in=3000)
        pair.before(OPEN, ends_in=4000)
        pair.warden.hear()
        assert pair.warden.watches
        pause_s = pair.warden.pause_s()
        assert pause_s is not None
        assert 0 < pause_s <= 2.0
        os.write(pair.mine, b"re")
        pair.warden.hear()
        assert pair.warden.watches
        os.write(pair.mine, b"st\0")
        pair.warden.hear()
        assert not pair.warden.watches
        assert pair.warden.pause_s() is None

    play(story)
