"""The site is built from all pages, without a warning: no link is broken, no picture is missing."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.full
@pytest.mark.timeout(300)
def test_the_site_is_built(tmp_path: Path) -> None:
    if importlib.util.find_spec("sphinx") is None:
        pytest.skip("./dev docs installs what builds the site, ./dev test --full too")
    site = tmp_path / "site"
    command = [sys.executable, str(ROOT / "docs" / "site" / "build.py"), str(site)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lacking = [
        page
        for page in ROOT.glob("docs/**/*.md")
        if not (site / page.relative_to(ROOT)).with_suffix(".html").exists()
    ]
    assert not lacking
    first = (site / "docs" / "index.html").read_text(encoding="utf-8")
    for page in ("guide/concepts", "operate/runbooks", "migrate/patroni", "reference/cli"):
        assert f'href="{page}.html"' in first
    drawn = list((site / "_images").glob("*.svg"))
    assert {"node.svg", "cluster.svg", "failover.svg"} <= {path.name for path in drawn}
