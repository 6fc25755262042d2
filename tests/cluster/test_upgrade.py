"""Upgrade pgherd node by node, go back from a failed upgrade, and end at the next version."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from checkups import until_red
from nextbuild import NEXT_LEVEL, NEXT_VERSION, PRAISE, make_next_build

from pgherd.ledger.levels import LEVEL
from pgherd.proof.client import ask
from pgherd.proof.herd import LocalHerd
from pgherd.proof.history import check
from pgherd.proof.ports import HOST
from pgherd.proof.writers import Writers, create_table, read_rows

pytestmark = pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)


class MixedHerd(LocalHerd):
    """A herd whose nodes need not run the same program."""

    def install(self, name: str, python: str) -> None:
        """As a package manager would: stop, another program, start."""
        self.terminate_node(name, within_s=30)
        self._python = python
        self.start_node(name)
        self.wait_stable(60)

    def praises(self) -> dict[str, bool]:
        """In whose ledger the next version's command is."""
        texts = {
            name: [note["text"] for note in self.ask("/history", name=name)["notes"]]
            for name in self.nodes
        }
        return {name: PRAISE in said for name, said in texts.items()}

    def levels(self) -> set[int]:
        """What each node takes for the ledger's level."""
        return {self.consensus(name, "state")["ledger_level"] for name in self.nodes}

    def consensus(self, name: str, what: str, **more: Any) -> Any:
        """One node's answer about Raft."""
        port = self.places[name].ports.api
        return ask(HOST, port, f"/raft/{what}", token=self.secrets.token, timeout_s=30.0, **more)

    def versions(self) -> dict[str, str]:
        return {node["name"]: node["version"] for node in self.node_states()}


@pytest.mark.fault(85)
def test_two_builds_are_one_cluster(stable: Any, tmp_path: Path) -> None:
    """In any mixture writes go on, and what only the newer one knows waits for the last node.

    One that was upgraded goes back, as after a failed upgrade. Once all have the next version the
    old one is refused with what to do, and nothing acknowledged is lost.
    """
    ours, newer = sys.executable, make_next_build(tmp_path)
    with MixedHerd(3, witnesses=1, postgres_bin=stable.postgres_bin) as herd:
        herd.start()
        herd.wait_stable(90)
        primary = herd.wait_primary()
        [witness] = herd.witnesses
        [replica] = set(herd.data) - {primary}
        create_table(herd.dsn_direct())
        with Writers(herd.dsn_direct()) as writers:
            writers.start()
            herd.install(replica, newer)
            herd.wait_for(
                lambda: herd.versions()[replica] == NEXT_VERSION, "its version", deadline_s=20
            )
            herd.install(replica, ours)
            herd.wait_for(
                lambda: NEXT_VERSION not in herd.versions().values(), "one version", deadline_s=20
            )
            herd.install(witness, newer)
            herd.install(replica, newer)
            mixed = (("herd.versions", ""), ("herd.level", ""), ("proxy.engine", replica))
            until_red(herd, replica, *mixed)
            herd.switchover(replica)
            herd.wait_for(lambda: herd.primary() == replica, "the newer one leads", deadline_s=40)
            herd.wait_stable(60)
            herd.consensus(witness, "transfer-leadership", method="POST", body={"to": witness})
            assert (herd.levels(), set(herd.praises().values())) == ({LEVEL}, {False})
            herd.install(primary, newer)
            herd.wait_for(lambda: all(herd.praises().values()), "the command", deadline_s=30)
            herd.wait_for(lambda: herd.levels() == {NEXT_LEVEL}, "the next level", deadline_s=20)
            herd.terminate_node(witness, within_s=30)
            herd._python, since = ours, herd.places[witness].log.stat().st_size
            herd.start_node(witness)
            assert herd._running.pop(witness).wait(30) == 2
            said = herd.places[witness].log.read_bytes()[since:].decode()
            assert f"level {NEXT_LEVEL}, this pgherd understands {LEVEL}" in said
            assert "install the pgherd of the other nodes here" in said
            herd._python = newer
            herd.start_node(witness)
            herd.wait_stable(60)
        verdict = check(writers.history(), read_rows(herd.dsn_node(replica)))
    assert verdict.clean, str(verdict)
    assert verdict.acknowledged > 200
