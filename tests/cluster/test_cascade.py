"""Cascading and delayed replicas on real PostgreSQL: who streams from whom, and how late."""

from __future__ import annotations

from typing import Any

import pytest
from tending import done, node

from pgherd.proof.client import NoAnswer
from pgherd.proof.herd import LocalHerd

pytestmark = pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)
WAITS = "SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'startup'"
NO_TAGS = {"replicatefrom": None, "delay": "0s"}


def tag(herd: LocalHerd, name: str, **tags: object) -> None:
    herd.reload_node(name, {"node": {"tags": {**NO_TAGS, **tags}}})


def until_fed(herd: LocalHerd, name: str, by: str, state: str = "streaming") -> None:
    def is_fed() -> bool:
        seen = node(herd, name)
        return (seen["upstream"], seen["state"]) == (by, state)

    herd.wait_for(is_fed, f"{name} {state} from {by}", deadline_s=60)


def senders(herd: LocalHerd, name: str) -> set[str]:
    """Who streams from a server, by its own word."""
    rows = herd.query(name, "SELECT split_part(application_name, '.', 1) FROM pg_stat_replication")
    return {str(one) for (one,) in rows}


def until_holds(herd: LocalHerd, name: str, rows: int, table: str) -> None:
    query = f"SELECT count(*) FROM {table}"
    herd.wait_for(
        lambda: herd.query(name, query) == [(rows,)], f"{rows} rows on {name}", deadline_s=60
    )


def made(herd: LocalHerd, primary: str, table: str) -> None:
    """A table that every member has."""
    herd.query(primary, f"CREATE TABLE {table} (n int); INSERT INTO {table} VALUES (0)")
    there = f"SELECT to_regclass('{table}') IS NOT NULL"
    herd.wait_for(
        lambda: all(herd.query(name, there) == [(True,)] for name in herd.data),
        table,
        deadline_s=60,
    )


@pytest.mark.fault(72)
def test_a_replica_streams_from_another_one_while_that_streams(herd: LocalHerd) -> None:
    """Its upstream dies, and comes back; the primary dies while it cascades; no row is lost."""
    primary = herd.wait_primary()
    above, below = sorted(set(herd.nodes) - {primary})
    made(herd, primary, "handed_on")
    tag(herd, below, replicatefrom=above)
    until_fed(herd, below, above)
    herd.wait_for(
        lambda: (senders(herd, primary), senders(herd, above)) == ({above}, {below}),
        "streams from one to the next alone",
        deadline_s=30,
    )
    herd.wait_for(
        lambda: (node(herd, above)["is_sync"], node(herd, below)["is_sync"]) == (True, False),
        "a sync set without who cascades",
        deadline_s=60,
    )
    herd.query(primary, "INSERT INTO handed_on SELECT generate_series(1, 999)")
    until_holds(herd, below, 1000, "handed_on")

    herd.kill_node(above)
    herd.silent.add(above)
    until_fed(herd, below, primary)
    assert node(herd, below)["upstream_reason"] == f"{above} is silent"
    herd.query(primary, "INSERT INTO handed_on VALUES (1000)", timeout_ms=20_000)
    herd.wait_for(
        lambda: node(herd, below)["is_sync"],
        "word of the copy that this commit waited for",
        deadline_s=30,
    )
    herd.restart_node(above)
    herd.silent.discard(above)
    until_fed(herd, below, above)
    herd.wait_for(lambda: not node(herd, below)["is_sync"], "out of the set", deadline_s=60)

    herd.kill_node(primary)
    herd.silent.add(primary)
    assert herd.wait_primary(other_than=primary, deadline_s=30) == above
    until_fed(herd, below, above)
    herd.query(above, "INSERT INTO handed_on VALUES (1001)", timeout_ms=20_000)
    assert herd.query(above, "SELECT count(*) FROM handed_on") == [(1002,)]
    until_holds(herd, below, 1002, "handed_on")
    assert senders(herd, above) >= {below}
    slots = "SELECT slot_name FROM pg_replication_slots WHERE starts_with(slot_name, 'pgherd__')"
    herd.wait_for(
        lambda: herd.query(above, slots) == [], "the end of slots of another term", deadline_s=30
    )
    herd.restart_node(primary)
    herd.silent.discard(primary)
    tag(herd, below)
    herd.query(above, "DROP TABLE handed_on", timeout_ms=20_000)
    herd.wait_stable(60)


