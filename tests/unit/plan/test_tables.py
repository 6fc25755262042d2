"""The tables as such: numbers are unique, sentences are sentences, the page is up to date."""

from __future__ import annotations

from pathlib import Path

from pgherd.plan import herd, member
from pgherd.plan.reference import page

ROOT = Path(__file__).parents[3]


def test_numbers_are_unique() -> None:
    """A number names one rule of all, and is never used again."""
    numbers = [rule.number for rule in (*herd.RULES, *member.RULES)]
    assert len(numbers) == len(set(numbers))


def test_sentences_are_for_people() -> None:
    """Every rule says in one sentence what it does."""
    for rule in (*herd.RULES, *member.RULES):
        assert rule.sentence.endswith("."), rule.number
        assert rule.sentence[0].isupper(), rule.number


def test_page_is_up_to_date() -> None:
    """docs/reference/rules.md is what the tables say; remake it with pgherd.plan.reference."""
    written = (ROOT / "docs" / "reference" / "rules.md").read_text(encoding="utf-8")
    assert written == page(), "run: python -m pgherd.plan.reference > docs/reference/rules.md"
