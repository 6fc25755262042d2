"""Prove that the history checker passes clean runs and catches every planted fault."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgherd.proof.history import (
    Attempt,
    History,
    Mark,
    Outcome,
    Row,
    WriteId,
    check,
    outages,
    percentile,
)

A, R, U = Outcome.ACKNOWLEDGED, Outcome.REFUSED, Outcome.INDETERMINATE


def attempt(seq: int, outcome: Outcome = A, *, writer: int = 1, at: float | None = None) -> Attempt:
    began = seq * 1.0 if at is None else at
    return Attempt(WriteId(writer, seq), began, began + 0.5, outcome)


def row(seq: int, *, after: int | None = None, writer: int = 1, lsn: int | None = None) -> Row:
    return Row(
        WriteId(writer, seq),
        seq - 1 if after is None else after,
        seq * 100 if lsn is None else lsn,
    )


def history(*attempts: Attempt, marks: tuple[Mark, ...] = (), ended: float = 100.0) -> History:
    return History(attempts, began=0.0, ended=ended, marks=marks)


def ids(*numbers: int) -> tuple[WriteId, ...]:
    return tuple(WriteId(1, number) for number in numbers)


def test_a_clean_run_passes_and_is_counted() -> None:
    """Refused writes leave nothing, unknown ones may be there or not."""
    run = history(attempt(1), attempt(2, R), attempt(3, U), attempt(4, U), attempt(5))
    verdict = check(run, [row(1), row(3, after=1), row(5, after=3)])
    assert verdict.clean
    assert (verdict.attempted, verdict.acknowledged, verdict.refused) == (5, 2, 1)
    assert (verdict.indeterminate, verdict.rows) == (2, 3)


def test_an_unknown_write_may_commit_behind_its_successor() -> None:
    """A commit released late is no fault: its successor did not see it and need not have."""
    run = history(attempt(1), attempt(2, U), attempt(3))
    assert check(run, [row(1), row(2, after=1, lsn=200), row(3, after=1)]).clean


def test_an_acknowledged_write_that_is_gone_is_lost() -> None:
    run = history(attempt(1), attempt(2), attempt(3))
    verdict = check(run, [row(1), row(2)])
    assert verdict.lost == ids(3)
    assert not verdict.reordered


def test_a_lost_write_in_the_middle_is_lost_and_a_hole() -> None:
    """The successor saw the lost write: the log has a hole that no failover may make."""
    run = history(attempt(1), attempt(2), attempt(3))
    verdict = check(run, [row(1), row(3)])
    assert verdict.lost == ids(2)
    assert verdict.reordered == ids(3)


def test_a_row_twice_is_a_duplicate() -> None:
    verdict = check(history(attempt(1)), [row(1), row(1)])
    assert verdict.duplicated == ids(1)


def test_a_row_that_nobody_wrote_is_a_phantom() -> None:
    verdict = check(history(attempt(1)), [row(1), row(2)])
    assert verdict.phantom == ids(2)


def test_a_refused_write_that_is_there_is_a_phantom() -> None:
    verdict = check(history(attempt(1), attempt(2, R)), [row(1), row(2)])
    assert verdict.phantom == ids(2)


def test_a_row_that_missed_an_acknowledged_predecessor_is_reordered() -> None:
    """Nothing is lost in the end, but a stale server took the third write."""
    run = history(attempt(1), attempt(2), attempt(3))
    verdict = check(run, [row(1), row(2), row(3, after=1)])
    assert verdict.reordered == ids(3)
    assert not verdict.lost


def test_a_row_that_saw_its_own_future_is_reordered() -> None:
    verdict = check(history(attempt(1), attempt(2)), [row(1, after=2), row(2)])
    assert ids(1)[0] in verdict.reordered


def test_a_write_that_was_given_up_may_be_done_after_its_successors() -> None:
    """The network delivers its statement when it heals; found by chaos on real clusters."""
    run = history(attempt(1), attempt(2, U), attempt(3))
    there = [row(1), row(2, after=3, lsn=400), row(3, after=1)]
    assert check(run, there).clean
    told = history(attempt(1), attempt(2), attempt(3))
    assert WriteId(1, 2) in check(told, there).reordered


def test_a_hole_behind_an_unknown_write_is_reordered() -> None:
    """Number 3 saw number 2; that 2 was unknown to its client does not allow it to vanish."""
    run = history(attempt(1), attempt(2, U), attempt(3))
    assert check(run, [row(1), row(3, after=2)]).reordered == ids(3)


def test_positions_order_writes_of_different_writers() -> None:
    """A write begun after another's acknowledgement lies behind it in the log."""
    first, second = attempt(1, writer=1, at=1.0), attempt(1, writer=2, at=2.0)
    good = [row(1, lsn=100), row(1, writer=2, lsn=200)]
    bad = [row(1, lsn=300), row(1, writer=2, lsn=200)]
    assert check(history(first, second), good).clean
    assert check(history(first, second), bad).reordered == (WriteId(2, 1),)


