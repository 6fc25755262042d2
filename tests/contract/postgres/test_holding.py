"""A lease's deadline on a real server: closed at once, or no server."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from pgherd.act import demoting, leading
from pgherd.act.hands import ActFailed
from pgherd.model import action as act
from pgherd.postgres import processes
from pgherd.postgres.datadir import DirKind
from pgherd.postgres.settings import CLOSED_NAMES

pytestmark = pytest.mark.cluster


def test_a_checkpointer_that_is_deaf_costs_the_server(lab: Any, play: Any, hands_of: Any) -> None:
    """Closed names count only once it has read them: a commit would still be acknowledged."""

    async def story() -> None:
        server = await lab.primary("a")
        await server.set_names("")
        await leading.hold_writes(hands_of(server), act.HoldWrites())
        assert (await server.look()).names == CLOSED_NAMES
        assert (await server.state()).kind is DirKind.RUNNING
        await server.set_names("")
        async with asyncio.timeout(10):  # a commit waits until the checkpointer has read it
            await server.acting.rows("SET synchronous_commit = on")
            await server.acting.rows("CREATE TABLE public.seen ()")
        [(pid,)] = await server.acting.rows(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"
        )
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(ActFailed, match="writes could not be held"):
                await leading.hold_writes(hands_of(server), act.HoldWrites())
        finally:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
        assert (await server.state()).kind is DirKind.STOPPED

    play(story())


def test_a_postmaster_that_hangs_is_killed_with_all_it_started(
    lab: Any, play: Any, hands_of: Any
) -> None:
    """It hears neither fast nor immediate: the last step does without it, in bounded time."""

    async def story() -> None:
        server = await lab.primary("a")
        await server.set_names("")
        hands = hands_of(server)
        rested: list[float] = []
        hands.at_rest = lambda: rested.append(asyncio.get_running_loop().time())
        os.kill(server.pid, signal.SIGSTOP)
        began = asyncio.get_running_loop().time()
        assert await demoting.stop_in_steps(hands) == "kill"
        assert processes.of_directory(server.data_dir) == ()
        assert (await server.state()).kind is DirKind.STOPPED
        print(f"at rest after {rested[0] - began:.3f} s")
        assert rested[0] - began < 5.0

    play(story())
