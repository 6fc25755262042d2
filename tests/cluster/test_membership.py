"""Members that go, move and only vote: no acknowledged row is lost and nobody is left stuck."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pgherd.proof import layout
from pgherd.proof.client import NoAnswer, ask
from pgherd.proof.herd import LocalHerd
from pgherd.proof.ports import HOST
from pgherd.proof.trials import WRITES_BACK_S, conclude
from pgherd.proof.writers import Writers, create_table

Make = Callable[..., LocalHerd]


@pytest.fixture
def make(stable: Any) -> Iterator[Make]:
    """Herds of this test's own, which may lose members."""
    made: list[LocalHerd] = []

    def start(nodes: int = 3, *, witnesses: int = 0, **overrides: Any) -> LocalHerd:
        herd = LocalHerd(
            nodes, witnesses=witnesses, postgres_bin=stable.postgres_bin, overrides=overrides
        )
        made.append(herd)
        herd.start()
        herd.wait_stable(90)
        return herd

    yield start
    for herd in made:
        herd.stop(graceful=False)
        herd.remove()


def writing(herd: LocalHerd) -> Writers:
    create_table(herd.dsn_direct())
    writers = Writers(herd.dsn_direct(), count=4)
    writers.start()
    return writers


def finish(herd: LocalHerd, writers: Writers) -> None:
    """Writes go on, and every acknowledged row is on every member that is left."""
    herd.wait_stable(60)
    wait_writes(herd, writers)
    report = conclude(herd, writers, [])
    writers.stop()
    assert report.verdict.clean, str(report.verdict)


def wait_writes(herd: LocalHerd, writers: Writers) -> None:
    herd.wait_for(lambda: writers.idle_s() < WRITES_BACK_S, "write", deadline_s=20)


def refusal(herd: LocalHerd, name: str) -> str:
    with pytest.raises(NoAnswer) as caught:
        herd.remove_node(name)
    herd.removed.discard(name)
    assert caught.value.status == 412
    return str(caught.value)


def knows_it_is_gone(herd: LocalHerd, name: str) -> bool:
    """Whether a daemon says that it was removed, and its server has ended."""
    problems = herd.ask("/cluster/status", name=name)["problems"]
    try:
        herd.query(name, "SELECT 1")
    except psycopg.OperationalError:
        return any("was removed from this cluster" in text for text in problems)
    return False


def test_replicas_leave_one_by_one(make: Make) -> None:
    """From three to one under load: sync set, slot, consensus, ledger; the primary may not go.

    The first to go leads consensus, so that it has to hand over before.
    """
    herd = make()
    writers = writing(herd)
    primary = herd.wait_primary()
    assert "is_primary" in refusal(herd, primary)
    lead = herd.wait_for(
        lambda: (found := herd.status()["raft_leader"]) != primary and found,
        "Raft leader off the primary",
        deadline_s=15,
    )
    answer = herd.remove_node(lead, via=primary)
    assert answer["status"] == "done"
    assert lead not in answer["members"]
    herd.wait_for(lambda: knows_it_is_gone(herd, lead), "word of the removal", deadline_s=15)
    wait_writes(herd, writers)
    slots = f"SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'pgherd_{lead}'"
    herd.wait_for(lambda: herd.query(primary, slots) == [(0,)], "dropped slot", deadline_s=15)
    peers = herd.ask("/cluster/status", name=primary)
    assert peers["node_count"] == 2
    [last] = [name for name in herd.data if name != primary]
    herd.remove_node(last, via=last)
    herd.wait_for(
        lambda: herd.query(primary, "SHOW synchronous_standby_names") == [("",)],
        "degraded primary",
        deadline_s=15,
    )

    def is_whole() -> bool:
        status = herd.ask("/cluster/status", name=primary)
        return (status["status"], status["has_quorum"]) == ("operational", True)

    herd.wait_for(is_whole, "an operational cluster of one", deadline_s=15)
    finish(herd, writers)
    herd.terminate_node(lead, within_s=30)
    herd.start_node(lead)
    herd.wait_for(lambda: knows_it_is_gone(herd, lead), "word after a restart", deadline_s=20)


def test_a_dead_member_is_removed_and_quorum_is_kept(make: Make) -> None:
    """A living voter stays while a dead one counts; the dead one may go, and then the other."""
    herd = make()
    primary = herd.wait_primary()
    dead, alive = (name for name in herd.data if name != primary)
    herd.kill_node(dead)
    herd.wait_for(
        lambda: any(dead in text for text in herd.ask("/cluster/status", name=primary)["problems"]),
        "dead member",
        deadline_s=10,
    )
    assert "would_lose_quorum" in refusal(herd, alive)
    began = time.monotonic()
    herd.remove_node(dead, via=primary)
    assert time.monotonic() - began < 15
    herd.wait_stable(30)
    herd.remove_node(alive, via=primary)
    assert herd.query(primary, "CREATE TABLE still_writable (n int)") == []


