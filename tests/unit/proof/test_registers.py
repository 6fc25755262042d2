"""Prove that the register checker passes serial runs and catches every planted fault."""

from __future__ import annotations

from random import Random

import pytest
from msgspec.structs import replace

from pgherd.proof.history import Attempt, History, Outcome, WriteId
from pgherd.proof.registers import Stored, judge, number

A, R, U = Outcome.ACKNOWLEDGED, Outcome.REFUSED, Outcome.INDETERMINATE


def id(seq: int) -> WriteId:
    return WriteId(1 + seq % 3, seq)


def attempt(seq: int, outcome: Outcome = A, *, at: float | None = None) -> Attempt:
    began = float(seq) if at is None else at
    return Attempt(id(seq), began, began + 0.5, outcome)


def history(*attempts: Attempt) -> History:
    return History(attempts, began=0.0, ended=1000.0)


def stored(seq: int, *, read: int, key: int = 0) -> Stored:
    """The change with this number, which read the change with that one; 0: none."""
    return Stored(number(id(seq)), key, number(id(read)) if read else 0, seq * 10)


def final(seq: int) -> dict[int, int]:
    return {0: number(id(seq))}


def test_each_reads_the_one_before() -> None:
    """Refused changes leave nothing, unknown ones may be there or not."""
    run = history(attempt(1), attempt(2, R), attempt(3, U), attempt(4, U), attempt(5))
    there = [stored(1, read=0), stored(3, read=1), stored(5, read=3)]
    assert judge(run, there, final(5)) == []


def test_an_acknowledged_change_that_is_gone() -> None:
    [text] = judge(history(attempt(1), attempt(2)), [stored(1, read=0)], final(1))
    assert text == f"change {number(id(2))} was acknowledged and is not there"


def test_a_refused_change_that_is_there_and_one_of_nobody() -> None:
    there = [stored(1, read=0), stored(2, read=1)]
    assert "refused and is there" in judge(history(attempt(1), attempt(2, R)), there, final(2))[0]
    assert "nobody asked" in judge(history(attempt(1)), there, final(2))[0]


def test_two_changes_of_one_value() -> None:
    """Both read 1: one of them was lost to the other."""
    run = history(attempt(1), attempt(2), attempt(3))
    there = [stored(1, read=0), stored(2, read=1), stored(3, read=1)]
    [text] = judge(run, there, final(3))
    assert "read" in text


def test_a_change_that_read_what_was_gone() -> None:
    run = history(attempt(1), attempt(2, U), attempt(3))
    [text] = judge(run, [stored(1, read=0), stored(3, read=2)], final(3))
    assert "was there" in text


def test_a_change_behind_one_that_was_asked_for_later() -> None:
    """2 was acknowledged before 1 was asked for, and counts after it."""
    run = history(attempt(1, at=50.0), attempt(2, at=10.0))
    [text] = judge(run, [stored(1, read=0), stored(2, read=1)], final(2))
    assert "acknowledged before" in text


def test_changes_that_overlap_may_count_in_either_order() -> None:
    run = history(attempt(1, at=10.2), attempt(2, at=10.0))
    assert judge(run, [stored(1, read=0), stored(2, read=1)], final(2)) == []


def test_a_register_that_holds_something_else() -> None:
    [text] = judge(history(attempt(1)), [stored(1, read=0)], {0: 0})
    assert text.startswith("register 0 holds 0")


def serial(rng: Random) -> tuple[History, list[Stored], dict[int, int]]:
    """A run of one register after another, in which some changes are refused or unknown."""
    attempts, there = [], []
    last = dict.fromkeys(range(3), 0)
    for seq in range(1, 60):
        outcome, key = rng.choice((A, A, A, R, U)), rng.randrange(3)
        attempts.append(attempt(seq, outcome))
        if outcome is A or (outcome is U and rng.random() < 0.5):
            there.append(Stored(number(id(seq)), key, last[key], seq * 10))
            last[key] = number(id(seq))
    return history(*attempts), there, last


@pytest.mark.parametrize("seed", range(30))
def test_any_serial_run_passes_and_a_dropped_or_changed_row_is_caught(seed: int) -> None:
    rng = Random(seed)
    run, there, last = serial(rng)
    assert judge(run, there, last) == []
    place = rng.randrange(len(there))
    gone = [one for one in there if one is not there[place]]
    assert judge(run, gone, last)
    wrong = [*there]
    wrong[place] = replace(there[place], read=there[place].read + 1)
    assert judge(run, wrong, last)
