"""Files are read aside even where no new thread is to be had."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pgherd.daemon.threads import THREADS, have_threads


def test_nothing_has_to_be_started_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def story() -> None:
        have_threads(asyncio.get_running_loop())
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_more)
            together = threading.Barrier(THREADS)
            met = [asyncio.to_thread(together.wait, 10) for _ in range(THREADS)]
            assert sorted(await asyncio.gather(*met)) == list(range(THREADS))

    asyncio.run(story())
