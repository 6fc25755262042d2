"""Proves `slots list`, `create` and `drop`: what is shown, asked for, and asked before."""

from __future__ import annotations

import json

import msgspec
import pytest

from pgherd.ledger.levels import LEVEL
from pgherd.model.ids import Lsn
from pgherd.model.slots import SlotKind, SlotSeen

HELD = SlotSeen("pgherd_n2", SlotKind.PHYSICAL, Lsn(0x3000000), active=True)
OWN = SlotSeen("own", SlotKind.LOGICAL, Lsn(0x3000000), database="app", plugin="pgoutput")


@pytest.fixture(autouse=True)
def upgraded(herd):
    herd.current = msgspec.structs.replace(herd.current, level=LEVEL)
    herd.report_server("n1", replication_slots=(HELD, OWN), slot_budget_bytes=1 << 30)


async def made(herd):
    feed = SlotSeen("feed", SlotKind.PHYSICAL, Lsn(9))
    kept = (feed,) if any(not slot.dropping for slot in herd.current.slots) else ()
    herd.report_server("n1", replication_slots=(HELD, OWN, *kept))


def test_they_are_made_shown_and_dropped(herd, served, pgherd):
    url = ("--api-url", served.url)
    herd.react = made
    done = pgherd("slots", "create", "feed", *url)
    assert (done.code, done.out) == (0, "slot feed exists on n1\n"), done.err
    assert "physical slot feed is on this node only" in done.err
    shown = pgherd("slots", "list", *url).out
    row = next(line for line in shown.splitlines() if line.startswith("pgherd_n2"))
    assert " ".join(row.split()) == "pgherd_n2 n1 physical member n2 yes 16.0 MB 1.0 GB no yes"
    assert "! n1: logical slot own of app would not survive a failover" in shown
    found = json.loads(pgherd("slots", "list", *url, "-o", "json").out)
    assert [one["name"] for one in found["kept"]] == ["feed"]
    asked = pgherd("slots", "drop", "feed", *url)
    assert (asked.code, "plan: drop slot feed everywhere" in asked.err) == (2, True)
    assert not herd.current.slots[0].dropping
    gone = pgherd("slots", "drop", "feed", "--yes", *url)
    assert (gone.code, gone.out) == (0, "slot feed is gone\n"), gone.err
    assert "! feed is dropping" in pgherd("slots", "list", *url).out


def test_what_is_missing_is_asked_for(herd, served, pgherd):
    url = ("--api-url", served.url)
    assert "add --database" in pgherd("slots", "create", "x", "--logical", *url).err
    assert "add --logical" in pgherd("slots", "create", "x", "--plugin", "pgoutput", *url).err
    unknown = pgherd("slots", "drop", "own", "--yes", *url)
    assert (unknown.code != 0, "pg_drop_replication_slot" in unknown.err) == (True, True)
    assert herd.current.slots == ()
