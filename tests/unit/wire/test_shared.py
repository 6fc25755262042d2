"""Proves which sessions can share servers, and what each is told of its own wishes."""

from __future__ import annotations

import pytest

from pgherd.wire.shared import common, granted, is_plain, is_poolable, wishes

COME = (("user", "ann"), ("TIMEZONE", "Asia/Tokyo"), ("application_name", "psql"))


def test_reported_parameters_are_wishes_and_all_others_part_sessions() -> None:
    assert common(COME) == (("database", "ann"), ("user", "ann"))
    assert wishes(COME) == {"TimeZone": "Asia/Tokyo", "application_name": "psql"}
    other = (*COME, ("options", "-c geqo=off"), ("database", "shop"))
    assert common(other) == (("database", "shop"), ("options", "-c geqo=off"), ("user", "ann"))
    assert common(other) == common(tuple(reversed(other)))


@pytest.mark.parametrize(("value", "is_so"), [("off", True), ("database", False), ("1", False)])
def test_a_walsender_has_its_server_to_itself(value: str, is_so: bool) -> None:
    assert is_poolable((*COME, ("replication", value))) is is_so
    assert is_poolable(COME)


def test_a_plain_name_is_granted_without_asking() -> None:
    assert granted({"TimeZone": "UTC"}, {"application_name": "psql"}) == {
        "TimeZone": "UTC",
        "application_name": "psql",
    }
    assert is_plain("psql")
    assert not is_plain("p" * 64)
    assert not is_plain("pß")
    assert not is_plain("p\n")
