"""Proves what people read and what scripts get: output, exit codes, and where they are written."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket

import msgspec
import pytest
import yaml

from pgherd.api.guard import ApiToken, Role
from pgherd.ledger import commands as cmd
from pgherd.model.ids import Instant, NodeId
from pgherd.model.observation import Server
from pgherd.model.vip import Follow, VipSeen
from pgherd.route.pooling import Pool
from pgherd.route.poolreport import PoolCounters, PoolReport
from pgherd.route.poolsteps import PoolLimits

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")


def test_status_for_people(served, pgherd):
    """The table names the primary and every node; nothing is said on standard error."""
    result = pgherd("status", "--api-url", served.url)
    assert (result.code, result.err) == (0, "")
    assert "cluster   main: operational, normal" in result.out
    assert "commits   quorum: on the primary and 1 of n2, n3" in result.out
    assert "lease     n1: held, 9.0 s left\n" in result.out
    rows = [row.split() for row in result.out.splitlines() if row[:1] == "n" and row[1] in "123"]
    assert [row[:3] for row in rows] == [
        ["n1", "primary", "running"],
        ["n2", "replica", "streaming"],
        ["n3", "replica", "streaming"],
    ]


def test_status_for_programs(served, pgherd, monkeypatch):
    """JSON and YAML are the API's own object; the address may come from the environment."""
    monkeypatch.setenv("PGHERD_API_URL", served.url)
    found = json.loads(pgherd("status", "--output", "json").out)
    assert found["primary_node_id"] == "n1"
    assert "nodes" not in found
    detailed = yaml.safe_load(pgherd("status", "--detailed", "-o", "yaml").out)
    assert [node["name"] for node in detailed["nodes"]] == ["n1", "n2", "n3"]


def test_problems_are_shown(herd, served, pgherd):
    """What keeps the herd from being operational stands below the table."""
    herd.report_server(N3, state=Server.HUNG, receiver=None)
    result = pgherd("status", "--api-url", served.url)
    assert "! n3 is hung" in result.out


def test_status_says_who_has_an_address_that_moves(herd, served, pgherd):
    """One line each; an address that nobody has is a problem too."""
    heard = herd.heard[N1]
    vips = (
        VipSeen("10.0.1.100", Follow.PRIMARY, "eth0", owned=True),
        VipSeen("fd00::64", Follow.REPLICA, "eth0"),
    )
    report = msgspec.structs.replace(heard.report, vips=vips)
    herd.heard[N1] = msgspec.structs.replace(heard, report=report)
    result = pgherd("status", "--api-url", served.url)
    assert "address   10.0.1.100, follows the primary: n1\n" in result.out
    assert "address   fd00::64, follows the replica: nobody\n" in result.out
    assert "! nobody has the address fd00::64 (follows the replica)" in result.out


def test_nodes_history_explain_version(served, pgherd):
    """The other commands that look."""
    url = ("--api-url", served.url)
    assert "n3" in pgherd("nodes", *url).out
    assert json.loads(pgherd("nodes", *url, "-o", "json").out)[0]["name"] == "n1"
    history = pgherd("history", *url).out
    assert "bootstrap" in history
    assert "failover" in history
    assert "sync.changed" not in history
    assert "member.added" in pgherd("history", "--notes", *url).out
    assert "n1 leads epoch 2 by rule 202" in pgherd("explain", *url).out
    assert pgherd("version").out.startswith("pgherd 0.")