def test_overlapping_writes_may_lie_in_either_order() -> None:
    first, second = attempt(1, writer=1, at=1.0), attempt(1, writer=2, at=1.2)
    rows = [row(1, lsn=300), row(1, writer=2, lsn=200)]
    assert check(history(first, second), rows).clean


def test_a_sequence_number_used_twice_is_our_own_fault() -> None:
    with pytest.raises(AssertionError, match="twice"):
        check(history(attempt(1), attempt(1)), [])


def serial_run(seed: int, size: int) -> tuple[list[Attempt], list[Row]]:
    """A correct database: one log, clients that sometimes miss the answer."""
    chance = random.Random(seed)
    attempts: list[Attempt] = []
    rows: list[Row] = []
    last, clock = {1: 0, 2: 0, 3: 0}, 0.0
    for number in range(size):
        writer = chance.randint(1, 3)
        seq = len([a for a in attempts if a.id.writer == writer]) + 1
        outcome = chance.choice([A, A, A, A, R, U])
        attempts.append(Attempt(WriteId(writer, seq), clock, clock + 1, outcome))
        clock += 1 + chance.random()
        if outcome is A or (outcome is U and chance.random() < 0.5):
            rows.append(Row(WriteId(writer, seq), last[writer], 1000 + number * 10))
            last[writer] = seq
    return attempts, rows


@given(seed=st.integers(0, 10_000))
def test_any_serial_run_passes(seed: int) -> None:
    """No false alarm, whatever the mix of outcomes."""
    attempts, rows = serial_run(seed, 60)
    assert check(history(*attempts), rows).clean


@given(seed=st.integers(0, 10_000))
def test_any_single_planted_fault_is_caught(seed: int) -> None:
    """One fault of each kind, at a random place of a random run, each named by its own field."""
    attempts, rows = serial_run(seed, 60)
    chance = random.Random(seed)
    known = {a.id: a for a in attempts}
    victim = chance.choice([r for r in rows if known[r.id].outcome is A])
    run = history(*attempts)
    without = [r for r in rows if r is not victim]
    assert check(run, without).lost == (victim.id,)
    assert check(run, [*rows, victim]).duplicated == (victim.id,)
    stranger = Row(WriteId(9, 1), 0, victim.lsn)
    assert check(run, [*rows, stranger]).phantom == (stranger.id,)
    swapped = [*without, Row(victim.id, victim.id.seq, victim.lsn)]
    assert victim.id in check(run, swapped).reordered
    moved = [*without, Row(victim.id, victim.after, 0)]
    earlier = [r for r in rows[: rows.index(victim)] if known[r.id].outcome is A]
    assert bool(check(run, moved).reordered) is bool(earlier)


def test_an_outage_reaches_from_the_last_acknowledgement_to_the_first() -> None:
    """The kill came at 10.2, between two acknowledgements; writes were back at 13."""
    done = [attempt(n, at=n - 0.5) for n in (*range(1, 11), *range(13, 20))]
    assert outages(history(*done)) == ()
    [outage] = outages(history(*done, marks=(Mark("kill", 10.2),), ended=19.0))
    assert (outage.begin, outage.end, outage.ended) == (10.0, 13.0, True)
    assert outage.seconds == 3.0


def test_each_mark_has_its_own_window() -> None:
    """A gap long after the mark counts for it, until the next mark begins a window."""
    times = [1, 2, 3, 4, 8, 9, 10, 11, 17, 18]
    done = [attempt(n, at=n - 0.5) for n in times]
    marks = (Mark("first", 2.5), Mark("second", 9.5))
    first, second = outages(history(*done, marks=marks, ended=18.5))
    assert (first.label, first.seconds) == ("first", 4.0)
    assert (second.label, second.seconds) == ("second", 6.0)


def test_writes_that_never_come_back_are_an_outage_without_end() -> None:
    done = [attempt(n, at=n - 0.5) for n in (1, 2, 3)]
    [outage] = outages(history(*done, marks=(Mark("kill", 2.5),), ended=30.0))
    assert not outage.ended
    assert outage.seconds == 27.0


def test_the_end_of_a_run_cuts_no_pause_in_two() -> None:
    """The writes after the run are what tells a pause from an outage without end."""
    done = [attempt(n, at=n - 0.5) for n in (1, 2, 3, 6)]
    [outage] = outages(history(*done, marks=(Mark("kill", 2.5),), ended=5.5))
    assert (outage.begin, outage.end, outage.ended) == (3.0, 6.0, True)


def test_one_stuck_writer_shows_beside_the_outage_of_all() -> None:
    """Writer 2 stands still for 8 s while writer 1 goes on: no outage, and still to be seen."""
    done = [attempt(n, at=n - 0.5) for n in range(1, 20)]
    done += [attempt(n, at=n - 0.5, writer=2) for n in (1, 2, 10, 11, 19)]
    [outage] = outages(history(*done, marks=(Mark("kill", 2.2),), ended=19.0))
    assert outage.seconds == 1.0
    assert outage.slowest_writer == 8.0


def test_percentiles_are_nearest_rank() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [percentile(values, p) for p in (0, 50, 99, 100)] == [1.0, 3.0, 5.0, 5.0]
