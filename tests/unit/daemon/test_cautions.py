"""Warnings of a node about itself: what they say, when, and for how long."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgherd.api import cautions as shown
from pgherd.daemon.cautions import SAID_FOR_MS, Cautions, clock_source
from pgherd.daemon.leasing import Leasing
from pgherd.model.facts import Facts, Mode, Phase
from pgherd.model.ids import Instant, MemberKey, NodeId, RaftId, Term
from pgherd.model.lease import Ask, Lease, margin_ms
from pgherd.model.observation import Observation, ServerSeen
from pgherd.model.promises import Promises

TTL_MS = 10_000
NOW = Instant(1_000_000)


def said(cautions: Cautions, *, mode: Mode = Mode.QUORUM, now: int = NOW) -> list[str]:
    return cautions.warnings(Facts(cluster="c", mode=mode), now=Instant(now))


@pytest.mark.parametrize(
    ("source", "mode", "warned"),
    [
        ("kvm-clock", Mode.ASYNC, True),
        ("hyperv_clocksource_tsc_page", Mode.ASYNC, True),
        ("kvm-clock", Mode.QUORUM, False),
        ("tsc", Mode.ASYNC, False),
        ("", Mode.ASYNC, False),
    ],
)
def test_a_hypervisors_clock_matters_in_mode_async(source: str, mode: Mode, warned: bool) -> None:
    """R2: the mode rests on time that may pass unseen there."""
    found = said(Cautions(source), mode=mode)
    assert [source in text and "R2" in text for text in found] == [True] * warned


def test_a_stall_beyond_the_margin_is_said_for_a_while() -> None:
    """In every mode, whether or not it cost a lease."""
    cautions = Cautions("tsc")
    cautions.stalled(NOW, late_ms=margin_ms(TTL_MS), ttl_ms=TTL_MS)
    assert said(cautions) == []
    cautions.stalled(NOW, late_ms=1800, ttl_ms=TTL_MS)
    [text] = said(cautions)
    assert "stood still for 1.8 s" in text
    assert said(cautions, now=NOW + SAID_FOR_MS) == []


def test_the_kernel_names_its_clock(tmp_path: Path) -> None:
    (tmp_path / "current").write_text("kvm-clock\n")
    assert clock_source(tmp_path / "current") == "kvm-clock"
    assert clock_source(tmp_path / "none") == ""


def test_a_wall_clock_that_is_set_costs_the_lease_until_the_next_renewal() -> None:
    """The agent tells at every waking; what was asked before the step counts no more."""
    key = MemberKey(NodeId("n1"), "a1")
    own = Promises(promise=Term(3), incarnation="a1")
    leasing = Leasing(NodeId("n1"), boot="b", tell=lambda kind, text: None)

    def facts(asked: int) -> Facts:
        lease = Lease(3, key, Term(3), TTL_MS, asked=Ask("b", Instant(asked)))
        return Facts(cluster="c", phase=Phase.STABLE, term=Term(3), leader=key, lease=lease)

    def woke(now: int, offset_ms: int) -> None:
        leasing.woke(Instant(now), late_ms=0, ttl_ms=TTL_MS, offset_ms=offset_ms)

    woke(1000, 500_000)
    woke(1200, 500_010)
    assert leasing.has(facts(1000), own, now=Instant(1300))
    assert leasing.deadline(facts(1000), own) == 10_250
    woke(1400, 560_000)
    assert not leasing.has(facts(1000), own, now=Instant(1500))
    assert leasing.deadline(facts(1000), own) is None
    assert leasing.has(facts(1400), own, now=Instant(1600))


def test_status_names_the_node_of_each_warning() -> None:
    own, blank = Promises(), ServerSeen()
    reports = [
        Observation(NodeId(name), RaftId(1), 1, blank, own, warnings=warnings)
        for name, warnings in (("n2", ("b", "c")), ("n1", ("a",)), ("n3", ()))
    ]
    assert shown.told(reports) == ["n1: a", "n2: b", "n2: c"]