def test_the_first_daemon_that_answers_is_asked(served, pgherd):
    """Several addresses: the dead one is passed over."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}"
        assert pgherd("nodes", "--api-url", f"{dead},{served.url}").code == 0
        alone = pgherd("nodes", "--api-url", dead)
    assert alone.code == 1
    assert alone.out == ""
    assert "no daemon answers" in alone.err
    assert "next: start one: pgherd start" in alone.err


async def hand_over(herd) -> None:
    await asyncio.sleep(0.02)
    herd.elect(N2, rule=603, reason="switchover to n2")
    herd.everybody(N2)


def test_switchover(herd, served, pgherd):
    """The plan goes to standard error, the result to standard output."""
    herd.react = hand_over
    result = pgherd("switchover", "--to", "n2", "--yes", "--api-url", served.url)
    assert result.code == 0
    assert result.err.startswith("plan: switchover from n1 to n2 (streaming, lag 8 B)")
    assert result.out == "n2 is the primary of epoch 3\n"


def test_switchover_for_programs(herd, served, pgherd):
    """--output json gives the API's object alone on standard output."""
    herd.react = hand_over
    result = pgherd("switchover", "--yes", "-o", "json", "--api-url", served.url)
    assert json.loads(result.out)["new_primary"] == "n2"
    assert "the best candidate, now probably n2" in result.err


def test_without_a_terminal_yes_is_required(herd, served, pgherd, monkeypatch):
    """Nothing is asked for, nothing is changed."""
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: SIM115 - closed with the test
    result = pgherd("switchover", "--to", "n2", "--api-url", served.url)
    assert result.code == 2
    assert "plan:" in result.err
    assert "add --yes" in result.err
    assert herd.submitted == []


def test_a_person_may_say_no(herd, served, pgherd, monkeypatch):
    """At a terminal the question is asked, and no means no."""

    class Terminal:
        def __init__(self, answer: str) -> None:
            self.answer = answer

        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return self.answer

    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    result = pgherd("failover", "--force", "--api-url", served.url)
    assert (result.code, herd.submitted) == (1, [])
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    herd.react = hand_over
    assert pgherd("switchover", "--to", "2", "--api-url", served.url).code == 0


def test_a_loss_is_said_before_it_is_asked_for(herd, served, pgherd):
    """Names need --force; then what goes, what stays, what is missing; nothing is changed yet."""
    url = ("--api-url", served.url)
    assert "add --force" in pgherd("failover", "--lost", "n1", *url).err
    plain = pgherd("failover", "--force", "--lost", "n2", *url)
    assert "no election waits for anybody now" in plain.err
    herd.must(cmd.Begin(expected=herd.current.term, elector="n3", rule=203, reason="n1 is silent"))
    herd.silence("n1")
    herd.silence("n2")
    herd.seal("n3", elector="n3")
    planned = pgherd("failover", "--force", "--lost", "n1", *url)
    assert (planned.code, herd.submitted) == (2, [])
    assert "LOST: what only n1 held, by the last word 8 B of WAL" in planned.err
    assert (
        "not enough: n2 is needed too; pgherd failover --force --lost n1 --lost n2" in planned.err
    )
    assert "there is no terminal to ask at" in planned.err
    wrong = pgherd("failover", "--force", "--lost", "n1", "--accept-data-loss", "much", *url)
    assert (wrong.code, "--accept-data-loss" in wrong.err) == (2, True)
    status = pgherd("status", *url).out
    assert "if lost for good: pgherd failover --force --lost n1 --lost n2" in status


def test_exit_codes(herd, served, pgherd):
    """Usage 2, refused 3, no quorum 4, timed out 5."""
    url = ("--yes", "--api-url", served.url)
    assert pgherd("switchover", "--to", "n9", *url).code == 2
    assert pgherd("switchover", "--nonsense").code == 2
    assert pgherd("no-such-command").code == 2
    refused = pgherd("failover", *url)
    assert refused.code == 3
    assert "pgherd failover --force" in refused.err
    assert pgherd("switchover", "--to", "n1", *url).code == 3
    herd.has_quorum = False
    assert pgherd("switchover", "--to", "n2", *url).code == 4
    assert pgherd("status", "--consistent", "--api-url", served.url).code == 4


