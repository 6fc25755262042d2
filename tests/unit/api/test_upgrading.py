"""Proves the routes of a minor upgrade: what is asked for, shown and refused; and the versions."""

from __future__ import annotations

import msgspec
import pytest

from pgherd.ledger.levels import LEVEL
from pgherd.model.ids import NodeId
from pgherd.model.programs import Programs

NAMES = (N1, N2, N3) = (NodeId("n1"), NodeId("n2"), NodeId("n3"))
OLD = Programs(running=150018, on_disk=150018, data_major=15)
WAITS = msgspec.structs.replace(OLD, on_disk=150019)
PATH = "/api/v1/cluster/upgrade/minor"


@pytest.fixture(autouse=True)
def all_new(herd) -> None:
    """Every program understands these commands, and every server has the older version."""
    herd.current = msgspec.structs.replace(herd.current, level=LEVEL)
    for name in NAMES:
        herd.report_server(name, programs=OLD)


def test_nothing_newer_is_an_error(herd, client):
    """It says what each runs; for a later time it is looked at then."""
    answer = client.post(PATH)
    assert (answer.status_code, answer.json()["code"]) == (412, "nothing_newer")
    assert "n1 15.18, n2 15.18, n3 15.18" in answer.json()["message"]
    assert client.post(f"{PATH}/plan").json()["code"] == "nothing_newer"
    later = client.post(PATH, json={"at": "1h"}).json()
    assert (later["nodes"], later["what"]) == (["n1", "n2", "n3"], "minor upgrade of n1, n2, n3")


def test_whose_server_is_older_than_its_programs_has_a_turn(herd, client):
    """Those and no others, the primary last; once, and shown in every view of them."""
    for name in (N1, N3):
        herd.report_server(name, programs=WAITS)
    left = client.post(PATH)
    assert (left.status_code, left.json()["code"]) == (412, "not_ready")
    assert "n2: it would stay at 15.18 under a primary of 15.19" in left.json()["message"]
    herd.report_server(N2, programs=WAITS)
    herd.report_server(N3, programs=msgspec.structs.replace(WAITS, running=150019))
    plan = client.post(f"{PATH}/plan").json()
    assert (plan["ok"], plan["order"]) == (True, ["n2", "n1"])
    made = client.post(PATH, json={"reason": "CVE"})
    assert made.status_code == 202, made.text
    work = herd.current.upkeep.work(made.json()["id"])
    assert (work.nodes, work.rolling, work.only_outdated) == ((N1, N2), True, True)
    node = client.get("/api/v1/nodes/n2").json()
    assert (node["postgresql_version"], node["postgresql_version_on_disk"]) == ("15.18", "15.19")
    told = "n1, n2: a newer PostgreSQL is installed (15.18 -> 15.19); pgherd upgrade minor"
    assert told in client.get("/api/v1/cluster/status").json()["warnings"]


def test_what_would_not_start_again_is_never_restarted(herd, client):
    """Not by force either; and it shows before anybody asks."""
    for name in (N1, N2):
        herd.report_server(name, programs=WAITS)
    herd.report_server(N3, programs=msgspec.structs.replace(OLD, on_disk=160001))
    answer = client.post(PATH, json={"force": True})
    assert (answer.status_code, answer.json()["code"]) == (412, "cannot_start")
    assert "n3: its data is of PostgreSQL 15, the programs on its disk are of 16" in answer.text
    assert "install PostgreSQL 15 there" in answer.json()["hint"]
    [mismatch] = client.get("/api/v1/cluster/health").json()["mismatches"]
    assert mismatch in client.get("/api/v1/cluster/status").json()["warnings"]
    assert mismatch in client.get("/api/v1/explain").json()["problems"]


def test_an_extension_that_a_standby_has_not_is_told(herd, client):
    """And the upgrade, whose switchover could make it the primary, asks for force."""
    for name in NAMES:
        herd.report_server(name, programs=WAITS)
    herd.report_server(N3, programs=msgspec.structs.replace(WAITS, no_extension=("postgis",)))
    answer = client.post(PATH)
    assert (answer.status_code, answer.json()["code"]) == (412, "not_ready")
    assert "n3: it has not the extension postgis" in answer.json()["message"]
    assert client.post(PATH, json={"force": True}).status_code == 202


def test_what_is_not_known_is_not_made_up(herd, client):
    """A server that does not run, as its agent reports it, and one that nobody has asked."""
    herd.report_server(N2, programs=Programs(), major=15)
    node = client.get("/api/v1/nodes/n2").json()
    assert (node["postgresql_version"], node["postgresql_version_on_disk"]) == ("15", None)
