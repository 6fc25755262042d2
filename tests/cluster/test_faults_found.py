"""Faults of a real herd that hurt nobody yet, and that a check-up is red on: where copies and votes
are, who does not replay, what keeps WAL for ever, what is asked for and does not happen."""

from __future__ import annotations

import signal
from contextlib import ExitStack

import pytest
from checkups import QUICK, changed, checkup, red, until_red, written_back
from tending import done

from pgherd.plan.doctor.herd import FLAPS
from pgherd.proof.herd import LocalHerd
from pgherd.proof.processes import send

pytestmark = pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)

STABLE_S = 60.0
LAG_MB = 20
"""More than failover.max_lag lets a candidate be behind."""
WAITS_S = 120.0


def two_others(herd: LocalHerd) -> tuple[str, str, str]:
    """The primary first."""
    primary = herd.wait_primary()
    via, other = (name for name in herd.nodes if name != primary)
    return primary, via, other


def set_alone(herd: LocalHerd, name: str, statement: str) -> None:
    """By ALTER SYSTEM on one server, past pgherd."""
    herd.query(name, f"ALTER SYSTEM {statement}")
    herd.query(name, "SELECT pg_reload_conf()")


def stand_still(name: str, pid: int | None, undo: ExitStack) -> None:
    """A process does nothing until the end of the test."""
    assert pid is not None, name
    undo.callback(send, [pid], signal.SIGCONT)
    send([pid], signal.SIGSTOP)


def part_of_server(herd: LocalHerd, name: str, part: str) -> int:
    """A process of a server, as PostgreSQL names its kind."""
    [[pid]] = herd.query(name, f"SELECT pid FROM pg_stat_activity WHERE backend_type = '{part}'")
    return int(str(pid))


def test_faults_that_hurt_nobody_yet(herd: LocalHerd) -> None:
    """All at once: while nobody has said which zones there are, and then they are badly chosen."""
    primary, via, other = two_others(herd)
    with ExitStack() as undo:
        undo.callback(written_back(herd))
        stand_still(other, herd.part_pid(other, "proxy"), undo)
        changed(herd, other, {"node": {"zone": ""}})
        undo.callback(set_alone, herd, other, "RESET max_slot_wal_keep_size")
        set_alone(herd, other, "SET max_slot_wal_keep_size = -1")
        undo.callback(herd.query, via, "SELECT pg_wal_replay_resume()")
        herd.query(via, "SELECT pg_wal_replay_pause()")
        much = f"repeat('x', {LAG_MB << 20})"
        herd.query(primary, f"SELECT pg_logical_emit_message(true, 'test', {much})")
        found = until_red(
            herd,
            via,
            *(("herd.same_zone_unknown", ""), ("herd.followers", ""), ("herd.lag", "")),
            *(("herd.slots_budget", ""), ("pg.slot_budget", other), ("proxy.healthy", other)),
        )
        assert f"{via} is " in found["herd.lag", ""]["text"]
        assert f"{via}: replay is paused" in found["herd.followers", ""]["text"]
        assert f"on {other}" in found["herd.slots_budget", ""]["text"]
        for name, zone in ((primary, "a"), (via, "a"), (other, "b")):
            changed(herd, name, {"node": {"zone": zone}})
        found = until_red(herd, via, ("herd.voters_zone", ""), ("herd.copies_zone", ""))
        assert found["herd.same_zone_unknown", ""]["status"] == "ok"


def test_a_primary_that_moves_again_and_again(herd: LocalHerd) -> None:
    """Within one hour; what earlier tests of this herd have moved counts too."""
    for _ in range(FLAPS):
        if ("herd.flapping", "") in red(checkup(herd, via=herd.nodes[0], query=QUICK)):
            break
        herd.switchover()
        herd.wait_stable(STABLE_S)
    until_red(herd, herd.nodes[0], ("herd.flapping", ""))


@pytest.mark.full
def test_a_switchover_that_waits_for_a_checkpoint(herd: LocalHerd) -> None:
    """The primary's checkpointer stands still, as on a disk that does not take its pages."""
    primary, via, _ = two_others(herd)
    with ExitStack() as undo:
        stand_still(primary, part_of_server(herd, primary, "checkpointer"), undo)
        wish = {"candidate": via}
        herd.ask("/cluster/switchover?wait=0", method="POST", body=wish, timeout_s=30)
        until_red(herd, via, ("herd.switchover_waits", ""), deadline_s=WAITS_S)
    herd.wait_for(lambda: herd.primary() == via, "the switchover", deadline_s=STABLE_S)
    herd.wait_stable(STABLE_S)


@pytest.mark.full
def test_a_standby_with_less_than_its_primary(herd: LocalHerd) -> None:
    """It has not come to where the WAL says so: its startup process stands still."""
    primary, via, _ = two_others(herd)
    with ExitStack() as undo:
        undo.callback(restarted, herd, primary, "RESET max_worker_processes")
        stand_still(via, part_of_server(herd, via, "startup"), undo)
        restarted(herd, primary, "SET max_worker_processes = 40")
        found = until_red(herd, primary, ("herd.matched_parameters", ""))
        assert f"{via}: max_worker_processes" in found["herd.matched_parameters", ""]["text"]
    herd.wait_stable(STABLE_S)


def restarted(herd: LocalHerd, name: str, statement: str) -> None:
    """With another value of what needs a restart."""
    herd.query(name, f"ALTER SYSTEM {statement}")
    done(herd, f"/nodes/{name}/restart")
