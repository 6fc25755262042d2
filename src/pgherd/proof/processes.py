"""The processes of this machine as /proc shows them: who belongs together, what they cost.

Owns reading /proc (Linux), finding the tree below a process and the processes that work in a
directory, and signals to all of them. Leaves what a node is to `herd`. Zombies count as dead.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

PROC = Path("/proc")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
KILL_ROUNDS_MAX = 50
"""Each round kills what the one before may have started."""


class Process(msgspec.Struct, frozen=True):
    """One living process."""

    pid: int
    parent: int
    session: int
    name: str
    arguments: tuple[str, ...]
    directory: str
    cpu_s: float

    @property
    def is_postgres(self) -> bool:
        """Whether it is PostgreSQL or one of its tools."""
        return self.name.startswith(("postgres", "pg_", "initdb"))


class Usage(msgspec.Struct, frozen=True):
    """What a group of processes costs: resident and proportional memory, processor time so far."""

    processes: int
    rss_bytes: int
    pss_bytes: int
    cpu_s: float


def scan() -> dict[int, Process]:
    """Every living process by its id."""
    found = (_read(int(entry.name)) for entry in PROC.iterdir() if entry.name.isdigit())
    return {process.pid: process for process in found if process is not None}


def with_descendants(
    processes: dict[int, Process], chosen: Callable[[Process], bool]
) -> dict[int, Process]:
    """The chosen processes and everything below them; never the asking process itself."""
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    pending = [process.pid for process in processes.values() if chosen(process)]
    found: dict[int, Process] = {}
    while pending:
        pid = pending.pop()
        if pid not in found and pid != os.getpid():
            found[pid] = processes[pid]
            pending.extend(children.get(pid, ()))
    return found


def send(pids: Iterable[int], what: signal.Signals) -> None:
    """Send a signal to each; one that is gone already is fine."""
    for pid in pids:
        try:
            os.kill(pid, what)
        except ProcessLookupError:
            pass


def kill_all(find: Callable[[], dict[int, Process]]) -> int:
    """SIGKILL everything found until nothing is found any more; the number killed."""
    killed: set[int] = set()
    for _ in range(KILL_ROUNDS_MAX):
        found = find()
        if not found:
            return len(killed)
        send(found, signal.SIGKILL)
        killed.update(found)
        time.sleep(0.02)
    raise TimeoutError(f"processes do not end: {sorted(find())}")


def is_alive(pid: int) -> bool:
    """Whether a process lives and is no zombie."""
    return _read(pid) is not None


def usage(processes: Iterable[Process]) -> Usage:
    """Memory and processor time of these processes now."""
    count, rss, pss, cpu = 0, 0, 0, 0.0
    for process in processes:
        now = _read(process.pid)
        if now is None:
            continue
        sizes = _rollup(process.pid)
        count, cpu = count + 1, cpu + now.cpu_s
        rss, pss = rss + sizes.get("Rss", 0), pss + sizes.get("Pss", 0)
    return Usage(count, rss, pss, cpu)


def _read(pid: int) -> Process | None:
    """One process, or None when it is gone or only waits to be collected."""
    place = PROC / str(pid)
    try:
        before, _, after = (place / "stat").read_text(errors="replace").rpartition(")")
        fields = after.split()
        if fields[0] in {"Z", "X"}:
            return None
        raw = (place / "cmdline").read_bytes()
    except (OSError, IndexError):
        return None
    return Process(
        pid=pid,
        parent=int(fields[1]),
        session=int(fields[3]),
        name=before.partition("(")[2],
        arguments=tuple(raw.decode(errors="replace").rstrip("\0").split("\0")),
        directory=_working_directory(place),
        cpu_s=(int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND,
    )


def _working_directory(place: Path) -> str:
    try:
        return os.readlink(place / "cwd")
    except OSError:
        return ""


def _rollup(pid: int) -> dict[str, int]:
    """The sizes of smaps_rollup in bytes; resident size alone where that is not readable."""
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
        pairs = (line.split() for line in lines)
        return {words[0].rstrip(":"): int(words[1]) * 1024 for words in pairs}
    except OSError:
        pass
    try:
        pages = int((PROC / str(pid) / "statm").read_text().split()[1])
    except OSError:
        return {}
    return {"Rss": pages * PAGE_BYTES, "Pss": pages * PAGE_BYTES}
