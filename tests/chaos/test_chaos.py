"""Chaos on real PostgreSQL: faults by plan under load, and nothing that was acknowledged is lost.

In network namespaces as root; on loopback, with the kinds that need nothing of the ground, where
that is not allowed. The floors are the same.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pgherd.chaos import machine

ROOT = Path(__file__).resolve().parents[2]
SEED = 20
MINUTES = 10 if os.environ.get("PGHERD_FULL") else 2.8
LEADING = 0.6
"""Part of the steps that usually cost the primary its place."""
DOUBLE = 0.8
"""Of the steps that may, so many are two faults at once: a busy machine still gets its count."""
BESIDES_S = 120
COUNTED = ("faults", "fault_kinds", "failovers", "acknowledged", "probes_refused", "lost")


@pytest.mark.timeout(MINUTES * 60 + BESIDES_S)
def test_nothing_acknowledged_is_lost(count: Callable[..., None]) -> None:
    """The run itself says what is wrong, and whether it proves anything; here its word counts."""
    missing = machine.missing()
    ground = ["--loopback"] if missing else []
    print(f"ground: {missing or 'network namespaces'}")
    command = [
        *(sys.executable, "-m", "pgherd.chaos", "--minutes", str(MINUTES), "--seed", str(SEED)),
        *("--leading", str(LEADING), "--double", str(DOUBLE), *ground),
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    said = []
    try:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            said.append(line)
    finally:
        process.terminate()
        code = process.wait()
    found = dict(re.findall(r"^([a-z_]+)=(\d+)$", "".join(said), flags=re.MULTILINE))
    assert code == 0, "".join(said[-30:])
    assert found["lost"] == "0"
    count(**{name: int(found[name]) for name in COUNTED})
