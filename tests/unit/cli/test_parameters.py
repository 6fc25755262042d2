"""Proves `pgherd config show`, `set`, `plan`, `apply`, `edit`, `history` and `rollback`."""

from __future__ import annotations

import json

import msgspec
import pytest

from pgherd.ledger.levels import LEVEL
from pgherd.ledger.pgconfig import newest
from pgherd.model.pgconfig import ConfigChecked


@pytest.fixture
def url(herd, served):
    herd.current = msgspec.structs.replace(herd.current, level=LEVEL)
    contexts = {"max_connections": "postmaster", "work_mem": "user"}
    herd.checked = ConfigChecked(
        contexts=contexts, running={"max_connections": "100"}, overridden=("work_mem",)
    )
    for node, heard in herd.heard.items():  # as if they were told already
        server = msgspec.structs.replace(heard.report.server, config=99, matched=(1,) * 5)
        report = msgspec.structs.replace(heard.report, server=server)
        herd.heard[node] = msgspec.structs.replace(heard, report=report)
    return ("--api-url", served.url)


def kept(herd):
    return newest(herd.current).parameters


def test_the_plan_comes_before_the_question(herd, url, pgherd):
    """Order and effect are shown; nothing changes without a yes, nor by `plan`."""
    asked = pgherd("config", "set", "max_connections=120", "work_mem=8MB", *url)
    assert asked.code == 2
    assert "max_connections: (runs with 100) -> 120, by restart" in asked.err
    assert "4. restart n2" in asked.err
    assert "6. switchover n1" in asked.err
    assert "n1's own file sets it too" in asked.err
    planned = pgherd("config", "plan", "work_mem=8MB", *url, "-o", "json")
    assert json.loads(planned.out)["status"] == "planned"
    assert kept(herd) == {}
    done = pgherd("config", "set", "work_mem=8MB", "--reason", "sorts", "--yes", *url)
    assert (done.code, "version 1: done" in done.out) == (0, True), done.err
    shown = pgherd("config", "show", *url).out
    assert "work_mem" in shown
    assert "8MB" in shown
    assert ": sorts" in shown
    assert pgherd("config", "set", "--reset", "work_mem", "--yes", *url).code == 0
    assert kept(herd) == {}


def test_a_file_and_an_editor_say_all_of_it(herd, url, pgherd, tmp_path, monkeypatch):
    """Plain YAML or as in a node's file; what somebody else changed meanwhile is not undone."""
    file = tmp_path / "parameters.yaml"
    file.write_text("postgresql: {parameters: {work_mem: 8MB, jit: false}}\n")
    assert pgherd("config", "apply", str(file), "--yes", *url).code == 0
    assert kept(herd) == {"work_mem": "8MB", "jit": "off"}
    file.write_text("work_mem: 9MB\n")
    assert pgherd("config", "plan", "--file", str(file), *url).code == 0
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/8MB/7MB/ "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    edited = pgherd("config", "edit", "--yes", *url)
    assert edited.code == 0, edited.err
    assert kept(herd) == {"work_mem": "7MB", "jit": "off"}
    file.write_text("[1, 2]")
    assert pgherd("config", "apply", str(file), "--yes", *url).code == 2


def test_history_and_the_way_back(herd, url, pgherd):
    for value in ("8MB", "9MB"):
        assert pgherd("config", "set", f"work_mem={value}", "--yes", *url).code == 0
    back = pgherd("config", "rollback", "1", "--yes", *url)
    assert back.code == 0, back.err
    assert kept(herd) == {"work_mem": "8MB"}
    listed = pgherd("config", "history", *url).out
    assert "work_mem=9MB" in listed
    assert "back to version 1" in listed
    assert pgherd("config", "rollback", "77", "--yes", *url).code == 2


def test_lines_of_access_come_from_a_file_or_an_editor(herd, url, pgherd, tmp_path, monkeypatch):
    """`config hba` and `config ident` show, plan, apply and edit; a trial is confirmed."""
    file = tmp_path / "pg_hba.conf"
    file.write_text("# clients\nhost all app 10.0.0.0/8 md5\n")
    planned = pgherd("config", "hba", "plan", str(file), "--whole", *url)
    assert "hba: (not set) -> host all app 10.0.0.0/8 md5, by reload" in planned.err
    assert "hba: a block -> the whole file" in planned.err
    assert newest(herd.current).version == 0
    done = pgherd("config", "hba", "apply", str(file), "--trial", "5m", "--yes", *url)
    assert done.code == 0, done.err
    assert "pgherd config confirm" in done.err
    assert "on trial until" in pgherd("config", "show", *url).out
    assert pgherd("config", "confirm", *url).code == 0
    assert newest(herd.current).trial is None
    assert pgherd("config", "hba", "show", *url).out == file.read_text()
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\necho "ops bob app" >> "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    assert pgherd("config", "ident", "edit", "--yes", *url).code == 0
    assert newest(herd.current).ident == ("ops bob app",)
    shown = pgherd("config", "hba", "show", "-o", "json", *url)
    assert json.loads(shown.out)["hba_whole"] is False
    assert "2 lines of hba" in pgherd("config", "history", *url).out


def test_a_parameter_may_count_for_a_role_or_a_node(herd, url, pgherd):
    assert pgherd("config", "set", "work_mem=8MB", "--on", "replica", "--yes", *url).code == 0
    assert pgherd("config", "set", "work_mem=9MB", "--on", "n2", "--yes", *url).code == 0
    now = newest(herd.current)
    assert (now.parameters, now.replica) == ({}, {"work_mem": "8MB"})
    assert now.nodes == {"n2": {"work_mem": "9MB"}}
    assert "replica" in pgherd("config", "show", *url).out


def test_what_is_no_change_is_refused(herd, url, pgherd):
    assert pgherd("config", "set", "--yes", *url).code == 2
    assert pgherd("config", "set", "work_mem", "--yes", *url).code == 2
    refused = pgherd("config", "set", "fsync=off", "--yes", *url)
    assert (refused.code, "belongs to pgherd" in refused.err) == (2, True)
    assert kept(herd) == {}
