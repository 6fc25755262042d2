"""What is wrong with PostgreSQL's programs, and a minor upgrade step by step."""

from __future__ import annotations

import pytest
from plan_values import (
    NOW,
    facts,
    look,
    primary,
    replace,
    report,
    sender,
    standby,
)

from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import apply_command
from pgherd.ledger.levels import LEVEL, needed_level
from pgherd.model.facts import Facts
from pgherd.model.ids import NodeId
from pgherd.model.observation import Heard
from pgherd.model.programs import Programs
from pgherd.model.upkeep import Upkeep, Verb, Work, WorkState
from pgherd.plan import herd, programs, readiness

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
OLD = Programs(running=150018, on_disk=150018, data_major=15)
WAITS = replace(OLD, on_disk=150019)
NEW = replace(WAITS, running=150019)


def said(mine: Programs, lead: Programs = OLD) -> list[str]:
    """About n2, under n1."""
    servers = {N1: primary(programs=lead), N2: standby(programs=mine)}
    return [one.sentence for one in programs.mismatches(facts(), servers)]


def test_what_fits_is_not_talked_about() -> None:
    """Nor what is not known yet, nor that a newer minor version waits."""
    for mine in (OLD, WAITS, Programs(), Programs(on_disk=150018, data_major=15)):
        assert said(mine) == []
    assert said(NEW) == []  # standbys come first


@pytest.mark.parametrize(
    ("mine", "lead", "words", "stops"),
    [
        (replace(OLD, on_disk=160002), OLD, "the programs on its disk are of 16", True),
        (replace(OLD, data_major=16, on_disk=160002), OLD, "the cluster's of 15", True),
        (replace(OLD, problem="no postgres"), OLD, "no postgres", True),
        (replace(OLD, on_disk=150010), OLD, "goes back from PostgreSQL 15.18 to 15.10", False),
        (WAITS, NEW, "older than 15.19 of its primary n1; pgherd upgrade minor", False),
        (OLD, NEW, "install it there too, then pgherd upgrade minor", False),
        (
            replace(OLD, preloads=("auto_explain",), no_library=("auto_explain",)),
            OLD,
            "would not start again without auto_explain",
            True,
        ),
        (
            replace(OLD, no_library=("timescaledb",)),
            OLD,
            "the library timescaledb, which n1",
            False,
        ),
        (replace(OLD, no_extension=("postgis",)), OLD, "postgis, which databases of n1", False),
    ],
)
def test_what_will_hurt_is_said(mine: Programs, lead: Programs, words: str, stops: bool) -> None:
    """One sentence, with the node, and what to do; and whether a restart would fail."""
    [sentence] = said(mine, lead)
    assert sentence.startswith("n2: ")
    assert words in sentence
    servers = {N1: primary(programs=lead), N2: standby(programs=mine)}
    assert [one.stops for one in programs.mismatches(facts(), servers)] == [stops]


def test_who_could_run_something_newer_is_told() -> None:
    """Together, with the command."""
    servers = {N1: primary(programs=WAITS), N2: standby(programs=WAITS), N3: standby()}
    assert programs.news(servers) == [
        "n1, n2: a newer PostgreSQL is installed (15.18 -> 15.19); pgherd upgrade minor"
    ]
    assert programs.outdated(facts(), servers) == [N1, N2]


# --- the upgrade ---------------------------------------------------------------------------------


def upgrade(*nodes: NodeId, **fields: object) -> Facts:
    work = Work("w1", Verb.RESTART, nodes, "ann", 1, rolling=True, only_outdated=True)
    return facts(level=LEVEL, upkeep=Upkeep(works=(replace(work, **fields),)))


def herd_of(one: Programs, two: Programs, three: Programs) -> tuple[Heard, ...]:
    return (
        report(1, primary(programs=one, pid=11)),
        report(2, standby(programs=two, pid=22)),
        report(3, standby(programs=three, pid=33)),
    )


def decided(known: Facts, *reports: Heard) -> tuple[int, object]:
    seen = look(known, *reports)
    found = herd.decide(known, view=seen.view, policy=seen.policy, now=NOW)
    return found.rule, found.command


def taken(known: Facts, command: object) -> Facts:
    after, outcome = apply_command(known, command, at_ms=NOW)  # type: ignore[arg-type] # decided
    assert isinstance(outcome, cmd.Done), outcome
    return after


def checks(known: Facts, nodes: list[NodeId], *reports: Heard) -> dict[str, bool]:
    return {one.name: one.ok for one in readiness.upgrade(look(known, *reports), nodes)}


