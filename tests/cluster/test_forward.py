"""Who may lead lacks what was acknowledged: it takes the rest from who has it, and leads."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from pgherd.proof.herd import LocalHerd

pytestmark = pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)

ROWS = 2000


def tag(herd: LocalHerd, name: str, **tags: object) -> None:
    """Give a member these tags, and wait until the cluster knows them."""
    herd.reload_node(name, {"node": {"tags": tags}})

    def known() -> bool:
        [state] = [one for one in herd.node_states() if one["name"] == name]
        return all(state["tags"].get(key) == value for key, value in tags.items())

    herd.wait_for(known, f"tags {tags} of {name}", deadline_s=20)


def send_no_more(herd: LocalHerd, primary: str, *, to: str) -> None:
    """The walsender of one standby stands still with its connection open: nothing more arrives."""
    senders = "SELECT pid FROM pg_stat_replication WHERE application_name LIKE"
    [(pid,)] = herd.query(primary, f"{senders} '{to}.%'")
    os.kill(pid, signal.SIGSTOP)


def lose(herd: LocalHerd, primary: str, *, late: str, table: str) -> str:
    """The primary is lost after rows that one standby does not get; how that one caught up."""
    send_no_more(herd, primary, to=late)
    rows = f"SELECT generate_series(1, {ROWS})"
    herd.query(primary, f"CREATE TABLE {table} (n int); INSERT INTO {table} {rows}")
    herd.kill_node(primary)
    herd.silent.add(primary)
    assert herd.wait_primary(other_than=primary, deadline_s=30) == late
    assert herd.query(late, f"SELECT count(*) FROM {table}") == [(ROWS,)]
    herd.query(late, f"INSERT INTO {table} VALUES (0)", timeout_ms=20_000)
    history = herd.ask("/history")
    [*_, note] = [one for one in history["notes"] if one["kind"] == "candidate.catches-up"]
    assert note["text"].startswith(f"{late} catches up from ")
    return str(note["text"])


@pytest.mark.fault(66)
def test_a_candidate_that_is_behind_catches_up_and_leads(
    stable: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the only other copy may not lead; then it may, but another one is preferred.

    The first time the candidate's agent dies before it has sealed its server again.
    """
    order = tmp_path / "failpoint"
    monkeypatch.setenv("PGHERD_FAILPOINT", str(order))
    with LocalHerd(3, postgres_bin=stable.postgres_bin) as herd:
        herd.start()
        herd.wait_stable(90)
        primary = herd.wait_primary()
        late, holder = sorted(set(herd.nodes) - {primary})
        tag(herd, holder, nofailover=True)
        order.write_text("fast_forward.taken=panic")
        assert f"from {holder} to" in lose(herd, primary, late=late, table="kept")
        assert order.with_suffix(".taken").exists(), "the agent did not die"
        herd.restart_node(primary)
        herd.silent.discard(primary)
        herd.wait_stable(60)
        tag(herd, holder, nofailover=False)
        tag(herd, primary, failover_priority=200)
        lose(herd, late, late=primary, table="kept_too")
        assert herd.query(primary, "SELECT count(*) FROM kept") == [(ROWS + 1,)]
