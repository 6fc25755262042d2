"""A pytest plugin that plants a mutant: `pytest -p pgherd.sim.raft.plant tests/unit/raft`.

PGHERD_RAFT_MUTANT names it. Shows which test, besides the simulator, notices a mistake; loaded
only by who asks for it.
"""

from __future__ import annotations

import os

from pgherd.sim.raft.mutants import MUTANTS


def pytest_configure() -> None:
    """Make the mistake for the whole session."""
    for where, name, wrong in MUTANTS[os.environ["PGHERD_RAFT_MUTANT"]].patches:
        setattr(where, name, wrong)
