"""When a replica's answer is the client's, and when another server is asked."""

from __future__ import annotations

import pytest

from pgherd.relay.trial import KEPT_BYTES_MAX, Outcome, Trial
from pgherd.wire.answer import Refusal, error_response
from pgherd.wire.table import READY, completed, described, notice, row

COLUMNS = described(["x"])


def failed(code: str, severity: str = "ERROR") -> bytes:
    return error_response(Refusal(code, "no"), severity=severity)


@pytest.mark.parametrize("step", [1, 3, 10_000])
@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (COLUMNS + row(["1"]), Outcome.TAKEN),
        (COLUMNS + completed("SELECT 0"), Outcome.TAKEN),
        (COLUMNS + notice("hello"), Outcome.OPEN),
        (b"1\0\0\0\x042\0\0\0\x04" + COLUMNS + failed("25006") + READY, Outcome.AGAIN),
        (failed("42P01") + READY, Outcome.AGAIN),
        (failed("40001"), Outcome.OPEN),
        (failed("22012"), Outcome.TAKEN),
        (failed("57P01", "FATAL"), Outcome.OPEN),
        (b"I\0\0\0\x04", Outcome.TAKEN),
        (b"H\0\0\0\x07\0\0\0", Outcome.TAKEN),
    ],
)
def test_what_a_replica_says_first(said, outcome, step):
    trial = Trial(b"")
    seen = Outcome.OPEN
    for at in range(0, len(said), step):
        if seen is Outcome.OPEN:
            seen = trial.feed(said[at : at + step])
    assert seen is outcome


def test_not_everything_is_kept():
    trial = Trial(b"")
    assert trial.feed(notice("x" * (KEPT_BYTES_MAX + 1))) is Outcome.TAKEN
