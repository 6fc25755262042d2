"""What operators do to a running node: reload, stop in order, start twice. On real servers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pgherd.proof.herd import LocalHerd


def shown(herd: LocalHerd, name: str, parameter: str) -> str:
    [row] = herd.query(name, f"SHOW {parameter}")
    return str(row[0])


def test_reload_reaches_postgresql(herd: LocalHerd) -> None:
    """SIGHUP applies a PostgreSQL parameter of the file, and a bad file changes nothing."""
    name = str(herd.primary())
    before = herd.places[name].config.read_text()
    herd.reload_node(name, {"postgresql": {"parameters": {"work_mem": "7MB"}}})
    herd.wait_for(lambda: shown(herd, name, "work_mem") == "7MB", "new work_mem", deadline_s=10)
    herd.reload_node(name, {"postgresql": {"parameters": {"work_mem": "9MB"}}, "nonsense": 1})
    log = herd.places[name].log
    herd.wait_for(
        lambda: "config.rejected" in log.read_text(), "rejected configuration", deadline_s=10
    )
    assert shown(herd, name, "work_mem") == "7MB"
    herd.places[name].config.write_text(before)
    herd.reload_node(name, {})
    herd.wait_for(lambda: shown(herd, name, "work_mem") != "7MB", "old work_mem", deadline_s=10)


def test_a_stopped_node_stops_its_server_and_hands_the_lead_on(herd: LocalHerd) -> None:
    """SIGTERM ends the daemon with 0, leaves no server behind, and another node leads at once."""
    name = str(herd.primary())
    assert herd.terminate_node(name, within_s=30) == 0
    assert not herd._processes_of(name)
    herd.wait_primary(other_than=name)
    herd.start_node(name)
    herd.wait_stable(60)


@pytest.mark.fault(22)
def test_a_second_daemon_is_refused(herd: LocalHerd) -> None:
    """Another daemon on the same directory ends with 2 and a next step; the first goes on."""
    name = str(herd.primary())
    command = [sys.executable, "-m", "pgherd.daemon.main", "--config"]
    second = subprocess.run(
        [*command, str(herd.places[name].config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 2, second.stderr
    assert "next=" in second.stderr
    assert herd.primary() == name
    herd.wait_stable(30)
