"""An operator's fencing command stands between an election and the promotion of its winner."""

from __future__ import annotations

from typing import Any

import pytest

from pgherd.proof.herd import LocalHerd

pytestmark = pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)


def test_nobody_is_promoted_before_a_required_command_succeeds(stable: Any, tmp_path: Any) -> None:
    """It fails: no primary, and everybody says why, also after the winner's agent was killed.

    Mended it runs to its end, once, and then, not before, there is a primary.
    """
    allow, ran, program = tmp_path / "allow", tmp_path / "ran", tmp_path / "fence"
    program.write_text(
        f"#!/bin/sh\n[ -e {allow} ] || {{ echo no power switch; exit 7; }}\n"
        f'echo "$@" >> {ran}\necho the power is off\n'
    )
    program.chmod(0o755)
    order = {"command": [str(program), "off"], "deadline": "5s", "required": True}
    changes = {"failover": {"fence": order}}
    with LocalHerd(3, postgres_bin=stable.postgres_bin, overrides=changes) as herd:
        herd.start()
        herd.wait_stable(90)
        old = herd.wait_primary()
        herd.query(old, "CREATE TABLE kept AS SELECT 1 AS n")
        assert not ran.exists(), "nothing to fence at the beginning"
        herd.kill_node(old)
        herd.silent.add(old)

        def refusals() -> list[str]:
            problems = herd.status()["problems"]
            return [p for p in problems if f"did not fence {old}" in p and "no power switch" in p]

        herd.wait_for(refusals, "reason in the status", deadline_s=30)
        left = sorted(set(herd.data) - {old})
        term = herd.status()["epoch"]
        [winner] = [n["name"] for n in herd.node_states() if n["role"] == "primary"]
        herd.kill_agent(winner)
        herd.wait_for(
            lambda: any("is not fenced" in n["problem"] for n in herd.node_states()),
            "another attempt after the agent's restart",
            deadline_s=30,
        )
        assert refusals()
        assert herd.status()["primary_node_id"] is None
        for name in left:
            assert herd.query(name, "SELECT pg_is_in_recovery()") == [(True,)]
        allow.touch()
        assert herd.wait_primary(deadline_s=60) in left
        [line] = ran.read_text().splitlines()
        now = herd.status()["epoch"]
        assert line in {f"off {old} 127.0.0.1 {one} local" for one in range(term, now + 1)}
        notes = {note["kind"]: note["text"] for note in herd.ask("/history")["notes"]}
        assert "the power is off" in notes["fence.done"]
        assert "no power switch" in notes["fence.failed"]
        assert herd.query(herd.wait_primary(), "SELECT n FROM kept") == [(1,)]
