"""What operators do with a running herd, seen on its servers: pause, restart, stop, copy anew."""

from __future__ import annotations

import time
from collections.abc import Callable

from tending import done, ended, node, typed
from test_choice import Reads

from pgherd.proof.herd import LocalHerd
from pgherd.proof.trials import conclude
from pgherd.proof.writers import Writers

StartWriters = Callable[..., Writers]


def replica(herd: LocalHerd) -> str:
    return next(name for name in herd.nodes if name != herd.primary())


def shown(herd: LocalHerd, *words: str) -> str:
    """What a command prints."""
    found = typed(herd, herd.nodes[0], *words)
    assert found.returncode == 0, found.stderr
    return found.stdout


def readers(herd: LocalHerd) -> set[str]:
    """Which servers new sessions of the proxies' replica listeners get."""
    return {server for name in herd.nodes for server in Reads(herd, name).one_by_one(3)}


def who_waits(herd: LocalHerd) -> set[str]:
    """The servers that have a parameter which waits for a restart, by their last reports."""
    return {name for name in herd.nodes if node(herd, name)["pending_restart"]}


def test_work_on_one_node_after_the_other(herd: LocalHerd) -> None:
    """Each is asked of another node than it is about, and seen on the servers."""
    first = str(herd.primary())
    other = replica(herd)
    third = next(name for name in herd.nodes if name not in (first, other))
    size = {"postgresql": {"parameters": {"track_activity_query_size": 2048}}}
    herd.ask("/config", method="PATCH", body=size, timeout_s=20.0)
    herd.wait_for(lambda: who_waits(herd) == set(herd.nodes), "pending restarts", deadline_s=30)
    pids = {name: herd.postmaster_pid(name) for name in herd.nodes}

    # A replica restarts, alone, and nobody else does.
    done(herd, f"/nodes/{other}/restart")
    assert herd.postmaster_pid(other) != pids[other]
    assert herd.postmaster_pid(first) == pids[first]
    herd.wait_stable(60)

    # The primary restarts in place: another server, a new epoch, the same primary.
    epoch = herd.status()["epoch"]
    done(herd, f"/nodes/{first}/restart", {"reason": "huge pages"})
    assert herd.primary() == first
    assert herd.postmaster_pid(first) != pids[first]
    assert herd.status()["epoch"] == epoch + 1
    herd.wait_stable(60)

    # Of those that wait for a restart only the third is left, and it is the only one restarted.
    herd.wait_for(lambda: who_waits(herd) == {third}, "one that waits", deadline_s=30)
    pids = {name: herd.postmaster_pid(name) for name in herd.nodes}
    assert done(herd, "/cluster/restart", {"pending": True})["nodes"] == [third]
    now = {name: herd.postmaster_pid(name) for name in herd.nodes}
    assert {name for name in herd.nodes if now[name] != pids[name]} == {third}
    assert herd.query(third, "SHOW track_activity_query_size") == [("2kB",)]

    # A file's change is read by a reload.
    [(before,)] = herd.query(other, "SELECT pg_conf_load_time()")
    done(herd, f"/nodes/{other}/reload")
    [(after,)] = herd.query(other, "SELECT pg_conf_load_time()")
    assert after > before

    # Who is stopped by hand stays so, though its agent comes anew, until it is started by hand.
    done(herd, f"/nodes/{other}/stop")
    killed = herd.kill_agent(other)
    herd.wait_for(
        lambda: herd.part_pid(other, "agent") not in (None, killed), "another agent", deadline_s=30
    )
    time.sleep(2)
    herd.wait_for(
        lambda: (
            node(herd, other)["state"] == "stopped" and "stopped by" in node(herd, other)["doing"]
        ),
        "that it stays stopped",
        deadline_s=30,
    )
    assert not (herd.places[other].data / "postmaster.pid").exists()
    done(herd, f"/nodes/{other}/start")
    herd.wait_stable(60)

    # A replica is copied anew: another directory, the old one kept aside, the rows are there.
    herd.query(first, "CREATE TABLE kept AS SELECT 7 AS seven")
    inode = herd.places[other].data.stat().st_ino
    done(herd, f"/nodes/{other}/reinitialize")
    assert herd.places[other].data.stat().st_ino != inode
    herd.wait_stable(60)
    assert herd.query(other, "SELECT seven FROM kept") == [(7,)]