def test_an_upgrade_goes_from_the_replicas_to_the_old_primary() -> None:
    """Who runs it already is passed over, before its turn and after its handover."""
    known = upgrade(N1, N2, N3)
    now = herd_of(WAITS, WAITS, NEW)
    rule, command = decided(known, *now)
    assert (rule, command.node, command.mark) == (1101, N2, "22")  # type: ignore[attr-defined]
    known = taken(known, command)

    restarted = report(2, standby(programs=NEW, pid=99))
    rule, command = decided(known, now[0], restarted, now[2])
    assert (rule, command) == (1103, cmd.CrossOff("w1", 1, rule=1103))
    known = taken(known, command)

    rule, command = decided(known, now[0], restarted, now[2])
    assert (rule, command) == (1106, cmd.CrossOff("w1", 2, rule=1106, passes=N3))
    known = taken(known, command)

    rule, command = decided(known, now[0], restarted, now[2])
    assert (rule, command.shift) == (1101, cmd.Shift.AWAY)  # type: ignore[attr-defined]
    known = taken(known, command)
    over = replace(known, leader=known.members[N2].key, switchover=None)
    lead = report(2, primary(programs=NEW, pid=99, senders=(sender(1), sender(3))))
    follows = report(1, standby(programs=NEW, pid=44))
    rule, command = decided(over, lead, follows, now[2])
    assert (rule, command) == (1106, cmd.CrossOff("w1", 4, rule=1106))
    assert taken(over, command).upkeep.works[0].state is WorkState.DONE


def test_nobody_is_passed_over_by_a_report_of_before() -> None:
    """What was installed a moment before it was asked for may not be in it yet."""
    now = herd_of(OLD, OLD, OLD)
    young = upgrade(N2, asked_at_ms=NOW - 1000)
    assert not isinstance(decided(young, *now)[1], cmd.CrossOff)
    assert isinstance(decided(upgrade(N2), *now)[1], cmd.CrossOff)


def test_an_old_primary_that_came_back_old_is_restarted() -> None:
    """Such as one that never stopped: it has its turn like any other."""
    known = upgrade(N1, node=N1, mark="moves", state=WorkState.RUNNING, stepped_at_ms=NOW)
    known = replace(known, leader=known.members[N2].key)
    lead = report(2, primary(programs=NEW, senders=(sender(1), sender(3))))
    rule, command = decided(known, lead, report(1, standby(programs=WAITS, pid=44)))
    assert (rule, command.mark) == (1102, "44")  # type: ignore[attr-defined]


def test_a_restart_that_changed_nothing_ends_the_upgrade() -> None:
    """The rest keeps what works, and the reason is told."""
    known = upgrade(N1, N2, node=N2, mark="22", state=WorkState.RUNNING, stepped_at_ms=NOW)
    rule, end = decided(known, *herd_of(WAITS, replace(WAITS), OLD))
    assert not isinstance(end, cmd.EndWork), rule
    again = report(2, standby(programs=WAITS, pid=77))
    rule, end = decided(known, again)
    assert isinstance(end, cmd.EndWork)
    assert (rule, end.text) == (1104, "n2 was restarted and still runs 15.18, not 15.19")


def test_it_is_not_through_before_its_version_is_known() -> None:
    """A server that has only just come up has not been asked yet."""
    known = upgrade(N2, node=N2, mark="22", state=WorkState.RUNNING, stepped_at_ms=NOW)
    young = report(2, standby(programs=replace(WAITS, running=0), pid=99))
    assert not isinstance(decided(known, young)[1], cmd.CrossOff | cmd.EndWork)


def test_before_an_upgrade_is_looked_at_what_would_go_wrong() -> None:
    """What would not start, who would be left behind, who would miss something as primary."""
    known = facts(level=LEVEL)
    assert all(checks(known, [N1, N2, N3], *herd_of(WAITS, WAITS, WAITS)).values())
    left = checks(known, [N1, N2], *herd_of(WAITS, WAITS, OLD))
    assert left["programs of n3"] is False
    assert all(checks(known, [N2], *herd_of(OLD, WAITS, OLD)).values())  # one to try it with
    lacks = herd_of(WAITS, replace(WAITS, no_extension=("postgis",)), WAITS)
    assert checks(known, [N1, N2, N3], *lacks)["programs of n2"] is False
    other = herd_of(WAITS, replace(WAITS, on_disk=160001), WAITS)
    assert checks(known, [N1, N3], *other)["programs of n2"] is False


def test_what_was_scheduled_is_looked_at_again() -> None:
    """Programs of another major by then: it fails, and says so."""
    known = upgrade(N1, N2, N3, not_before_ms=NOW - 20_000)
    other = herd_of(WAITS, replace(WAITS, on_disk=160001), WAITS)
    rule, end = decided(known, *other)
    assert isinstance(end, cmd.EndWork)
    assert (rule, "are of 16" in end.text) == (1111, True)
    rule, command = decided(known, *herd_of(WAITS, WAITS, WAITS))
    assert isinstance(command, cmd.TakeInHand), rule


def test_an_older_program_is_not_asked_for_it() -> None:
    """The field came with level 7."""
    ask = cmd.AskWork("w1", Verb.RESTART, (N2,), "ann", rolling=True, only_outdated=True)
    assert needed_level(ask) == 7
