"""Clients that share servers through a change of primary: real servers, pgbench, sessions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from clients import connect, pgbench
from tending import typed
from test_byhand import fetched

from pgherd.proof import layout
from pgherd.proof.herd import LocalHerd

pytestmark = [
    pytest.mark.parametrize("stable", ["wheel-18"], indirect=True),
    pytest.mark.xdist_group("pool"),
]

CLIENTS = 12
SERVERS = 4
ROUND_S = 6
"""What a switchover and the wait for a whole herd take at most, most of the time."""


@pytest.fixture(scope="module")
def pooled(stable: Any) -> Iterator[LocalHerd]:
    """A herd whose proxies lend a few servers to many clients."""
    with LocalHerd(3, postgres_bin=stable.postgres_bin) as herd:
        for place in herd.places.values():
            layout.end_sessions_at_proxy(
                place, pool="transaction", connect_timeout="30s", pools={"size": SERVERS}
            )
        herd.start()
        herd.wait_stable(90)
        yield herd


def switch_under_load(herd: LocalHerd, rounds: int) -> None:
    """Nothing of what pgbench runs through two nodes fails, and a client's settings stay."""
    herd.wait_stable(60)
    initial = pgbench(herd, 0, "--initialize", "--quiet")
    assert initial.wait(60) == 0, initial.communicate()[0]
    words = ["--client", str(CLIENTS), "--jobs", str(CLIENTS), "--rate", "80"]
    words += ["--time", str(ROUND_S * rounds), "--protocol"]
    benches = [pgbench(herd, 0, *words, "simple"), pgbench(herd, 1, *words, "prepared")]
    session = connect(herd, 2)
    session.execute("SET TimeZone = 'Asia/Tokyo'")
    ask, ports = "SELECT inet_server_port(), current_setting('TimeZone'), %s::int", set()
    for number in range(rounds):
        before = herd.wait_primary()
        herd.switchover()
        herd.wait_primary(other_than=before)
        port, zone, same = session.execute(ask, (number,), prepare=True).fetchone() or ()
        assert (zone, same) == ("Asia/Tokyo", number)
        ports.add(port)
        herd.wait_stable(60)
    assert len(ports) > 1, "it went along"
    for bench in benches:
        said, _ = bench.communicate(timeout=ROUND_S * rounds + 60)
        assert bench.returncode == 0, said
        assert "number of failed transactions: 0 " in said, said
        assert "error" not in said, said
    count = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    row = session.execute(f"{count} AND usename = 'postgres' AND query ~ 'pgbench'").fetchone()
    assert row is not None
    assert row[0] <= SERVERS * len(herd.nodes)
    session.close()


def test_pools_are_told_and_changed_by_a_nodes_own_file(pooled: LocalHerd) -> None:
    """In the API, by the command, in metrics and at the database pgherd; a reload is enough."""
    pooled.wait_stable(60)
    name = pooled.nodes[2]
    pools = {"size": SERVERS + 1, "databases": {"shop": {"dbname": "postgres", "size": 2}}}
    try:
        pooled.reload_node(name, {"proxy": {"pools": {**pools, "admins": ["postgres"]}}})
        admin = pooled.wait_for(
            lambda: connect(pooled, 2, "pgherd"), "the file is read", deadline_s=20
        )
        busy = connect(pooled, 2, "shop")
        busy.execute("BEGIN")

        def told() -> dict[str, Any] | None:
            for pool in pooled.ask("/proxy/pools", name=name)["pools"]:
                if pool["database"] == "shop" and pool["servers_active"] == 1:
                    return dict(pool)
            return None

        pool = pooled.wait_for(told, "the API tells of it", deadline_s=20)
        assert pool is not None
        assert (pool["user"], pool["size"]) == ("postgres", 2)
        assert pool["server"] == pooled.wait_primary()
        told = typed(pooled, name, "pools")
        assert told.returncode == 0, told
        assert ["shop", "postgres", pool["server"], "1", "0"] in [
            line.split()[:5] for line in told.stdout.splitlines()
        ]
        assert 'pgherd_pool_servers{state="active"} 1.0' in fetched(pooled, name, "/metrics")
        config = {row[0]: row[1] for row in admin.execute("SHOW CONFIG").fetchall()}
        assert config["proxy.pools.size"] == str(SERVERS + 1)
        busy.execute("COMMIT")
        admin.execute("PAUSE shop")
        paused = {row[0]: row[-1] for row in admin.execute("SHOW DATABASES").fetchall()}
        assert paused["shop"] == 1
        admin.execute("RESUME")
        assert busy.execute("SELECT current_database()").fetchone() == ("postgres",)
        busy.close()
        admin.close()
    finally:
        back = {"size": SERVERS, "databases": {}, "admins": []}
        pooled.reload_node(name, {"proxy": {"pools": back}})


def test_switchovers_fail_no_transaction_of_a_pool(pooled: LocalHerd) -> None:
    switch_under_load(pooled, 2)


@pytest.mark.full
def test_twenty_switchovers_fail_no_transaction_of_a_pool(pooled: LocalHerd) -> None:
    switch_under_load(pooled, 20)
