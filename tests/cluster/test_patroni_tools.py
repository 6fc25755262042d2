"""Proves that what was made for Patroni works here unchanged: HAProxy, check_patroni, curl.

HAProxy has the lines of Patroni's own template, asked more often than there, and check_patroni is
the one from PyPI. All on one real herd, and put back afterwards.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgherd.proof import layout
from pgherd.proof.herd import LocalHerd
from pgherd.proof.ports import HOST, claim_ports
from pgherd.proof.writers import dsn_of

HAPROXY = shutil.which("haproxy") or "/usr/sbin/haproxy"
CHECK = Path(sys.executable).with_name("check_patroni")
OK, CRITICAL = 0, 2
LEADS = ("leader", "running")
FORM, JSON = "application/x-www-form-urlencoded", "application/json"
TEMPLATE = """
global
    maxconn 100

defaults
    mode tcp
    retries 2
    timeout client 30m
    timeout connect 4s
    timeout server 30m
    timeout check 5s

listen primary
    bind {host}:{primary}
    option httpchk
    http-check expect status 200
    default-server inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions
{servers}

listen replicas
    bind {host}:{replicas}
    option httpchk OPTIONS /replica
    http-check expect status 200
    default-server inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions
{servers}
"""

pytestmark = [
    pytest.mark.parametrize("stable", ["debian-15"], indirect=True),
    pytest.mark.skipif(not CHECK.exists(), reason="check_patroni is not installed"),
]


@contextlib.contextmanager
def haproxy(herd: LocalHerd, folder: Path) -> Iterator[tuple[int, int]]:
    """HAProxy before a herd; its ports for the primary and for replicas."""
    claim = claim_ports(1)
    primary, replicas = claim.blocks[0].all()[:2]
    servers = "\n".join(
        f"    server {one.name} {one.host}:{one.ports.postgres} maxconn 100"
        f" check port {one.ports.api}"
        for one in herd.places.values()
    )
    file = folder / "haproxy.cfg"
    text = TEMPLATE.format(host=HOST, primary=primary, replicas=replicas, servers=servers)
    file.write_text(text)
    process = subprocess.Popen([HAPROXY, "-db", "-q", "-f", str(file)])
    try:
        yield primary, replicas
    finally:
        process.terminate()
        process.wait()
        claim.close()


def server_behind(herd: LocalHerd, port: int) -> str | None:
    """Which node's server a session through HAProxy reaches; None while it reaches none."""
    target = dsn_of(
        hosts=[(HOST, port)], user="postgres", password=herd.secrets.superuser, read_write=False
    )
    try:
        with psycopg.connect(target, connect_timeout=5) as session:
            [found] = session.execute("SHOW port").fetchall()
    except psycopg.OperationalError:
        return None
    ports = {str(one.ports.postgres): one.name for one in herd.places.values()}
    return ports[str(found[0])]


def call(
    herd: LocalHerd, name: str, method: str, path: str, body: object = None, *, kind: str = FORM
) -> tuple[int, str]:
    """One call as `curl -d` makes it: JSON under the header of a form."""
    place = herd.places[name]
    link = http.client.HTTPConnection(place.host, place.ports.api, timeout=60)
    headers = {
        "Content-Type": kind,
        "Authorization": f"Bearer {herd.secrets.token}",
    }
    try:
        link.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = link.getresponse()
        return answer.status, answer.read().decode()
    finally:
        link.close()


def document(herd: LocalHerd, name: str, path: str) -> Any:
    """What a path tells."""
    status, text = call(herd, name, "GET", path)
    assert status == 200, text
    return json.loads(text)


