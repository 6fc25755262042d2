"""The consensus core in simulation: no invariant breaks on the real code, every planted mistake is
noticed by an invariant and by a told scenario, and a seed is a run.

PGHERD_RAFT_SIM_SEEDS says how many seeds must count (default 3000), PGHERD_RAFT_SIM_FIRST where
they begin; figures are appended to the file that PGHERD_COUNTS names. That unit tests notice
mistakes too is tried with all of them when PGHERD_FULL=1, else with a sample that depends on the
first seed.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import msgspec
import pytest
from tests.sim import raft_script
from tests.unit.raft import scenario

from pgherd.raft import core, roles
from pgherd.raft.types import Role
from pgherd.sim import mutantspage, record
from pgherd.sim.raft import reference
from pgherd.sim.raft.cli import BATCH, failure, missing, run_batch
from pgherd.sim.raft.diagram import Diagram
from pgherd.sim.raft.group import Options
from pgherd.sim.raft.mutants import MUTANTS, NOT_EXPRESSED, catch, planted_in
from pgherd.sim.raft.run import Profile, run_seed, shrunk

SEEDS = int(os.environ.get("PGHERD_RAFT_SIM_SEEDS", "3000"))
FIRST = int(os.environ.get("PGHERD_RAFT_SIM_FIRST", "1"))
IS_FULL = os.environ.get("PGHERD_FULL") == "1"
PROCESSES = 2
VOID_PART_MAX = 0.01
SAMPLED = 6
ROLE_SEEDS_MAX = 200
ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
FILES = sorted((DATA / "sim" / "raft").glob("*.txt"))
UNIT = {
    "M1": "election.py::test_a_vote_is_durable_before_it_is_said",
    "M3": "replication.py::test_a_single_voter_commits_only_what_it_has_stored",
    "M4": "replication.py::test_only_entries_of_the_own_term_are_committed_by_counting",
    "M5": "log.py::test_commit_goes_no_further_than_what_the_message_verified",
    "M5b": "replication.py::test_a_heartbeat_commits_only_what_is_known_to_match",
    "M6": "log.py::test_only_a_conflict_cuts_the_log",
    "M7": "membership.py::test_a_new_leader_changes_nothing_before_its_predecessors_log_is_applied",
    "M8": "membership.py::test_a_node_joins_as_learner_and_is_promoted",
    "M9": "election.py::test_learners_do_not_stand_but_vote_when_asked",
    "M10": "membership.py::test_a_removed_leader_steps_down_and_the_rest_goes_on",
    "M11": "election.py::test_a_candidate_stuck_at_a_higher_term_comes_back",
    "M13": "readindex.py::test_a_deposed_leader_answers_nothing",
    "M14": "readindex.py::test_no_read_is_served_before_an_entry_of_the_own_term_is_committed",
    "M15": "readindex.py::test_a_deposed_leader_answers_nothing",
    "M17": "membership.py::test_old_and_foreign_snapshots_are_not_taken",
    "M17c": "membership.py::test_a_reported_snapshot_ends_the_waiting",
    "M21": "election.py::test_a_leader_without_quorum_steps_down",
    "M22": "found_by_simulation.py::test_heartbeats_leave_while_the_disk_is_busy",
    "M23": "election.py::test_learners_do_not_stand_but_vote_when_asked",
}
"""mutant -> a test of tests/unit/raft that notices it."""


def sample(names: list[str]) -> list[str]:
    """All of them in a full run, else a few."""
    return names if IS_FULL else random.Random(FIRST).sample(sorted(names), SAMPLED)


def write_counts(**counts: int) -> None:
    path = os.environ.get("PGHERD_COUNTS")
    if path:
        with open(path, "a", encoding="utf-8") as out:
            out.writelines(f"{name}={count}\n" for name, count in counts.items())


@pytest.mark.timeout(1200)
def test_seeds_hold_every_invariant() -> None:
    """Every seed is safe and comes right again; enough of them count; all faults struck."""
    room = SEEDS + int(SEEDS * VOID_PART_MAX) + BATCH
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        batches = list(pool.map(run_batch, range(FIRST, FIRST + room, BATCH)))
    results = [result for batch in batches for result in batch]
    broken = [result for result in results if result.broken]
    assert not broken, failure(broken[0])
    counted = [result for result in results if not result.void]
    assert len(counted) >= SEEDS, f"only {len(counted)} of {len(results)} seeds count"
    assert not missing(counted), f"never happened: {missing(counted)}"
    kinds = Counter(kind for result in counted for kind in result.faults)
    effects: Counter[str] = Counter()
    for result in counted:
        effects.update(result.effects)
    print("seeds struck by", dict(sorted(kinds.items())))
    print("what that did", dict(sorted(effects.items())))
    sums = record.run_of("raft", counted, first=FIRST, commit="")
    write_counts(
        raft_seeds=sums.seeds,
        raft_fault_kinds=len(kinds),
        raft_faults=sums.faults,
        raft_elections=sums.elections,
        raft_acks=sums.writes,
        raft_reads=sum(result.reads for result in counted),
        raft_checks=sum(result.evaluated for result in counted),
    )


def test_same_seed_same_run() -> None:
    """A seed reproduces its run, in another process with another hash seed too (M26)."""
    code = "from pgherd.sim.raft.run import run_seed; print([run_seed(n) for n in (4, 6, 11)])"
    here = str([run_seed(number) for number in (4, 6, 11)])
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        words = [sys.executable, "-c", code]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == here


def test_a_failing_seed_is_drawn_and_made_smaller() -> None:
    """The diagram shows lanes and arrows, and drawing changes nothing; fewer faults still fail."""
    with planted_in(MUTANTS["M6"]):
        found = catch(MUTANTS["M6"])
        assert found.result is not None
        diagram = Diagram()
        again = run_seed(found.result.seed, watch=diagram.watch)
        smaller = shrunk(found.result)
        less = run_seed(found.result.seed, smaller)
        told = failure(found.result)
    assert again == found.result
    assert any("-->" in line or "<--" in line for line in diagram.lines)
    assert less.broken == found.result.broken
    assert sum(less.faults.values()) < sum(found.result.faults.values())
    skipped = ",".join(map(str, smaller.skip))
    assert f"replay: ./dev sim raft --seed {found.result.seed} --skip {skipped}" in told


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", MUTANTS)
def test_planted_mistake_is_noticed(name: str) -> None:
    """One of the invariants that should notice does, within 2,000 seeds."""
    found = catch(MUTANTS[name])
    assert found.is_as_expected, found
    write_counts(raft_mutants=1)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario_plays_as_written(path: Path) -> None:
    """Full output, compared as text; `./dev golden` rewrites it."""
    text = path.read_text(encoding="utf-8")
    now = raft_script.played(text)
    assert "BROKEN" not in now
    if os.environ.get("PGHERD_GOLDEN") == "1":
        path.write_text(now, encoding="utf-8")
    else:
        assert now == text


@pytest.mark.parametrize("name", MUTANTS)
def test_scenario_goes_otherwise_with_the_mistake(name: str) -> None:
    """The scenario that a mutant names would not pass with it, and does without."""
    mutant = MUTANTS[name]
    text = (DATA / f"{mutant.scenario}.txt").read_text()
    play = raft_script.played if mutant.scenario.startswith("sim/") else scenario.played
    assert play(text) == text
    with planted_in(mutant):
        try:
            told = play(text)
        except AssertionError as why:
            told = str(why)
    assert told != text


@pytest.mark.parametrize("name", sample(list(UNIT)))
def test_unit_test_fails_with_the_mistake(name: str) -> None:
    """The unit test that a mutant names would not pass with it, and does without."""
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    words += [f"tests/unit/raft/test_{UNIT[name]}"]
    environment = {**os.environ, "PGHERD_RAFT_MUTANT": name}
    plain = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert plain.returncode == 0, plain.stdout
    words += ["-p", "pgherd.sim.raft.plant"]
    planted = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert planted.returncode == 1, planted.stdout


def test_every_known_mistake_is_planted_or_said_why_not() -> None:
    """M1 to M26 of RAFT.md 2; the page of them is of this table (./dev docs checks its text)."""
    left_out = {one.name for one in NOT_EXPRESSED}
    known = {name.rstrip("bc") for name in MUTANTS} | left_out
    assert known == {f"M{number}" for number in range(1, 27)}
    assert set(reference.read(ROOT / mutantspage.PAGE)) == set(MUTANTS)


def test_assertions_cannot_be_stripped() -> None:
    """Python that strips assertions (-O) does not get the core (M26)."""
    words = [sys.executable, "-O", "-c", "import pgherd.raft.node"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "start Python without -O" in done.stderr


def test_every_change_of_role_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of roles is the machine's: none of its rows is dead, and no change lacks a row."""
    seen: set[roles.Change] = set()

    def noting(source: Role, target: Role, cause: roles.Cause) -> roles.Change:
        change = roles.change_of(source, target, cause)
        seen.add(change)
        return change

    monkeypatch.setattr(core, "change_of", noting)
    bare = Profile(options=Options(size=5, pre_vote=False))
    for seed in range(1, ROLE_SEEDS_MAX):
        for profile in (Profile(), bare):
            assert not (broken := run_seed(seed, profile)).broken, broken
        if seen == set(roles.TABLE):
            return
    raise AssertionError(f"never happened: {set(roles.TABLE) - seen}")


def test_recorded_runs_add_up_and_are_fresh(tmp_path: Path) -> None:
    """A run is one line, sums are over all lines, and no run uses another's seeds."""
    page = tmp_path / "soak.md"
    assert record.next_seed("raft", page) == record.FRESH_FROM
    run = record.run_of("raft", [run_seed(4), run_seed(6)], first=4, commit="abc+")
    record.record(run, page)
    later = msgspec.structs.replace(run, first=record.FRESH_FROM, last=record.FRESH_FROM + 1)
    record.record(later, page)
    assert [one.first for one in record.read(page)] == [4, record.FRESH_FROM]
    assert record.next_seed("raft", page) == record.FRESH_FROM + 2
    assert record.next_seed("herd", page) == record.FRESH_FROM
    assert f"| raft | 2 | 4 | {run.hours * 2:.2f} | {run.faults * 2} |" in page.read_text()
