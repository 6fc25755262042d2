"""The way in: proxy nodes, the PROXY protocol, the local socket, on real herds."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgherd.proof import layout
from pgherd.proof.herd import LocalHerd
from pgherd.proof.ports import HOST
from pgherd.proof.writers import dsn_of

pytestmark = pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)

DEADLINE_S = 60.0


def connect(herd: LocalHerd, port: int, *, write: bool) -> psycopg.Connection[Any]:
    dsn = dsn_of(
        hosts=[(HOST, port)],
        user="postgres",
        password=herd.secrets.superuser,
        read_write=write,
    )
    return psycopg.connect(dsn, autocommit=True, connect_timeout=20)


def one(connection: psycopg.Connection[Any], query: str) -> Any:
    found = connection.execute(query).fetchone()
    assert found is not None
    return found[0]


def leads(herd: LocalHerd, port: int, *, to: str, write: bool) -> bool:
    """Whether a listener leads to this node's server."""
    try:
        with connect(herd, port, write=write) as client:
            return str(one(client, "SHOW port")) == str(herd.places[to].ports.postgres)
    except psycopg.OperationalError:
        return False


def sees_socket(herd: LocalHerd, port: int, user: str, password: str, **more: Any) -> bool:
    """Whether the server has a client of this port without an address."""
    with psycopg.connect(
        host=HOST, port=port, user=user, password=password, dbname="postgres", **more
    ) as client:
        own = "FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        return bool(one(client, f"SELECT client_addr IS NULL {own}"))


def use_socket(herd: LocalHerd, name: str) -> None:
    """A third listener that ends sessions, and the way through the socket."""
    place = herd.places[name]
    settings = layout.read_settings(place)
    third = {"port": place.ports.base + 5, "route": "primary", "pool": "session"}
    listeners = [*settings["proxy"]["listeners"], third]
    changes = {"proxy": {"listeners": listeners, "local_socket": True}}
    layout.write_settings(place, layout.merge(settings, changes))


def test_a_proxy_node_leads_clients_across_a_failover(stable: Any) -> None:
    """Two data members, a witness, and a node that is only a way in: it never votes.

    On the data members, the way to the own server is its Unix socket, but for the superuser.
    """
    with LocalHerd(4, witnesses=1, proxies=1, postgres_bin=stable.postgres_bin) as herd:
        for name in herd.data:
            use_socket(herd, name)
        herd.start()
        herd.wait_stable(90)
        (proxy,) = herd.proxies
        ports = herd.places[proxy].ports
        old = herd.wait_primary()
        (other,) = set(herd.data) - {old}

        herd.wait_for(
            lambda: len(herd.status()["raft_voters"]) == 3,
            "a proxy node without a vote",
            deadline_s=DEADLINE_S,
        )
        assert proxy not in herd.status()["raft_voters"]

        def is_well() -> bool:
            node = herd.ask(f"/nodes/{proxy}")
            return (node["role"], node["state"], node["is_healthy"]) == ("proxy", "running", True)

        herd.wait_for(is_well, "a proxy node that is well", deadline_s=DEADLINE_S)
        herd.wait_for(
            lambda: (
                leads(herd, ports.proxy_primary, to=old, write=True)
                and leads(herd, ports.proxy_replica, to=other, write=False)
            ),
            "both ways through the proxy node",
            deadline_s=DEADLINE_S,
        )

        herd.query(old, "CREATE ROLE ann LOGIN PASSWORD 'first'")
        near, root = herd.places[old].ports, herd.secrets.superuser
        for port in (near.proxy_primary, near.base + 5):
            for sslmode in ("disable", "prefer"):
                assert sees_socket(herd, port, "ann", "first", sslmode=sslmode), (port, sslmode)
            assert not sees_socket(herd, port, "postgres", root), "peer would ask no password"
            for user in ("ann", "postgres"):
                with pytest.raises(psycopg.OperationalError, match="password authentication"):
                    sees_socket(herd, port, user, "wrong")
        assert not sees_socket(herd, herd.places[other].ports.proxy_primary, "ann", "first")
        assert not sees_socket(herd, ports.proxy_primary, "ann", "first")

        herd.kill_node(old)
        herd.wait_for(
            lambda: leads(herd, ports.proxy_primary, to=other, write=True),
            "writes at the new primary through the proxy node",
            deadline_s=DEADLINE_S,
        )
        status = herd.ask("/cluster/status", name=proxy)
        assert proxy not in status["raft_voters"]
        assert status["primary_node_id"] == other
