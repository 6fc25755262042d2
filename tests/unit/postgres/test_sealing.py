"""When a sealed standby counts as drained: positive signs only, and the traps they avoid."""

from __future__ import annotations

import msgspec

from pgherd.model.ids import Lsn
from pgherd.postgres.sealing import Sample, is_drained

PARKED = "Timeout:RecoveryRetrieveRetryInterval"
FIRST = Sample(
    recovering=True,
    replay=Lsn(100),
    receive=None,
    receivers=(),
    wait=PARKED,
    at=10.0,
    sleeps=50,
)


def later(**changes):
    """A later sample of the same standby."""
    return msgspec.structs.replace(FIRST, **changes)


def test_everything_received_is_replayed_and_replay_is_parked():
    """One sample is enough when the receive position says so."""
    assert is_drained(FIRST, later(receive=Lsn(100)))
    assert is_drained(FIRST, later(receive=Lsn(60)))  # a receiver that began at a segment's start
    assert not is_drained(FIRST, later(receive=Lsn(100), wait="IO:WALRead"))
    assert not is_drained(FIRST, later(receive=Lsn(100), wait=""))


def test_a_receiver_that_is_left_is_never_drained():
    """Nothing is frozen while a receiver lives (PROTOCOL.md F2)."""
    assert not is_drained(FIRST, later(receive=Lsn(100), receivers=(7,)))
    assert not is_drained(FIRST, later(receive=Lsn(100), recovering=False))


def test_two_samples_within_one_sleep_prove_nothing():
    """With WAL on disk that was not looked at, startup sleeps first; only a new look counts."""
    part_of_a_record = Lsn(120)
    for receive in (None, part_of_a_record):
        first = later(receive=receive)
        assert not is_drained(first, later(receive=receive, at=10.5, sleeps=50))
        assert not is_drained(first, later(receive=receive, at=10.5, sleeps=52))
        assert not is_drained(first, later(receive=receive, at=10.01, sleeps=60))
        assert is_drained(first, later(receive=receive, at=10.03, sleeps=53))


def test_without_the_kernels_count_it_takes_longer():
    """Where /proc does not tell, many retry intervals have to pass."""
    blind = later(sleeps=None)
    assert not is_drained(blind, later(sleeps=None, at=10.3))
    assert is_drained(blind, later(sleeps=None, at=10.6))
