"""Names and texts in commands are quoted so that a server reads them back unchanged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgherd.postgres.statement import compose, identifier, literal


def test_parts_are_quoted_for_their_place():
    """A role's name and its secret."""
    made = compose("ALTER ROLE {} PASSWORD {}", identifier('a"b'), literal("it's"))
    assert made == "ALTER ROLE \"a\"\"b\" PASSWORD 'it''s'"


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_literal_ends_only_at_its_end(text):
    """No quote or backslash inside is left single."""
    made = literal(text)
    inner = made.lstrip()
    if inner.startswith("E"):
        assert inner[2:-1].replace("\\\\", "\\").replace("''", "'") == text
    else:
        assert "\\" not in made
        assert inner[1:-1].replace("''", "'") == text


@pytest.mark.parametrize("quote", [identifier, literal])
def test_a_zero_byte_is_refused(quote):
    """PostgreSQL has none."""
    with pytest.raises(ValueError, match="zero byte"):
        quote("a\0b")
