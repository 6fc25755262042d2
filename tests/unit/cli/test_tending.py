"""Proves the commands that work on nodes: the plan before the question, and what is asked for."""

from __future__ import annotations

import msgspec
import pytest

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL
from pgherd.model.facts import Kind
from pgherd.model.ids import NodeId
from pgherd.model.upkeep import WorkState

N2 = NodeId("n2")


@pytest.fixture
def url(herd, served) -> tuple[str, str]:
    herd.current = msgspec.structs.replace(herd.current, level=LEVEL)
    return "--api-url", served.url


async def goes_on(herd) -> None:
    """What the deciders do with the work that was just asked for, in one step."""
    for work in herd.current.upkeep.open_works():
        herd.must(cmd.TakeInHand(work.id, 0, work.nodes[0], mark="7", text="is at it", rule=1101))
        herd.must(cmd.CrossOff(work.id, 1, rule=1103))


async def fails(herd) -> None:
    [work] = herd.current.upkeep.open_works()
    herd.must(cmd.EndWork(work.id, WorkState.FAILED, "n2 does not come up"))


def test_a_pause_is_told_loudly(herd, url, pgherd):
    """The status says it before anything else; resume ends it."""
    done = pgherd("pause", "--until", "2h", "--reason", "switches", *url)
    assert done.code == 0, done.err
    assert "PAUSED by" in pgherd("status", *url).out.splitlines()[1]
    assert pgherd("maintenance", "off", "--cluster", *url).code == 0
    assert not herd.current.paused


def test_work_is_followed_to_its_end(herd, url, pgherd):
    """The answer says how it ended; one that failed is an error with the reason."""
    herd.react = goes_on
    done = pgherd("restart", "n2", "--yes", *url)
    assert (done.code, done.out) == (0, "restart of n2: done\n"), done.err
    assert pgherd("reload", *url).out.count("done") == 3
    herd.react = fails
    failed = pgherd("reinit", "n2", "--yes", *url)
    assert failed.code == 1
    assert "n2 does not come up" in failed.err


def test_all_are_those_with_a_server(herd, url, pgherd, fakes):
    """A witness and a proxy node have nothing to reload, and are no reason to refuse."""
    for number, kind in ((4, Kind.WITNESS), (5, Kind.PROXY)):
        member = cmd.AddMember(NodeId(f"x{number}"), kind, fakes.address(number), level=LEVEL)
        herd.must(member)
    herd.react = goes_on
    done = pgherd("reload", *url)
    assert (done.code, done.out.count("done")) == (0, 3), done.err


def test_an_id_is_printed_listed_and_cancelled(herd, url, pgherd):
    """--no-wait does not follow; the id is all that is on stdout."""
    asked = pgherd("stop-postgres", "n2", "--yes", "--no-wait", *url)
    [work] = herd.current.upkeep.works
    assert (asked.code, asked.out) == (0, f"{work.id}\n"), asked.err
    assert work.id in pgherd("actions", *url).out
    assert pgherd("actions", work.id, "--cancel", *url).code == 0
    assert not herd.current.upkeep.open_works()


def test_a_rolling_restart_shows_what_it_looked_at(herd, url, pgherd):
    """Order and checks come before the question, and nothing changes without a yes."""
    asked = pgherd("restart", "--rolling", *url)
    assert asked.code == 2
    assert "restart PostgreSQL of n2, then n3, then n1" in asked.err
    assert "ok  sync set without n2: 1 of n3" in asked.err
    assert not herd.current.upkeep.works
    assert pgherd("restart", *url).code == 2


def test_a_node_goes_into_maintenance(herd, url, pgherd):
    """On and off; which node or the whole cluster has to be said."""
    done = pgherd("maintenance", "on", "n2", "--reason", "disk", *url)
    assert "n2 is in maintenance" in done.out, done.err
    assert N2 in herd.current.upkeep.maintenance
    assert "n2 is out of" in pgherd("maintenance", "off", "n2", *url).out
    assert pgherd("maintenance", "on", *url).code == 2
