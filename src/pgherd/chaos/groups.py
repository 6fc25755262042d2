"""Control groups: a node frozen as a whole, out of memory, or out of processes.

Owns one group per node and kind (freezer, memory, pids; cgroup v1) and what is set there. Leaves
which node to the faults. A group is removed when its last process is gone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from pgherd.chaos.machine import GROUP_KINDS, GROUPS
from pgherd.chaos.timers import Timer
from pgherd.proof.processes import is_alive

UNLIMITED = -1
PREFIX = "pgherd-chaos-"


def sweep() -> None:
    """Remove what runs that were killed have left: groups without a process and without a run."""
    for kind in GROUP_KINDS:
        for place in (GROUPS / kind).glob(f"{PREFIX}*"):
            pid = place.name.removeprefix(PREFIX).partition("-")[0]
            if not is_alive(int(pid)) and not (place / "cgroup.procs").read_text():
                _remove(place)


class Group:
    """The groups of one node. thawed at the latest after a while, whoever froze it."""

    def __init__(self, name: str) -> None:
        self._places = {
            kind: GROUPS / kind / f"{PREFIX}{os.getpid()}-{name}" for kind in GROUP_KINDS
        }
        for place in self._places.values():
            place.mkdir()

    def wrap(self) -> list[str]:
        """What puts a command, and all that it starts, into the groups."""
        joins = "".join(f"echo $$ > {place}/cgroup.procs; " for place in self._places.values())
        return ["sh", "-c", f'{joins}exec "$@"', "sh"]

    def freeze(self, *, at_most_s: float) -> Callable[[], None]:
        """Stop every process at once, as a host that is paused does; what thaws them."""
        state = self._places["freezer"] / "freezer.state"
        timer = Timer(at_most_s, f"echo THAWED > {state}")
        state.write_text("FROZEN")
        return timer.now

    def limit_memory(self, more_bytes: int) -> Callable[[], None]:
        """Leave so much beyond what is used now; what takes the limit away."""
        place = self._places["memory"]
        used = int((place / "memory.usage_in_bytes").read_text())
        (place / "memory.limit_in_bytes").write_text(str(used + more_bytes))
        return lambda: _write(place / "memory.limit_in_bytes", UNLIMITED)

    def limit_processes(self, more: int) -> Callable[[], None]:
        """Leave so many beyond those that run now; what takes the limit away."""
        place = self._places["pids"]
        now = int((place / "pids.current").read_text())
        (place / "pids.max").write_text(str(now + more))
        return lambda: _write(place / "pids.max", "max")

    def close(self) -> None:
        """Remove the groups; their processes have ended."""
        for place in self._places.values():
            _remove(place)


def _write(place: Path, value: object) -> None:
    place.write_text(str(value))


def _remove(place: Path) -> None:
    for _ in range(100):
        try:
            place.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:  # a process is on its way out
            time.sleep(0.05)
