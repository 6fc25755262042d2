"""What goes with the names: whom logical slots wait for, and a commit's wait, never if closed."""

from __future__ import annotations

import pytest

from pgherd.model.ids import CLOSED_NAMES
from pgherd.postgres import failoverslots, live

OPEN = 'ANY 1 ("n2.0a1b2c@7", "n-3.0a1b2d@7")'
SLOTS = "pgherd_n2, pgherd_n_3"


def test_a_weaker_commit_and_the_slots_follow_open_names_only() -> None:
    closed = live.parameters_of(CLOSED_NAMES, None, None)
    opened = live.named(closed, OPEN, "local")
    assert opened["synchronous_commit"] == "local"
    assert opened["synchronized_standby_slots"] == SLOTS
    again = live.named(opened, CLOSED_NAMES, "local")
    assert "synchronous_commit" not in again
    assert again["synchronized_standby_slots"] == SLOTS
    assert "synchronous_commit" not in live.named(opened, OPEN, "")
    assert live.named(opened, "", "off")["synchronized_standby_slots"] == ""


@pytest.mark.parametrize(
    ("major", "level", "conninfo", "expected"),
    [
        (15, "logical", "host=a", set()),
        (18, "replica", "host=a", set()),
        (18, "logical", "", {"hot_standby_feedback", "synchronized_standby_slots"}),
        (
            18,
            "logical",
            "host=a",
            {"hot_standby_feedback", "synchronized_standby_slots", "sync_replication_slots"},
        ),
    ],
)
def test_a_server_is_told_only_what_it_knows(major, level, conninfo, expected) -> None:
    """And to copy slots only where there is somebody to copy from."""
    values = {"wal_level": level, "primary_conninfo": conninfo, "synchronized_standby_slots": SLOTS}
    found = failoverslots.fitted(values, major)
    assert set(found) - {"wal_level", "primary_conninfo"} == expected


def test_an_operators_own_values_win() -> None:
    own = {"wal_level": "logical", "primary_conninfo": "x", "sync_replication_slots": "off"}
    assert failoverslots.fitted(own, 18)["sync_replication_slots"] == "off"
