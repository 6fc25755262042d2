"""Lost consensus: one of three nodes is left and is made to go on; all stores are gone and a saved
ledger takes their place. The dead do not rise again, and what was acknowledged is there."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tending import typed

from pgherd.proof import layout
from pgherd.proof.herd import LocalHerd
from pgherd.proof.trials import judge, rows_everywhere
from pgherd.proof.writers import Writers, create_table


@pytest.fixture
def own(stable: Any) -> Iterator[LocalHerd]:
    """A herd of this test's own."""
    herd = LocalHerd(3, postgres_bin=stable.postgres_bin)
    try:
        herd.start()
        herd.wait_stable(90)
        yield herd
    finally:
        herd.stop(graceful=False)
        herd.remove()


def recover(herd: LocalHerd, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    return pgherd_raft(herd, name, "recover", *words)


def pgherd_raft(herd: LocalHerd, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of `pgherd raft` on a node."""
    return typed(herd, name, "raft", *words)


@pytest.mark.fault(54)
def test_one_of_three_goes_on_alone(own: LocalHerd) -> None:
    """Two loud steps; then it leads by itself, and what it had acknowledged is there.

    The survivor was a replica and had everything. The lost nodes, started again one after another,
    hear that they belong to the past.
    """
    herd = own
    create_table(herd.dsn_direct())
    writers = Writers(herd.dsn_direct(), count=2)
    writers.start()
    time.sleep(1)
    writers.stop()
    rows_everywhere(herd)
    primary = herd.wait_primary()
    term = herd.status()["epoch"]
    survivor, other = (name for name in herd.data if name != primary)
    running = recover(herd, survivor, "--keep-this-node", "--yes-i-compared")
    assert (running.returncode, "is in use by process" in running.stderr) == (2, True), (
        running.stderr
    )
    herd.terminate_node(survivor, within_s=30)
    alive = recover(herd, survivor, "--keep-this-node", "--yes-i-compared")
    assert alive.returncode == 3
    assert f"{primary} answers" in alive.stderr or f"{other} answers" in alive.stderr
    herd.kill_node(primary)
    herd.kill_node(other)
    looked = recover(herd, survivor)
    assert looked.returncode == 3
    assert "log       ends at" in looked.stdout
    assert f"given up  {', '.join(sorted((primary, other)))}" in looked.stdout
    assert "next: pgherd raft recover" in looked.stderr
    position = json.loads(recover(herd, survivor, "--output", "json").stdout)["position"]
    assert position in looked.stdout, "the first step changes nothing"
    done = recover(herd, survivor, "--keep-this-node", "--yes-i-compared")
    assert done.returncode == 0, done.stderr
    herd.removed.update((primary, other))
    herd.start_node(survivor)
    assert herd.wait_primary(deadline_s=60) == survivor
    herd.wait_for(
        lambda: herd.status()["status"] == "operational", "operational survivor", deadline_s=30
    )
    status = herd.status()
    assert status["epoch"] > term
    assert (status["node_count"], status["synchronous"]["num_sync"]) == (1, 0)
    notes = [note["kind"] for note in herd.ask("/history", name=survivor)["notes"]]
    assert "cluster.recovered" in notes
    verdict = judge(herd, writers.history())
    assert verdict.clean, str(verdict)
    assert verdict.acknowledged > 20
    for name in (primary, other):  # one after another: both are a majority of the old cluster
        herd.start_node(name)
        herd.wait_for(
            lambda name=name: any(
                "was removed" in text for text in herd.ask("/cluster/status", name=name)["problems"]
            ),
            f"word at {name}",
            deadline_s=30,
        )
    for name in (primary, other):
        assert herd.ask("/cluster/status", name=name)["epoch"] <= term, "they began a reign"
    assert herd.query(survivor, "CREATE TABLE after_all (n int)") == []
    assert herd.ask("/cluster/status", name=survivor)["primary_node_id"] == survivor
    assert herd.ask("/cluster/status", name=primary)["primary_node_id"] is None


@pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)
def test_a_saved_ledger_is_restored(own: LocalHerd) -> None:
    """All stores are lost after a power cut; the file is older than the last term.

    Restored on every node, in two steps each, the cluster elects whose copy has everything.
    """
    herd = own
    names = list(herd.data)
    file = str(herd.directory / "ledger.pgherd")
    create_table(herd.dsn_direct())
    saved = pgherd_raft(herd, names[0], "snapshot", "save", file)
    assert saved.returncode == 0, saved.stderr
    primary = herd.wait_primary()
    herd.ask("/cluster/switchover", method="POST", timeout_s=30.0)
    herd.wait_primary(other_than=primary)
    term = herd.status()["epoch"]
    writers = Writers(herd.dsn_direct(), count=2)
    writers.start()
    time.sleep(1)
    restore = ("snapshot", "restore", file)
    running = pgherd_raft(herd, names[0], *restore)
    assert (running.returncode, "is in use by process" in running.stderr) == (2, True)
    for name in names:
        herd.kill_node(name)
    writers.stop()
    kept = pgherd_raft(herd, names[0], *restore)
    assert (kept.returncode, "has its consensus store" in kept.stderr) == (3, True), kept.stderr
    for name in names:
        shutil.rmtree(layout.read_settings(herd.places[name])["raft"]["data_dir"])
    looked = pgherd_raft(herd, names[0], *restore, "--output", "json")
    assert (looked.returncode, "nothing was changed yet" in looked.stderr) == (3, True)
    told = json.loads(looked.stdout)
    assert (told["members"], told["lost"]) == (sorted(names), [])
    assert told["term"] > term
    copy = herd.places[names[1]].data / "pgherd.incarnation"
    known = copy.read_text()
    copy.write_text("ffffff\n")
    other = pgherd_raft(herd, names[1], *restore)
    assert (other.returncode, f"--lost {names[1]}" in other.stderr) == (2, True), other.stderr
    copy.write_text(known)
    for name in names:
        done = pgherd_raft(herd, name, *restore, "--confirm", told["confirm"])
        assert done.returncode == 0, done.stderr
    herd.start()
    herd.wait_stable(60)
    assert herd.status()["epoch"] >= told["term"]
    notes = [note["kind"] for note in herd.ask("/history")["notes"]]
    assert "cluster.restored" in notes
    rows_everywhere(herd)
    verdict = judge(herd, writers.history())
    assert verdict.clean, str(verdict)
    assert verdict.acknowledged > 20
