"""Proves that proxies follow each other under a real supervisor and nobody is refused meanwhile.

The supervisor and the proxies are real; the agent's part is the test's, the servers are fakes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pgherd.daemon import supervise
from pgherd.proof import processes
from pgherd.relay.control import ProxyControl
from pgherd.relay.keeping import LISTENING
from pgherd.relay.messages import ListenerSettings, ProxySettings
from pgherd.route.choose import Route, Snapshot

PACE_S = 0.01
PYTHON = f"""#!/bin/sh
case "$*" in *pgherd.relay.main*) exec {sys.executable} "$@";; esac
exec sleep 600
"""
"""What the supervisor starts: the real proxy, and an agent that does nothing."""


class Stage:
    """A supervisor in a place of its own, and the agent's end of its proxy's channel."""

    def __init__(self, folder: Path, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        config, python = folder / "pgherd.yaml", folder / "python"
        python.write_text(PYTHON)
        python.chmod(0o755)
        monkeypatch.setenv("PGHERD_RUN_DIR", str(folder))
        control = Path(supervise.control_path(str(config)))
        listener = ListenerSettings("127.0.0.1", raw.free_port(), Route.PRIMARY)
        self.port = listener.port
        self.control = ProxyControl(control, ProxySettings((listener,), drain_ms=20_000))
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", supervise.__file__, str(config)],
                stderr=log,
                env={**os.environ, "PGHERD_PYTHON": str(python)},
            )

    def pid(self) -> int:
        """The proxy that reported last."""
        counters = self.control.counters()
        return counters.pid if counters is not None else 0

    async def until_another(self, than: int) -> int:
        """Wait until another proxy has all listeners open."""
        return await self.until(lambda: self.control.healthy() and self.pid() not in (0, than))

    async def until(self, holds: Any) -> int:
        deadline = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < deadline, self.log.read_text()
            await asyncio.sleep(0.02)
        return self.pid()

    def listening(self) -> set[str]:
        """The inodes of what listens on the port."""
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        words = [line.split() for line in lines]
        return {w[9] for w in words if w[3] == "0A" and int(w[1][-4:], 16) == self.port}

    def end(self) -> None:
        children = [
            one.pid for one in processes.scan().values() if one.parent == self.supervisor.pid
        ]
        for pid in [*children, self.supervisor.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.supervisor.wait()


@contextlib.asynccontextmanager
async def staged(raw: Any, fakes: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """A stage with a proxy that leads to a fake server, and that server."""
    folder = Path(tempfile.mkdtemp(prefix="pgherd-succession-"))
    stage = Stage(folder, raw, monkeypatch)
    try:
        await stage.control.start()
        async with fakes("n1") as (one,):
            now_ms = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
            known = Snapshot(1, 1, now_ms + 600_000, primary=one.backend)  # type: ignore[arg-type] # a number for an Instant
            stage.control.publish(known)
            await stage.until_another(0)
            yield stage, one
    finally:
        await stage.control.stop()
        stage.end()
        shutil.rmtree(folder, ignore_errors=True)


class Callers:
    """A client that comes, asks, and goes, again and again; every failure is kept."""

    def __init__(self, raw: Any, port: int) -> None:
        self._raw, self._port = raw, port
        self.served = 0
        self.failures: list[str] = []
        self._task = asyncio.create_task(self._call())

    async def _call(self) -> None:
        while True:
            try:
                client = await self._raw.connect(self._port)
                await asyncio.wait_for(client.until_ready(), 15)
                assert (await client.query("who"))[0] == (b"C", b"n1\0")
                client.close()
            except (OSError, EOFError, TimeoutError, AssertionError) as error:
                self.failures.append(repr(error))
            self.served += 1
            await asyncio.sleep(PACE_S)

    async def more(self, count: int = 20) -> None:
        """Until so many more came."""
        wanted = self.served + count
        while self.served < wanted:  # noqa: ASYNC110 -- there is no event to wait for
            await asyncio.sleep(PACE_S)

    def stop(self) -> None:
        self._task.cancel()


def test_no_client_is_refused_while_proxies_follow_each_other(
    raw: Any, fakes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGUSR1 costs nobody anything; SIGTERM and SIGKILL the session of that moment, no other."""

    async def scenario() -> None:
        async with staged(raw, fakes, monkeypatch) as (stage, _):
            callers = Callers(raw, stage.port)
            await callers.more()
            first = stage.pid()
            stage.supervisor.send_signal(signal.SIGUSR1)
            second = await stage.until_another(first)
            await callers.more()
            assert callers.failures == []
            for number in (signal.SIGTERM, signal.SIGKILL):
                os.kill(second, number)
                second = await stage.until_another(second)
                await callers.more()
            callers.stop()
            assert not [one for one in callers.failures if "Refused" in one], callers.failures
            assert len(callers.failures) <= 2, callers.failures
            log = stage.log.read_text()
            assert f"proxy {first} leaves; another one starts" in log
            assert "Traceback" not in log

    asyncio.run(scenario())


