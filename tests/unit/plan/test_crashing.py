"""Servers that die again and again, or come up slowly: who waits for them, and for how long."""

from __future__ import annotations

import pytest
from mode_cases import SEAL2, SEAL3, STARTING1, ended
from plan_values import NOW, electing, facts, look, myself, promises, replace, report

from pgherd.model import action as act
from pgherd.model.ids import Instant
from pgherd.model.observation import Heard, Recovery, Server, ServerSeen
from pgherd.model.policy import Policy
from pgherd.plan import herd
from pgherd.plan.crashing import (
    DEATHS_MAX,
    PAUSE_MS_MAX,
    comes_up_in_time,
    pause_ms,
    progress,
)
from pgherd.plan.member import decide

STOPPED = ServerSeen(state=Server.STOPPED, system_id="73", since=NOW)
SLOW = Recovery(total_bytes=9 << 30, left_bytes=3 << 30, left_ms=400_000)
QUICK = replace(SLOW, left_ms=40_000)


def test_pauses_grow_to_a_limit() -> None:
    """The first death is answered at once."""
    pauses = [pause_ms(crashes) for crashes in range(9)]
    assert pauses[:2] == [0, 0]
    assert pauses == sorted(pauses)
    assert pauses[DEATHS_MAX:] == [PAUSE_MS_MAX] * (9 - DEATHS_MAX)


@pytest.mark.parametrize("known", [facts(), electing()], ids=["leads", "is elected"])
@pytest.mark.parametrize(("crashes", "down_ms", "rule"), [(1, 0, 0), (3, 1999, 64), (3, 2000, 0)])
def test_a_start_waits_for_its_pause(known: object, crashes: int, down_ms: int, rule: int) -> None:
    """Whatever the server would be started for."""
    server = replace(STOPPED, crashes=crashes, since=Instant(NOW - down_ms))
    planned = decide(myself(known, server, me=1))
    if rule:
        assert (planned.rule, planned.action) == (64, None)
        assert planned.reason == "died 3 times in a row: is started 2 s after the last"
    else:
        assert isinstance(planned.action, act.StartStandby)


def test_a_copy_does_not_wait() -> None:
    """Who is copied anew is another server."""
    server = replace(STOPPED, crashes=7)
    dirty = decide(myself(facts(), server, me=2, promises=promises(2, dirty_rewind=True)))
    assert dirty.rule == 52
    assert decide(myself(facts(), server, me=2, dead_end=True)).rule == 52


@pytest.mark.parametrize(
    ("changes", "waited_ms", "worth"),
    [
        ({}, 0, True),
        ({}, 300_000, False),
        ({"crashes": DEATHS_MAX - 1}, 0, True),
        ({"crashes": DEATHS_MAX}, 0, False),
        ({"recovery": QUICK}, 250_000, True),
        ({"recovery": QUICK}, 270_000, False),
        ({"recovery": SLOW}, 0, False),
        ({"recovery": replace(SLOW, left_ms=-1)}, 0, True),
    ],
)
def test_whether_to_wait(changes: dict[str, object], waited_ms: int, worth: bool) -> None:
    """Up to start_timeout, not for what is known to take longer, nor for what dies each time."""
    server = replace(STOPPED, **changes)
    assert comes_up_in_time(server, Policy(), waited_ms=waited_ms) is worth


@pytest.mark.parametrize(
    ("changes", "rule"),
    [({}, 307), ({"recovery": QUICK}, 307), ({"recovery": SLOW}, 306), ({"crashes": 9}, 306)],
    ids=["comes up", "soon", "too late", "dies again"],
)
def test_mode_async_fails_over_when_that_is_quicker(changes: dict[str, object], rule: int) -> None:
    """Its lease is over and another one is sealed within max_lag."""
    old = report(1, replace(STARTING1.report.server, **changes), promises=STARTING1.report.promises)
    seen = look(ended(), old, SEAL2, SEAL3, phase_since=Instant(NOW - 2000))
    decision = herd.decide(seen.facts, view=seen.view, policy=seen.policy, now=seen.now)
    assert decision.rule == rule
    assert (decision.command is None) == (rule == 307)


def test_the_estimate_is_told() -> None:
    """In the reason of who waits for it, and of the node itself."""
    text = "3072 of 9216 MB of WAL are left, about 40 s"
    assert progress(QUICK) == text
    assert progress(replace(QUICK, left_ms=-1)) == "3072 of 9216 MB of WAL are left"
    starting = replace(STOPPED, state=Server.STARTING, recovery=QUICK)
    assert decide(myself(facts(), starting, me=1)).reason == f"the server is starting: {text}"
    alone = electing(sync=replace(facts().sync, voters=(), r=0))
    seen = look(alone, report(1, starting), SEAL2, SEAL3)
    decision = herd.decide(seen.facts, view=seen.view, policy=seen.policy, now=seen.now)
    assert decision.rule == 304
    assert decision.reason.endswith(f"it comes up: {text}")


@pytest.mark.parametrize(
    ("changes", "others", "begins"),
    [
        ({}, (), True),
        ({"sync": replace(facts().sync, voters=(), k=0, r=0, names=(), names_k=0)}, (), False),
        ({}, (report(2, replace(STOPPED)),), False),
    ],
    ids=["two voters run", "writes alone", "one of two needed voters is down"],
)
def test_a_server_that_cannot_write_goes_on_where_nobody_else_can(
    changes: dict[str, object], others: tuple[Heard, ...], begins: bool
) -> None:
    """A restart would not let it write any sooner; one that takes no connection is another case."""
    known = facts(**changes)
    for writes_hang in (True, False):
        hung = report(1, replace(STOPPED, state=Server.HUNG, writes_hang=writes_hang))
        seen = look(known, hung, *others)
        decision = herd.decide(known, view=seen.view, policy=seen.policy, now=NOW)
        assert decision.rule == 202
        assert (decision.command is not None) == (begins or not writes_hang)
    assert decide(myself(known, hung.report.server, me=1)).action is None
