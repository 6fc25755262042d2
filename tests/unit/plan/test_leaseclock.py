"""The two clocks of a lease: whatever they do within the drift, the holder's runs out first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_values import (
    electing,
    establishing,
    facts,
    key,
    lease,
    pos,
    primary,
    promises,
    replace,
    report,
)

from pgherd.model.facts import Facts
from pgherd.model.ids import Instant, Lsn, Term
from pgherd.model.lease import (
    DRIFT_PERCENT,
    LAG_MS_MAX,
    Ask,
    expiry_ms,
    held_ms,
    margin_ms,
    renew_ms,
)
from pgherd.plan.leaseclock import ExpiryClock, HolderClock
from pgherd.plan.leases import renewal

BOOT = "boot"
TTL_MS = 10_000


def at(ms: int) -> Instant:
    return Instant(ms)


def renewed(asked_ms: int, *, by: str = BOOT, **changes: object) -> Facts:
    """Term 3 under n1, whose lease was renewed as asked at its own time."""
    return facts(lease=lease(renew_seq=1, asked=Ask(by, at(asked_ms)), **changes))


def left(known: Facts, now: int, *, clock: HolderClock | None = None, promise: int = 3) -> object:
    holder = clock or HolderClock(BOOT)
    return holder.left_ms(known, me=key(1), promise=Term(promise), now=at(now))


# --- the holder ----------------------------------------------------------------------------------


def test_the_holder_counts_from_before_it_asked() -> None:
    """10 s: 1 % of drift on both sides, 500 ms of lag and 50 ms are kept back."""
    assert margin_ms(TTL_MS) == 750
    assert left(renewed(1000), 1000) == 9250
    assert left(renewed(1000), 10_249) == 1
    assert left(renewed(1000), 10_250) == 0
    assert left(renewed(1000), 99_000) == 0


def test_who_has_no_lease_counts_on_none() -> None:
    """Another holder, another incarnation, no leader: None; none of its own renewals yet: 0."""
    assert left(facts(lease=lease(2)), 1000) is None
    assert left(facts(leader=key(1, "b1")), 1000) is None
    assert left(electing(), 1000) is None
    assert left(establishing(), 1000) is None
    assert left(facts(), 1000) == 0
    assert left(renewed(1000, expired=True), 1001) == 0


def test_a_reading_of_an_earlier_boot_means_nothing() -> None:
    """After a reboot the clock begins anew; after a restart of the agent alone it does not."""
    assert left(renewed(1000, by="before"), 1001) == 0
    assert left(renewed(1000), 1001, clock=HolderClock(BOOT)) == 9249


def test_a_later_promise_ends_the_lease() -> None:
    """The holder has sealed or closed for the next term, though it has not heard of its winner."""
    assert left(renewed(1000), 1001, promise=4) == 0


@pytest.mark.fault(90)
def test_a_loop_that_stood_still_loses_its_lease() -> None:
    """Beyond the margin only a renewal that it asks for afterwards counts; below, nothing is lost.

    Whatever stood still, the clock is read anew: time that passed unseen has passed.
    """
    holder = HolderClock(BOOT)
    assert not holder.was_late(at(2000), late_ms=margin_ms(TTL_MS), ttl_ms=TTL_MS)
    assert left(renewed(1000), 2000, clock=holder) == 8250
    assert holder.was_late(at(3000), late_ms=margin_ms(TTL_MS) + 1, ttl_ms=TTL_MS)
    assert left(renewed(1000), 3000, clock=holder) == 0
    assert left(renewed(2999), 3000, clock=holder) == 0
    assert left(renewed(3000), 3000, clock=holder) == 9250
    assert left(renewed(3000), 30_000, clock=holder) == 0


def test_a_herd_without_leases_asks_for_none() -> None:
    """Writes of a primary that an older program elected do not stop at an upgrade."""
    holder = HolderClock(BOOT)
    none, some = facts(lease=None), facts()
    assert holder.allows(none, me=key(1), promise=Term(3), now=at(1))
    assert not holder.allows(some, me=key(1), promise=Term(3), now=at(1))
    assert holder.allows(renewed(1), me=key(1), promise=Term(3), now=at(1))


def ask_of(known: Facts, asked_ms: int, *, by: str = BOOT, incarnation: str = "a1") -> object:
    """The instant that the renewal which the Raft leader makes of n1's report was asked at."""
    own = promises(1, incarnation=incarnation)
    heard = report(1, primary(position=pos(3, 700)), own, ask=Ask(by, at(asked_ms)))
    command = renewal(known, heard.report)
    return (command.ask.at, command.flush_lsn) if command is not None else None


def test_renewals_are_due_by_the_holders_clock() -> None:
    """Every quarter of the time, with how far the WAL is durable; after a reboot at once."""
    assert renew_ms(TTL_MS) == 2500
    assert ask_of(facts(), 1000) == (1000, 700)
    assert ask_of(renewed(1000), 3499) is None
    assert ask_of(renewed(1000), 3500) == (3500, 700)
    assert ask_of(renewed(9000), 10, by="next") == (10, 700)


def test_what_was_told_of_is_never_less() -> None:
    """A leader's server that was restarted has replayed less at first than it had written."""
    assert ask_of(renewed(1000, flush_lsn=Lsn(800)), 3500) == (3500, 800)


