"""How much memory this node still has: of the machine, or of its own control group.

Reads what the kernel tells (/proc/meminfo, /proc/vmstat, cgroup v2), which waits for no disk.
Leaves what is too little to `model.vitals`. None where the system tells nothing.
"""

from __future__ import annotations

from pathlib import Path

from pgherd.model.vitals import Memory

MEMINFO, VMSTAT, OWN_GROUP = Path("/proc/meminfo"), Path("/proc/vmstat"), Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")


def look(
    *,
    meminfo: Path = MEMINFO,
    vmstat: Path = VMSTAT,
    own_group: Path = OWN_GROUP,
    groups: Path = GROUPS,
) -> Memory | None:
    """As of now."""
    told = _numbers(meminfo)
    if "MemAvailable" not in told:
        return None
    size, available = told["MemTotal"] << 10, told["MemAvailable"] << 10
    swap = told.get("SwapTotal", 0) << 10
    limit, left = _of_group(own_group, groups)
    if limit is not None and limit < size:
        size, available = limit, min(available, left)
    return Memory(
        size_bytes=size,
        available_bytes=available,
        swap_size_bytes=swap,
        swap_used_bytes=swap - (told.get("SwapFree", 0) << 10),
        oom_kills=_numbers(vmstat).get("oom_kill", 0),
    )


def _of_group(own_group: Path, groups: Path) -> tuple[int | None, int]:
    """Limit of our control group, and what is left of it: file pages can be given back."""
    for line in _lines(own_group):
        hierarchy, _, path = line.partition("::")
        if hierarchy != "0":
            continue
        group = groups / path.lstrip("/")
        limit, used = _lines(group / "memory.max"), _lines(group / "memory.current")
        if limit and used and limit[0].isdigit() and used[0].isdigit():
            idle = _numbers(group / "memory.stat").get("inactive_file", 0)
            return int(limit[0]), max(0, int(limit[0]) - int(used[0]) + idle)
    return None, 0


def _numbers(path: Path) -> dict[str, int]:
    """Lines of a name and a number, as `MemTotal:  1024 kB` or `oom_kill 0`."""
    words = (line.replace(":", " ").split() for line in _lines(path))
    return {one[0]: int(one[1]) for one in words if len(one) > 1 and one[1].isdigit()}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
