"""I21: single-row registers, read and written in one transaction, are linearizable.

Pure. Every change of a register reads what is there and puts its own number, under the row's lock,
so the order of changes that counts is forced: each read the one before it. Owns the verdict on such
an order: no change was read by two, none is missing in between, none that was acknowledged before
another was asked for comes after it, and no acknowledged one is missing. Used by the simulator and
by runs on real clusters alike; changing registers is theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from pgherd.proof.history import History, Outcome, WriteId

WRITES_MAX = 10_000_000
"""Writes per writer: a change's number is its writer's number times this, plus its own."""


class Change(msgspec.Struct):
    """One change of one register. read: the change that was there, 0 = none.

    Times are of one clock, in any unit; acked_at: None where nobody was told.
    """

    row: int
    key: int
    read: int
    asked_at: float
    acked_at: float | None = None


class Stored(msgspec.Struct, frozen=True):
    """A change as the database holds it in the end; lsn was set while the register was locked."""

    row: int
    key: int
    read: int
    lsn: int


def problem(changes: Mapping[int, Change], rows: Iterable[int]) -> str:
    """What is wrong with changes in the order in which they count; "" when nothing is."""
    last: dict[int, int] = {}
    latest: dict[int, Change] = {}
    for row in rows:
        change = changes.get(row)
        if change is None:
            continue
        key, before = change.key, last.get(change.key, 0)
        if change.read != before:
            return f"register {key}: {row} read {change.read}, but {before} was there"
        last[key] = row
        newest = latest.get(key)
        if change.acked_at is None:
            continue
        if newest is not None and change.acked_at < newest.asked_at:
            return f"register {key}: {row} was acknowledged before {newest.row} was asked for"
        if newest is None or change.asked_at > newest.asked_at:
            latest[key] = change
    return ""


def judge(history: History, stored: Iterable[Stored], final: Mapping[int, int]) -> list[str]:
    """Everything that is wrong with the registers of a run. final: what each register holds."""
    found = sorted(stored, key=lambda one: one.lsn)
    attempts = {number(attempt.id): attempt for attempt in history.attempts}
    there = {one.row for one in found}
    wrong = []
    for row, attempt in attempts.items():
        if attempt.outcome is Outcome.ACKNOWLEDGED and row not in there:
            wrong.append(f"change {row} was acknowledged and is not there")
        if attempt.outcome is Outcome.REFUSED and row in there:
            wrong.append(f"change {row} was refused and is there")
    wrong += [f"change {row} is there, but nobody asked for it" for row in there - attempts.keys()]
    changes = {}
    for one in found:
        asked = attempts.get(one.row)
        if asked is None:
            continue
        told = asked.outcome is Outcome.ACKNOWLEDGED
        acked_at = asked.finished if told else None
        changes[one.row] = Change(one.row, one.key, one.read, asked.started, acked_at)
    broken = problem(changes, [one.row for one in found])
    last = {one.key: one.row for one in found}
    wrong += [broken] if broken else []
    wrong += [
        f"register {key} holds {value}, but {last.get(key, 0)} was put last"
        for key, value in sorted(final.items())
        if value != last.get(key, 0)
    ]
    return wrong


def number(id: WriteId) -> int:
    """A change's number, never 0."""
    assert 0 < id.seq < WRITES_MAX
    return id.writer * WRITES_MAX + id.seq