def test_nothing_is_renewed_for_who_does_not_hold_it() -> None:
    """An expired lease, one of a term that ended, another data directory, a report without ask."""
    assert ask_of(renewed(1000, expired=True), 5000) is None
    assert ask_of(electing(), 5000) is None
    assert ask_of(facts(), 5000, incarnation="b1") is None
    assert renewal(facts(), report(1, primary()).report) is None
    assert renewal(facts(), None) is None


def test_a_step_of_the_wall_clock_loses_the_lease() -> None:
    """Time may have been hid from BOOTTIME: who sets the wall clock right afterwards shows it."""
    holder = HolderClock(BOOT)
    assert not holder.was_stepped(at(1000), offset_ms=50_000)
    assert not holder.was_stepped(at(1300), offset_ms=50_900)
    assert not holder.was_stepped(at(1600), offset_ms=49_900)
    assert left(renewed(1500), 1700, clock=holder)
    assert holder.was_stepped(at(1900), offset_ms=110_000)
    assert left(renewed(1500), 1950, clock=holder) == 0
    assert not holder.was_stepped(at(2200), offset_ms=110_000)
    assert left(renewed(2000), 2300, clock=holder), "the next renewal counts again"
    assert holder.was_stepped(at(2500), offset_ms=50_000)
    assert left(renewed(2000), 2600, clock=holder) == 0


# --- the Raft leader -----------------------------------------------------------------------------


def test_a_lease_is_over_when_nobody_renewed_it_for_its_time() -> None:
    """10 s, 1 % for drift and 100 ms, from when the renewal was applied here."""
    clock = ExpiryClock()
    clock.follow(facts(), raft_term=5, now=at(1000))
    assert expiry_ms(TTL_MS) == 10_200
    assert clock.over(facts(), now=at(11_199)) == ()
    assert clock.over(facts(), now=at(11_200)) == ((1, 0),)
    known = renewed(1)
    clock.follow(known, raft_term=5, now=at(11_200))
    assert clock.over(known, now=at(21_399)) == ()
    assert clock.over(known, now=at(21_400)) == ((1, 1),)
    assert clock.over(replace(known, lease=lease(renew_seq=1, expired=True)), now=at(99_000)) == ()


def test_who_comes_to_lead_gives_every_lease_its_whole_time_again() -> None:
    """Also when the same node led before: in between somebody else may have renewed."""
    clock = ExpiryClock()
    clock.follow(facts(), raft_term=5, now=at(0))
    clock.follow(facts(), raft_term=0, now=at(3000))
    assert clock.over(facts(), now=at(99_000)) == ()
    clock.follow(facts(), raft_term=6, now=at(9000))
    assert clock.over(facts(), now=at(19_199)) == ()
    assert clock.over(facts(), now=at(19_200)) == ((1, 0),)
    clock.follow(facts(), raft_term=7, now=at(19_200))
    assert clock.over(facts(), now=at(19_200)) == ()


def test_a_former_lease_runs_beside_the_present_one() -> None:
    """Each has its own time; the winner's renewals do not prolong the other's."""
    former = lease(2, term=Term(2), renew_seq=7)
    clock, known = ExpiryClock(), facts(lease=lease(id=2, former=former))
    clock.follow(known, raft_term=5, now=at(0))
    newer = facts(lease=lease(id=2, renew_seq=1, former=former))
    clock.follow(newer, raft_term=5, now=at(6000))
    assert clock.over(newer, now=at(10_200)) == ((1, 7),)
    assert clock.over(newer, now=at(16_200)) == ((1, 7), (2, 1))


# --- both ----------------------------------------------------------------------------------------

RATE = 1_000_000
"""Parts in which clock rates are drawn: whole numbers, as the clocks count."""


def shown(true_us: int, *, rate: int, start_ms: int) -> Instant:
    """What a clock of this rate shows at a true time."""
    return Instant(start_ms + true_us * rate // RATE // 1000)


@given(
    ttl_ms=st.integers(2_000, 600_000),
    first=st.integers(RATE - 20_000, RATE + 20_000),
    apart=st.integers(-DRIFT_PERCENT * 10_000, DRIFT_PERCENT * 10_000),
    starts=st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)),
    asked_us=st.integers(0, 10**9),
    took_us=st.integers(0, 10**8),
    later_us=st.integers(0, 10**9),
)
def test_the_holders_time_is_over_first(
    ttl_ms: int,
    first: int,
    apart: int,
    starts: tuple[int, int],
    asked_us: int,
    took_us: int,
    later_us: int,
) -> None:
    """Whenever a Raft leader may let a lease expire, its holder has known it lost for the margin.

    Two clocks, one of them up to the drift faster or slower than the other; a renewal that is
    applied any time after it was asked for; any moment later.
    """
    second = first + first * apart // RATE
    ask = Ask(BOOT, shown(asked_us, rate=first, start_ms=starts[0]))
    known = facts(lease=lease(ttl_ms=ttl_ms, renew_seq=1, asked=ask))
    clock, applied_us = ExpiryClock(), asked_us + took_us
    clock.follow(known, raft_term=1, now=shown(applied_us, rate=second, start_ms=starts[1]))
    then_us = applied_us + later_us
    if not clock.over(known, now=shown(then_us, rate=second, start_ms=starts[1])):
        return
    lag_us = LAG_MS_MAX * 1000
    noticed = shown(max(asked_us, then_us - lag_us), rate=first, start_ms=starts[0])
    assert left(known, noticed) == 0
    assert held_ms(ttl_ms) < expiry_ms(ttl_ms)
