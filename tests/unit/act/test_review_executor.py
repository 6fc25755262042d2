"""Proves that no end of an act leaves the executor stuck, and that a swap is never cut short."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pgherd.act import executor as executing
from pgherd.act.executor import STARTS_MAX, Executor
from pgherd.act.hands import Hands
from pgherd.model import action as act
from pgherd.model.action import Action, Planned
from pgherd.model.errors import PostgresError
from pgherd.model.ids import MemberKey, NodeId, Term
from pgherd.model.promises import Promises
from pgherd.postgres.binaries import Binaries
from pgherd.postgres.memory import ServerMemory
from pgherd.postgres.server import PostgresServer
from pgherd.postgres.settings import ServerSettings

Actuator = Callable[[Hands, Any], Awaitable[None]]
LEADER = MemberKey(NodeId("p"), "p0")
REBUILD = act.Rebuild(term=Term(5), leader=LEADER, host="h", port=1)


def plant(monkeypatch: pytest.MonkeyPatch, kind: type[Action], actuator: Actuator) -> None:
    """Put an actuator of the test in the place of the real one."""
    monkeypatch.setattr(executing, "ACTUATORS", {**executing.ACTUATORS, kind: actuator})


class Bench:
    """An executor with hands that touch nothing, and what it said of its acts."""

    def __init__(self, place: Path) -> None:
        server = PostgresServer(
            data_dir=place / "data",
            port=1,
            socket_dir=Path("/tmp"),
            binaries=Binaries(place, (15, 0), False),
            user=None,
            settings=ServerSettings(passfile=""),
            log_file=place / "log",
        )
        self.done: list[bool] = []
        self.told: list[AnyCommand] = []
        self._finished = asyncio.Event()
        self.hands = Hands(
            me=NodeId("x"),
            server=server,
            memory=ServerMemory(),
            promises=Promises,
            save=self._save,
            history=lambda: (),
            new_incarnation=lambda: "x1",
            progress=lambda percent: None,
            submit=self._submit,
        )
        self.executor = Executor(
            self.hands, look=self._look, finished=lambda _, done: self._ended(done)
        )

    async def _submit(self, command: AnyCommand) -> Outcome:
        self.told.append(command)
        return Done()

    async def _save(self, promises: Promises) -> None:
        raise AssertionError("nothing here is saved")

    def _ended(self, done: bool) -> None:
        self.done.append(done)
        self._finished.set()

    async def _look(self) -> None:
        await asyncio.sleep(0)

    async def do(self, action: Action) -> None:
        """Start an act and let it begin."""
        self._finished.clear()
        self.executor.start(Planned(1, "test", action))
        await asyncio.sleep(0.01)

    async def ended(self) -> None:
        """Wait until the act has ended and was looked after."""
        async with asyncio.timeout(5):
            await self._finished.wait()
        await asyncio.sleep(0)
        assert not self.executor.is_busy
        assert self.executor.current is None


def test_a_bug_in_an_act_is_a_failure_and_not_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told, it pauses before the next attempt, and the executor is free again."""

    async def broken(hands: Hands, a: Action) -> None:
        raise KeyError("bug")

    async def run() -> None:
        plant(monkeypatch, act.StartStandby, broken)
        bench = Bench(tmp_path)
        await bench.do(act.StartStandby())
        await bench.ended()
        assert bench.done == [False]
        assert "bug" in bench.executor.failure
        assert not bench.executor.may_start(act.StartStandby())

    asyncio.run(run())


def test_a_copy_is_cut_short_before_its_swap_and_never_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory and the promise of its name change together, or not at all."""

    async def run() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def copying(hands: Hands, a: Action) -> None:
            hands.uncut = begun.is_set()
            begun.set()
            await go_on.wait()

        plant(monkeypatch, act.Rebuild, copying)
        bench = Bench(tmp_path)
        await bench.do(REBUILD)
        bench.executor.overtaken(Term(6))
        await bench.ended()
        await bench.do(REBUILD)  # this time it has come to its swap
        bench.executor.overtaken(Term(6))
        await asyncio.sleep(0.02)
        assert bench.executor.is_busy
        go_on.set()
        await bench.ended()
        assert bench.done == [False, True]

    asyncio.run(run())


def test_a_checkpoint_makes_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long checkpoint does not hold up the names that writes wait for; nothing else yields."""

    async def run() -> None:
        async def long(hands: Hands, a: Action) -> None:
            await asyncio.sleep(60)

        plant(monkeypatch, act.Checkpoint, long)
        bench = Bench(tmp_path)
        await bench.do(act.Checkpoint(Term(5)))
        bench.executor.make_way(act.Checkpoint(Term(5), "s"))
        await asyncio.sleep(0.01)
        assert bench.executor.is_busy
        bench.executor.make_way(act.SetNames(term=Term(5), generation=1, names=""))
        await bench.ended()
        assert bench.done == [False]

    asyncio.run(run())


def test_a_directory_that_never_starts_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some failures in a row it is a dead end, which only a new copy helps out of."""

    async def fails(hands: Hands, a: Action) -> None:
        raise PostgresError("it ended while it started")

    async def run() -> None:
        plant(monkeypatch, act.StartStandby, fails)
        bench = Bench(tmp_path)
        for attempt in range(STARTS_MAX):
            assert bench.executor.dead_end is False, attempt
            await bench.do(act.StartStandby())
            await bench.ended()
        assert bench.executor.dead_end

    asyncio.run(run())
