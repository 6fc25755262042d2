"""When the primary's WAL was where, on this node's own clock: how long ago a replica's place was.

Pure. A replica's lag in time is how long ago the primary began to write what the replica has not
replayed. It is measured here, from the primary's own reports, so that neither the replica's word
nor two machines' clocks matter. What was written before this node began to listen is not known:
then the lag is at least what is told.
"""

from __future__ import annotations

from pgherd.model.ids import Instant, Lsn

MARKS_MAX = 128
"""At five reports a second the newest half minute is exact to one; older ones are thinned out."""


class Trail:
    """Where the primary's WAL ended, and since when, oldest first."""

    def __init__(self) -> None:
        self._marks: list[tuple[Lsn, Instant]] = []
        self._reign: object = None

    def note(self, reign: object, end: Lsn, *, now: Instant) -> None:
        """The primary of a reign has written up to here; another reign begins another trail."""
        if reign != self._reign or (self._marks and end < self._marks[-1][0]):
            self._reign, self._marks = reign, []
        if self._marks and end == self._marks[-1][0]:
            return
        self._marks.append((end, now))
        if len(self._marks) > MARKS_MAX:
            half = MARKS_MAX // 2
            self._marks = self._marks[:half:2] + self._marks[half:]

    def lag_ms(self, at: Lsn, *, now: Instant) -> int:
        """For how long there has been more than this; 0 where there is no more."""
        beyond = next((since for end, since in self._marks if end > at), None)
        return now - beyond if beyond is not None else 0
