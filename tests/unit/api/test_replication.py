"""Proves the routes of mode and copies: what they show, ask for, wait for and refuse."""

from __future__ import annotations

import asyncio

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL
from pgherd.model.facts import Mode, Phase

PATH = "/api/v1/replication/sync"


def at_level_2(herd) -> None:
    herd.current = msgspec.structs.replace(herd.current, level=2)


async def standby_comes(herd) -> None:
    """What the deciders do once a standby has everything: PostgreSQL first, then the ledger."""
    await asyncio.sleep(0.02)
    first = herd.current.members["n2"].key
    told = cmd.ChangeSync(
        term=herd.current.term,
        generation=herd.current.sync.generation,
        settled=False,
        voters=(),
        k=0,
        kd=0,
        r=0,
        names=(first,),
        names_k=1,
        rule=503,
        reason="a standby came",
    )
    herd.must(told)
    voted = msgspec.structs.replace(
        told, generation=told.generation + 1, settled=True, voters=(first,), k=1, kd=1, r=1
    )
    herd.must(msgspec.structs.replace(voted, mode=herd.current.mode_wanted))


def test_it_is_shown(client):
    found = client.get(PATH).json()
    assert (found["replication"], found["replication_wanted"]) == ("quorum", None)
    assert found["num_sync_standbys"] == "auto"
    assert found["in_force"]["voters"] == ["n2", "n3"]
    assert found["promise"].startswith("a commit is on the primary and num_sync others")


def test_to_async_is_one_command(herd, client):
    """Mode and set change together; status says what is promised, and nothing is degraded."""
    at_level_2(herd)
    answer = client.post(PATH, json={"replication": "async"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["in_force"]["mode"] == "async"
    assert herd.submitted == [cmd.SetMode(Mode.ASYNC, 0, "anybody from testclient")]
    assert (herd.current.mode, herd.current.sync.voters) == (Mode.ASYNC, ())
    status = client.get("/api/v1/cluster/status").json()
    assert (status["synchronous"]["wanted"], status["synchronous"]["degraded"]) == (0, False)
    assert not [text for text in status["problems"] if "synchronous" in text]


def test_from_async_it_waits_for_a_standby(herd, client):
    """202 without a wait, and what it waits for among the problems; 200 once it is in force."""
    at_level_2(herd)
    client.post(PATH, json={"replication": "async"})
    asked = client.post(f"{PATH}?wait=0", json={"replication": "quorum", "num_sync_standbys": 1})
    assert (asked.status_code, asked.json()["replication_wanted"]) == (202, "quorum")
    assert asked.json()["replication"] == "async"
    problems = client.get("/api/v1/cluster/status").json()["problems"]
    assert "mode quorum waits for a standby that has everything" in problems
    late = client.post(f"{PATH}?wait=0.05", json={"replication": "quorum"})
    assert (late.status_code, late.json()["code"]) == (503, "timed_out")
    herd.react = standby_comes
    done = client.post(f"{PATH}?wait=10", json={"replication": "quorum"})
    assert done.status_code == 200, done.text
    assert (done.json()["replication"], done.json()["num_sync_standbys"]) == ("quorum", 1)
    assert herd.current.mode_wanted is None


def test_what_is_refused(herd, client):
    """Nothing named, an unknown mode, a number that is none, and the middle of an election."""
    at_level_2(herd)
    assert client.post(PATH, json={}).status_code == 422
    assert client.post(PATH, json={"replication": "mostly"}).status_code == 422
    assert client.post(PATH, json={"num_sync_standbys": 0}).status_code == 422
    herd.current = msgspec.structs.replace(herd.current, phase=Phase.ELECTING)
    refused = client.post(PATH, json={"replication": "async"})
    assert (refused.status_code, refused.json()["code"]) == (409, "not_stable")


def test_an_election_in_async_says_that_it_waits_for_the_lease(herd, client):
    at_level_2(herd)
    client.post(PATH, json={"replication": "async"})
    herd.current = msgspec.structs.replace(herd.current, phase=Phase.ELECTING)
    problems = client.get("/api/v1/cluster/status").json()["problems"]
    assert any("waits for the end of its lease" in text for text in problems)


def test_history_tells_what_was_given_up(herd, client):
    [*others, last] = herd.current.history
    lost = msgspec.structs.replace(last, lost_bytes=512)
    herd.current = msgspec.structs.replace(herd.current, history=(*others, lost))
    shown = client.get("/api/v1/history").json()["reigns"]
    assert [one["lost_bytes"] for one in shown] == [None, 512]


def upgraded(herd) -> None:
    herd.current = msgspec.structs.replace(herd.current, level=LEVEL)


async def primary_is_told(herd) -> None:
    """What member rule 45 does."""
    await asyncio.sleep(0.02)
    herd.report_server("n1", commit=herd.current.tuning.commit)


def test_it_tells_who_takes_part_and_since_when(herd, client):
    found = client.get(PATH).json()
    assert found["num_sync_standbys_configured"] == 1
    assert (found["num_sync_standbys_connected"], found["all_healthy"]) == (2, True)
    assert [(one["node"], one["is_sync"], one["why_not"]) for one in found["standbys"]] == [
        ("n2", True, ""),
        ("n3", True, ""),
    ]
    upgraded(herd)
    changed = client.patch(f"{PATH}?wait=0", json={"nosync": ["3"]}).json()
    assert (changed["nosync"], changed["last_change"]["text"][:18]) == (
        ["n3"],
        "synchronous_commit",
    )
    herd.silence("n1")
    silent = client.get(PATH).json()
    assert (silent["num_sync_standbys_connected"], silent["all_healthy"]) == (0, False)


def test_a_weaker_wait_is_taken_and_told(herd, client):
    """By PUT, POST and PATCH, by both names; status warns until it is taken back."""
    upgraded(herd)
    herd.react = primary_is_told
    for commit in ("off", "local", "remote_write"):
        found = client.put(PATH, json={"synchronous_commit": commit}).json()
        assert (found["synchronous_commit"], found["synchronous_commit_in_force"]) == (commit, True)
        assert found["promise"].startswith("a commit is acknowledged")
        [warning] = found["warnings"]
        assert warning in client.get("/api/v1/cluster/status").json()["warnings"]
    strict = client.patch(PATH, json={"replication": "strict"})
    assert (strict.status_code, strict.json()["code"]) == (412, "unsafe")
    both = client.patch(PATH, json={"replication": "strict", "mode": "remote_apply"})
    assert both.json()["replication"] == "strict", both.text
    assert both.json()["warnings"] == []
    weak = client.patch(PATH, json={"mode": "off"})
    assert "take mode quorum first" in weak.json()["message"]
    back = client.patch(PATH, json={"replication": "quorum", "mode": "local"})
    assert back.json()["synchronous_commit"] == "local", back.text
    assert client.patch(PATH, json={"mode": "default"}).json()["synchronous_commit"] is None


def test_limits_are_checked(herd, client):
    upgraded(herd)
    assert client.patch(PATH, json={"max_lag_bytes": 5}).status_code == 422
    assert client.patch(PATH, json={"nosync": ["n9"]}).status_code == 404
    assert client.patch(PATH, json={}).status_code == 422
    found = client.patch(PATH, json={"max_lag_bytes": 1 << 20}).json()
    assert found["max_lag_bytes"] == 1 << 20
    assert client.patch(PATH, json={"max_lag_bytes": 0}).json()["max_lag_bytes"] == 0