def check(herd: LocalHerd, name: str, *words: str) -> int:
    """The exit code of check_patroni, which asks one node and has no token."""
    place = herd.places[name]
    where = f"http://{place.host}:{place.ports.api}"
    done = subprocess.run(
        [str(CHECK), "--timeout", "20", "-e", where, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    print(words, done.returncode, done.stdout, done.stderr)
    return done.returncode


def test_the_plugin_sees_the_herd_as_it_is(herd: LocalHerd) -> None:
    """Every check that a monitoring of Patroni has, on the primary and on a replica."""
    primary = str(herd.primary())
    replica = next(name for name in herd.data if name != primary)
    timeline = str(document(herd, primary, "/patroni")["timeline"])
    expected = [
        (primary, ("cluster_node_count", "--critical", "3:3", "--healthy-critical", "3:3"), OK),
        (replica, ("cluster_has_leader",), OK),
        (replica, ("cluster_has_replica", "--critical", "2:", "--sync-critical", "2:"), OK),
        (replica, ("cluster_has_replica", "--critical", "3:"), CRITICAL),
        (primary, ("cluster_is_in_maintenance",), OK),
        (primary, ("cluster_has_scheduled_action",), OK),
        (primary, ("cluster_config_has_changed", "--hash", "another"), CRITICAL),
        (primary, ("node_is_primary",), OK),
        (replica, ("node_is_primary",), CRITICAL),
        (primary, ("node_is_leader",), OK),
        (replica, ("node_is_replica", "--max-lag", "16MB"), OK),
        (replica, ("node_is_replica", "--is-sync"), OK),
        (primary, ("node_is_replica",), CRITICAL),
        (primary, ("node_is_pending_restart",), OK),
        (primary, ("node_tl_has_changed", "--timeline", timeline), OK),
        (replica, ("node_is_alive",), OK),
        (replica, ("node_patroni_version", "--patroni-version", "4.0.4"), OK),
    ]
    found = [(name, words, check(herd, name, *words)) for name, words, _ in expected]
    assert found == expected


@pytest.mark.skipif(not Path(HAPROXY).exists(), reason="haproxy is not installed")
def test_haproxy_follows_a_switchover_that_patroni_would_do(
    herd: LocalHerd, tmp_path: Path
) -> None:
    """It leads to the primary and to replicas before and after; and the document says what is."""
    primary = str(herd.primary())
    others = [name for name in herd.data if name != primary]
    with haproxy(herd, tmp_path) as (to_primary, to_replicas):
        herd.wait_for(
            lambda: server_behind(herd, to_primary) == primary, "the primary", deadline_s=20
        )
        herd.wait_for(
            lambda: server_behind(herd, to_replicas) in others, "a replica", deadline_s=20
        )
        asked = {"leader": primary, "candidate": others[0]}
        status, text = call(herd, others[1], "POST", "/switchover", asked)
        assert (status, text) == (200, f'Successfully switched over to "{others[0]}"')
        herd.wait_for(
            lambda: server_behind(herd, to_primary) == others[0], "the new one", deadline_s=30
        )
        left = (primary, others[1])
        herd.wait_for(lambda: server_behind(herd, to_replicas) in left, "others", deadline_s=30)
    herd.wait_stable(60)
    assert document(herd, primary, "/history")[-1][4] == others[0]
    assert call(herd, primary, "POST", "/switchover", asked)[0] == 412


def label_and_reload(herd: LocalHerd, name: str, labels: dict[str, str]) -> None:
    """Write a node's file anew and have its daemon told through the API."""
    place = herd.places[name]
    values = layout.read_settings(place)
    values["node"]["tags"] = {**values["node"].get("tags", {}), "labels": labels}
    layout.write_settings(place, values)
    assert call(herd, name, "POST", "/reload")[0] == 202


def test_the_calls_of_its_clients_act_on_real_servers(herd: LocalHerd) -> None:
    """Configuration, pause, restart of the node that is asked: each seen in PostgreSQL."""
    primary = str(herd.primary())
    replica = next(name for name in herd.data if name != primary)

    def everywhere(value: str) -> None:
        """A change is acknowledged when it is decided; nodes take it in their turns."""

        def shown() -> set[object]:
            return {herd.query(name, "SHOW vacuum_cost_limit")[0][0] for name in herd.data}

        herd.wait_for(lambda: shown() == {value}, value, deadline_s=30)

    everywhere("200")  # PostgreSQL's own: no other test sets it
    pid = herd.postmaster_pid(replica)
    none = {"postgresql": {"parameters": {"vacuum_cost_limit": None}}}
    body = {"postgresql": {"parameters": {"vacuum_cost_limit": "701"}}, "pause": True}
    try:
        status, text = call(herd, replica, "PATCH", "/config", body)
        assert status == 200, text
        assert json.loads(text)["postgresql"]["parameters"]["vacuum_cost_limit"] == "701"
        everywhere("701")
        assert check(herd, primary, "cluster_is_in_maintenance") == CRITICAL
    finally:
        status, text = call(herd, primary, "PATCH", "/config", none | {"pause": False})
    assert status == 200, text
    everywhere("200")
    status, text = call(herd, replica, "POST", "/restart", {"role": "replica"})
    assert (status, text) == (200, "restarted successfully")
    assert herd.postmaster_pid(replica) != pid
    seen = document(herd, replica, "/patroni")
    [row] = herd.query(
        replica,
        "SELECT current_setting('server_version_num')::int,"
        " (extract(epoch FROM pg_postmaster_start_time()) * 1000)::bigint",
    )
    assert seen["server_version"] == row[0]
    assert seen["replication_state"] == "streaming"
    label_and_reload(herd, replica, {"rack": "a1"})
    asked = ("/replica?tag_rack=a1", "/replica?tag_rack=a2", "/replica?lag=16MB&tag_rack=a1")
    herd.wait_for(lambda: call(herd, replica, "GET", asked[0])[0] == 200, "a label", deadline_s=20)
    assert [call(herd, replica, "GET", path)[0] for path in asked] == [200, 503, 200]
    assert document(herd, replica, "/patroni")["tags"] == {"rack": "a1"}
    label_and_reload(herd, replica, {})
    steps = document(herd, primary, f"/raft/directives?node={replica}&status=completed")
    assert "restart" in {one["type"] for one in steps["directives"]}
    probes = herd.ask(f"/nodes/{replica}/health?limit=3", name=primary)["probes"]
    assert "alive" in {one["verdict"] for one in probes}
    herd.wait_stable(60)


def wait_unknown(herd: LocalHerd, asked: str, silent: str) -> None:
    """Until a node says that it does not know how another one is."""

    def is_so() -> bool:
        listed = document(herd, asked, "/cluster")["members"]
        found = {one["name"]: (one["state"], one.get("lag")) for one in listed}
        return found[silent] == ("unknown", "unknown")

    herd.wait_for(is_so, "a silent member", deadline_s=20)


def test_reads_stay_true_while_a_replica_is_silent(herd: LocalHerd) -> None:
    """It is told as such, with the lag that nobody knows; the primary goes on."""
    primary = str(herd.primary())
    silent = next(name for name in herd.data if name != primary)
    herd.pause_node(silent)
    try:
        wait_unknown(herd, primary, silent)
        assert call(herd, primary, "GET", "/")[0] == 200
        assert herd.ask("/cluster/health", name=primary)["cluster_status"] == "degraded"
        assert check(herd, primary, "cluster_node_count", "--healthy-critical", "3:") == CRITICAL
        health = herd.ask(f"/nodes/{silent}/health", name=primary)
        assert (health["probes"], bool(health["probes_problem"])) == ([], True)
    finally:
        herd.resume_node(silent)
    herd.wait_stable(60)


def test_replication_and_connections_are_what_postgresql_says(herd: LocalHerd) -> None:
    """Every standby with its position, and a session where it is, until it has gone."""
    primary = str(herd.primary())
    found = document(herd, primary, "/cluster/replication")
    told = {one["node"]: (one["state"], one["sync_state"]) for one in found["standbys"]}
    assert told == {name: ("streaming", "quorum") for name in herd.data if name != primary}
    [row] = herd.query(primary, f"SELECT '{found['lsn']}'::pg_lsn <= pg_current_wal_insert_lsn()")
    assert row[0] is True

    def open_now() -> dict[str, int]:
        by_backend = document(herd, herd.data[0], "/connections")["by_backend"]
        return {name: number for name, number in by_backend.items() if number}

    with psycopg.connect(herd.dsn_proxies()[0]):
        herd.wait_for(lambda: open_now() == {primary: 1}, "one session", deadline_s=20)
    herd.wait_for(lambda: open_now() == {}, "no session", deadline_s=20)


@pytest.mark.full
def test_a_node_that_hears_nobody_says_so(herd: LocalHerd) -> None:
    """Cut off from all others, and so without a quorum: true reads, or 503, and no change."""
    primary = str(herd.primary())
    first, second = (name for name in herd.data if name != primary)
    herd.pause_node(first)
    try:
        wait_unknown(herd, primary, first)
        herd.pause_node(second)
        herd.wait_for(
            lambda: call(herd, primary, "GET", "/api/v1/cluster/health")[0] == 503,
            "no writes",
            deadline_s=30,
        )
        herd.wait_for(
            lambda: document(herd, primary, "/api/v1/cluster/status")["has_quorum"] is False,
            "a lost quorum",
            deadline_s=30,
        )
        for path in ("/api/v1/cluster/status", "/cluster", "/cluster/state"):
            assert call(herd, primary, "GET", f"{path}?consistent=1")[0] == 503
            assert call(herd, primary, "GET", path)[0] == 200
        asked = {"leader": primary, "candidate": first}
        assert call(herd, primary, "POST", "/switchover", asked)[0] == 503
        states = document(herd, primary, "/cluster/state")["nodes"]
        told = {one["node"]: one["state"] for one in states}
        assert (told[first], told[second]) == ("unknown", "unknown")
        assert check(herd, primary, "cluster_has_replica", "--critical", "1:") == CRITICAL
    finally:
        for name in (first, second):
            herd.resume_node(name)
    herd.wait_stable(60)
    assert call(herd, primary, "GET", "/cluster?consistent=1")[0] == 200


@pytest.mark.full
def test_no_two_primaries_are_told_of_while_one_is_replaced(herd: LocalHerd) -> None:
    """The primary dies; the others never lead anybody to it, and soon to another one."""
    primary = str(herd.primary())
    others = [name for name in herd.data if name != primary]
    herd.kill_node(primary)

    def leaders() -> list[str]:
        return [name for name in others if call(herd, name, "GET", "/primary")[0] == 200]

    def is_replaced() -> bool:
        found = leaders()
        assert len(found) <= 1
        listed = document(herd, others[0], "/cluster")["members"]
        running = [one["name"] for one in listed if (one["role"], one["state"]) == LEADS]
        return bool(found) and running == found

    herd.wait_for(is_replaced, "another primary", deadline_s=60)
    [found] = leaders()
    assert found != primary
    assert document(herd, others[0], "/cluster")["routing_table"]["primary"] == found
    herd.restart_node(primary)
    herd.wait_stable(60)
    assert call(herd, primary, "GET", "/primary")[0] == 503
    assert call(herd, primary, "GET", "/replica")[0] == 200


@pytest.mark.full
def test_a_cluster_for_development_is_made_and_ended(herd: LocalHerd, tmp_path: Path) -> None:
    """Beside the one that is asked, which stays; it answers, and then nothing of it is left."""
    name = str(herd.primary())
    place = Path("/var/tmp") / f"pgherd-made-{herd.places[name].ports.base}"
    where = {"data_dir": str(place)}
    made = "/api/v1/cluster/create"
    status, text = call(herd, name, "POST", made, {**where, "num_nodes": 1}, kind=JSON)
    assert status == 201, text
    try:
        line = json.loads(text)["connect"]
        asked = subprocess.run(
            ["sh", "-c", f"{line} -Atc 'SELECT pg_is_in_recovery()'"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert asked.stdout == "f\n", asked.stderr
        again, text = call(herd, name, "POST", made, where, kind=JSON)
        assert (again, "runs" in text) == (409, True)
    finally:
        body = {**where, "confirm": "local"}
        ended, text = call(herd, name, "POST", "/cluster/destroy", body, kind=JSON)
    assert (ended, place.exists()) == (200, False), text
    assert call(herd, name, "GET", "/primary")[0] == 200
