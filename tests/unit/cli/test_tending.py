"""Proves the commands that work on nodes: the plan before the question, and what is asked for."""

from __future__ import annotations

import msgspec
import pytest

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL
from pgherd.model.activity import Transaction
from pgherd.model.facts import Kind
from pgherd.model.ids import NodeId
from pgherd.model.pgconfig import Pending
from pgherd.model.upkeep import Verb, WorkState

N2 = NodeId("n2")


@pytest.fixture
def url(herd, served) -> tuple[str, str]:
    herd.current = msgspec.structs.replace(herd.current, level=LEVEL)
    return "--api-url", served.url


async def goes_on(herd) -> None:
    """What the deciders do with the work that was just asked for, in one step."""
    for work in herd.current.upkeep.open_works():
        if work.verb is Verb.MAINTENANCE:
            herd.must(cmd.EndWork(work.id, WorkState.DONE, "no commit counts on it", 1113))
            continue
        herd.must(cmd.TakeInHand(work.id, 0, work.nodes[0], mark="7", text="is at it", rule=1101))
        herd.must(cmd.CrossOff(work.id, 1, rule=1103))


async def every_turn(herd) -> None:
    """What the deciders do with all nodes of some work, one after the other."""
    for work in herd.current.upkeep.open_works():
        for number, node in enumerate(work.nodes):
            step = cmd.TakeInHand(work.id, 2 * number, node, mark="7", text="at it", rule=1101)
            herd.must(step)
            herd.must(cmd.CrossOff(work.id, 2 * number + 1, rule=1103))


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
    """On and off; which node or the whole cluster has to be said; a pause may have an end."""
    herd.react = goes_on
    done = pgherd("maintenance", "on", "n2", "--reason", "disk", "--until", "2h", *url)
    assert (done.code, done.out) == (0, "maintenance of n2: done\n"), done.err
    assert "ok  transactions on n2: none" in done.err
    assert herd.current.upkeep.maintenance[N2].until_ms
    assert "n2 is out of" in pgherd("maintenance", "off", "n2", *url).out
    assert pgherd("maintenance", "on", *url).code == 2
    assert "until 20" in pgherd("maintenance", "on", "--cluster", "--until", "2h", *url).out


def test_maintenance_that_others_would_feel_is_asked_about(herd, url, pgherd):
    """What is amiss is shown, and without a yes nothing changes."""
    herd.transactions[N2] = (Transaction(7, "bob", "shop", "active", 3000),)
    asked = pgherd("maintenance", "on", "n2", *url)
    assert asked.code == 2
    assert "NO  transactions on n2: bob 7 (active) for 3000 s" in asked.err
    assert not herd.current.upkeep.maintenance
    made = pgherd("maintenance", "on", "n2", "--yes", "--no-wait", *url)
    [work] = herd.current.upkeep.open_works()
    assert (made.code, made.out) == (0, f"{work.id}\n"), made.err


def test_each_node_of_a_rolling_restart_is_told(herd, url, pgherd):
    """Each step, and who is through; the same with those that wait for a restart."""
    herd.react = every_turn
    done = pgherd("restart", "--rolling", "--yes", *url)
    assert (done.code, done.out) == (0, "restart of n1, n2, n3: done\n"), done.err
    for number, node in enumerate(("n1", "n2", "n3"), start=1):
        assert f"{node} is through ({number} of 3)" in done.err
    assert pgherd("restart", "--pending", "--yes", *url).code == 3
    herd.report_server(N2, pending=(Pending("shared_buffers", "128MB", "1GB"),))
    only = pgherd("restart", "--pending", "--yes", *url)
    assert (only.code, only.out) == (0, "restart of n2: done\n"), only.err
    assert pgherd("restart", "n2", "--rolling", *url).code == 2


def test_a_switchover_is_for_later_or_for_others(herd, url, pgherd):
    """Its id is the answer, and it is taken back; promote and demote are switchovers too."""
    later = pgherd("switchover", "--to", "n2", "--at", "2h", "--yes", *url)
    [work] = herd.current.upkeep.works
    assert (later.code, later.out) == (0, f"{work.id}\n"), later.err
    assert "switchover to n2 asked for by" in pgherd("status", *url).out
    undone = pgherd("switchover", "--cancel", *url)
    assert (undone.code, undone.out) == (0, "switchover to n2: cancelled\n"), undone.err
    for command in (("promote", "n3"), ("demote", "n1")):
        asked = pgherd(*command, "--yes", "--no-wait", *url)
        wish = herd.current.switchover
        assert (asked.code, asked.out) == (0, f"{wish.id}\n"), asked.err
        assert wish.candidate == (command[1] if command[0] == "promote" else None)
        assert pgherd("actions", wish.id, "--cancel", *url).code == 0
    assert pgherd("demote", "n2", "--yes", *url).code == 3
