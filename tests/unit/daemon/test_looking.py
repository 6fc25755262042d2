"""A look at a disk that hangs is waited for briefly, keeps one thread, and lets no other begin."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgherd.daemon.looking import Looking


@pytest.fixture
def disk() -> Iterator[threading.Event]:
    """A disk that answers once it is set."""
    answers = threading.Event()
    yield answers
    answers.set()


def test_what_is_seen_comes_back_and_so_does_a_failure() -> None:
    async def looked() -> None:
        looking = Looking()
        assert await looking.at(lambda: 7, limit_s=60) == 7
        with pytest.raises(FileNotFoundError):
            await looking.at(Path("/nowhere/at/all").stat, limit_s=60)
        assert await looking.at(lambda: 8, limit_s=60) == 8

    asyncio.run(looked())


def test_a_disk_that_hangs_is_not_waited_for(disk: threading.Event) -> None:
    """The next look is refused until the first has come back: threads do not pile up."""

    async def looked() -> None:
        looking, begun = Looking(), []
        with pytest.raises(TimeoutError, match="no answer of a disk"):
            await looking.at(disk.wait, limit_s=0.05)
        for _ in range(3):
            with pytest.raises(TimeoutError, match="has not come back"):
                await looking.at(lambda: begun.append(1), limit_s=60)
        assert not begun
        disk.set()
        for _ in range(1000):
            try:
                await looking.at(lambda: begun.append(1), limit_s=60)
                break
            except TimeoutError:
                await asyncio.sleep(0.01)
        assert begun == [1]

    asyncio.run(looked())


def test_the_program_ends_though_a_disk_hangs(disk: threading.Event) -> None:
    """asyncio.run would wait for a thread of its own pool."""

    async def looked() -> None:
        with pytest.raises(TimeoutError):
            await Looking().at(disk.wait, limit_s=0.05)

    asyncio.run(looked())
    assert not disk.is_set()