def test_the_whole_herd_is_restarted_and_paused(
    herd: LocalHerd, start_writers: StartWriters
) -> None:
    """Node by node while writers go on and lose nothing; a pause holds repairs back."""
    first = str(herd.primary())
    pids = {name: herd.postmaster_pid(name) for name in herd.nodes}
    writers = start_writers(via="proxy", count=2)
    assert herd.ask("/cluster/restart/plan", method="POST", body={}, timeout_s=15.0)["ok"]
    asked = herd.ask("/cluster/restart", method="POST", body={}, timeout_s=15.0)
    assert ended(herd, asked, deadline_s=120)["state"] == "done"
    assert {name: herd.postmaster_pid(name) for name in herd.nodes}.items().isdisjoint(pids.items())
    assert herd.primary() != first
    herd.wait_stable(60)
    verdict = conclude(herd, writers, []).verdict
    assert verdict.clean, str(verdict)

    # A switchover that is scheduled is done once, though consensus has another leader by then.
    first, epoch = str(herd.primary()), herd.status()["epoch"]
    asked = herd.ask("/cluster/switchover", method="POST", body={"scheduled_at": "3s"})
    lead = herd.wait_for(lambda: herd.status()["raft_leader"], "Raft leader", deadline_s=30)
    herd.kill_agent(lead)
    action = ended(herd, {"id": asked["id"], "action": "switchover"})
    assert action["state"] == "done", action
    herd.wait_stable(60)
    told = herd.ask("/history")
    since = [one for one in told["reigns"] if one["epoch"] > epoch and one["kind"] == "switchover"]
    assert [one["primary"] != first for one in since] == [True], told

    # In maintenance a node leaves the sync set and takes no new session; it comes back after it.
    other = replica(herd)
    path = f"/nodes/{other}/maintenance"
    herd.wait_for(lambda: node(herd, other)["is_sync"], "its place in the set", deadline_s=30)
    plan = herd.ask(f"{path}/plan", method="POST", timeout_s=15.0)
    assert plan["ok"], plan
    assert plan["checks"][-1]["text"] == "none open for more than 60 s"
    asked = herd.ask(path, method="POST", body={"enabled": True}, timeout_s=15.0)
    assert ended(herd, {"id": asked["action"], "action": "maintenance"})["state"] == "done"
    assert not node(herd, other)["is_sync"]
    herd.wait_for(lambda: other not in readers(herd), "reads elsewhere", deadline_s=30)
    herd.ask(path, method="POST", body={"enabled": True, "until": "1s"}, timeout_s=15.0)
    herd.wait_for(lambda: node(herd, other)["maintenance"] is None, "its end", deadline_s=30)
    herd.wait_stable(60)

    # In a pause a dead primary stays dead, through a new agent too; at its end somebody leads.
    lead, epoch = str(herd.primary()), herd.status()["epoch"]
    herd.ask("/cluster/pause", method="POST", body={}, timeout_s=15.0)
    herd.kill_postmaster(lead)
    herd.kill_agent(other)
    herd.wait_for(lambda: herd.status()["status"] == "down", "word of its death", deadline_s=30)
    time.sleep(4)
    now = herd.status()
    assert (now["epoch"], now["phase"], now["status"]) == (epoch, "stable", "down")
    assert "PAUSED" in shown(herd, "status")
    herd.ask("/cluster/pause", method="POST", body={"until": "1s"}, timeout_s=15.0)
    herd.wait_for(lambda: not herd.status()["paused"], "end of the pause", deadline_s=40)
    herd.wait_stable(60)
