"""Judge a run: what the clients were told against what the database holds in the end.

Pure. Owns the record of attempts and the verdict on it (PROTOCOL.md 10, I20: union of
acknowledgements is within the rows, the rows are within the attempts, no row twice), and the
outages between acknowledgements. Making attempts is `writers`'.

How order is proved. A writer has one write under way at a time and never re-uses a sequence number,
so nothing is retried and an unknown outcome stays unknown until the rows are read. Every row keeps
two things that the *server* put there inside the same transaction: `after`, the writer's highest
sequence number that this transaction could see, and `lsn`, the WAL insert position. Hence
  - a row that did not see a write of its writer acknowledged before it began was written to a
    server that lacked an acknowledged commit (`after` too low);
  - a row whose `after` is gone stands on a commit that is no longer there (a hole), although that
    commit came first in the log;
  - of two writes of any writers, one acknowledged before the other began, the earlier has the lower
    `lsn`, also across failovers, because a new reign begins at or behind the end of everything
    acknowledged.
A write whose client gave up may be done later than its successors: a network that was cut delivers
the statement when it heals. Then it sees numbers above its own, which is no fault of anybody.
A row acknowledged later than a seal is no fault (PROTOCOL.md 6, L3): only these orders count, never
wall time against terms.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

import msgspec


class Outcome(StrEnum):
    """What a client knows of its write. Only a definite refusal by the server is `refused`."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    INDETERMINATE = "indeterminate"


class WriteId(NamedTuple):
    """A write's identity: the writer and its sequence number, from 1 upwards."""

    writer: int
    seq: int


class Attempt(msgspec.Struct, frozen=True):
    """One write as its client saw it. Times are seconds of one monotonic clock for all writers.

    reply: what the server returned with its success.
    """

    id: WriteId
    started: float
    finished: float
    outcome: Outcome
    detail: str = ""
    reply: str = ""


class Row(msgspec.Struct, frozen=True):
    """One row as found in the end; `after` and `lsn` were set by the server (see above)."""

    id: WriteId
    after: int
    lsn: int


class Mark(msgspec.Struct, frozen=True):
    """Something was done to the cluster at this time."""

    label: str
    at: float


class History(msgspec.Struct, frozen=True):
    """Everything the writers of one run know. connect_failures: refused before any write."""

    attempts: tuple[Attempt, ...]
    began: float
    ended: float
    marks: tuple[Mark, ...] = ()
    connect_failures: int = 0