def test_a_replica_replays_late_and_takes_no_part(herd: LocalHerd) -> None:
    """It has received the row and does not show it; nothing waits for it or is led to it."""
    primary = herd.wait_primary()
    late = max(set(herd.nodes) - {primary})
    made(herd, primary, "shown_later")
    tag(herd, late, delay="1h")
    until_fed(herd, late, primary, "delayed")
    herd.query(primary, "INSERT INTO shown_later VALUES (1)")
    herd.wait_for(
        lambda: herd.query(late, WAITS) == [("RecoveryApplyDelay",)], "a wait", deadline_s=60
    )
    assert herd.query(late, "SELECT count(*) FROM shown_later") == [(1,)]

    def takes_no_part() -> bool:
        seen = node(herd, late)
        return (seen["is_healthy"], seen["is_sync"], seen["problem"]) == (True, False, "")

    herd.wait_for(takes_no_part, "a replica that is well and in no set", deadline_s=60)
    seen = node(herd, late)
    assert (seen["tags"]["delay_ms"], seen["tags"]["noloadbalance"]) == (3_600_000, True)
    with pytest.raises(NoAnswer, match=f"{late} is a delayed replica"):
        herd.ask("/cluster/switchover", method="POST", body={"candidate": late}, timeout_s=15)
    tag(herd, late)
    until_fed(herd, late, primary)
    until_holds(herd, late, 2, "shown_later")
    herd.query(primary, "DROP TABLE shown_later")
    herd.wait_stable(60)


@pytest.mark.full
@pytest.mark.fault(78)
def test_a_delayed_replica_keeps_its_delay(stable: Any) -> None:
    """Over a failover and a restart of its server; and by force it leads, with everything."""
    with LocalHerd(3, postgres_bin=stable.postgres_bin) as herd:
        herd.start()
        herd.wait_stable(90)
        first = herd.wait_primary()
        other, late = sorted(set(herd.nodes) - {first})
        made(herd, first, "kept_back")
        tag(herd, late, delay="1h")
        until_fed(herd, late, first, "delayed")
        herd.query(first, "INSERT INTO kept_back VALUES (1)")
        waits = [("RecoveryApplyDelay",)]
        herd.wait_for(lambda: herd.query(late, WAITS) == waits, "a wait", deadline_s=60)
        herd.kill_node(first)
        herd.silent.add(first)
        assert herd.wait_primary(other_than=first, deadline_s=30) == other
        until_fed(herd, late, other, "delayed")
        herd.restart_node(first)
        herd.silent.discard(first)
        until_fed(herd, first, other)
        done(herd, f"/nodes/{late}/restart")
        until_fed(herd, late, other, "delayed")
        assert herd.query(late, "SELECT count(*) FROM kept_back") == [(1,)]
        herd.query(other, "INSERT INTO kept_back VALUES (2)", timeout_ms=20_000)
        herd.wait_for(lambda: node(herd, first)["is_sync"], "a copy", deadline_s=60)
        assert node(herd, late)["is_healthy"]
        assert node(herd, late)["remedies"] == [] or {
            one["step"] for one in node(herd, late)["remedies"]
        } == {"copy"}, "nothing is repaired but its first copy made"
        order = {"candidate": late, "force": True}
        herd.ask("/failover", method="POST", body=order, timeout_s=40)
        assert herd.primary() == late
        assert herd.query(late, "SELECT count(*) FROM kept_back") == [(3,)]
        tag(herd, late)
        herd.wait_stable(60)


@pytest.mark.full
def test_a_chain_and_zones_and_who_is_no_copy(stable: Any) -> None:
    """Three hops; the middle one dies; copies lie in other zones; nosync and priorities count."""
    overrides = {"replication": {"num_sync": 1}}
    with LocalHerd(5, postgres_bin=stable.postgres_bin, overrides=overrides) as herd:
        herd.start()
        herd.wait_for(
            lambda: all(node(herd, n)["is_healthy"] for n in herd.nodes), "five", deadline_s=120
        )
        primary = herd.wait_primary()
        one, two, three, four = sorted(set(herd.nodes) - {primary})
        for name, zone in ((primary, "a"), (one, "a"), (two, "b"), (three, "c"), (four, "a")):
            herd.reload_node(name, {"node": {"zone": zone}})

        def copies() -> set[str]:
            return {name for name in herd.nodes if node(herd, name)["is_sync"]}

        for name in set(copies()) - {two, three}:  # who is in stays in: leave once, to be chosen
            tag(herd, name, nosync=True)
        herd.wait_for(lambda: copies() == {two, three}, "copies in other zones", deadline_s=60)
        for name in (one, four):
            tag(herd, name)
        tag(herd, three, replicatefrom=two)
        tag(herd, four, replicatefrom=three)
        until_fed(herd, three, two)
        until_fed(herd, four, three)
        assert (senders(herd, two), senders(herd, three)) == ({three}, {four})
        made(herd, primary, "passed_down")
        herd.kill_node(three)
        herd.silent.add(three)
        until_fed(herd, four, primary)
        herd.query(primary, "INSERT INTO passed_down VALUES (1)", timeout_ms=20_000)
        until_holds(herd, four, 2, "passed_down")
        herd.restart_node(three)
        herd.silent.discard(three)
        until_fed(herd, four, three)
        herd.reload_node(one, {"node": {"tags": {"failover_priority": 200}}})
        herd.wait_for(
            lambda: node(herd, one)["tags"]["failover_priority"] == 200, "a priority", deadline_s=30
        )
        herd.kill_node(primary)
        herd.silent.add(primary)
        assert herd.wait_primary(other_than=primary, deadline_s=30) == one
        until_fed(herd, four, three)
        assert herd.query(one, "SELECT count(*) FROM passed_down") == [(2,)]
