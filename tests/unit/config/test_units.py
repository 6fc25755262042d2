"""Durations and sizes are read and written exactly, and nothing without a unit is guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgherd.config.units import format_duration, format_size, parse_duration_ms, parse_size_bytes


@pytest.mark.parametrize(
    ("text", "ms"),
    [("1500ms", 1500), ("3s", 3000), ("5m", 300_000), ("1.5s", 1500), ("2 h", 7_200_000), (0, 0)],
)
def test_durations_are_read(text: object, ms: int) -> None:
    assert parse_duration_ms(text) == ms


@pytest.mark.parametrize(
    ("text", "size"),
    [("16MB", 16 << 20), ("1 kB", 1024), ("2GB", 2 << 30), ("7B", 7), ("1mb", 1 << 20)],
)
def test_sizes_are_read(text: object, size: int) -> None:
    assert parse_size_bytes(text) == size


@pytest.mark.parametrize(
    "text", [5, 1.5, "5", "", "-3s", "3 weeks", None, True, "1.2345s", "s", []]
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_duration_ms(text)


@given(st.integers(min_value=0, max_value=1 << 50))
def test_what_is_written_is_read_back(value: int) -> None:
    assert parse_duration_ms(format_duration(value)) == value
    assert parse_size_bytes(format_size(value)) == value
