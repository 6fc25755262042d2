"""Logs, levels and reloads on the command line: what is printed, and what the exit code says."""

from __future__ import annotations

import msgspec
import pytest

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL
from pgherd.model.ids import NodeId
from pgherd.model.nodelog import LogTold, Source
from pgherd.model.reloaded import Mistake, Reloaded

N2 = NodeId("n2")


@pytest.fixture
def url(herd, served) -> tuple[str, str]:
    herd.current = msgspec.structs.replace(herd.current, level=LEVEL)
    return "--api-url", served.url


async def goes_on(herd) -> None:
    """What the deciders do with a reload of PostgreSQL that was just asked for."""
    for work in herd.current.upkeep.open_works():
        herd.must(cmd.TakeInHand(work.id, 0, work.nodes[0], mark="7", text="is at it", rule=1101))
        herd.must(cmd.CrossOff(work.id, 1, rule=1103))


def test_lines_are_printed_as_they_are(herd, url, pgherd):
    herd.own.log = LogTold(("one  line", "{two}"), "ab:2")
    assert pgherd("logs", "n2", "-n", "7", *url).out == "one  line\n{two}\n"
    assert pgherd("logs", "--postgres", *url).out == "one  line\n{two}\n"
    (where, first), (own, second) = herd.own.asked
    assert (where, first.lines, first.source) == (N2, 7, Source.AGENT)
    assert (own, second.source) == ("n1", Source.POSTGRES)
    assert '"cursor": "ab:2"' in pgherd("logs", "n2", "--output", "json", *url).out


def test_a_level_is_set_on_one_node_or_on_all(herd, url, pgherd):
    done = pgherd("log-level", "debug", "n2", "--for", "5m", *url)
    assert done.code == 0, done.err
    assert "debug" in done.out
    assert [node for node, _ in herd.own.asked] == ["n2"]
    assert herd.own.asked[0][1].for_ms == 300_000
    assert pgherd("log-level", *url).out.count("info") == 3
    assert pgherd("log-level", "loud", *url).code == 2
    assert pgherd("log-level", "--for", "5m", *url).code == 2


def test_a_reload_prints_what_became_of_each_key(herd, url, pgherd):
    herd.react = goes_on
    herd.own.reloaded = Reloaded(
        status="reloaded",
        changes_detected=2,
        applied=("log.level",),
        needs_restart=("raft.port",),
        pending_parameters=("shared_buffers",),
    )
    done = pgherd("reload", "n2", *url)
    assert (done.code, done.out) == (0, "reload of n2: done\n"), done.err
    assert "n2: log.level: applied" in done.err
    assert "n2: raft.port: waits for a restart of this node's daemon" in done.err
    assert "pgherd restart n2 --pending" in done.err


def test_a_file_with_mistakes_and_a_silent_node_fail_the_command(herd, url, pgherd):
    """The others are reloaded all the same."""
    herd.react = goes_on
    herd.own.silent = {N2}
    done = pgherd("reload", *url)
    assert done.code == 1
    assert done.out.count("done") == 2
    assert "n2: no connection to n2" in done.err
    mistake = Mistake("f.yaml:3", "raft.prot", "is not a key", "")
    herd.own.reloaded = Reloaded(status="rejected", rejected=(mistake,))
    bad = pgherd("reload", "n1", *url)
    assert (bad.code, bad.out) == (1, "")
    assert "f.yaml:3: raft.prot: is not a key" in bad.err
