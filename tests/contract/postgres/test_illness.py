"""The watch over a real server that is ill: which illness it is, and that it is no other.

Exhausted, without processes, hung and slow to come up: of these only a server that hangs is dead.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pgherd.daemon.threads import have_threads
from pgherd.model.errors import PostgresError
from pgherd.model.ids import Instant
from pgherd.model.observation import Server
from pgherd.model.promises import Promises
from pgherd.observe import server as watching
from pgherd.observe.server import ServerWatch
from pgherd.postgres import processes, recovery
from pgherd.postgres.memory import ServerMemory
from pgherd.postgres.session import Session

pytestmark = pytest.mark.cluster


class Watched:
    """A watch that runs beside a story, and what it told the journal."""

    def __init__(self, server) -> None:
        self.told: list[str] = []
        self.watch = ServerWatch(
            server,
            memory=ServerMemory(),
            promises=Promises,
            history=lambda: (),
            is_busy=lambda: False,
            changed=lambda: None,
            probe_interval_ms=200,
            probe_timeout_ms=1000,
            probe_failures=2,
            write_stall_ms=2000,
            ballast_bytes=0,
            tell=lambda kind, text: self.told.append(kind),
            find=lambda: server.binaries,
        )

    async def __aenter__(self):
        await self.watch.look()
        self._running = asyncio.create_task(self.watch.run())
        return self

    async def __aexit__(self, *error):
        self._running.cancel()
        with suppress(asyncio.CancelledError):
            await self._running

    async def sees(self, state: Server, problem: str = "", *, within_s: float = 10.0) -> float:
        """Wait until this is seen; how long it took."""
        began = time.monotonic()
        while not (self.watch.seen.state is state and problem in self.watch.seen.problem):
            assert time.monotonic() - began < within_s, self.watch.seen
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    async def is_well(self) -> None:
        while self.watch.seen.problem:  # noqa: ASYNC110 -- a state, no event
            await asyncio.sleep(0.02)

    async def stays(self, state: Server, *, for_s: float) -> None:
        until = time.monotonic() + for_s
        while time.monotonic() < until:
            assert self.watch.seen.state is state, self.watch.seen
            await asyncio.sleep(0.02)


@contextmanager
def no_more_processes(pid: int) -> Iterator[bool]:
    """While this lasts a process cannot fork; False where no control group can say so."""
    for root, mark in (("/sys/fs/cgroup/pids", ":pids:"), ("/sys/fs/cgroup", "0::")):
        place = Path(root) / f"pgherd-illness-{os.getpid()}"
        now = Path(f"/proc/{pid}/cgroup").read_text().partition(mark)[2].partition("\n")[0]
        home = Path(root + now) / "cgroup.procs"
        try:
            place.mkdir()
            (place / "pids.max").write_text("1")
            (place / "cgroup.procs").write_text(str(pid))
        except OSError:
            with suppress(OSError):
                place.rmdir()
            continue
        try:
            yield True
        finally:
            home.write_text(str(pid))
            place.rmdir()
        return
    yield False


@pytest.mark.fault(14, 15, 16)
def test_exhausted_is_no_death_and_hung_is(lab, play, monkeypatch):
    """All connections taken, even ours; no process to be had; then a stopped postmaster."""
    monkeypatch.setattr(watching, "UNANSWERED_MS", 500)

    async def story():
        server = await lab.primary("a", parameters={"max_connections": "12"})
        async with Watched(server) as watched:
            await watched.sees(Server.PRIMARY)
            guests = [Session(server.login) for _ in range(13)]
            for guest in guests:
                with suppress(PostgresError):
                    await guest.rows("SELECT 1")
            await watched.sees(Server.PRIMARY, "every connection is taken")
            await watched.stays(Server.PRIMARY, for_s=0.5)
            backend = server.watching.backend_pid
            await server.acting.rows("SELECT pg_terminate_backend($1)", [backend])
            with suppress(PostgresError):
                await guests[-1].rows("SELECT 1")  # whoever comes first has its place
            await watched.stays(Server.PRIMARY, for_s=1.0)
            for guest in guests:
                await guest.close()
            await watched.is_well()
            await forkless(server, watched)
            took = await hung(server, watched)
        assert took < 10.0  # 0.3 s to a probe, 2 x 1 s of patience
        assert watched.told[:2] == ["server.full", "server.well"]

    async def forkless(server, watched):
        await server.look()
        with no_more_processes(server.pid) as limited:
            if not limited:
                return
            await watched.sees(Server.PRIMARY, "cannot start a process")
            await watched.stays(Server.PRIMARY, for_s=1.0)
        await watched.is_well()
        assert "server.forkless" in watched.told

    async def hung(server, watched):
        backend = server.watching.backend_pid
        os.kill(server.pid, signal.SIGSTOP)
        took = await watched.sees(Server.HUNG, "takes no new connection")
        assert processes.belongs(backend, server.data_dir)
        os.kill(server.pid, signal.SIGCONT)
        await watched.sees(Server.PRIMARY)
        return took

    play(story())


@pytest.mark.fault(18)
def test_a_long_recovery_is_measured_and_a_death_is_counted(lab, play, wait_until, monkeypatch):
    """From redo point, page headers and the process title; the end is what replay reaches."""
    monkeypatch.setattr("pgherd.observe.recovering.EVERY_MS", 100)

    async def story():
        server = await lab.primary("a", parameters={"max_wal_size": "4GB"})
        async with Watched(server) as watched:
            await server.checkpoint()
            await server.acting.rows(
                "CREATE TABLE public.bulk AS SELECT i, repeat('x', 500) FROM"
                " generate_series(1, 150000) AS i",
                timeout_s=60,
            )
            end = (await server.look()).flush_lsn
            os.kill(server.pid, signal.SIGKILL)
            await watched.sees(Server.STOPPED)
            await server.kill_tree()
            starting = asyncio.create_task(server.start(deadline_s=60))
            startup = await hold_startup(server, wait_until)
            await watched.sees(Server.STARTING, within_s=5)
            await wait_until("an estimate", known(watched))
            first = watched.watch.seen.recovery
            os.kill(startup, signal.SIGCONT)
            assert (await starting).accepting
            await watched.sees(Server.STANDBY)
        told = server.control.redo + first.total_bytes
        assert abs(told - end) <= 16 << 20, (told, end)
        assert 0 < first.left_bytes <= first.total_bytes
        assert watched.watch.seen.crashes == 1
        assert watched.watch.seen.recovery is None

    def known(watched):
        async def is_known():
            return watched.watch.seen.recovery is not None

        return is_known

    async def hold_startup(server, wait_until):
        """Stop the startup process while it replays."""

        async def replays():
            return recovery.replayer(server.data_dir)

        await wait_until("replay", replays)
        pid, _ = await replays()
        os.kill(pid, signal.SIGSTOP)
        return pid

    play(story())


@pytest.mark.fault(13)
def test_without_means_to_look_a_dead_server_is_still_dead(lab, play):
    """We get no process and no thread: its directory tells nothing, its death is certain."""

    async def story():
        have_threads(asyncio.get_running_loop())
        server = await lab.primary("a")
        watched = Watched(server)
        await watched.watch.look()
        assert watched.watch.seen.state is Server.PRIMARY
        with no_more_processes(os.getpid()) as limited:
            if not limited:
                pytest.skip("there is no control group to say how many processes there may be")
            assert (await watched.watch.look()).state is Server.PRIMARY
            os.kill(server.pid, signal.SIGKILL)
            await server.wait_death()
            seen = await watched.watch.look()
            await server.stop("fast")  # needs no process, and no thread but those there are
        assert (await watched.watch.look()).state is Server.STOPPED
        assert seen.state in (Server.STOPPED, Server.UNUSABLE)  # both end its reign
        assert (seen.pid, seen.crashes) == (0, 1)
        assert "Resource temporarily unavailable" in seen.problem or "thread" in seen.problem
        assert seen.since > Instant(0)

    play(story())
