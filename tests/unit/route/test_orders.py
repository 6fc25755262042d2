"""Proves how statements to the database `pgherd` are read."""

from __future__ import annotations

import pytest

from pgherd.route.orders import MEANINGS, Act, Nothing, Order, Show, Verb, View, read
from pgherd.wire.answer import Refusal


@pytest.mark.parametrize(
    ("statement", "order"),
    [
        ("SHOW POOLS", Show(View.POOLS)),
        ("show pools;", Show(View.POOLS)),
        ("  Show\n Clients ; ", Show(View.CLIENTS)),
        ("-- who is there\nSHOW SERVERS", Show(View.SERVERS)),
        ("/* a tool's */ SHOW LISTS", Show(View.LISTS)),
        ("help", Show(View.HELP)),
        ("PAUSE", Act(Verb.PAUSE)),
        ("pause Shop;", Act(Verb.PAUSE, "Shop")),
        ('RESUME "my ""shop"""', Act(Verb.RESUME, 'my "shop"')),
        ("RECONNECT shop-2", Act(Verb.RECONNECT, "shop-2")),
        ("", Nothing()),
        (" ; ", Nothing()),
        ("-- nothing", Nothing()),
    ],
)
def test_what_is_asked(statement: str, order: Order) -> None:
    assert read(statement) == order


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("SELECT 1", "SELECT is not known here: this is no PostgreSQL server"),
        ("SHOW", "SHOW takes one word"),
        ("SHOW POOLS NOW", "SHOW takes one word"),
        ("SHOW server_version", "there is no SHOW SERVER_VERSION"),
        ("PAUSE shop reports", "PAUSE takes one database or none"),
        ("PAUSE; RESUME", "cannot read"),
        ('PAUSE "shop', "cannot read"),
        ("ZÄHLE", "ZÄHLE is not known here"),
    ],
)
def test_what_cannot_be_read_is_answered_with_a_hint(statement: str, why: str) -> None:
    found = read(statement)
    assert isinstance(found, Refusal)
    assert found.sqlstate == "42601"
    assert why in found.message
    assert "SHOW HELP" in found.hint


def test_help_names_everything_that_can_be_said() -> None:
    told = {name.split(" [")[0] for name in MEANINGS}
    assert told == {f"SHOW {view.name}" for view in View} | {verb.name for verb in Verb}
    for statement in MEANINGS:
        assert not isinstance(read(statement.replace("[", "").replace("]", "")), Refusal)
