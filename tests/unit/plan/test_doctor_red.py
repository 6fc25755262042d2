"""Every check of `pgherd doctor` has a test in which it is red on its fault itself, by name.

The list is `tests/data/doctor/red.txt`; what stands there has to be so as far as a reader can tell:
the test exists, and its file speaks of the check.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from pgherd.plan.doctor.checks import BY_ID

ROOT = Path(__file__).parents[3]
LIST = ROOT / "tests" / "data" / "doctor" / "red.txt"

IN_WORK = "its fault is made elsewhere; in work"
UNPROVEN = {
    **dict.fromkeys(("clock.source", "clock.synchronised", "clock.skew", "net.latency"), IN_WORK),
    **dict.fromkeys(("memory.available", "memory.swap", "memory.swappiness"), IN_WORK),
    **dict.fromkeys(("memory.overcommit", "memory.zone_reclaim", "memory.dirty"), IN_WORK),
    **dict.fromkeys(("memory.huge_pages", "memory.transparent_huge_pages"), IN_WORK),
    **dict.fromkeys(("memory.shared_buffers", "memory.oom_kills", "cpu.load"), IN_WORK),
    **dict.fromkeys(("pressure.memory", "pressure.io", "herd.maintenance"), IN_WORK),
    **dict.fromkeys(("limits.files", "limits.tasks", "limits.core", "limits.oom_score"), IN_WORK),
    **dict.fromkeys(("disk.far", "disk.fsync_wal", "disk.wal_size"), IN_WORK),
    **dict.fromkeys(("pg.mxid_age", "pg.conflicts", "certificate.expiry"), IN_WORK),
}
"""Red over facts that somebody wrote down, and nowhere else, with the reason."""


def listed() -> Iterator[tuple[str, str]]:
    """Checks, each with its test."""
    test = ""
    for line in LIST.read_text().splitlines():
        if line.startswith(" "):
            yield from ((check, test) for check in line.split())
        elif line and not line.startswith("#"):
            test = line


def test_every_check_is_red_somewhere_or_owes_it() -> None:
    """Neither more nor fewer owe it than are named here."""
    proven = [check for check, _ in listed()]
    assert len(set(proven)) == len(proven), "one test each"
    assert set(BY_ID) - set(proven) == set(UNPROVEN)
    assert set(proven) <= set(BY_ID), "an id that is no check any more"


def test_the_tests_exist_and_speak_of_their_checks() -> None:
    for check, test in listed():
        path, _, function = test.partition("::")
        text = (ROOT / path).read_text()
        names = {n.name for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)}
        assert function in names, test
        assert f'"{check}"' in text, (check, path)