class Verdict(msgspec.Struct, frozen=True):
    """What is wrong, by write, and how much was tried. `clean` says that nothing is wrong.

    lost: acknowledged and not there · duplicated: there more than once · phantom: there although
    nobody wrote it or the server refused it · reordered: stands on the wrong predecessor.
    """

    attempted: int
    acknowledged: int
    refused: int
    indeterminate: int
    rows: int
    lost: tuple[WriteId, ...] = ()
    duplicated: tuple[WriteId, ...] = ()
    phantom: tuple[WriteId, ...] = ()
    reordered: tuple[WriteId, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether the promise was kept."""
        return not (self.lost or self.duplicated or self.phantom or self.reordered)

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} acknowledged of {self.attempted} attempted "
            f"({self.refused} refused, {self.indeterminate} unknown), {self.rows} rows; "
            f"{len(self.lost)} lost, {len(self.duplicated)} duplicated, "
            f"{len(self.phantom)} phantom, {len(self.reordered)} reordered"
        )


class Outage(msgspec.Struct, frozen=True):
    """The longest time without any acknowledgement after a mark and before the next one.

    begin: the last acknowledgement before the gap · slowest_writer: the longest gap of any single
    writer · ended: False when writes had not come back by the end of the window.
    """

    label: str
    begin: float
    end: float
    slowest_writer: float
    refused: int
    indeterminate: int
    ended: bool = True

    @property
    def seconds(self) -> float:
        """The write outage."""
        return self.end - self.begin


def check(history: History, rows: Iterable[Row]) -> Verdict:
    """Compare what was promised with what is there."""
    found = list(rows)
    times = Counter(row.id for row in found)
    attempts = {attempt.id: attempt for attempt in history.attempts}
    assert len(attempts) == len(history.attempts), "a writer used a sequence number twice"
    outcomes = Counter(attempt.outcome for attempt in history.attempts)
    return Verdict(
        attempted=len(attempts),
        acknowledged=outcomes[Outcome.ACKNOWLEDGED],
        refused=outcomes[Outcome.REFUSED],
        indeterminate=outcomes[Outcome.INDETERMINATE],
        rows=len(found),
        lost=_sorted(
            id
            for id, attempt in attempts.items()
            if attempt.outcome is Outcome.ACKNOWLEDGED and id not in times
        ),
        duplicated=_sorted(id for id, count in times.items() if count > 1),
        phantom=_sorted(
            id for id in times if id not in attempts or attempts[id].outcome is Outcome.REFUSED
        ),
        reordered=_sorted(
            _wrong_predecessor(attempts, found, times) | _wrong_position(history.attempts, found)
        ),
    )


def outages(history: History) -> tuple[Outage, ...]:
    """One outage per mark, in the order of the marks.

    The last window ends with the first acknowledgement after the run, where one came: a pause that
    the end of the run cut is no outage that never ended.
    """
    marks = sorted(history.marks, key=attrgetter("at"))
    told = (a.finished for a in history.attempts if a.outcome is Outcome.ACKNOWLEDGED)
    last = Mark("", min((at for at in told if at >= history.ended), default=history.ended))
    return tuple(_outage(history, one, until=next.at) for one, next in pairwise([*marks, last]))


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile; 100 is the maximum."""
    assert values
    assert 0 <= percent <= 100
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


def _sorted(ids: Iterable[WriteId]) -> tuple[WriteId, ...]:
    return tuple(sorted(ids))


def _wrong_predecessor(
    attempts: dict[WriteId, Attempt], rows: list[Row], present: Counter[WriteId]
) -> set[WriteId]:
    """Rows that missed an acknowledged write of their writer, or that stand on a hole."""
    acknowledged: dict[int, list[int]] = {}
    late = {id for id, attempt in attempts.items() if attempt.outcome is Outcome.INDETERMINATE}
    for id, attempt in attempts.items():
        if attempt.outcome is Outcome.ACKNOWLEDGED:
            acknowledged.setdefault(id.writer, []).append(id.seq)
    for numbers in acknowledged.values():
        numbers.sort()
    wrong = set()
    for row in rows:
        earlier = acknowledged.get(row.id.writer, [])
        before = bisect_left(earlier, row.id.seq)
        lowest = earlier[before - 1] if before else 0
        hole = row.after > 0 and WriteId(row.id.writer, row.after) not in present
        if row.after < lowest or hole or (row.after >= row.id.seq and row.id not in late):
            wrong.add(row.id)
    return wrong


def _wrong_position(attempts: Sequence[Attempt], rows: list[Row]) -> set[WriteId]:
    """Rows whose WAL position is not behind every write acknowledged before they began."""
    position = {row.id: row.lsn for row in rows}
    there = [attempt for attempt in attempts if attempt.id in position]
    done = sorted(
        (attempt for attempt in there if attempt.outcome is Outcome.ACKNOWLEDGED),
        key=attrgetter("finished"),
    )
    wrong = set()
    highest, taken = -1, 0
    for attempt in sorted(there, key=attrgetter("started")):
        while taken < len(done) and done[taken].finished < attempt.started:
            highest = max(highest, position[done[taken].id])
            taken += 1
        if position[attempt.id] <= highest:
            wrong.add(attempt.id)
    return wrong


def _outage(history: History, mark: Mark, *, until: float) -> Outage:
    acknowledged = [a for a in history.attempts if a.outcome is Outcome.ACKNOWLEDGED]
    begin, end, ended = _longest_gap(
        sorted(a.finished for a in acknowledged), since=mark.at, until=until, floor=history.began
    )
    by_writer: dict[int, list[float]] = {a.id.writer: [] for a in history.attempts}
    for attempt in acknowledged:
        by_writer[attempt.id.writer].append(attempt.finished)
    gaps = (
        _longest_gap(sorted(times), since=mark.at, until=until, floor=history.began)
        for times in by_writer.values()
    )
    inside = Counter(a.outcome for a in history.attempts if mark.at <= a.finished <= until)
    return Outage(
        label=mark.label,
        begin=begin,
        end=end,
        slowest_writer=max((gap[1] - gap[0] for gap in gaps), default=end - begin),
        refused=inside[Outcome.REFUSED],
        indeterminate=inside[Outcome.INDETERMINATE],
        ended=ended,
    )


def _longest_gap(
    times: list[float], *, since: float, until: float, floor: float
) -> tuple[float, float, bool]:
    """The longest gap that touches [since, until]: from the last time before it to its end."""
    before = bisect_left(times, since)
    first = times[before - 1] if before else floor
    inside = [time for time in times[before:] if time <= until]
    points = [first, *inside, until]
    begin, end = max(pairwise(points), key=lambda gap: gap[1] - gap[0])
    return begin, end, end != until or until in inside
