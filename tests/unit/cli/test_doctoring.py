"""`pgherd doctor` on the command line: what is printed, when the exit code is 1, and a node that
is looked at without its daemon. That it finds faults is seen on real herds (tests/cluster)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from pgherd.cli.app import build
from pgherd.model.checkup import Told
from pgherd.model.ids import NodeId
from pgherd.plan.doctor.checks import CHECKS

N3 = NodeId("n3")


@pytest.fixture
def url(served) -> tuple[str, str]:
    return "--api-url", served.url


def test_what_is_red_is_told_once_with_its_meaning_and_its_cure(herd, url, pgherd):
    herd.own.told = Told(rate_limit=0)
    done = pgherd("doctor", *url)
    text = done.out
    assert text.count("advice security.rate_limit") == 1
    assert "n1, n2, n3: no limit is set" in text
    assert "this means: a program gone wild" in text
    assert "to mend it: api.rate_limit: 100 in the file of n1, then: pgherd reload n1" in text
    assert "unknown pg.fsync" in text
    assert "ok herd.quorum" not in text
    assert "ok herd.quorum" in pgherd("doctor", "--all", *url).out
    assert text.splitlines()[-1].startswith(f"{text.splitlines()[-1].split()[0]} findings: ")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((), 1),
        (("--fail-on", "critical"), 1),
        (("n2",), 1),
        (("n2", "--fail-on", "advice"), 1),
        (("--fail-on", "unknown"), 2),
        (("n9",), 2),
    ],
)
def test_the_exit_code_says_whether_something_is_red(herd, url, pgherd, words, code):
    """Of the fake herd's nodes the API asks for nothing: that is critical."""
    assert pgherd("doctor", *words, *url).code == code


def test_advice_and_what_is_unknown_make_no_alarm(herd, url, pgherd):
    herd.own.told = Told(
        address="127.0.0.1",
        api_host="127.0.0.1",
        api_guarded=True,
        protect_reads=False,
        rate_limit=100,
    )
    told = json.loads(pgherd("doctor", "n2", "--output", "json", *url).out)
    red = {one["status"] for one in told["findings"]} - {"ok", "unknown"}
    assert red == {"advice"}
    assert told["counts"]["unknown"] > 0
    assert pgherd("doctor", "n2", *url).code == 0
    assert pgherd("doctor", "n2", "--fail-on", "advice", *url).code == 1


def test_the_answer_for_programs_is_the_apis_own(herd, url, pgherd):
    herd.own.silent.add(N3)
    done = pgherd("doctor", "--quick", "--output", "json", *url)
    told = json.loads(done.out)
    assert (told["quick"], told["unreached"]) == (True, {"n3": "no connection to n3"})
    assert herd.own.asked[0][1] is True


CONFIG = """
version: 1
node: {{name: n1, address: 127.0.0.1}}
raft: {{data_dir: {folder}/raft}}
api: {{port: {port}}}
"""


def test_without_a_daemon_this_node_alone_is_looked_at(pgherd, tmp_path: Path):
    """And it says so; another node, and another address, cannot be looked at so."""
    (tmp_path / "raft").mkdir(mode=0o700)
    config = tmp_path / "pgherd.yaml"
    config.write_text(CONFIG.format(folder=tmp_path, port=pgherd.free_base()))
    done = pgherd("doctor", "--config", config, "--output", "json", "--quick")
    assert done.code == 1
    assert "this node alone is looked at, without its daemon" in done.err
    found = {one["check"]: one for one in json.loads(done.out)["findings"]}
    assert found["agent.running"]["status"] == "critical"
    assert "pgherd start" in found["agent.running"]["fix"]
    assert found["disk.room"]["status"] in ("ok", "critical")
    assert found["clock.skew"]["text"] == "the daemon of this node does not run"
    assert "pg.fsync" not in found, "it runs no server"
    other = pgherd("doctor", "n2", "--config", config)
    assert (other.code, "n2 is another node" in other.err) == (2, True)
    away = pgherd("doctor", "--config", config, "--api-url", "http://127.0.0.1:1")
    assert (away.code, "this node alone" in away.err) == (1, False)


def typed() -> list[tuple[str, str]]:
    """Every command of ours in the table's fixes, with its check."""
    found = []
    for check in CHECKS:
        for line in re.split(r"[;,()]| and ", check.fix):
            if match := re.search(r"\bpgherd ((?:[a-z][\w-]*|--[a-z-]+)(?: [^ ]+)*)", line):
                found.append((check.id, match[1]))
    return found


def test_what_the_fixes_tell_to_type_exists():
    """Commands and their options; what follows a command are its arguments."""
    command = typer.main.get_command(build())
    assert len(typed()) > 60
    for name, line in typed():
        here: Any = command
        words = line.split()
        while words and hasattr(here, "commands"):
            assert words[0] in here.commands, (name, line)
            here = here.commands[words.pop(0)]
        options = {option for one in here.params for option in one.opts}
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in options, (name, line)