def test_a_slow_answer_times_out(pgherd):
    """A port that takes connections and says nothing: exit 5."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert pgherd("nodes", "--api-url", url, "--timeout", "0.3").code == 5


@pytest.mark.parametrize(("given", "code"), [("", 6), ("wrong", 6), ("vera", 6), ("otto", 0)])
def test_not_authorised(herd, fakes, serving, pgherd, monkeypatch, given, code):
    """Without a token, with a wrong one, or with one that may not: exit 6."""
    herd.react = hand_over
    tokens = tuple(
        ApiToken(name=name, role=role, sha256=hashlib.sha256(name.encode()).hexdigest())
        for name, role in (("vera", Role.VIEWER), ("otto", Role.OPERATOR))
    )
    monkeypatch.setenv("PGHERD_TOKEN", given)
    with serving(fakes.make_app(herd, tokens=tokens)) as served:
        result = pgherd("switchover", "--to", "n2", "--yes", "--api-url", served.url)
    assert result.code == code


def test_config_generate_and_validate(pgherd, tmp_path):
    """What is generated is valid; every problem of another is told with its line."""
    file = tmp_path / "pgherd.yaml"
    result = pgherd("config", "generate", "--set", "node.name=n7", "--file", file)
    assert (result.code, result.out) == (0, "")
    valid = pgherd("config", "validate", "--config", file)
    assert (valid.code, valid.err) == (0, "")
    assert "node n7 of cluster main" in valid.out
    assert "longest time to detection: a server that died 0.3 s, " in valid.out
    assert pgherd("config", "generate", "--file", file).code == 2
    assert pgherd("config", "generate").out.startswith("# pgherd, one node.")
    file.write_text("version: 1\nnode: {name: N7, address: 127.0.0.1}\nraft: {prot: 1}\n")
    broken = pgherd("config", "validate", "--config", file)
    assert broken.code == 2
    assert f"{file}:2: node.name" in broken.err
    assert f"{file}:3: raft.prot" in broken.err
    assert "has 2 problems" in broken.err


def test_start_reads_its_options_alone(pgherd, capsys):
    """The short way of `pgherd start`: help, usage errors and a missing file."""
    from pgherd.cli.start import parse, start

    assert parse(["--config", "a", "--log-level=debug"]) == {"config": "a", "log-level": "debug"}
    assert parse(["-c=a", "--validate"]) == {"config": "a", "validate": ""}
    assert start(["--help"]) == 0
    assert start(["--nonsense"]) == 2
    assert start(["--log-level", "loud"]) == 2
    assert start([]) == 2
    assert start(["--config", "/nonexistent.yaml"]) == 2
    assert "pgherd init makes one" in capsys.readouterr().err


def test_start_validates(pgherd, tmp_path, capsys):
    """`start --validate` is `config validate`."""
    from pgherd.cli.start import start

    file = tmp_path / "pgherd.yaml"
    pgherd("config", "generate", "--file", file)
    assert start(["--config", str(file), "--validate"]) == 0
    assert "is valid" in capsys.readouterr().out


def test_why_a_node_can_lead_and_what_if(served, pgherd, herd):
    """In sentences; questions that are none are told from others."""
    url = ("--api-url", served.url)
    told = pgherd("explain", "n2", "--if-lost", "n1", *url).out
    assert "n2 is replica, streaming" in told
    assert "a switchover to it is possible" in told
    assert "if n1 were lost, writes go on after an election: n2 would be elected" in told
    assert "a switchover to it is not: n1 is the primary" in pgherd("explain", "n1", *url).out
    told = pgherd("explain", "--if-lost", "n1", *url).out
    assert "outage: about 2.1 s (the README's figure), at most" in told
    assert "loss: no acknowledged commit" in told
    assert "+1.5 s rule 203: n1 is silent for n2 and n3" in told
    told = pgherd("explain", "--if-lost", "n1", "--if-lost", "n2", *url).out
    assert "if n1 and n2 were lost, writes wait: no quorum would be left (1 of 3 votes)" in told
    assert "outage: until somebody ends it" in told
    told = pgherd("explain", "--if-switchover", "--to", "n3", *url).out
    assert "with a switchover now, writes go on after a switchover: n3 would take over" in told
    missing = pgherd("explain", "--if-lost", "n9", *url)
    assert (missing.code, "the members: n1, n2, n3" in missing.err) == (2, True)
    for words in (
        ("--to", "n2"),
        ("n2", "--if-switchover"),
        ("--if-lost", "n2", "--if-switchover"),
    ):
        assert pgherd("explain", *words, *url).code == 2


def test_the_last_change_and_who_could_take_over(served, pgherd, herd):
    """Each step of the change with its rule, and a row for each data member."""
    url = ("--api-url", served.url)
    assert "last change" not in pgherd("explain", *url).out
    herd.elect(N2, rule=203, reason="n1 is silent for n2 and n3")
    herd.everybody(N2)
    told = pgherd("explain", *url).out
    assert "last change: failover from n1 to n2, 0.0 s, by rule 203: A leader that two" in told
    assert "+0.0 s term.begun: n1 is silent for n2 and n3 (rule 203)" in told
    rows = {line.split()[0]: line.split(None, 1)[1] for line in told.splitlines()[-3:]}
    assert rows["n2"].startswith("n2 is the primary")
    assert rows["n3"].split() == ["possible", "possible"]


def test_steps_that_the_ledger_asks_for(served, pgherd, herd):
    """As a table, of one state, and as the API's own objects."""
    url = ("--api-url", served.url)
    steps = pgherd("raft", "directives", *url).out
    assert "epoch-2.n1" in steps
    assert "epoch-2.n1" not in pgherd("raft", "directives", "--status", "failed", *url).out
    assert '"type": "promote"' in pgherd("raft", "directives", "-o", "json", *url).out


