"""Proves the form of labels: words of an operator's own, and what is no such word."""

from __future__ import annotations

import pytest

from pgherd.config.labels import TEXT_MAX, parse_name, parse_text
from pgherd.config.problems import Wrong


@pytest.mark.parametrize(
    ("value", "text"), [("a1", "a1"), (True, "true"), (False, "false"), (7, "7"), (1.5, "1.5")]
)
def test_what_a_label_says(value: object, text: str) -> None:
    """As Patroni compares tags: small letters for true and false, numbers as they are."""
    assert parse_text(value) == text


@pytest.mark.parametrize("value", [None, [], {}, "a\nb", "x" * (TEXT_MAX + 1)])
def test_what_no_label_says(value: object) -> None:
    """One printable word of a bounded length."""
    with pytest.raises(Wrong):
        parse_text(value)


def test_names_of_labels() -> None:
    """What can stand in a query without quoting."""
    assert [parse_name(name) for name in ("rack", "dc.row-1", "_x")] == ["rack", "dc.row-1", "_x"]
    for name in ("", "1st", "a b", "a&b", 5, "x" * 64):
        with pytest.raises(Wrong):
            parse_name(name)
