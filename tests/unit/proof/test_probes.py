"""Probes keep what each node said, and notice an acknowledgement that is not there in the end."""

from __future__ import annotations

import pytest

from pgherd.proof.herd import LocalHerd
from pgherd.proof.history import Attempt, History, Outcome, WriteId
from pgherd.proof.probes import Probes, insert
from pgherd.proof.writers import dsn_of

A, R, U = Outcome.ACKNOWLEDGED, Outcome.REFUSED, Outcome.INDETERMINATE


class Three(LocalHerd):
    """Names and addresses of three nodes that nobody starts."""

    def __init__(self) -> None:
        pass

    @property
    def data(self) -> tuple[str, ...]:
        return ("n1", "n2", "n3")

    def dsn_node(self, name: str) -> str:
        return dsn_of(hosts=[(name, 5432)], user="postgres", password="x", read_write=False)


@pytest.fixture
def probes() -> Probes:
    return Probes(Three())


def attempt(node: int, seq: int, outcome: Outcome = A, reply: str = "") -> Attempt:
    return Attempt(WriteId(node, seq), float(seq), seq + 0.1, outcome, reply=reply)


def test_a_reply_keeps_node_term_and_position(probes: Probes) -> None:
    run = History((attempt(2, 7, reply="3 4096"),), 0.0, 10.0)
    [ack] = probes.findings(run, {WriteId(2, 7)}).acks
    assert (ack.node, ack.term, ack.lsn) == ("n2", 3, 4096)
    assert (ack.started, ack.finished) == (7.0, 7.1)


def test_an_acknowledged_probe_that_is_gone_is_lost(probes: Probes) -> None:
    run = History((attempt(1, 1, reply="1 100"), attempt(2, 1, reply="1 90")), 0.0, 10.0)
    found = probes.findings(run, {WriteId(1, 1)})
    assert found.lost == ("probe 1 on n2",)
    assert found.acknowledged == 2


def test_errors_and_silence_and_closed_doors_are_refusals(probes: Probes) -> None:
    run = History((attempt(1, 1, R), attempt(2, 1, U)), 0.0, 10.0, connect_failures=3)
    found = probes.findings(run, set())
    assert (found.acknowledged, found.refused, found.lost) == (0, 5, ())


def test_a_probe_asks_for_the_term_that_it_sees() -> None:
    assert "max(term)" in insert(WriteId(1, 2))
    assert "RETURNING term" in insert(WriteId(1, 2))