def test_connections_of_the_node_that_answers(served, pgherd, herd):
    """By server; and that there is no proxy."""
    sessions = {"primary": {"n1": 3}, "replica": {"n2": 1}}
    herd.proxy_seen = msgspec.structs.replace(herd.proxy_seen, sessions=sessions, held=2)
    told = pgherd("connections", "--api-url", served.url).out
    assert "n1: 4 open, 2 held" in told
    assert ["n2", "1"] in [row.split() for row in told.splitlines()]
    herd.proxy_seen = None
    assert "has no proxy" in pgherd("connections", "--api-url", served.url).out


def test_pools_of_the_node_that_answers(served, pgherd, herd):
    """A line for each; that nobody uses one; and that there is no proxy."""
    url = ("--api-url", served.url)
    assert "no client uses a listener with pool: transaction" in pgherd("pools", *url).out
    pool = Pool(PoolLimits(size=1, reserve=2), now=Instant(0))
    pool.want(1, Instant(0))
    pool.opened(1, 7, Instant(0))
    pool.want(2, Instant(0))
    report = PoolReport("shop", "ann", "n1", 1, 2, pool.seen(Instant(1500)))
    proxy = msgspec.structs.replace(herd.proxy_seen, pools=PoolCounters((report,)))
    herd.proxy_seen = proxy
    rows = [row.split() for row in pgherd("pools", *url).out.splitlines()]
    line = ["shop", "ann", "n1", "1", "1", "1.5", "s", "1", "0", "1", "+", "2", "0", "no"]
    assert line in rows
    found = json.loads(pgherd("pools", "-o", "json", *url).out)
    assert found["node"] == "n1"
    assert (found["pools"][0]["clients_waiting"], found["pools"][0]["longest_wait_ms"]) == (1, 1500)
    assert (found["pools"][0]["lent"], found["pools"][0]["is_paused"]) == (1, False)
    herd.proxy_seen = None
    assert "has no proxy" in pgherd("pools", *url).out
