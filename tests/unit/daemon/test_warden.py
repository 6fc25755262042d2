"""The warden in a real supervisor: it ends what has outlived its deadline, and nothing else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgherd.daemon import supervise
from pgherd.postgres import tree
from pgherd.proof import processes

AGENT = """
import os, sys, time
if "pgherd.relay.main" in sys.argv:
    time.sleep(600)
with open(os.environ["TOLD"], "rb", buffering=0) as told:
    while True:
        said = told.readline()
        if said:
            os.write(int(os.environ["PGHERD_WARDEN"]), said.rstrip(b"\\n") + b"\\0")
        else:
            time.sleep(0.01)
"""
"""Says what the test writes into a file; plays agent and proxy."""

SERVER = """
import os, sys, time
with open("postmaster.pid", "w") as file:
    file.write(f"{os.getpid()}\\n")
for _ in range(2):
    if os.fork() == 0:
        break
time.sleep(600)
"""


def ended(wanted: set[int], within_s: float = 10.0) -> bool:
    """Whether all of these end within a time."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if not any(processes.is_alive(pid) for pid in wanted):
            return True
        time.sleep(0.02)
    return False


class Stage:
    """A supervisor with an agent that says what it is told to, and servers that do nothing."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.data = place / "data"
        self.data.mkdir()
        self.log = place / "log"
        self.told = place / "told"
        self.told.touch()
        self.postgres = place / "postgres"
        shutil.copy2(os.path.realpath(sys.executable), self.postgres)
        python = place / "python"
        python.write_text(f"#!{sys.executable}\n{AGENT}")
        python.chmod(0o755)
        self.config = place / "pgherd.yaml"
        self._environment = {
            **os.environ,
            "PGHERD_PYTHON": str(python),
            "PGHERD_RUN_DIR": str(place),
            "TOLD": str(self.told),
        }
        self._started: list[subprocess.Popen[bytes]] = []
        script = [sys.executable, "-I", "-S", supervise.__file__, str(self.config)]
        with self.log.open("wb") as log:
            self.supervisor = self._start(script, stderr=log, env=self._environment)

    def _start(self, argv: list[str], **how: object) -> subprocess.Popen[bytes]:
        self._started.append(subprocess.Popen(argv, start_new_session=True, **how))  # type: ignore[call-overload] # a plain pass-through
        return self._started[-1]

    def server(self) -> tuple[int, set[int]]:
        """Something that looks like a server to the kernel; its pid and that of all its parts."""
        home = {**os.environ, "PYTHONHOME": sys.base_prefix}
        words = [str(self.postgres), "-I", "-S", "-c", SERVER]
        main = self._start(words, cwd=self.data, env=home)
        until = time.monotonic() + 10
        while time.monotonic() < until:
            found = {p for p in tree.of_directory(self.data) if main.pid in (p, tree.parent(p))}
            if len(found) == 3:
                return main.pid, found
            time.sleep(0.02)
        raise AssertionError("no server")

    def say(self, text: str) -> None:
        with self.told.open("a") as file:
            file.write(f"{text}\n")

    def watch(self, pid: int, *, for_ms: int, started: int | None = None) -> None:
        """The agent's word: this server may go on for so long."""
        until = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000 + for_ms
        self.say(f"watch {until} {pid} {started or tree.start_ticks(pid)} {self.data}")

    def agent(self) -> int:
        [pid] = [
            process.pid
            for process in processes.scan().values()
            if process.parent == self.supervisor.pid and "pgherd.daemon.main" in process.arguments
        ]
        return pid

    def verdict(self, within_s: float = 10.0) -> str:
        """What the warden left for the agent; "" when nothing within a time."""
        path = Path(supervise.verdict_path(self._control()))
        until = time.monotonic() + within_s
        while not path.exists() and time.monotonic() < until:
            time.sleep(0.02)
        return path.read_text() if path.exists() else ""

    def _control(self) -> str:
        old = os.environ.get("PGHERD_RUN_DIR")
        os.environ["PGHERD_RUN_DIR"] = str(self.place)
        try:
            return supervise.control_path(str(self.config))
        finally:
            os.environ.pop("PGHERD_RUN_DIR")
            if old is not None:
                os.environ["PGHERD_RUN_DIR"] = old

    def end(self) -> None:
        pids = {process.pid for process in self._started}
        below = processes.with_descendants(processes.scan(), lambda p: p.pid in pids)
        processes.send([*below, *tree.of_directory(self.data)], signal.SIGCONT)
        processes.send([*below, *tree.of_directory(self.data)], signal.SIGKILL)
        for each in self._started:
            each.wait(10)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    try:
        yield made
    finally:
        made.end()


def test_a_hung_agent_costs_its_server_at_the_deadline(stage: Stage) -> None:
    """Renewed it lives on; then its agent stops, and nothing of it is left but the reason."""
    pid, parts = stage.server()
    for _ in range(4):
        stage.watch(pid, for_ms=900)
        time.sleep(0.3)
    assert processes.is_alive(pid)
    os.kill(stage.agent(), signal.SIGSTOP)
    assert ended(parts)
    said = stage.verdict()
    assert "its lease ran out and its agent neither renewed it" in said
    assert "(3 processes, " in said
    assert "pgherd supervisor: PostgreSQL in" in stage.log.read_text()


def test_what_is_at_rest_is_left_alone(stage: Stage) -> None:
    pid, parts = stage.server()
    stage.watch(pid, for_ms=500)
    stage.say("rest")
    assert not ended(parts, within_s=1.0)
    assert all(processes.is_alive(part) for part in parts)
    assert stage.verdict(within_s=0) == ""


def test_nobody_elses_server_is_touched(stage: Stage) -> None:
    """A pid that was given again, and another postmaster in the same directory with its parts."""
    pid, parts = stage.server()
    stage.watch(pid, for_ms=200, started=tree.start_ticks(pid) - 1)
    assert not ended(parts, within_s=0.8)
    assert all(processes.is_alive(part) for part in parts)
    stage.watch(os.getpid(), for_ms=100)
    assert not ended(parts, within_s=0.5)
    assert all(processes.is_alive(part) for part in parts)


def test_what_a_dead_postmaster_left_is_ended_too(stage: Stage) -> None:
    """Its children go on acknowledging until they notice; who took its place is not one of them."""
    pid, parts = stage.server()
    started = tree.start_ticks(pid)
    os.kill(pid, signal.SIGKILL)
    assert ended({pid})
    other, others = stage.server()
    stage.watch(pid, for_ms=100, started=started)
    assert ended(parts)
    assert all(processes.is_alive(part) for part in others)
    assert other in others


def test_a_supervisor_that_ends_keeps_the_last_deadline(stage: Stage) -> None:
    """Its agent was killed in the middle of a stop, with the server still open."""
    pid, parts = stage.server()
    stage.watch(pid, for_ms=1500)
    time.sleep(0.2)
    os.kill(stage.agent(), signal.SIGSTOP)
    stage.supervisor.send_signal(signal.SIGTERM)
    assert ended(parts)
    assert stage.verdict()


def test_a_supervisor_that_stood_still_acts_when_it_goes_on(stage: Stage) -> None:
    """The whole node was frozen: the clock went on meanwhile."""
    pid, parts = stage.server()
    stage.watch(pid, for_ms=700)
    time.sleep(0.2)
    frozen = [stage.supervisor.pid, stage.agent(), *parts]
    processes.send(frozen, signal.SIGSTOP)
    time.sleep(1.0)
    processes.send(frozen, signal.SIGCONT)
    assert ended(parts, within_s=2.0)
