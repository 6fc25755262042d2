"""A local herd that outlives the command which started it: found by its directory, and ended.

Owns what belongs to such a herd: PostgreSQL that works below its directory, and pgherd's own
processes that were given a file below it. Leaves making one to `herd` (`lasting=True`).
"""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

from pgherd.model.errors import OperatorError
from pgherd.proof import processes
from pgherd.proof.processes import Process

HERD_FILE = "herd.json"
GRACE_S = 20.0
POLL_S = 0.1


def is_herd(directory: Path) -> bool:
    """Whether a local herd was made there."""
    return (directory / HERD_FILE).is_file()


def nodes_of(directory: Path) -> int:
    """How many nodes it has. Raises OperatorError where there is none."""
    if not is_herd(directory):
        raise OperatorError(f"there is no local cluster in {directory}", "name its --dir")
    return int(json.loads((directory / HERD_FILE).read_text())["nodes"])


def processes_of(directory: Path) -> dict[int, Process]:
    """Everything that runs of it."""
    below = f"{directory}/"

    def belongs(process: Process) -> bool:
        if process.is_postgres:
            return process.directory.startswith(below)
        words = process.arguments
        is_ours = any(word.startswith("pgherd.") or "/pgherd/" in word for word in words)
        return is_ours and any(word.startswith(below) for word in words)

    return processes.with_descendants(processes.scan(), belongs)


def destroy(directory: Path) -> None:
    """Stop it, and delete its directory: data, secrets, logs."""
    nodes_of(directory)
    found = processes_of(directory)
    supervisors = [one.pid for one in found.values() if one.parent not in found]
    processes.send(supervisors, signal.SIGTERM)
    until = time.monotonic() + GRACE_S
    while time.monotonic() < until and processes_of(directory):
        time.sleep(POLL_S)
    processes.kill_all(lambda: processes_of(directory))
    shutil.rmtree(directory)
