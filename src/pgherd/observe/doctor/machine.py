"""What the kernel tells of a machine and of our processes on it: /proc, /sys, adjtimex(2).

Reads only; nothing here waits for a disk. What cannot be read is None. Whether it is good is
`plan.doctor`'s.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import msgspec

from pgherd.model.checkup import Machine, Process
from pgherd.observe import memory

PROC, SYS = Path("/proc"), Path("/sys")
SYSTEMD = Path("/run/systemd/system")
"""Where it runs (sd_booted(3))."""
CLOCK_SOURCE = "devices/system/clocksource/clocksource0/current_clocksource"
TIMEX_BYTES = 512
"""More than a struct timex has on any machine."""
TIME_ERROR = 5
UNLIMITED = -1


def look(*, proc: Path = PROC, sys: Path = SYS, systemd: Path = SYSTEMD) -> Machine:
    """As of now."""
    vm = proc / "sys" / "vm"
    found = memory.look(
        meminfo=proc / "meminfo",
        vmstat=proc / "vmstat",
        own_group=proc / "self" / "cgroup",
        groups=sys / "fs" / "cgroup",
    )
    return Machine(
        clock_source=text(sys / CLOCK_SOURCE),
        clock_synchronised=synchronised(),
        cores=os.cpu_count(),
        load=load(text(proc / "loadavg")),
        overcommit=number(text(vm / "overcommit_memory")),
        swappiness=number(text(vm / "swappiness")),
        huge_pages=number(text(vm / "nr_hugepages")),
        transparent_huge_pages=chosen(text(sys / "kernel/mm/transparent_hugepage/enabled")),
        zone_reclaim=number(text(vm / "zone_reclaim_mode")),
        dirty_bytes=dirty(vm, found.size_bytes if found is not None else None),
        core_pattern=text(proc / "sys" / "kernel" / "core_pattern"),
        io_full=pressure(text(proc / "pressure" / "io")),
        memory_full=pressure(text(proc / "pressure" / "memory")),
        tasks=number(text(group(proc, sys) / "pids.current")),
        tasks_max=limit(text(group(proc, sys) / "pids.max")),
        memory=found,
        has_systemd=systemd.is_dir(),
    )


def of_process(name: str, pid: int, *, proc: Path = PROC) -> Process:
    """A process of ours and its limits."""
    place = proc / str(pid)
    limits = limits_of(text(place / "limits"))
    return Process(
        name=name,
        pid=pid,
        files_open=files_open(place / "fd"),
        files_max=limits.get("Max open files"),
        tasks_max=limits.get("Max processes"),
        core_bytes=limits.get("Max core file size"),
        oom_score_adj=number(text(place / "oom_score_adj")),
    )


def with_starter(process: Process, variables: dict[str, str]) -> Process:
    """Whether systemd started it: it gives every run of a unit an id (systemd.exec(5))."""
    return msgspec.structs.replace(process, by_systemd="INVOCATION_ID" in variables)


def synchronised() -> bool | None:
    """Whether something keeps the kernel's clock (adjtimex(2), read only)."""
    call = getattr(ctypes.CDLL(None), "adjtimex", None)
    state = call(ctypes.create_string_buffer(TIMEX_BYTES)) if call is not None else -1
    return None if state < 0 else state != TIME_ERROR


def load(line: str | None) -> float | None:
    """Over 15 minutes."""
    words = (line or "").split()
    return float(words[2]) if len(words) > 2 else None


def dirty(vm: Path, memory_bytes: int | None) -> int | None:
    """How much may be unwritten before who writes has to wait: as bytes, or as a share."""
    exact = number(text(vm / "dirty_bytes"))
    if exact:
        return exact
    share = number(text(vm / "dirty_ratio"))
    if share is None or memory_bytes is None:
        return None
    return memory_bytes * share // 100


def pressure(told: str | None) -> float | None:
    """Of `full avg10=0.00 avg60=0.12 ...`: the share of the last minute, in percent."""
    for line in (told or "").splitlines():
        kind, *pairs = line.split()
        values = dict(pair.split("=") for pair in pairs)
        if kind == "full" and "avg60" in values:
            return float(values["avg60"])
    return None


def chosen(told: str | None) -> str | None:
    """Of `always [madvise] never` what is in brackets."""
    words = (told or "").split()
    return next((word.strip("[]") for word in words if word.startswith("[")), None)


def group(proc: Path, sys: Path) -> Path:
    """Our own control group, of version 2."""
    for line in (text(proc / "self" / "cgroup") or "").splitlines():
        hierarchy, _, path = line.partition("::")
        if hierarchy == "0":
            return sys / "fs" / "cgroup" / path.lstrip("/")
    return sys / "nowhere"


def limits_of(told: str | None) -> dict[str, int]:
    """The soft limits of /proc/PID/limits by name; -1: none."""
    found = {}
    for line in (told or "").splitlines()[1:]:
        name, words = line[:26].strip(), line[26:].split()
        soft = limit(words[0]) if words else None
        if soft is not None:
            found[name] = soft
    return found


def limit(word: str | None) -> int | None:
    return UNLIMITED if word in ("unlimited", "max") else number(word)


def files_open(place: Path) -> int | None:
    try:
        return len(os.listdir(place))
    except OSError:
        return None


def number(word: str | None) -> int | None:
    return int(word) if word is not None and word.lstrip("-").isdigit() else None


def text(path: Path) -> str | None:
    """A small file without its last newline; None where it is not there."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
