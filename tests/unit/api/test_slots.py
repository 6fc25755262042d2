"""Proves the routes of slots: what they show, wait for and refuse."""

from __future__ import annotations

import asyncio
import threading

import msgspec
import pytest

from pgherd.api import slots
from pgherd.ledger.levels import LEVEL
from pgherd.model.ids import Lsn, NodeId
from pgherd.model.pgconfig import ConfigChecked
from pgherd.model.slots import SlotKind, SlotSeen

PATH = "/api/v1/replication/slots"
N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
LOGICAL = {"name": "changes", "type": "logical", "database": "app", "plugin": "pgoutput"}
MINE = SlotSeen("pgherd_n2", SlotKind.PHYSICAL, Lsn(0x3000000), active=True)


@pytest.fixture(autouse=True)
def upgraded(herd):
    herd.current = msgspec.structs.replace(herd.current, level=LEVEL)
    herd.checked = ConfigChecked(running={"wal_level": "logical"})
    has(herd, N1, MINE)


def has(herd, node, *slots):
    herd.report_server(node, replication_slots=slots, slot_budget_bytes=10 << 30)


async def nodes_make_them(herd):
    """What member rules 1601 and 1602 do."""
    await asyncio.sleep(0.02)
    kept = [SlotSeen(s.name, s.kind, Lsn(9)) for s in herd.current.slots if not s.dropping]
    has(herd, N1, MINE, *kept)
    for node in (N2, N3):
        has(herd, node, *(slot for slot in kept if slot.kind is SlotKind.PHYSICAL))


def test_it_waits_until_the_primary_has_it(herd, client):
    herd.react = nodes_make_them
    made = client.post(PATH, json={"name": "feed"})
    assert (made.status_code, made.json()["status"]) == (200, "done"), made.text
    assert made.json()["primary"] == "n1"
    found = client.get(PATH).json()
    [kept] = found["kept"]
    assert (kept["name"], kept["state"], kept["problem"]) == ("feed", "kept", "")
    by = {(one["node"], one["name"]): one for one in found["slots"]}
    assert by["n1", "feed"]["owner"] == "kept"
    assert (by["n1", "feed"]["failover_safe"], by["n2", "feed"]["failover_safe"]) == (True, None)
    mine = by["n1", "pgherd_n2"]
    assert (mine["owner"], mine["retained_bytes"]) == ("member n2", 0x1000000)
    assert mine["budget_bytes"] == 10 << 30
    gone = client.delete(f"{PATH}/feed")
    assert (gone.status_code, gone.json()["status"]) == (200, "done"), gone.text
    assert client.get(PATH).json()["kept"][0]["state"] == "dropping"


def test_a_logical_one_says_what_a_failover_would_cost(herd, client):
    herd.react = nodes_make_them
    made = client.post(PATH, json=LOGICAL).json()
    assert "would not survive a failover" in made["advice"]
    has(herd, N1, SlotSeen("changes", SlotKind.LOGICAL, Lsn(9), database="app", plugin="pgoutput"))
    [shown] = client.get(PATH).json()["slots"][:1]
    assert shown["failover_safe"] is False
    assert "would not survive a failover" in shown["advice"]


def test_what_cannot_be_is_refused_with_what_to_do(herd, client):
    assert client.post(PATH, json={"name": "pgherd_x"}).json()["code"] == "invalid"
    assert client.delete(f"{PATH}/feed").json()["code"] == "unknown_slot"
    herd.checked = ConfigChecked(running={"wal_level": "replica"})
    refused = client.post(PATH, json=LOGICAL)
    assert (refused.status_code, refused.json()["code"]) == (412, "wal_level")
    assert "pgherd config set wal_level=logical" in refused.json()["hint"]
    herd.checked = None
    assert client.post(PATH, json=LOGICAL).json()["code"] == "unchecked"
    has(herd, N1, SlotSeen("feed", SlotKind.LOGICAL, Lsn(9), database="app"))
    other = client.post(PATH, json={"name": "feed"})
    assert (other.status_code, other.json()["code"]) == (409, "name_taken")
    assert herd.current.slots == ()


def test_a_slot_that_is_read_from_is_not_dropped(herd, client, monkeypatch):
    monkeypatch.setattr(slots, "READ_S", 0.05)
    assert client.post(f"{PATH}?wait=0", json={"name": "feed"}).status_code == 202
    has(herd, N1, SlotSeen("feed", SlotKind.PHYSICAL, Lsn(9), active=True))
    refused = client.delete(f"{PATH}/feed")
    assert (refused.status_code, refused.json()["code"]) == (409, "in_use")
    assert not herd.current.slots[0].dropping


def test_a_look_of_a_second_ago_is_no_reader(herd, client):
    """Who has just read is seen to read until the next look."""
    assert client.post(f"{PATH}?wait=0", json={"name": "feed"}).status_code == 202
    free = SlotSeen("feed", SlotKind.PHYSICAL, Lsn(9))
    has(herd, N1, msgspec.structs.replace(free, active=True))
    look = threading.Timer(0.3, has, (herd, N1, free))
    look.start()
    assert client.delete(f"{PATH}/feed?wait=0").status_code == 202
    look.join()
    assert herd.current.slots[0].dropping


def test_what_does_not_come_about_is_told(herd, client):
    """The ledger has it; why the server has not is said in the server's own words."""
    heard = herd.heard[N1]
    report = msgspec.structs.replace(heard.report, alarms=("KeepSlots: all slots are in use",))
    herd.heard[N1] = msgspec.structs.replace(heard, report=report)
    late = client.post(f"{PATH}?wait=0.05", json={"name": "feed"})
    assert late.status_code == 503
    assert "all slots are in use" in late.json()["message"]
