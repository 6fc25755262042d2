"""Versions of PostgreSQL's parameters: who sees what, what is refused, and the way back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from test_apply import after, refused, stable

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL, needed_level
from pgherd.ledger.pgconfig import LINES_MAX, PARAMETERS_MAX, VERSIONS_MAX, newest
from pgherd.model.facts import Facts
from pgherd.model.ids import NodeId

N2 = NodeId("n2")


def upgraded() -> Facts:
    """Members that all understand the newest commands."""
    return msgspec.structs.replace(stable(), level=LEVEL)


def set_(expected: int, **parameters: str) -> cmd.SetConfig:
    return cmd.SetConfig(expected, parameters, author="ann", reason="load")


def test_a_version_replaces_the_one_that_was_seen() -> None:
    """With author, time and reason; nothing else about the cluster changes."""
    facts = after(upgraded(), set_(0, work_mem="8MB"))
    one = newest(facts)
    assert (one.version, one.author, one.reason, one.parameters) == (
        *(1, "ann", "load"),
        {"work_mem": "8MB"},
    )
    assert facts.notes[-1].kind == "config.changed"
    assert refused(facts, set_(0, work_mem="9MB")) == "stale"
    same = after(facts, set_(1, work_mem="8MB"))
    assert newest(same).version == 1
    assert newest(after(facts, set_(1))).parameters == {}


@pytest.mark.parametrize(
    "parameters",
    [
        {"work mem": "1"},
        {"Work_mem": "1"},
        {"work_mem": "1\nfsync = off"},
        {f"a{n}": "1" for n in range(PARAMETERS_MAX + 1)},
        {"a": "x" * 20_000},
    ],
)
def test_what_is_no_version_is_refused(parameters: dict[str, str]) -> None:
    assert refused(upgraded(), cmd.SetConfig(0, parameters, "ann")) == "invalid"


def test_a_version_that_fails_gives_way_to_what_ran() -> None:
    """It is marked with who and why; members that never tried it go back as well."""
    facts = after(upgraded(), set_(0, work_mem="8MB"), set_(1, work_mem="8MB", a="bad"))
    facts = after(facts, cmd.FailConfig(2, N2, "FATAL: bad", ran=1, rule=1201))
    assert [one.version for one in facts.config] == [1, 2, 3]
    assert (facts.config[1].failed_on, facts.config[1].failed) == (N2, "FATAL: bad")
    assert (newest(facts).parameters, newest(facts).restores) == ({"work_mem": "8MB"}, 1)
    assert newest(facts).author == "pgherd"
    assert refused(facts, cmd.FailConfig(2, N2, "again", ran=1)) == "stale"


def test_it_never_goes_back_to_what_failed() -> None:
    """Where what ran is not known any more, or is what failed, an older one counts."""
    facts = after(upgraded(), set_(0, a="good"), set_(1, a="bad"), set_(2, a="bad", b="c"))
    facts = after(facts, cmd.FailConfig(3, N2, "no", ran=2))
    assert newest(facts).parameters == {"a": "bad"}
    facts = after(facts, cmd.FailConfig(4, N2, "no", ran=2))
    assert newest(facts).parameters == {"a": "good"}
    facts = after(facts, cmd.FailConfig(5, N2, "no", ran=77))
    assert newest(facts).parameters == {}


def test_old_versions_go_and_numbers_do_not_return() -> None:
    facts = upgraded()
    for number in range(VERSIONS_MAX + 5):
        facts = after(facts, set_(number, work_mem=f"{number + 1}MB"))
    assert len(facts.config) == VERSIONS_MAX
    assert newest(facts).version == VERSIONS_MAX + 5


def test_older_programs_are_never_asked() -> None:
    assert refused(stable(), set_(0, work_mem="8MB")) == "too_new"
    assert needed_level(cmd.FailConfig(1, N2, "", ran=0)) == 5
    assert needed_level(set_(0, work_mem="8MB")) == 5
    assert needed_level(cmd.SetConfig(0, {}, "ann", hba=("host all all all md5",))) == 6
    assert needed_level(cmd.SetConfig(0, {}, "ann", replica={"work_mem": "8MB"})) == 6


ROLES = cmd.SetConfig(
    0,
    {"work_mem": "5MB", "jit": "off"},
    "ann",
    primary={"work_mem": "6MB"},
    replica={"work_mem": "7MB"},
    nodes={N2: {"jit": "on"}},
    hba=("host all app 10.0.0.0/8 md5",),
    hba_whole=True,
)


def test_a_member_has_what_counts_for_its_role_and_its_name() -> None:
    one = newest(after(upgraded(), ROLES))
    assert one.of(N2, leads=True) == {"work_mem": "6MB", "jit": "on"}
    assert one.of(NodeId("n1"), leads=False) == {"work_mem": "7MB", "jit": "off"}
    assert (one.access.hba, one.access.whole) == (ROLES.hba, True)


@pytest.mark.parametrize(
    "changes",
    [
        {"primary": {"max_connections": "50"}},
        {"nodes": {N2: {"max_wal_senders": "50"}}},
        {"replica": {"Work_mem": "1"}},
        {"hba": ("local all all trust\nhost all all all trust",)},
        {"hba": ("local all all \\",)},
        {"ident": tuple(f"m u{n} r" for n in range(LINES_MAX + 1))},
    ],
)
def test_what_cannot_count_for_some_or_is_no_line_is_refused(changes: dict[str, Any]) -> None:
    """What standbys must match has one value; a line is one line, and goes on in no other."""
    assert refused(upgraded(), cmd.SetConfig(0, {}, "ann", **changes)) == "invalid"


def on_trial() -> Facts:
    trial = cmd.SetConfig(1, {"work_mem": "9MB"}, "bob", trial_until_ms=5000, streamed=(N2,))
    return after(upgraded(), set_(0, work_mem="8MB"), trial)


def test_a_trial_ends_by_a_word_or_goes_back() -> None:
    """Nothing else is set meanwhile; what it says goes with its trial, and is marked with why."""
    facts = on_trial()
    trial = newest(facts).trial
    assert trial is not None
    assert (trial.until_ms, trial.term, trial.streamed) == (5000, facts.term, (N2,))
    assert refused(facts, set_(2, work_mem="7MB")) == "on_trial"
    kept = after(facts, cmd.EndTrial(2, confirmed=True, author="bob"))
    assert (newest(kept).version, newest(kept).trial) == (2, None)
    assert refused(kept, cmd.EndTrial(2, confirmed=False, why="late")) == "stale"
    back = after(facts, cmd.EndTrial(2, confirmed=False, why="nobody came", rule=1202))
    assert (newest(back).parameters, newest(back).restores) == ({"work_mem": "8MB"}, 1)
    assert (back.config[1].failed, back.config[1].trial) == ("nobody came", None)
    assert back.notes[-2].kind == "config.failed"


def test_what_failed_once_and_was_mended_is_good() -> None:
    """It may have been on trial over a lunch that lasted."""
    facts = after(on_trial(), cmd.EndTrial(2, confirmed=False, why="nobody came"))
    facts = after(facts, set_(3, work_mem="9MB"), set_(4, a="bad"))
    facts = after(facts, cmd.FailConfig(5, N2, "no", ran=4))
    assert newest(facts).parameters == {"work_mem": "9MB"}


def test_a_rollback_ends_a_trial_too() -> None:
    back = cmd.SetConfig(2, {"work_mem": "8MB"}, "ann", restores=1)
    facts = after(on_trial(), back)
    assert (newest(facts).version, newest(facts).trial, facts.config[1].trial) == (3, None, None)
