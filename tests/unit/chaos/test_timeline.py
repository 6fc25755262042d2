"""Both drawings show every fault, every reign and how many were acknowledged when."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from pgherd.chaos.timeline import COLUMNS, LABEL, Bar, Story, bar, rates, svg, text

ACKS = [float(second) + part / 10 for second in range(100) for part in range(10)]
ACKS = [at for at in ACKS if not 40 <= at < 50]
STORY = Story(
    100.0,
    ACKS,
    (
        Bar("n1", 0.0, 40.0, "term 9: bootstrap", 9),
        Bar("n2", 50.0, 100.0, "term 10: failover", 10),
    ),
    (Bar("primary.isolated", 40.0, 60.0, "n1"), Bar("slot<dropped>", 99.9, 99.9, "n3 & n2")),
)


def test_rates_are_per_second() -> None:
    found = rates(ACKS, seconds=100.0, bins=10)
    assert found == pytest.approx([10, 10, 10, 10, 0, 10, 10, 10, 10, 10], abs=0.11)


def test_the_text_has_a_column_per_second() -> None:
    _, acks, primary, term, isolated, dropped = text(STORY).splitlines()
    curve = acks[LABEL + 1 :]
    assert curve[39] != " "
    assert curve[41:50].strip() == ""
    assert curve[51] != " "
    assert primary[LABEL + 1 :] == "1" * 41 + "." * 9 + "2" * 50
    assert term[LABEL + 1 :] == "9" * 41 + "." * 9 + "0" * 50
    assert isolated[LABEL + 1 :] == " " * 40 + "#" * 21 + " n1"
    assert dropped[LABEL + 1 :].index("#") == COLUMNS - 1


def test_little_is_never_drawn_as_nothing() -> None:
    assert bar(0.0) == " "
    assert bar(0.001) != " "
    assert bar(1.0) == "█"


def test_the_picture_is_well_formed_and_has_every_word() -> None:
    words = "".join(ElementTree.fromstring(svg(STORY)).itertext())
    for one in (*STORY.faults, *STORY.reigns):
        assert one.label in words
        assert one.note in words


def test_a_run_without_anything_can_be_drawn() -> None:
    nothing = Story(1.0, (), (), ())
    assert text(nothing)
    ElementTree.fromstring(svg(nothing))
