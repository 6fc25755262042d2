"""What people are told of slots: who survives a failover, what was given up, what to type."""

from __future__ import annotations

import pytest
from plan_values import END, facts, primary, replace, standby
from slot_cases import N1, N2, N3, decoded, kept, logical, physical, wants

from pgherd.model.facts import Facts
from pgherd.model.ids import Lsn, Term
from pgherd.model.observation import ServerSeen
from pgherd.model.slots import SlotSeen
from pgherd.plan import slotadvice

COPY = logical(failover=True, synced=True)


def servers(*mine: SlotSeen, copies: tuple[SlotSeen, ...] = (), n3: bool = True):
    has = {N1: primary(replication_slots=mine), N2: standby(replication_slots=copies)}
    return has | {N3: standby(replication_slots=copies if n3 else ())}


@pytest.mark.parametrize(
    ("major", "slot", "copies", "on_both", "words"),
    [
        (15, logical(), (), True, "copies no logical slots to standbys (17 does)"),
        (18, logical(), (), True, "failover = true"),
        (18, logical(failover=True), (), True, "to n2, n3: PostgreSQL has not copied it there yet"),
        (18, logical(failover=True), (COPY,), False, "to n3"),
        (18, logical(failover=True), (replace(COPY, temporary=True),), True, "to n2, n3"),
        (18, logical(failover=True), (COPY,), True, ""),
        (18, logical(temporary=True), (), True, ""),
        (15, physical("feed"), (physical("feed"),), True, ""),
        (15, physical("own"), (), True, "pgherd slots create own"),
        (15, physical("pgherd_n2"), (), True, ""),
    ],
)
def test_who_survives(major, slot, copies, on_both, words) -> None:
    known = facts(major=major)
    said = slotadvice.at_failover(known, servers(slot, copies=copies, n3=on_both), slot)
    assert (words in said) if words else (said == "")


def test_only_the_primary_warns_of_logical_slots() -> None:
    seen = servers(logical())
    [text] = slotadvice.warnings(facts(), seen, N1)
    assert "would not survive a failover" in text
    assert slotadvice.warnings(facts(), seen, N2) == []
    assert slotadvice.warnings(facts(), {N1: ServerSeen()}, N1) == []


def warned(known: Facts, slot: SlotSeen, **server: object) -> list[str]:
    one = replace(primary(replication_slots=(slot,)), **server)
    return slotadvice.warnings(known, {N1: one}, N1)


def test_what_was_given_up_or_is_near_its_budget_is_told() -> None:
    given_up = physical("pgherd_n3", 0)
    [text] = warned(facts(), given_up)
    assert text.startswith("nothing is kept for n3, its slot was given up")
    assert "pgherd remove-node" in text
    assert warned(facts(), replace(given_up, active=True)) == []
    far = {"insert_lsn": Lsn(90 << 20)}
    [text] = warned(facts(), physical("pgherd_n3", 1), slot_budget_bytes=100 << 20, **far)
    assert "holds back 89 MB of WAL, 100 MB are its most" in text
    assert warned(facts(), physical("pgherd_n3", END), slot_budget_bytes=100 << 20) == []


def test_a_lost_kept_slot_says_what_to_type() -> None:
    """A physical one comes by itself; of a logical one the changes in between are missing."""
    known = wants(decoded(asked_in=Term(2)), kept("feed", asked_in=Term(2)))
    first, second = slotadvice.warnings(known, servers(), N1)
    assert "did not survive the last failover" in first
    assert "pgherd slots create changes --logical --database app --plugin pgoutput" in first
    assert second == "slot feed is about to be made"
    broken = slotadvice.of_kept(known, decoded(), servers(logical(lost=True)))
    assert "pgherd slots drop and create changes" in broken


def test_a_slot_of_an_earlier_reign_that_stops_copies_is_told() -> None:
    """Only where it is nobody's whom the cluster keeps: those are dropped."""
    stale = standby(replication_slots=(logical("own", failover=True),))
    [text] = slotadvice.warnings(facts(), {N2: stale}, N2)
    assert "SELECT pg_drop_replication_slot('own') on n2" in text
