"""Sessions whose TLS and SCRAM end at the proxies, through every node of a real herd."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from pgherd.proof import layout
from pgherd.proof.herd import LocalHerd

pytestmark = pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)


def terminate(herd: LocalHerd, name: str) -> None:
    """Give a node listeners that end TLS, with the certificate that its peers know it by."""
    place = herd.places[name]
    tls = {"cert": str(place.directory / "node.crt"), "key": str(place.directory / "node.key")}
    layout.end_sessions_at_proxy(place, tls=tls, connect_timeout="30s")


def connect(herd: LocalHerd, port: int, password: str, **more: str) -> psycopg.Connection[Any]:
    return psycopg.connect(
        host=layout.HOST,
        port=port,
        user="ann",
        password=password,
        dbname="postgres",
        autocommit=True,
        connect_timeout=40,
        **{
            "sslmode": "verify-full",
            "sslrootcert": str(herd.directory / "ca.crt"),
            "channel_binding": "require",
            **more,
        },
    )


def is_primary(one: psycopg.Connection[Any]) -> bool:
    found = one.execute("SELECT NOT pg_is_in_recovery()").fetchone()
    assert found is not None
    return bool(found[0])


def needs_tls(herd: LocalHerd, port: int) -> bool:
    """Whether a client without TLS is refused for that."""
    try:
        connect(herd, port, "third", sslmode="disable", channel_binding="disable").close()
    except psycopg.OperationalError as error:
        return "without TLS" in str(error)
    return False


def test_every_node_lets_the_same_users_in(stable: Any) -> None:
    """A witness's proxy too; a new password counts everywhere at once; a switchover is survived."""
    with LocalHerd(3, witnesses=1, postgres_bin=stable.postgres_bin) as herd:
        for name in herd.nodes:
            terminate(herd, name)
        herd.start()
        herd.wait_stable(90)
        primary = herd.wait_primary()
        herd.query(primary, "CREATE ROLE ann LOGIN PASSWORD 'first'")
        ports = [herd.places[name].ports for name in herd.nodes]
        for password in ("first", "second", "third"):
            herd.query(primary, f"ALTER ROLE ann PASSWORD '{password}'")
            for mine in ports:
                with connect(herd, mine.proxy_primary, password) as one:
                    assert is_primary(one)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            connect(herd, ports[0].proxy_primary, "first")
        with connect(herd, ports[2].proxy_replica, "third") as one:
            assert not is_primary(one)

        idle = connect(herd, ports[2].proxy_primary, "third")
        herd.switchover()
        assert is_primary(idle)
        with connect(herd, ports[0].proxy_primary, "third") as one:
            assert is_primary(one)

        name = herd.nodes[0]
        herd.reload_node(name, {"proxy": {"tls": {"required": True}}})
        herd.wait_for(lambda: needs_tls(herd, ports[0].proxy_primary), "need of TLS", deadline_s=20)
        log = herd.places[name].log.read_text()
        assert "login.refused" in log, json.dumps(log[-2000:])
        assert "third" not in log
