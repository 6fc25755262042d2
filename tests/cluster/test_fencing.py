"""Who wins an election, and what stands between it and its promotion: disks, a fencing command."""

from __future__ import annotations

import re
import urllib.request
from typing import Any

import pytest
from filesystems import leave_free, small_disk

from pgherd.proof.herd import LocalHerd
from pgherd.proof.ports import HOST

pytestmark = pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)


FULL = "n3"
DISK_MB = 400
LEFT_MB = 30
"""Less than `failover.min_free_disk`, and enough for a replica that has little to do."""


def fill(herd: LocalHerd) -> None:
    """Leave little room beside the data of one node, and wait until it has noticed."""
    place = herd.places[FULL]
    leave_free(place.data.parent / "filling", LEFT_MB)

    def noticed() -> bool:
        url = f"http://{HOST}:{place.ports.api}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            found = re.search(r'pgherd_disk_free_bytes{mount="data"} (\S+)', answer.read().decode())
        return found is not None and float(found[1]) < 64 << 20

    herd.wait_for(noticed, "full disk in the metrics", deadline_s=20)


def test_nobody_is_promoted_before_a_required_command_succeeds(stable: Any, tmp_path: Any) -> None:
    """It fails: no primary, and everybody says why, also after the winner's agent was killed.

    The winner is not who has the highest priority, for want of room on its disk. Mended the command
    runs to its end, once, and then, not before, there is a primary.
    """
    allow, ran, program = tmp_path / "allow", tmp_path / "ran", tmp_path / "fence"
    program.write_text(
        f"#!/bin/sh\n[ -e {allow} ] || {{ echo no power switch; exit 7; }}\n"
        f'echo "$@" >> {ran}\necho the power is off\n'
    )
    program.chmod(0o755)
    order = {"command": [str(program), "off"], "deadline": "5s", "required": True}
    changes = {"failover": {"fence": order}}
    with (
        LocalHerd(3, postgres_bin=stable.postgres_bin, overrides=changes) as herd,
        small_disk(herd.places[FULL].data.parent, size_mb=DISK_MB) as has_disk,
    ):
        herd.start()
        herd.wait_stable(90)
        old = herd.wait_primary()
        herd.query(old, "CREATE TABLE kept AS SELECT 1 AS n")
        assert not ran.exists(), "nothing to fence at the beginning"
        if has_disk:
            herd.reload_node(FULL, {"node": {"tags": {"failover_priority": 500}}})
            fill(herd)
        herd.kill_node(old)
        herd.silent.add(old)

        def refusals() -> list[str]:
            problems = herd.status()["problems"]
            return [p for p in problems if f"did not fence {old}" in p and "no power switch" in p]

        herd.wait_for(refusals, "reason in the status", deadline_s=30)
        left = sorted(set(herd.data) - {old})
        term = herd.status()["epoch"]
        [winner] = [n["name"] for n in herd.node_states() if n["role"] == "primary"]
        if has_disk:
            notes = [n["text"] for n in herd.ask("/history")["notes"]]
            assert winner != FULL
            assert any(f"passed over with less than 64 MB free on disk: {FULL}" in n for n in notes)
        herd.kill_agent(winner)
        herd.wait_for(
            lambda: any("is not fenced" in n["problem"] for n in herd.node_states()),
            "another attempt after the agent's restart",
            deadline_s=30,
        )
        herd.wait_for(refusals, "the reason again", deadline_s=30)
        assert herd.status()["primary_node_id"] is None
        for name in left:
            assert herd.query(name, "SELECT pg_is_in_recovery()") == [(True,)]
        allow.touch()
        assert herd.wait_primary(deadline_s=60) in left
        [line] = ran.read_text().splitlines()
        now = herd.status()["epoch"]
        assert line in {f"off {old} 127.0.0.1 {one} local" for one in range(term, now + 1)}

        def fenced() -> dict[str, str] | None:
            notes = {note["kind"]: note["text"] for note in herd.ask("/history")["notes"]}
            return notes if "fence.done" in notes else None

        notes = herd.wait_for(fenced, "word of the fence", deadline_s=10)
        assert notes is not None
        assert "the power is off" in notes["fence.done"]
        assert "no power switch" in notes["fence.failed"]
        assert herd.query(herd.wait_primary(), "SELECT n FROM kept") == [(1,)]
