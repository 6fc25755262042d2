"""Prove that a herd comes up by itself: one primary, streaming replicas, ways to reach them."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgherd.proof.asking import CLOSED_NAMES
from pgherd.proof.herd import LocalHerd
from pgherd.proof.writers import dsn_of


def recovering(dsn: str) -> bool:
    with psycopg.connect(dsn, autocommit=True) as connection:
        [row] = connection.execute("SELECT pg_is_in_recovery()").fetchall()
        return bool(row[0])


def with_attributes(herd: LocalHerd, attributes: str) -> str:
    hosts = [("127.0.0.1", place.ports.postgres) for place in herd.places.values()]
    dsn = dsn_of(hosts=hosts, user="postgres", password=herd.secrets.superuser, read_write=False)
    return f"{dsn} target_session_attrs={attributes}"


def test_three_nodes_come_up(herd: LocalHerd) -> None:
    """The API tells of an operational cluster: one primary, two replicas, quorum."""

    def is_whole() -> dict[str, Any] | None:
        found = herd.status()
        whole = found["status"] == "operational" and found["healthy_nodes"] == 3
        return found if whole else None

    status = herd.wait_for(is_whole, "operational cluster of three", deadline_s=15)
    assert status is not None
    assert status["node_count"] == 3
    assert status["has_quorum"] is True
    assert status["epoch"] >= 1
    assert status["failover_state"] == "normal"
    assert status["synchronous"]["degraded"] is False
    roles = sorted(node["role"] for node in herd.node_states())
    assert roles == ["primary", "replica", "replica"]


def test_every_node_answers_for_the_cluster(herd: LocalHerd) -> None:
    """Each daemon names the same primary, the one that has just started soon after the others."""

    def named() -> set[str | None]:
        found = [herd.ask("/cluster/status", name=name) for name in herd.nodes]
        return {status["primary_node_id"] for status in found}

    primary = herd.wait_primary()
    herd.wait_for(lambda: named() == {primary}, f"{primary} from everybody", deadline_s=15)


def test_it_is_one_cluster_with_checksums(herd: LocalHerd) -> None:
    """All data directories come from one initdb, with checksums."""
    ask = "SELECT system_identifier, current_setting('data_checksums') FROM pg_control_system()"
    answers = {tuple(map(str, herd.query(name, ask)[0])) for name in herd.nodes}
    assert len(answers) == 1
    assert answers.pop()[1] == "on"


def test_commits_need_a_second_node(herd: LocalHerd) -> None:
    """The primary waits for one of two named replicas; the replicas keep their gate closed."""
    primary = herd.wait_primary()
    for name in herd.nodes:
        [[names]] = herd.query(name, "SHOW synchronous_standby_names")
        if name == primary:
            assert str(names).upper().startswith("ANY 1 (")
            assert str(names).count("@") == 2
        else:
            assert names == CLOSED_NAMES


def test_settings_that_safety_rests_on(herd: LocalHerd) -> None:
    """No node restarts a crashed server by itself, and no ALTER SYSTEM is left over."""
    for name in herd.nodes:
        [[restart]] = herd.query(name, "SHOW restart_after_crash")
        assert restart == "off"
        auto = herd.places[name].data / "postgresql.auto.conf"
        assert "synchronous_standby_names" not in auto.read_text()


@pytest.mark.parametrize(
    ("attributes", "standby"),
    [("read-write", False), ("primary", False), ("standby", True), ("read-only", True)],
)
def test_direct_strings_find_the_right_server(
    herd: LocalHerd, attributes: str, standby: bool
) -> None:
    """A multi-host string with target_session_attrs needs no proxy."""
    assert recovering(with_attributes(herd, attributes)) is standby


def test_every_proxy_leads_to_the_right_server(herd: LocalHerd) -> None:
    """Whichever node a client comes in through."""
    for place in herd.places.values():
        for port, standby in (
            (place.ports.proxy_primary, False),
            (place.ports.proxy_replica, True),
        ):
            dsn = dsn_of(
                hosts=[("127.0.0.1", port)],
                user="postgres",
                password=herd.secrets.superuser,
                read_write=False,
            )
            herd.wait_for(
                lambda dsn=dsn, standby=standby: recovering(dsn) is standby,  # type: ignore[misc] # binds both
                f"the right server behind {port}",
                deadline_s=15,
            )
