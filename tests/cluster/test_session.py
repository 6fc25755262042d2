"""Sessions whose TLS and SCRAM end at the proxies, through every node of a real herd."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from pgherd.proof import layout
from pgherd.proof.herd import LocalHerd
from pgherd.proof.ports import HOST

pytestmark = pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)


def terminate(herd: LocalHerd, name: str) -> None:
    """Give a node listeners that end TLS, with the certificate that its peers know it by."""
    place = herd.places[name]
    tls = {"cert": str(place.directory / "node.crt"), "key": str(place.directory / "node.key")}
    layout.end_sessions_at_proxy(place, tls=tls, connect_timeout="30s")
    changes = {"replication": {"sync_timeout": "60s"}}
    layout.write_settings(place, layout.merge(layout.read_settings(place), changes))


def connect(herd: LocalHerd, port: int, password: str, **more: str) -> psycopg.Connection[Any]:
    return psycopg.connect(
        host=HOST,
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


def a_commit_waits(herd: LocalHerd, primary: str) -> None:
    """While no standby receives, a client's cancel spares its commit, which then ends well.

    It goes from another node's proxy through its agent to the primary's; any other is done.
    """
    (replica,) = (name for name in herd.nodes[:2] if name != primary)
    create = "CREATE TABLE public.waited (n int); GRANT ALL ON public.waited TO ann"
    herd.query(primary, create)
    [[receiver]] = herd.query(replica, "SELECT pid FROM pg_stat_wal_receiver")
    waiting = "SELECT pid FROM pg_stat_activity WHERE usename = 'ann' AND wait_event = "
    port = herd.places[replica].ports.proxy_primary
    with ThreadPoolExecutor(1) as pool, connect(herd, port, "third") as one:
        os.kill(int(str(receiver)), signal.SIGSTOP)
        try:
            running = pool.submit(one.execute, "INSERT INTO public.waited VALUES (1)")
            seen = lambda: herd.query(primary, f"{waiting} 'SyncRep'")  # noqa: E731 # asked twice
            before = herd.wait_for(seen, "a commit that waits", deadline_s=30)
            one.cancel_safe(timeout=30)
            assert seen() == before, "it goes on waiting"
        finally:
            os.kill(int(str(receiver)), signal.SIGCONT)
        running.result(timeout=60)
        assert one.execute("SELECT count(*) FROM public.waited").fetchone() == (1,)
        running = pool.submit(one.execute, "SELECT pg_sleep(60)")
        asleep = f"{waiting} 'PgSleep'"
        herd.wait_for(lambda: herd.query(primary, asleep), "a statement that sleeps", deadline_s=30)
        one.cancel_safe(timeout=30)
        with pytest.raises(psycopg.errors.QueryCanceled):
            running.result(timeout=60)
    log = herd.places[replica].log
    herd.wait_for(lambda: "cancel.withheld" in log.read_text(), "word of it", deadline_s=10)


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

        def reads_at_a_replica() -> bool:
            with connect(herd, ports[2].proxy_replica, "third") as one:
                return not is_primary(one)

        herd.wait_for(reads_at_a_replica, "reads at a replica", deadline_s=20)

        a_commit_waits(herd, primary)
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
