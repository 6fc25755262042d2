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
from pgherd.ledger.commands import AnyCommand, Done, Fenced, Outcome
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
        async with asyncio.timeout(30):
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


def fencing(program: Path, *, required: bool, deadline_ms: int = 20_000) -> act.Fence:
    return act.Fence(
        term=Term(5),
        target=LEADER,
        address="10.0.0.9",
        cluster="main",
        command=(str(program), "off"),
        deadline_ms=deadline_ms,
        required=required,
    )


def script(place: Path, text: str) -> Path:
    """An executable of the operator."""
    file = place / "fence"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


def test_a_fencing_command_is_told_whom_and_runs_once(tmp_path: Path) -> None:
    """Arguments and environment say the same; after a success it is only told to the ledger."""
    program = script(
        tmp_path,
        f'echo "$@ $PGHERD_FENCE_NODE $PGHERD_FENCE_ADDRESS $PGHERD_FENCE_TERM '
        f'$PGHERD_FENCE_CLUSTER" >> {tmp_path}/ran; echo power is off',
    )

    async def story() -> Bench:
        bench = Bench(tmp_path)
        for _ in range(2):
            await bench.do(fencing(program, required=True))
            await bench.ended()
        return bench

    bench = asyncio.run(story())
    assert (tmp_path / "ran").read_text() == "off p 10.0.0.9 5 main p 10.0.0.9 5 main\n"
    assert bench.done == [True, True]
    [first, _] = bench.told
    assert isinstance(first, Fenced)
    assert (first.done, first.go_on, first.target) == (True, False, LEADER)
    assert "power is off" in first.text


@pytest.mark.parametrize(
    ("text", "why"),
    [("echo no power switch; exit 3", "exit code 3: no power switch"), ("sleep 60", "within 1 s")],
)
@pytest.mark.parametrize("required", [True, False])
def test_a_fencing_command_that_fails_stops_only_what_requires_it(
    tmp_path: Path, text: str, why: str, required: bool
) -> None:
    """The ledger hears why; a required one fails the act, which is tried again later."""
    program = script(tmp_path, text)

    async def story() -> Bench:
        bench = Bench(tmp_path)
        await bench.do(fencing(program, required=required, deadline_ms=1000))
        await bench.ended()
        return bench

    bench = asyncio.run(story())
    [told] = bench.told
    assert isinstance(told, Fenced)
    assert (told.done, told.go_on) == (False, not required)
    assert why in told.text
    assert bench.done == [not required]
    assert (why in bench.executor.failure) == required


def test_a_fencing_command_that_is_not_there_has_failed(tmp_path: Path) -> None:
    """The reason names the program."""

    async def story() -> Bench:
        bench = Bench(tmp_path)
        await bench.do(fencing(tmp_path / "none", required=True))
        await bench.ended()
        return bench

    bench = asyncio.run(story())
    assert f"cannot run {tmp_path}/none" in bench.executor.failure
    assert isinstance(bench.told[0], Fenced)
