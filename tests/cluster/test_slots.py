"""Slots and what a commit waits for, as people ask for them; seen on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from test_byhand import events, fetched

from conftest import FLAVOURS
from pgherd.proof.client import NoAnswer
from pgherd.proof.herd import LocalHerd

SOON_S = 30.0
SLOTS = "/replication/slots"
SYNC = "/replication/sync"
NAMES = "SELECT slot_name::text FROM pg_replication_slots WHERE NOT temporary ORDER BY 1"
SEGMENT = "SELECT pg_logical_emit_message(false, 'test', 'x'); SELECT pg_switch_wal()"


def names(herd: LocalHerd, name: str) -> list[object]:
    return [row[0] for row in herd.query(name, NAMES)]


def members(herd: LocalHerd, name: str) -> list[str]:
    return [f"pgherd_{other}" for other in herd.nodes if other != name]


def tune(herd: LocalHerd, **wanted: Any) -> dict[str, Any]:
    found: dict[str, Any] = herd.ask(SYNC, method="PATCH", body=wanted, timeout_s=SOON_S)
    return found


def voters(herd: LocalHerd) -> list[str]:
    found: list[str] = herd.ask(SYNC)["in_force"]["voters"]
    return found


def refusal(herd: LocalHerd, path: str, method: str, body: Any = None) -> str:
    with pytest.raises(NoAnswer) as refused:
        herd.ask(path, method=method, body=body, timeout_s=SOON_S)
    return str(refused.value)


def slots_of(herd: LocalHerd, name: str) -> dict[str, dict[str, Any]]:
    found = herd.ask(SLOTS)["slots"]
    return {one["name"]: one for one in found if one["node"] == name}


def shown(herd: LocalHerd, name: str, parameter: str) -> str:
    [row] = herd.query(name, f"SHOW {parameter}")
    return str(row[0])


@pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)
def test_every_node_has_slots_and_gives_them_up_before_its_disk_is_full(herd: LocalHerd) -> None:
    primary = herd.wait_primary()
    away = next(name for name in herd.nodes if name != primary)
    for name in herd.nodes:
        herd.wait_for(
            lambda name=name: names(herd, name) == members(herd, name),  # type: ignore[misc] # binds it
            f"slots of the others on {name}",
            deadline_s=SOON_S,
        )
    feed = herd.ask(SLOTS, method="POST", body={"name": "feed"}, timeout_s=SOON_S)
    assert (feed["status"], feed["primary"]) == ("done", primary)
    herd.wait_for(
        lambda: slots_of(herd, primary)["feed"]["failover_safe"], "copies", deadline_s=SOON_S
    )
    assert all("feed" in names(herd, name) for name in herd.nodes)
    wrong = {"name": "changes", "type": "logical", "database": "postgres", "plugin": "pgoutput"}
    assert "wal_level = logical" in refusal(herd, SLOTS, "POST", wrong)
    assert "begin with pgherd_" in refusal(herd, SLOTS, "POST", {"name": "pgherd_x"})

    # A member that is away holds WAL back, until the disk is nearly full.
    herd.kill_node(away)
    for _ in range(5):
        herd.query(primary, SEGMENT)
    held = f"pgherd_{away}"
    herd.wait_for(
        lambda: slots_of(herd, primary)[held]["retained_bytes"] > 64 << 20, "WAL", deadline_s=SOON_S
    )
    herd.reload_node(primary, {"replication": {"slots": {"min_free_disk": "1000TB"}}})
    herd.wait_for(lambda: not slots_of(herd, primary)[held]["lsn"], "given up", deadline_s=SOON_S)
    assert any(f"nothing is kept for {away}" in text for text in herd.status()["warnings"])
    assert f"slot {held} kept " in events(herd, primary)
    assert "pgherd_slots_given_up_total 1.0" in fetched(herd, primary, "/metrics")
    assert f'pgherd_slot_keeps_nothing{{slot="{held}"}} 1.0' in fetched(herd, primary, "/metrics")
    herd.reload_node(primary, {"replication": {"slots": {"min_free_disk": "64MB"}}})
    herd.ask(f"{SLOTS}/feed", method="DELETE", timeout_s=SOON_S)
    assert "feed" not in names(herd, primary)
    assert [one["state"] for one in herd.ask(SLOTS)["kept"]] == ["dropping"]

    # It comes back through the same slot, and without the one that was dropped meanwhile.
    herd.start_node(away)
    herd.wait_stable(60)
    herd.wait_for(
        lambda: slots_of(herd, primary)[held]["lsn"], "a slot that holds", deadline_s=SOON_S
    )
    herd.wait_for(lambda: not herd.ask(SLOTS)["kept"], "forgotten", deadline_s=SOON_S)
    assert names(herd, away) == members(herd, away)


@pytest.mark.parametrize("stable", ["debian-15"], indirect=True)
def test_commits_wait_as_people_ask(herd: LocalHerd) -> None:
    """A weaker wait counts on the primary alone and is told; who is slow leaves by the ledger."""
    primary = herd.wait_primary()
    slow, other = (name for name in herd.nodes if name != primary)
    found = tune(herd, synchronous_commit="local")
    assert (found["synchronous_commit"], found["synchronous_commit_in_force"]) == ("local", True)
    assert "a failover may lose the newest" in found["promise"]
    assert any("synchronous_commit = local" in text for text in herd.status()["warnings"])
    assert shown(herd, primary, "synchronous_commit") == "local"
    assert shown(herd, other, "synchronous_commit") == "on"
    assert "mode strict" in refusal(herd, SYNC, "PATCH", {"replication": "strict"})
    found = tune(herd, synchronous_commit="remote_apply", max_lag_bytes=1 << 20)
    assert (found["warnings"], found["all_healthy"]) == ([], True)
    assert shown(herd, primary, "synchronous_commit") == "remote_apply"
    assert found["num_sync_standbys_configured"] == 1
    assert found["num_sync_standbys_connected"] == 2

    # It streams and flushes, but what it shows is old: nobody counts on it any more.
    herd.query(slow, "SELECT pg_wal_replay_pause()")
    herd.query(primary, "SELECT pg_logical_emit_message(true, 'test', repeat('x', 4000000))")
    herd.wait_for(lambda: voters(herd) == [other], f"a set without {slow}", deadline_s=SOON_S)
    assert f"any 1 of {other}" in herd.ask(SYNC)["last_change"]["text"]
    assert any(
        f"{slow} leaves the sync set" in one["text"] for one in herd.ask("/history")["notes"]
    )
    herd.query(slow, "SELECT pg_wal_replay_resume()")
    tune(herd, synchronous_commit="default", max_lag_bytes=0, nosync=[slow])
    [standby] = [one for one in herd.ask(SYNC)["standbys"] if one["node"] == slow]
    assert standby["why_not"] == "nosync, as was asked for"
    tune(herd, nosync=[])
    herd.wait_stable(60)
    assert sorted(voters(herd)) == sorted([slow, other])
    assert shown(herd, primary, "synchronous_commit") == "on"


@pytest.fixture(params=list(FLAVOURS))
def decoding(request: pytest.FixtureRequest) -> Iterator[LocalHerd]:
    """Two nodes whose WAL can be decoded."""
    logical = {"postgresql": {"parameters": {"wal_level": "logical"}}}
    with LocalHerd(2, postgres_bin=FLAVOURS[request.param], overrides=logical) as herd:
        herd.start()
        herd.wait_stable(60)
        yield herd


def read(herd: LocalHerd, name: str) -> list[str]:
    """The changes that nobody has read yet."""
    herd.query(name, "CHECKPOINT")
    rows = herd.query(name, "SELECT data FROM pg_logical_slot_get_changes('changes', NULL, NULL)")
    return [str(row[0]) for row in rows]


def is_safe(herd: LocalHerd, primary: str) -> bool:
    """A copy becomes usable once its reader has got on as far as the standby."""
    read(herd, primary)
    return bool(slots_of(herd, primary)["changes"]["failover_safe"])


def test_a_logical_slot_and_a_switchover(decoding: LocalHerd) -> None:
    """From 17 on it is there with what was not read; before, everybody is told before and after."""
    herd, first = decoding, decoding.wait_primary()
    other = next(name for name in herd.nodes if name != first)
    wanted = {"name": "changes", "type": "logical", "database": "postgres"}
    wanted |= {"plugin": "test_decoding"}
    made = herd.ask(SLOTS, method="POST", body=wanted, timeout_s=SOON_S)
    herd.query(first, "CREATE TABLE IF NOT EXISTS numbers (n int)")
    [(version,)] = herd.query(first, "SELECT current_setting('server_version_num')::int / 10000")
    if int(str(version)) < 17:
        assert "would not survive a failover" in made["advice"]
        assert any("would not survive" in text for text in herd.status()["warnings"])
        herd.switchover(other)
        herd.wait_stable(60)
        [kept] = herd.ask(SLOTS)["kept"]
        assert (kept["state"], names(herd, other)) == ("missing", [f"pgherd_{first}"])
        assert "did not survive the last failover" in kept["problem"]
        herd.wait_for(lambda: "changes" not in names(herd, first), "no old one", deadline_s=SOON_S)
        again = herd.ask(SLOTS, method="POST", body=wanted, timeout_s=SOON_S)
        assert (again["status"], again["primary"]) == ("done", other)
        return
    herd.wait_for(lambda: is_safe(herd, first), "a copy on the standby", deadline_s=60)
    assert shown(herd, first, "synchronized_standby_slots") == f"pgherd_{other}"
    herd.query(first, "INSERT INTO numbers VALUES (42)")
    herd.switchover(other)
    herd.wait_stable(60)
    assert any("42" in text for text in read(herd, other))

    def old_one() -> bool:
        found = slots_of(herd, first).get("changes")
        return found is not None and not found["synced"]

    herd.wait_for(lambda: not old_one(), "no slot of the old reign", deadline_s=SOON_S)
    herd.ask(f"{SLOTS}/changes", method="DELETE", timeout_s=SOON_S)
    with pytest.raises(psycopg.Error, match="does not exist"):
        read(herd, other)
