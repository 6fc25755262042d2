"""A standby cluster on real servers: it follows a remote herd, outlives losses on both sides, is
promoted without losing a row, and follows again.

Both herds are of this machine; the remote one has its own consensus and knows nothing of the other.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tending import done

from conftest import FLAVOURS
from pgherd.proof import layout
from pgherd.proof.client import NoAnswer, ask
from pgherd.proof.herd import LocalHerd

DEADLINE_S = 60.0
MAKE = "CREATE TABLE IF NOT EXISTS told (n int PRIMARY KEY)"
COUNT = "SELECT coalesce(max(n), 0)::int, count(*)::int FROM told"


def postgres_bin() -> Path:
    """One flavour is enough: what differs between majors is tested elsewhere."""
    found = FLAVOURS.get("debian-15")
    return found if found and (found / "initdb").exists() else FLAVOURS["wheel-18"]


def hosts(herd: LocalHerd) -> list[str]:
    return [f"{host}:{port}" for host, port in map(herd.server_of, herd.data)]


@contextmanager
def standby_of(remote: LocalHerd) -> Iterator[LocalHerd]:
    """Two data members and a witness that follow the remote's servers, with its secrets."""
    directory = layout.make_directory(None)
    for name in ("superuser", "replication"):
        shutil.copy(remote.directory / f"{name}.secret", directory)
    herd = LocalHerd(
        3,
        witnesses=1,
        directory=directory,
        postgres_bin=postgres_bin(),
        overrides={"standby_cluster": {"hosts": hosts(remote)}, "cluster": {"name": "away"}},
    )
    try:
        with herd:
            herd.start()
            yield herd
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def write(herd: LocalHerd, rows: int) -> int:
    """Some more rows, each acknowledged by itself; how many there are now."""
    name = herd.wait_primary(deadline_s=DEADLINE_S)
    herd.query(name, MAKE)
    [(last, _)] = herd.query(name, COUNT)
    assert isinstance(last, int)
    for number in range(last + 1, last + rows + 1):
        herd.query(name, f"INSERT INTO told VALUES ({number})")
    return last + rows


def has(herd: LocalHerd, name: str, rows: int) -> bool:
    try:
        [(last, number)] = herd.query(name, COUNT)
    except psycopg.Error:
        return False
    return (last, number) == (rows, rows)


def wait_rows(herd: LocalHerd, names: tuple[str, ...], rows: int) -> None:
    for name in names:
        herd.wait_for(
            lambda name=name: has(herd, name, rows),  # type: ignore[misc] # bound at once
            f"{rows} rows on {name}",
            deadline_s=DEADLINE_S,
        )


def leader(herd: LocalHerd) -> str | None:
    """The standby leader, once WAL comes to it."""
    follows = herd.status()["follows"]
    return str(follows["standby_leader"]) if follows and follows["is_streaming"] else None


def wait_leader(herd: LocalHerd, *, other_than: str = "") -> str:
    def found() -> str | None:
        name = leader(herd)
        return name if name != other_than else None

    name = herd.wait_for(found, "standby leader that streams", deadline_s=DEADLINE_S)
    assert name is not None
    return name


def check(herd: LocalHerd, name: str, path: str) -> int:
    """The status code of a health check."""
    place = herd.places[name]
    try:
        ask(place.host, place.ports.api, path)
    except NoAnswer as answer:
        return answer.status
    return 200


def refused(herd: LocalHerd, path: str, body: dict[str, Any]) -> str:
    with pytest.raises(NoAnswer) as told:
        herd.ask(path, name=herd.data[0], method="POST", body=body, timeout_s=60.0)
    return str(told.value)


def promote(herd: LocalHerd, **body: Any) -> dict[str, Any]:
    found: dict[str, Any] = herd.ask("/cluster/promote", method="POST", body=body, timeout_s=70.0)
    return found


def demote(herd: LocalHerd, to: LocalHerd) -> dict[str, Any]:
    found: dict[str, Any] = herd.ask(
        "/cluster/demote", method="POST", body={"hosts": hosts(to)}, timeout_s=70.0
    )
    return found


def test_it_follows_refuses_writes_and_is_promoted() -> None:
    """Rows flow to both members; reads are served, writes refused with the reason; a living remote
    is not left without force; once it is gone the cluster is promoted with every row.
    """
    with ExitStack() as stack:
        remote = stack.enter_context(LocalHerd(1, postgres_bin=postgres_bin()))
        remote.start()
        written = write(remote, 3)
        away = stack.enter_context(standby_of(remote))
        first = wait_leader(away)
        [second] = [name for name in away.data if name != first]
        written = write(remote, 3)
        wait_rows(away, away.data, written)
        looks_right(away, first, second)
        assert "remote_alive" in refused(away, "/cluster/promote", {})
        remote.stop(graceful=False)
        found = promote(away)
        assert found["left_out"] == []
        assert write(away, 2) == written + 2
        away.wait_for(
            lambda: away.primary() and away.status()["follows"] is None,
            "a primary",
            deadline_s=DEADLINE_S,
        )
        wait_rows(away, away.data, written + 2)


CODES = {
    "/standby-leader": (200, 503),
    "/standby_leader": (200, 503),
    "/primary": (503, 503),
    "/replica": (503, 200),
    "/read-only": (200, 200),
}
"""Of the standby leader and of its replica."""


