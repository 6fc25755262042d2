"""Write the generated pages of docs/reference: `./dev docs`, or `./dev docs --check`.

Owns the list of pages and the function that each comes from, and the generated parts of pages that
people write. Leaves their text to those functions; a test runs `--check`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

from pgherd.chaos import faultspage
from pgherd.cli.reference import page as commands
from pgherd.config.reference import others
from pgherd.config.reference import reference as configuration
from pgherd.model.eventkinds import page as events
from pgherd.plan.doctor.reference import page as doctor
from pgherd.plan.reference import page as rules
from pgherd.raft import roles
from pgherd.sim import drawing, mutantspage, record
from pgherd.telemetry.metricspage import page as metrics

ROOT = Path(__file__).resolve().parents[1]

CONSENSUS = "docs/design/consensus.md"
SAFETY = "docs/design/safety.md"


def with_part(page: str, text: str) -> str:
    """A page that people write, with what stands between its two marks made anew."""
    marks = re.compile(r"(<!-- made by \./dev docs.*?-->\n).*?(<!-- end -->)", flags=re.DOTALL)
    before = (ROOT / page).read_text(encoding="utf-8")
    assert len(marks.findall(before)) == 1, f"{page} has no place, or two, for what is made"
    return marks.sub(lambda found: f"{found[1]}{text}{found[2]}", before)


@cache
def failover() -> list[drawing.Event]:
    """One simulated failover, for the page and for its picture."""
    return drawing.events()


FAULT = re.compile(r"pytest\.mark\.fault\b")
COLLECT = """
import sys, pytest
class Rows:
    def pytest_collection_finish(self, session):
        for item in session.items:
            for mark in item.iter_markers("fault"):
                for row in mark.args:
                    print("FAULT", row, item.nodeid.partition("[")[0])
sys.exit(pytest.main(["--collect-only", "-qq", *sys.argv[1:]], plugins=[Rows()]))
"""


def marked() -> list[faultspage.Marked]:
    """Every test that carries a row of the catalogue, as pytest collects it."""
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if FAULT.search(path.read_text())]
    command = [sys.executable, "-c", COLLECT, *map(str, sorted(files))]
    own = {**os.environ, "PGHERD_FULL": ""}  # the page is the same, whatever is run
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=True)
    found = re.findall(r"^FAULT (\d+) (\S+)$", done.stdout, flags=re.MULTILINE)
    return [faultspage.Marked(int(row), place) for row, place in found]


def api() -> str:
    """The page of the contract, of an application without a herd."""
    from typing import Any, cast

    from pgherd import __version__
    from pgherd.api import viewer
    from pgherd.api.app import build_app

    contract: dict[str, Any] = build_app(cast(Any, None), version=__version__).openapi()
    return viewer.markdown(contract)


PAGES = {
    CONSENSUS: lambda: with_part(CONSENSUS, roles.drawing()),
    SAFETY: lambda: with_part(SAFETY, drawing.table(failover())),
    "docs/design/safety.svg": lambda: drawing.svg(failover()),
    "docs/reference/api.md": api,
    "docs/reference/configuration.md": configuration,
    "docs/reference/keys-of-others.md": others,
    "docs/reference/rules.md": rules,
    "docs/reference/cli.md": commands,
    "docs/reference/metrics.md": metrics,
    "docs/reference/checks.md": doctor,
    "docs/reference/events.md": events,
    "docs/reference/mutants.md": lambda: mutantspage.text(ROOT / mutantspage.PAGE),
    "docs/reference/faults.md": lambda: faultspage.page(
        marked(), record.read_struck(ROOT / record.PAGE)
    ),
    "docs/reference/soak.md": lambda: record.made_anew(ROOT / record.PAGE),
}
"""page -> function that returns its text."""


def main(words: list[str]) -> int:
    """Write every page, or say which differ."""
    stale = []
    for page, write in PAGES.items():
        path, text = ROOT / page, write()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(page)
        if "--check" not in words:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {page}")
    if stale and "--check" in words:
        print(f"stale: {' '.join(stale)}; run ./dev docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