def test_an_address_changes(make: Make) -> None:
    """A node comes back at another port; the others learn of it through the ledger."""
    herd = make()
    name = next(one for one in herd.data if one != herd.wait_primary())
    place = herd.places[name]
    herd.terminate_node(name, within_s=30)
    moved = place.ports.base + 7
    layout.write_settings(
        place, layout.merge(layout.read_settings(place), {"raft": {"port": moved}})
    )
    herd.start_node(name)
    herd.wait_stable(60)
    herd.kill_node(next(one for one in herd.data if one not in (name, herd.wait_primary())))
    herd.wait_for(lambda: herd.status()["has_quorum"], "quorum of the two", deadline_s=20)


def test_a_witness_decides(make: Make) -> None:
    """Two data members and a witness: the primary dies, the other takes over by the third vote."""
    herd = make(witnesses=1)
    [witness] = herd.witnesses
    seen = {node["name"]: node for node in herd.node_states()}
    assert (seen[witness]["role"], seen[witness]["is_voter"]) == ("witness", True)
    usage = herd.usage(witness)
    with open(os.environ.get("PGHERD_COUNTS", os.devnull), "a", encoding="utf-8") as counts:
        counts.write(f"witness_rss_bytes={usage.rss_bytes}\n")
    assert usage.processes == 2, "supervisor and agent; no proxy"
    primary = herd.wait_primary()
    [other] = [name for name in herd.data if name != primary]
    assert herd.status()["synchronous"]["voters"] == [other]
    writers = writing(herd)
    time.sleep(1)
    writers.mark("primary killed")
    herd.kill_node(primary)
    assert herd.wait_primary(other_than=primary) == other
    wait_writes(herd, writers)
    herd.restart_node(primary)
    finish(herd, writers)


def peers_of(herd: LocalHerd, name: str) -> dict[str, dict[str, Any]]:
    """`/raft/peers` of one node, by name."""
    port = herd.places[name].ports.api
    found = ask(HOST, port, "/raft/peers", token=herd.secrets.token)
    return {peer["node"]: peer for peer in found["peers"]}


def limit_votes(herd: LocalHerd, name: str, count: int) -> None:
    port = herd.places[name].ports.api
    body = {"max_voters": count}
    ask(HOST, port, "/raft/max-voters", token=herd.secrets.token, method="PUT", body=body)


@pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)
def test_a_member_that_stands_by_votes_when_a_voter_is_lost(make: Make) -> None:
    """Of four members three vote. The fourth leads as primary all the same; when a voter is gone
    for good it votes in its place, so that one more may be lost: the primary, under load.
    """
    herd = make(4, raft={"voter_timeout": "5s"})
    limit_votes(herd, "n1", 3)
    herd.wait_for(lambda: len(herd.status()["raft_voters"]) == 3, "three voters", deadline_s=15)
    voters = herd.status()["raft_voters"]
    [fourth] = set(herd.data) - set(voters)
    stands_by = ("non-voter", "stands by: raft.max_voters is 3, and that many vote")

    def told() -> tuple[str, str]:
        peer = peers_of(herd, fourth)[fourth]
        return peer["suffrage"], peer["why"]

    herd.wait_for(lambda: told() == stands_by, f"why {fourth} has no vote", deadline_s=15)
    herd.switchover(fourth)
    herd.wait_for(lambda: herd.primary() == fourth, f"{fourth} as primary", deadline_s=30)
    writers = writing(herd)
    lost = next(name for name in voters if name != herd.status()["raft_leader"])
    herd.kill_node(lost)
    herd.wait_for(
        lambda: (
            set(herd.ask("/cluster/status", name=fourth)["raft_voters"]) == set(herd.data) - {lost}
        ),
        "vote in place of the lost one",
        deadline_s=20,
    )
    wait_writes(herd, writers)
    writers.mark("primary killed")
    herd.kill_node(fourth)
    herd.wait_primary(other_than=fourth)
    wait_writes(herd, writers)
    herd.restart_node(lost)
    herd.restart_node(fourth)
    finish(herd, writers)
    [spare] = set(herd.data) - set(herd.status()["raft_voters"])
    herd.remove_node(spare)
    herd.wait_for(lambda: knows_it_is_gone(herd, spare), "word of the removal", deadline_s=15)