def looks_right(away: LocalHerd, first: str, second: str) -> None:
    def are_told() -> bool:
        roles = {node["name"]: node["role"] for node in away.node_states()}
        return (
            {path: (check(away, first, path), check(away, second, path)) for path in CODES} == CODES
            and away.status()["status"] == "operational"
            and (roles[first], roles[second]) == ("standby_leader", "replica")
        )

    away.wait_for(are_told, "its checks, status and roles", deadline_s=DEADLINE_S)
    assert away.status()["primary_node_id"] is None
    assert "remote primary" in away.ask("/explain")["why_primary"]
    assert check(away, second, "/metrics") == 200
    with pytest.raises(psycopg.OperationalError, match="standby cluster, which takes no writes"):
        psycopg.connect(away.dsn_proxies()[0])
    place = away.places[second]

    def reads() -> bool:
        with psycopg.connect(away.dsn_node(second), port=place.ports.proxy_replica) as session:
            return session.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)

    away.wait_for(reads, "reads through a proxy", deadline_s=DEADLINE_S)


@pytest.mark.full
def test_it_outlives_losses_and_the_sites_change_places() -> None:
    """Rows flow again after the loss of the standby leader, and of the remote's primary. Then the
    sites change places without losing a row: the remote is demoted to follow this one, which is
    promoted, and what is written here arrives there. In the end the other way round by force: who
    was left behind with writes of its own is copied anew, and its directory kept.
    """
    with ExitStack() as stack:
        remote = stack.enter_context(LocalHerd(3, witnesses=1, postgres_bin=postgres_bin()))
        remote.start()
        remote.wait_stable()
        written = write(remote, 3)
        away = stack.enter_context(standby_of(remote))
        first = wait_leader(away)
        wait_rows(away, away.data, written)

        away.kill_node(first)
        away.silent.add(first)
        second = wait_leader(away, other_than=first)
        written = write(remote, 3)
        wait_rows(away, (second,), written)
        away.silent.discard(first)
        away.restart_node(first)
        wait_rows(away, away.data, written)

        old = remote.wait_primary()
        remote.kill_node(old)
        remote.silent.add(old)
        remote.wait_primary(other_than=old)
        written = write(remote, 3)
        wait_rows(away, away.data, written)
        remote.silent.discard(old)
        remote.restart_node(old)
        remote.wait_stable()

        raise_connections(remote)
        written = write(remote, 2)
        wait_rows(away, away.data, written)
        assert {away.query(name, "SHOW max_connections")[0][0] for name in away.data} == {"130"}

        found = demote(remote, away)
        assert found["standby_leader"] in remote.data
        assert promote(away)["left_out"] == []
        assert write(away, 4) == written + 4
        written += 4
        wait_leader(remote)
        wait_rows(remote, remote.data, written)
        assert [node["role"] for node in remote.node_states()].count("standby_leader") == 1
        assert not kept(remote), "nothing was diverged, so nothing was copied anew"

        assert "remote_alive" in refused(remote, "/cluster/promote", {})
        promote(remote, force=True)
        lost = write(remote, 2)
        assert write(away, 3) == written + 3
        written += 3
        demote(remote, away)
        wait_leader(remote)
        wait_rows(remote, remote.data, written)
        assert lost < written
        assert kept(remote), "what only the demoted site had is kept aside"
        kinds = [note["kind"] for note in remote.ask("/history")["notes"]]
        assert kinds.count("cluster.demoted") == 2
        assert "cluster.promoted" in kinds


@pytest.mark.full
def test_both_leaders_are_lost_at_once() -> None:
    """Who is silent may have more than who is left: that is said, and only force goes on without
    it. It comes back as a replica of the new primary.
    """
    with ExitStack() as stack:
        remote = stack.enter_context(LocalHerd(1, postgres_bin=postgres_bin()))
        remote.start()
        written = write(remote, 3)
        away = stack.enter_context(standby_of(remote))
        first = wait_leader(away)
        [second] = [name for name in away.data if name != first]
        wait_rows(away, away.data, written)
        remote.stop(graceful=False)
        away.kill_node(first)
        away.silent.add(first)

        def replaced() -> bool:
            follows = away.status()["follows"]
            return bool(follows["standby_leader"] == second)

        away.wait_for(replaced, "another standby leader", deadline_s=DEADLINE_S)
        with pytest.raises(NoAnswer, match="would_lose"):
            away.ask("/cluster/promote", name=second, method="POST", body={}, timeout_s=60.0)
        body = {"force": True}
        found = away.ask("/cluster/promote", name=second, method="POST", body=body, timeout_s=70.0)
        assert (found["new_primary"], found["left_out"]) == (second, [first])
        assert write(away, 2) == written + 2
        away.silent.discard(first)
        away.restart_node(first)
        away.wait_stable()
        wait_rows(away, away.data, written + 2)


def raise_connections(remote: LocalHerd) -> None:
    """As much as the followers have not; each of them needs a restart to replay on."""
    body = {"postgresql": {"parameters": {"max_connections": 130}}, "reason": "a test"}
    remote.ask("/config?wait=20", method="PATCH", body=body, timeout_s=30)
    done(remote, "/cluster/restart", {"force": True})


def kept(herd: LocalHerd) -> list[Path]:
    """Data directories that copies took the place of."""
    found = (herd.places[name].data.parent.glob("data.old-*") for name in herd.data)
    return [path for each in found for path in each]