def test_sessions_outlive_their_proxys_place(
    raw: Any, fakes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go on beside the successor, are counted, and end with a word at drain_timeout."""

    async def scenario() -> None:
        async with staged(raw, fakes, monkeypatch) as (stage, _):
            old = await raw.connect(stage.port)
            await old.until_ready()
            first = stage.pid()
            stage.supervisor.send_signal(signal.SIGUSR1)
            await stage.until_another(first)
            new = await raw.connect(stage.port)
            await new.until_ready()
            assert (await old.query("who"))[0] == (b"C", b"n1\0")
            both = {f"primary:{stage.port}": {"n1": 2}}
            await stage.until(lambda: stage.control.counters().sessions == both)
            assert processes.is_alive(first)
            os.kill(first, signal.SIGTERM)  # a second signal: no more time
            assert raw.fields(await old.rest())["C"] == "57P01"
            await stage.until(lambda: not processes.is_alive(first))
            assert (await new.query("who"))[0] == (b"C", b"n1\0")
            new.close()

    asyncio.run(scenario())


def test_a_succeeded_proxys_time_is_limited(rig: Any, fakes: Any, raw: Any) -> None:
    """Idle sessions go on, and one that is only beginning gets its server; then 57P01, exit 0."""

    async def scenario() -> None:
        async with rig(drain_ms=3_000) as it, fakes("n1") as (one,):
            it.publish(one.backend)
            idle, late = await raw.connect(it.port()), await raw.connect(it.port(), b"")
            await idle.until_ready()
            late.writer.write(raw.startup()[:5])
            await it.until(lambda now: now.bytes_from_clients > len(raw.startup()))
            it.process.send_signal(signal.SIGUSR1)
            await it.until(lambda now: not now.listening)
            late.writer.write(raw.startup()[5:])
            await late.until_ready()
            for client in (idle, late):
                assert (await client.query("who"))[0] == (b"C", b"n1\0")
            for client in (idle, late):
                assert raw.fields(await client.rest())["C"] == "57P01"
            assert await asyncio.to_thread(it.process.wait, 5) == 0

    asyncio.run(scenario())


def test_the_ports_belong_to_proxies_and_end_with_the_node(
    raw: Any, fakes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No agent inherits them: PostgreSQL, its child, would hold them for ever."""

    async def scenario() -> None:
        async with staged(raw, fakes, monkeypatch) as (stage, _):
            inodes = {f"socket:[{inode}]" for inode in stage.listening()}
            assert len(inodes) == 1
            proxy = stage.pid()
            agents = others(stage, proxy)
            assert len(agents) == 1
            os.kill(agents[0], signal.SIGKILL)
            await stage.until(lambda: others(stage, proxy) not in ([], agents))
            (agent,) = others(stage, proxy)
            await asyncio.sleep(0.2)  # its exec
            assert not files(agent) & inodes
            assert files(stage.supervisor.pid) & inodes
            assert files(proxy) & inodes
            assert LISTENING not in environment(agent)
            stage.supervisor.send_signal(signal.SIGTERM)
            await asyncio.to_thread(stage.supervisor.wait, 15)
            assert not stage.listening()

    asyncio.run(scenario())


def others(stage: Stage, proxy: int) -> list[int]:
    """The supervisor's children but the proxy."""
    children = (one.pid for one in processes.scan().values() if one.parent == stage.supervisor.pid)
    return [pid for pid in children if pid != proxy and processes.is_alive(pid)]


def environment(pid: int) -> str:
    """What a process was started with."""
    return Path(f"/proc/{pid}/environ").read_text()


def files(pid: int) -> set[str]:
    """What a process has open."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(os.readlink(link))
    return found
