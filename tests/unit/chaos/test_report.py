"""A run is told with its counts and how to run it again; one that proves nothing is void."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pgherd.chaos.load import Judgement
from pgherd.chaos.report import DONE, FAILED, VOID, again, code, counts, tail
from pgherd.chaos.run import Options, Record, Struck
from pgherd.proof.history import Verdict
from pgherd.proof.probes import Findings
from pgherd.proof.reigns import Reigned

OPTIONS = Options(seed=7, minutes=2.5, apart=True)
VERDICT = Verdict(attempted=100, acknowledged=90, refused=5, indeterminate=5, rows=92)


def record(**changes: object) -> Record:
    judgement = Judgement(
        verdict=VERDICT,
        probes=Findings(acknowledged=50, refused=70, lost=(), acks=()),
        changes=10,
        reigns=(
            Reigned(4, "n1", 100, 1000.0, 1000.5, "bootstrap"),
            Reigned(5, "n2", 200, 1010.0, 1010.5, "failover"),
            Reigned(6, "n3", 300, 1020.0, 1020.5, "switchover"),
        ),
        wrong=(),
    )
    made = Record(
        options=OPTIONS,
        began=1000.0,
        struck=[
            Struck(1, "primary.isolated", 8.0, 12.0, "n1"),
            Struck(2, "slot.dropped", 15.0, 16.0, "n2", is_double=True),
            Struck(2, "replay.paused", 15.5, 17.0, "n3", is_double=True),
            Struck(3, "switchover", 19.0, 19.0, missed="refused"),
        ],
        judgement=judgement,
        first_term=4,
        seconds=30.0,
        acks=[float(at) for at in range(30)],
    )
    return msgspec.structs.replace(made, **changes)


def judged(**changes: object) -> Record:
    before = record().judgement
    assert before is not None
    return record(judgement=msgspec.structs.replace(before, **changes))


def test_a_whole_run_is_counted() -> None:
    found = counts(record())
    assert code(record()) == DONE
    assert (found["faults"], found["fault_kinds"], found["missed"]) == (3, 3, 1)
    assert (found["steps"], found["double_faults"]) == (2, 1)
    assert (found["failovers"], found["switchovers"], found["terms"]) == (1, 1, 2)
    assert (found["acknowledged"], found["lost"]) == (150, 0)


@pytest.mark.parametrize(
    ("void", "why"),
    [
        (record(first_term=5), "no failover"),
        (judged(probes=Findings(50, 0, (), ())), "no probe was refused"),
        (record(acks=[1.0, 2.0, 25.0]), "no write was acknowledged while a fault was on"),
    ],
)
def test_a_run_that_proves_nothing_is_void(void: Record, why: str, tmp_path: Path) -> None:
    assert void.void == why
    assert code(void) == VOID
    assert f"VOID: {why}" in tail(void, picture=tmp_path / "run.svg")


@pytest.mark.parametrize(
    "bad",
    [
        judged(wrong=("write 1/5 was lost",)),
        record(failure="did not come right"),
        record(failure="did not come right", judgement=None, acks=[]),
        record(bugs=["n1 logged 1 tracebacks"]),
    ],
)
def test_what_is_wrong_is_said_and_is_no_success(bad: Record, tmp_path: Path) -> None:
    assert code(bad) == FAILED
    assert "WRONG: " in tail(bad, picture=tmp_path / "run.svg")


def test_the_line_that_runs_it_again_says_every_option() -> None:
    assert again(OPTIONS) == "./dev chaos --minutes 2.5 --seed 7"
    other = Options(
        seed=1,
        minutes=1,
        apart=False,
        nodes=5,
        postgres_bin="/opt/pg/bin",
        only=("switchover",),
        leading_share=0.5,
        double_part=0.8,
        steps_max=3,
    )
    assert again(other) == (
        "./dev chaos --minutes 1 --seed 1 --loopback --nodes 5 --steps 3 --leading 0.5 "
        "--double 0.8 --postgres-bin /opt/pg/bin --only switchover"
    )
