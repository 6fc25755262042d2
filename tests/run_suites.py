"""Run the test suites in order, each within its budget, and hold their counts against floors.

Owns the table of suites: what runs, how long it may take, how many tests, seeds and failovers it
must have done. Prints one line per suite and at the very end `N passed, N failed`, alone on its
line; exits with 1 when anything failed, took too long, or fell below a floor. Leaves the tests to
pytest. Tests add to the counts by appending `name=number` lines to the file that PGHERD_COUNTS
names.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
FULL_FACTOR = 4
ENDING_SECONDS = 20
WORKERS = "2"


@dataclass(frozen=True)
class Suite:
    """One row. paths: for pytest; tools: commands before it; floors: least counts of a run.

    beside: how tests that mostly wait are shared out between two workers (pytest-xdist's --dist);
    "" where they run one after another, or bring their own processes.
    """

    name: str
    paths: tuple[str, ...]
    budget_seconds: int
    floors: dict[str, int]
    tools: tuple[tuple[str, ...], ...] = ()
    beside: str = ""


SUITES = (
    Suite(
        "check",
        paths=("tests/tidy",),
        budget_seconds=60,
        floors={"passed": 25},
        tools=(
            ("ruff", "check", "--quiet", "src", "tests", "bench", "docs", "packaging"),
            ("ruff", "format", "--quiet", "--check", "src", "tests", "bench", "docs", "packaging"),
            ("mypy",),
            ("lint-imports", "--no-cache"),
        ),
    ),
    Suite(
        "unit",
        paths=("tests/unit",),
        budget_seconds=350,
        floors={"passed": 3900, "api_cases": 4000, "frames": 200_000, "wire_cases": 120_000},
        beside="loadscope",
    ),
    Suite(
        "contract",
        paths=("tests/contract",),
        budget_seconds=560,
        floors={"passed": 350, "store_cuts": 65_536, "store_flips": 20_000},
        beside="loadfile",
    ),
    Suite(
        "sim",
        paths=("tests/sim",),
        budget_seconds=640,
        floors={
            "passed": 130,
            "seeds": 300,
            "sim_seconds": 90_000,
            "sim_fault_kinds": 70,
            "herd_mutants": 11,
            "explore_states": 100_000,
            "explore_mutants": 24,
            "raft_seeds": 3000,
            "raft_fault_kinds": 40,
            "raft_mutants": 28,
            "sim_nine": 8,
            "sim_seven": 7,
            "sim_pair": 15,
            "sim_async": 8,
            "sim_async_pair": 7,
            "sim_lone": 8,
            "sim_by_hand": 8,
            "sim_fenced": 8,
            "sim_forwards": 8,
            "sim_tended": 9,
            "sim_votes_moved": 40,
        },
        beside="worksteal",
    ),
    Suite(
        "cluster",
        paths=("tests/cluster",),
        budget_seconds=1140,
        floors={"passed": 180, "failovers": 18},
        beside="loadgroup",
    ),
    Suite(
        "chaos",
        paths=("tests/chaos",),
        budget_seconds=260,
        floors={"passed": 1, "faults": 20, "failovers": 8, "acknowledged": 20_000},
    ),
)
"""In this order; what they really take adds up to less than 45 minutes."""


@dataclass
class Outcome:
    """What a suite did."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)


def main(words: list[str]) -> int:
    """Run the suites that were named, or all."""
    parser = argparse.ArgumentParser(prog="./dev test", description=__doc__)
    parser.add_argument("--full", action="store_true", help="longer: more seeds and rounds")
    parser.add_argument("suite", nargs="*", help=" ".join(suite.name for suite in SUITES))
    options = parser.parse_args(words)
    unknown = set(options.suite) - {suite.name for suite in SUITES}
    if unknown:
        parser.error(f"no suite {', '.join(sorted(unknown))}")
    chosen = [suite for suite in SUITES if not options.suite or suite.name in options.suite]
    outcomes = []
    for suite in chosen:
        print(f"== {suite.name}", flush=True)
        outcome = run(suite, full=options.full)
        outcomes.append(outcome)
        print(line_of(suite, outcome), flush=True)
    print()
    for suite, outcome in zip(chosen, outcomes, strict=True):
        print(line_of(suite, outcome))
    failed = sum(outcome.failed for outcome in outcomes)
    print(f"{sum(outcome.passed for outcome in outcomes)} passed, {failed} failed", flush=True)
    return 1 if failed else 0


def line_of(suite: Suite, outcome: Outcome) -> str:
    """`suite: N passed, seeds=…`: what people read first."""
    parts = [f"{outcome.passed} passed"]
    if outcome.skipped:
        parts.append(f"{outcome.skipped} skipped")
    if outcome.failed:
        parts.append(f"{outcome.failed} failed")
    parts += [f"{name}={number}" for name, number in sorted(outcome.counts.items())]
    parts.append(f"{outcome.seconds:.0f} s of {suite.budget_seconds} s")
    return f"{suite.name}: {', '.join(parts)}" + "".join(
        f"\n  {complaint}" for complaint in outcome.complaints
    )


def run(suite: Suite, *, full: bool) -> Outcome:
    """Run one suite's tools and tests within its budget."""
    outcome = Outcome()
    began = time.monotonic()
    deadline = began + suite.budget_seconds * (FULL_FACTOR if full else 1)
    with tempfile.TemporaryDirectory(prefix="pgherd-test-") as scratch:
        counts = Path(scratch, "counts")
        environment = {
            **os.environ,
            "PGHERD_COUNTS": str(counts),
            "PGHERD_FULL": "1" if full else "",
        }
        for tool in suite.tools:
            _run_tool(tool, outcome, deadline=deadline, environment=environment)
        if any((ROOT / path).is_dir() for path in suite.paths):
            report = Path(scratch, "report.xml")
            _run_pytest(suite, outcome, report, deadline=deadline, environment=environment)
        if counts.exists():
            outcome.counts.update(read_counts(counts.read_text()))
    outcome.seconds = time.monotonic() - began
    _hold_against_floors(suite, outcome)
    return outcome


def read_counts(text: str) -> Counter[str]:
    """Sum `name=number` lines."""
    found: Counter[str] = Counter()
    for name, number in re.findall(r"^([a-z_]+)=(\d+)$", text, flags=re.MULTILINE):
        found[name] += int(number)
    return found


def _run_tool(
    tool: tuple[str, ...], outcome: Outcome, *, deadline: float, environment: dict[str, str]
) -> None:
    code = _run_until(
        [str(BIN / tool[0]), *tool[1:]], deadline=deadline, environment=environment, tell=None
    )
    if code == 0:
        outcome.passed += 1
    else:
        outcome.failed += 1
        outcome.complaints.append(f"{' '.join(tool)}: {_why(code)}")


def _run_pytest(
    suite: Suite, outcome: Outcome, report: Path, *, deadline: float, environment: dict[str, str]
) -> None:
    command = [
        *(sys.executable, "-m", "pytest", "-q", "--durations=5", f"--junitxml={report}"),
        *(("-n", WORKERS, "--dist", suite.beside) if suite.beside else ()),
        *(path for path in suite.paths if (ROOT / path).is_dir()),
    ]

    def tell(line: str) -> None:
        found = re.match(r"SEEDS (\d+)$", line.strip())
        if found:
            outcome.counts["seeds"] += int(found[1])

    code = _run_until(command, deadline=deadline, environment=environment, tell=tell)
    before = outcome.failed
    if report.exists():
        for cases in ElementTree.parse(report).getroot().iter("testsuite"):
            total, skipped = int(cases.get("tests", 0)), int(cases.get("skipped", 0))
            wrong = int(cases.get("failures", 0)) + int(cases.get("errors", 0))
            outcome.passed += total - skipped - wrong
            outcome.failed += wrong
            outcome.skipped += skipped
    if code != 0 and outcome.failed == before:
        outcome.failed += 1
        outcome.complaints.append(f"pytest: {_why(code)}")


def _run_until(
    command: list[str],
    *,
    deadline: float,
    environment: dict[str, str],
    tell: Callable[[str], None] | None,
) -> int | None:
    """Run a command in a group of its own, passing its output on; None when it took too long."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if tell else None,
        stderr=subprocess.STDOUT if tell else None,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    previous = signal.signal(signal.SIGALRM, lambda *_: _end(process, signal.SIGINT))
    signal.alarm(max(1, int(deadline - time.monotonic())))
    try:
        reader = threading.Thread(target=_pass_on, args=(process, tell), daemon=True)
        reader.start()
        code = process.wait()
        reader.join(ENDING_SECONDS)  # a server that a test left behind may hold the pipe open
    except KeyboardInterrupt:
        _end(process, signal.SIGINT)
        raise
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
        _end(process, signal.SIGKILL)
    return code if time.monotonic() < deadline else None


def _pass_on(process: subprocess.Popen[str], tell: Callable[[str], None] | None) -> None:
    for line in process.stdout or ():
        print(line, end="", flush=True)
        if tell is not None:
            tell(line)


def _end(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Signal the command's group; after a first word of warning comes the last one."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
    if number is not signal.SIGKILL:
        signal.signal(signal.SIGALRM, lambda *_: _end(process, signal.SIGKILL))
        signal.alarm(ENDING_SECONDS)


def _why(code: int | None) -> str:
    return "took longer than its budget" if code is None else f"ended with {code}"


def _hold_against_floors(suite: Suite, outcome: Outcome) -> None:
    for name, least in suite.floors.items():
        number = outcome.passed if name == "passed" else outcome.counts[name]
        if number < least:
            outcome.failed += 1
            outcome.complaints.append(f"{name} {number} is below the floor of {least}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
