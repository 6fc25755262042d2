"""The proof proved: damage done to a real run behind its back is found, each kind by its name."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
import pytest

from pgherd.proof.herd import LocalHerd
from pgherd.proof.history import Outcome, check
from pgherd.proof.trials import conclude, rows_everywhere
from pgherd.proof.writers import INSERT, TABLE, Writers, classify, create_table

StartWriters = Callable[..., Writers]


def test_planted_damage_is_found(herd: LocalHerd, start_writers: StartWriters) -> None:
    """A deleted row is lost, a foreign one a phantom, a changed predecessor a reordering."""
    writers = start_writers()
    time.sleep(1)
    report = conclude(herd, writers, [])
    assert report.verdict.clean, str(report.verdict)
    assert report.verdict.acknowledged > 40
    primary = herd.wait_primary()
    herd.query(primary, f"DELETE FROM {TABLE} WHERE writer = 1 AND seq = 5")
    herd.query(primary, f"INSERT INTO {TABLE} VALUES (9, 1, 0)")
    herd.query(primary, f"UPDATE {TABLE} SET after = 2 WHERE writer = 2 AND seq = 9")
    verdict = check(writers.history(), rows_everywhere(herd))
    assert verdict.lost == ((1, 5),)
    assert verdict.phantom == ((9, 1),)
    assert (2, 9) in verdict.reordered
    assert (1, 6) in verdict.reordered


def test_only_an_error_of_the_server_is_a_refusal(herd: LocalHerd) -> None:
    """Read-only is certain; a lost connection and a FATAL are not, the commit may be there."""
    create_table(herd.dsn_direct())
    primary = herd.wait_primary()
    replica = next(name for name in herd.nodes if name != primary)
    insert = INSERT.format(writer=1, seq=1).encode()
    with (
        psycopg.connect(herd.dsn_node(replica), autocommit=True) as connection,
        pytest.raises(psycopg.Error) as caught,
    ):
        connection.execute(insert)
    assert classify(caught.value)[0] is Outcome.REFUSED
    with psycopg.connect(herd.dsn_node(primary), autocommit=True) as connection:
        herd.query(primary, f"SELECT pg_terminate_backend({connection.info.backend_pid}, 5000)")
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(insert)
    assert classify(caught.value)[0] is Outcome.INDETERMINATE
