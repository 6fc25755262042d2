"""Rules and dashboard speak of metrics that exist, every alert has its page, and the commands that
the pages tell people to type are commands. promtool runs the rules on made-up series."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from pgherd.cli.app import build
from pgherd.config.others import products
from pgherd.telemetry.durations import HISTOGRAMS, HOLD
from pgherd.telemetry.metrics import COUNTERS, GAUGES
from pgherd.telemetry.nodemetrics import NODE_COUNTERS, NODE_GAUGES

ROOT = Path(__file__).parents[3]
RULES = ROOT / "examples" / "prometheus" / "alerts.yaml"
TESTS = ROOT / "examples" / "prometheus" / "alerts.test.yaml"
DASHBOARD = ROOT / "examples" / "grafana" / "pgherd.json"
PAGES = ROOT / "docs" / "operate" / "alerts"
HISTOGRAM_ENDINGS = ("_bucket", "_sum", "_count")
SERIES = {
    *(GAUGES | COUNTERS | NODE_GAUGES | NODE_COUNTERS),
    *(f"{name}{ending}" for name in (*HISTOGRAMS, HOLD) for ending in HISTOGRAM_ENDINGS),
}
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed"
)


def rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    return found


def test_rules_and_dashboard_use_metrics_that_exist() -> None:
    for text in (*(rule["expr"] for rule in rules()), DASHBOARD.read_text()):
        used = set(re.findall(r"\bpgherd_[a-z_]+", text))
        assert used <= SERIES, used - SERIES
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert all(target["expr"] for panel in panels for target in panel.get("targets", ()))
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    """The page shows the rule as it is, for how long, and how bad it is."""
    names = {rule["alert"] for rule in rules()}
    assert names == {page.stem for page in PAGES.glob("*.md")}
    for rule in rules():
        assert rule["annotations"]["runbook"] == f"docs/operate/alerts/{rule['alert']}.md"
        text = (PAGES / f"{rule['alert']}.md").read_text()
        shown = re.search(r"```\n(.*?)\n```", text, flags=re.DOTALL)
        assert shown is not None
        assert " ".join(shown[1].split()) == " ".join(rule["expr"].split()), rule["alert"]
        wait = f"For {rule['for']}" if "for" in rule else "At once"
        assert f"{wait}; severity {rule['labels']['severity']}." in text, rule["alert"]
        for part in ("What it means.", "What to look at.", "What to do."):
            assert f"**{part}**" in text, rule["alert"]


def test_the_list_of_alerts_is_complete() -> None:
    text = (PAGES.parent / "metrics.md").read_text()
    linked = re.findall(r"\[(\w+)\]\(alerts/(\w+)\.md\)", text)
    assert {rule["alert"] for rule in rules()} == {name for name, page in linked if name == page}


def test_what_the_pages_tell_to_type_exists() -> None:
    """In the pages of alerts, and in the tables of other systems' keys."""
    in_a_page = re.compile(r"`pgherd ([a-z -]+)")
    in_a_table = re.compile(r"^(?:.* or )?pgherd ([a-z -]+)", flags=re.MULTILINE)
    texts = {page.name: in_a_page.findall(page.read_text()) for page in PAGES.iterdir()}
    for product in products():
        places = [product.place(key) for key in (*product.keys, *product.sections)]
        texts[product.name] = in_a_table.findall("\n".join(places))
    command = typer.main.get_command(build())
    for name, typed in texts.items():
        for line in typed:
            here: Any = command
            for word in line.split():
                if word.startswith("-") or not hasattr(here, "commands"):
                    break
                assert word in here.commands, (name, line)
                here = here.commands[word]


@needs_promtool
def test_promtool_takes_the_rules_and_they_fire_when_they_should() -> None:
    for arguments in (["check", "rules", str(RULES)], ["test", "rules", str(TESTS)]):
        done = subprocess.run(
            ["promtool", *arguments], capture_output=True, text=True, check=False, cwd=TESTS.parent
        )
        assert done.returncode == 0, done.stdout + done.stderr
