"""Proves what `/api/v1/explain` says: the last change, who could take over, and what if."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pgherd.api.aside import WAITING_MAX
from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL
from pgherd.model.facts import Kind, Mode, Tags
from pgherd.model.ids import NodeId, RaftId
from pgherd.model.observation import Server
from pgherd.model.policy import Policy
from pgherd.model.standbycluster import Remote

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")


@pytest.fixture(autouse=True)
def all_new(herd) -> None:
    """Every program understands all commands."""
    herd.current = replace(herd.current, level=LEVEL)


def explain(client, query: str = "") -> dict:
    answer = client.get(f"/api/v1/explain{query}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def change_member(herd, node: NodeId, **changes: object) -> None:
    member = replace(herd.current.members[node], **changes)
    herd.current = replace(herd.current, members={**herd.current.members, node: member})


# --- the last change -----------------------------------------------------------------------------


def test_the_last_change_step_by_step(herd, client):
    """Each with its time, its rule and what it saw; a false alarm after it is none."""
    assert explain(client)["last_change"] is None
    began = herd.unix_ms
    herd.must(cmd.Begin(expected=herd.current.term, elector=N2, rule=203, reason="n1 is silent"))
    herd.unix_ms += 300
    herd.elect(N2, rule=204, reason="n3 began and is not elector any more")
    herd.unix_ms += 60_000
    herd.elect(N2, rule=203, reason="n2 is silent")
    found = explain(client)["last_change"]
    assert (found["from_node"], found["to_node"], found["rule"]) == ("n1", "n2", 204)
    assert found["sentence"].startswith("An election whose elector is gone")
    assert found["duration_ms"] == 300
    steps = [(one["kind"], one["rule"], one["after_ms"]) for one in found["steps"]]
    assert steps == [
        ("term.begun", 203, 0),
        ("term.begun", 204, 300),
        ("leader.elected", 204, 300),
        ("term.established", 0, 300),
    ]
    assert found["steps"][0]["text"] == "n1 is silent"
    assert began


def test_a_switchover_begins_with_the_wish(herd, client):
    """Of several wishes the one that was fulfilled."""
    herd.must(
        cmd.RequestSwitchover(id="s1", candidate=N3, requested_by="ann"),
        cmd.EndSwitchover(id="s1", outcome="cancelled"),
        cmd.RequestSwitchover(id="s2", candidate=N2, requested_by="ben"),
    )
    herd.unix_ms += 50
    herd.elect(N2, rule=603, reason="switchover to n2 asked for by ben")
    found = explain(client)["last_change"]
    assert (found["kind"], found["duration_ms"]) == ("switchover", 0)
    assert found["steps"][0]["text"] == "switchover to n2 asked for by ben"
    assert found["steps"][1]["after_ms"] == 50


# --- who could take over -------------------------------------------------------------------------


def test_a_row_for_each_member_that_holds_data(herd, client):
    """Both ways, and why not."""
    herd.must(
        cmd.AddMember(
            node=NodeId("w1"),
            kind=Kind.WITNESS,
            address=replace(herd.current.members[N1].address, host="10.0.0.9"),
            level=LEVEL,
        )
    )
    herd.learners = (herd.current.members[NodeId("w1")].raft_id,)
    rows = {one["node"]: one for one in explain(client)["candidates"]}
    assert list(rows) == ["n1", "n2", "n3"]
    assert rows["n1"]["is_primary"]
    assert (rows["n2"]["can_switch_over"], rows["n2"]["can_be_elected"]) == (True, True)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda herd: herd.silence(N2), "n2 does not report"),
        (lambda herd: change_member(herd, N2, tags=Tags(nofailover=True)), "tagged nofailover"),
        (lambda herd: change_member(herd, N2, tags=Tags(delay_ms=9000)), "a delayed replica (9 s)"),
        (lambda herd: change_member(herd, N2, incarnation=""), "n2 holds no data"),
        (lambda herd: herd.report_server(N2, state=Server.STOPPED), "runs no standby (stopped)"),
        (
            lambda herd: herd.must(
                cmd.SetMaintenance(node=N2, enabled=True, requested_by="ann", reason="fans")
            ),
            "n2 must not lead: in maintenance by ann (fans)",
        ),
        (lambda herd: herd.must(cmd.Pause("p1", "ann")), "paused by ann"),
        (lambda herd: herd.silence(N3), "no quorum would be left (1 of 3 votes)"),
        (
            lambda herd: herd.report_server(N2, system_id="4711"),
            "1 of 2 needed voters are sealed",
        ),
    ],
)
def test_why_a_member_would_not_be_elected(herd, client, change, why):
    """Its own reason where it has one, else what the rules wait for."""
    if "needed voters" in why:
        sync = herd.current.sync
        herd.current = replace(herd.current, sync=replace(sync, r=2))
    change(herd)
    found = explain(client, "/n2")
    assert not found["can_be_elected"]
    assert why in found["why_not_elected"]


def test_a_standby_cluster_elects_nobody_and_switches_over_to_nobody(herd, client):
    """It has no primary; what becomes of its standby leader is said all the same."""
    herd.must(cmd.DemoteCluster(herd.current.term, Remote((("far", 5432),)), "ann"))
    for row in explain(client)["candidates"]:
        assert (row["can_switch_over"], row["can_be_elected"]) == (False, False)
        assert "this is a standby cluster" in row["why_not_switchover"]
        assert "this is a standby cluster" in row["why_not_elected"]
    found = explain(client, "?if_lost=n1")["what_if"]
    assert (found["writes"], found["new_primary"]) == ("wait", None)
    assert "this is a standby cluster" in found["why"]
    assert "n1 is silent for n2 and n3" in found["why"]


@pytest.mark.parametrize("state", [Server.STOPPED, Server.HUNG])
def test_a_failover_in_its_place_is_no_switchover(herd, client, state):
    """A primary that is dead cannot hand over, whoever leads after the election that follows."""
    herd.report_server(N1, state=state, was_primary=True)
    row = explain(client, "/n2")
    assert (row["can_switch_over"], row["can_be_elected"]) == (False, True)
    assert "n2 leads after an election" in row["why_not_switchover"]
    found = explain(client, "?if_switchover=1")["what_if"]
    assert (found["writes"], found["new_primary"]) == ("go on after an election", "n2")
    assert "would take over" not in found["why"]


def test_the_settings_in_force_say_who_is_heard_and_who_is_full(herd, make_client):
    """And not the defaults: a report of two seconds is young where detection takes four."""
    herd.age(N2, 2000)
    patient = make_client(herd, policy=lambda: Policy(detect_ms=4000))
    assert explain(patient, "/n2")["can_switch_over"]
    herd.age(N1, 2000)
    assert explain(patient, "?if_lost=n3")["what_if"]["writes"] == "go on"
    herd.age(N2, 0)
    report = replace(herd.heard[N2].report, disk_free_bytes=1 << 30)
    herd.heard[N2] = replace(herd.heard[N2], report=report)
    spacious = make_client(herd, policy=lambda: Policy(min_free_disk_bytes=2 << 30))
    assert explain(spacious, "/n2")["why_not_switchover"] == "n2 has less than 2048 MB free on disk"


def test_who_leaves_is_elected_for_want_of_others(herd, client):
    """The rules keep it then; a switchover to it they refuse."""
    change_member(herd, N2, leaving=True)
    found = explain(client, "/n2")
    assert found["can_be_elected"]
    assert found["why_not_switchover"] == "n2 is to leave the cluster"
    assert explain(client, "?if_lost=n1")["what_if"]["new_primary"] == "n3"


# --- what if -------------------------------------------------------------------------------------


def test_the_answer_to_if_lost(herd, client):
    """Who, when, at what cost, and by which rules."""
    found = explain(client, "?if_lost=n1")["what_if"]
    assert (found["lost"], found["new_primary"], found["also_possible"]) == (["n1"], "n2", ["n3"])
    assert found["why"] == "n2 would be elected, or n3 if it has received more by then"
    assert found["outage"]["expected_ms"] == Policy().detect_ms + 600
    assert found["outage"]["at_most_ms"] > found["outage"]["expected_ms"]
    assert found["loss"] == {"bytes": 0, "text": "no acknowledged commit"}
    assert [one["rule"] for one in found["steps"]] == [203, 305, 401]
    assert found["steps"][0]["sentence"].startswith("A leader that two observers")
    found = explain(client, "?if_lost=n3")["what_if"]
    assert (found["writes"], found["outage"]["at_most_ms"]) == ("go on", 0)
    assert found["why"] == "n1 leads, and 1 of 1 copies needed would stream"


def test_in_the_middle_of_an_election(herd, client):
    """Who wins it is elected, and does not "go on"; the time for the acts is still to come."""
    herd.must(cmd.Begin(expected=herd.current.term, elector=N2, rule=201, reason="n1 is stopped"))
    herd.report_server(N1, state=Server.STOPPED)
    found = explain(client, "?if_lost=n1")["what_if"]
    assert (found["writes"], found["new_primary"]) == ("go on after an election", "n2")
    assert found["why"].startswith("n2 would be elected")
    assert found["outage"]["expected_ms"] >= 600
    assert found["outage"]["at_most_ms"] > found["outage"]["expected_ms"]


def test_a_switchover_that_is_under_way_stops_no_writes_by_being_asked_for(herd, client):
    """A second one is refused, and commits go on as before."""
    herd.must(cmd.RequestSwitchover(id="x", candidate=N2, requested_by="ann"))
    found = explain(client, "?if_switchover=1&to=n3")["what_if"]
    assert (found["writes"], found["new_primary"]) == ("go on", "n1")
    assert found["why"] == "a switchover is under way"
    assert found["outage"]["expected_ms"] == 0


@pytest.mark.parametrize("commit", ["off", "local"])
def test_commits_that_wait_for_nobody_may_be_lost(herd, client, commit):
    """With the primary, in every mode; not in a switchover, nor with a replica."""
    tuning = replace(herd.current.tuning, commit=commit)
    herd.current = replace(herd.current, tuning=tuning)
    loss = explain(client, "?if_lost=n1")["what_if"]["loss"]
    assert loss["text"].startswith(f"synchronous_commit = {commit} acknowledges what the primary")
    for query in ("?if_lost=n3", "?if_switchover=1"):
        assert explain(client, query)["what_if"]["loss"]["text"] == "no acknowledged commit"


def test_questions_wait_for_each_other_and_not_too_many(herd, make_client):
    """One at a time, on a thread of their own; who comes too late is told when to come again."""
    client = make_client(herd)
    aside = client.app.state.services.aside
    aside._waiting = WAITING_MAX
    answer = client.get("/api/v1/explain")
    assert (answer.status_code, answer.json()["code"]) == (503, "busy")
    assert answer.headers["retry-after"]
    aside._waiting = 0
    assert client.get("/api/v1/explain").status_code == 200


def test_several_are_lost_at_once(herd, client):
    """Two of three: nobody leads, whoever they are; a name counts once."""
    for lost in ("if_lost=n1&if_lost=n2", "if_lost=n2&if_lost=3&if_lost=n3"):
        found = explain(client, f"?{lost}")["what_if"]
        assert (found["writes"], found["new_primary"], len(found["lost"])) == ("wait", None, 2)
        assert "no quorum would be left (1 of 3 votes)" in found["why"]
        assert found["outage"]["expected_ms"] is None


def test_the_policy_of_this_node_counts(herd, make_client):
    """Its detection time is a part of the outage."""
    client = make_client(herd, policy=lambda: Policy(detect_ms=4000))
    found = explain(client, "?if_lost=n1")["what_if"]
    assert found["outage"]["expected_ms"] == 4600
    manual = make_client(herd, policy=lambda: Policy(failover_enabled=False))
    assert "failover is disabled" in explain(manual, "?if_lost=n1")["what_if"]["why"]


def test_mode_async_says_what_may_be_lost(herd, client):
    """And waits for the lease."""
    sync, held = herd.current.sync, herd.current.lease
    alone = replace(sync, voters=(), names=(), k=0, kd=0, r=0, names_k=0)
    lease = replace(held, ttl_ms=5000, alone_at=alone.generation, renew_seq=1)
    herd.current = replace(herd.current, mode=Mode.ASYNC, sync=alone, lease=lease)
    herd.report_server(N1, names="")
    herd.report_server(N2, receiver=None)
    herd.report_server(N3, receiver=None)
    found = explain(client, "?if_lost=n1")["what_if"]
    assert "would be elected once its lease is over" in found["why"]
    assert found["outage"]["expected_ms"] > 5000
    assert found["loss"]["bytes"] == 8
    assert "mode async: 8 bytes" in found["loss"]["text"]


def test_the_answer_to_if_switchover(herd, client):
    """Who takes over, the stall, or why not."""
    found = explain(client, "?if_switchover=1&to=n3")["what_if"]
    assert (found["writes"], found["new_primary"]) == ("go on after a switchover", "n3")
    assert found["why"] == "n3 would take over, clients are held meanwhile"
    found = explain(client, "?if_switchover=1&to=n1")["what_if"]
    assert (found["writes"], found["new_primary"]) == ("go on", "n1")
    assert found["why"] == "n1 is the primary"


def test_bad_questions_are_refused(client):
    """With what to ask instead."""
    for query, code in (
        ("?if_lost=n9", 404),
        ("?if_switchover=1&to=n9", 404),
        ("?to=n2", 422),
        ("?if_switchover=1&if_lost=n1", 422),
    ):
        answer = client.get(f"/api/v1/explain{query}")
        assert answer.status_code == code, query
        assert answer.json()["hint"]


def test_who_votes_no_more_is_no_part_of_a_quorum(herd, client):
    """A learner's silence costs nothing."""
    herd.learners = (RaftId(3),)
    assert explain(client, "?if_lost=n3")["what_if"]["has_quorum"]
    assert not explain(client, "?if_lost=n2")["what_if"]["has_quorum"]
