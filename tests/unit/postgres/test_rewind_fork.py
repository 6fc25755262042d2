"""The fork that pg_rewind finds must be the ledger's: timeline ids alone mislead it."""

from __future__ import annotations

from pgherd.model.ids import Lsn
from pgherd.postgres.rewind import wrong_fork

SAID = "pg_rewind: servers diverged at WAL location 0/40A8 on timeline 1\n"


def test_the_same_fork_is_fine() -> None:
    """What the tool found is what the ledger knows."""
    assert wrong_fork(SAID, Lsn(0x40A8)) == ""
    assert wrong_fork("pg_rewind: no rewind required\n", Lsn(1)) == ""


def test_another_fork_is_told() -> None:
    """Another point, or none at all, is a reason to take a copy instead."""
    assert "0/40A8" in wrong_fork(SAID, Lsn(0x40A0))
    assert "nowhere" in wrong_fork("", Lsn(1))
