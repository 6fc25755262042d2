"""The command line and the pure rooms import where there is no Linux: what only it has is refused.

A child process has a finder that knows none of those modules, and no system calls that only Linux
has; the platform table of docs/operate/install.md rests on this.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

ELSEWHERE = """
import sys, os
ABSENT = {"fcntl", "pwd", "grp", "resource", "termios", "tty", "pty", "syslog", "uvloop",
          "pgherd.relay._pump"}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
for name in ABSENT: sys.modules.pop(name, None)
for name in ("geteuid", "getuid", "fork", "pidfd_open", "memfd_create", "sched_getaffinity",
             "posix_spawn", "posix_fadvise", "statvfs"):
    if hasattr(os, name): delattr(os, name)
"""
PURE = "model raft ledger wire plan route"
WALK = """
import importlib, pkgutil
for room in {rooms!r}.split():
    package = importlib.import_module("pgherd." + room)
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if found.name.rsplit(".", 1)[1] != "__main__":
            importlib.import_module(found.name)
print("imported", len([name for name in sys.modules if name.startswith("pgherd.")]))
"""


def elsewhere(code: str, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", ELSEWHERE + code, *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("module", ["fcntl", "pwd", "uvloop", "pgherd.relay._pump"])
def test_what_is_absent_cannot_be_imported(module: str) -> None:
    """Else the rest of this file would prove nothing."""
    done = elsewhere(f"import {module}")
    assert "ModuleNotFoundError" in done.stderr


def test_pure_rooms_import() -> None:
    done = elsewhere(WALK.format(rooms=PURE))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1]) > 100


def test_the_simulator_runs() -> None:
    """The production deciders at work, without a system call."""
    code = "from pgherd.sim.__main__ import main\nsys.exit(main())"
    done = elsewhere(code, "herd", "--seed", "7", "--storms", "1")
    assert done.returncode == 0, done.stdout + done.stderr


COMMANDS = (
    ("--help",),
    ("version",),
    ("status", "--help"),
    ("switchover", "--help"),
    ("config", "generate"),
    ("completion", "bash"),
)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_command_line_runs(words: tuple[str, ...]) -> None:
    code = "from pgherd.cli.main import main\nsys.argv[0] = 'pgherd'\nmain()"
    done = elsewhere(code, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_it_asks_an_api() -> None:
    """All the way to the network, where nobody answers."""
    code = "from pgherd.cli.main import main\nsys.argv[0] = 'pgherd'\nmain()"
    done = elsewhere(code, "status", "--api-url", "http://127.0.0.1:1")
    assert done.returncode == 1, done.stderr
    assert "no daemon answers" in done.stderr
