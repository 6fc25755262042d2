"""What nodes warn of themselves, and what is in force for a time; for the herd's status. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pgherd.api.times import iso
from pgherd.ledger.pgconfig import newest
from pgherd.model.drill import DrillKind, DrillState
from pgherd.model.facts import Facts
from pgherd.model.observation import Observation


def told(reports: Iterable[Observation]) -> list[str]:
    """Every warning with the node that it is about, by name."""
    found = sorted(reports, key=lambda report: report.node)
    return [f"{report.node}: {text}" for report in found for text in report.warnings]


def on_trial(facts: Facts) -> list[str]:
    """That a version of the configuration goes back by itself, and how to keep it."""
    now = newest(facts)
    if now.trial is None:
        return []
    what = f"version {now.version} of the configuration is on trial"
    return [f"{what} until {iso(now.trial.until_ms)}; to keep it: pgherd config confirm"]


def drilled(facts: Facts) -> list[str]:
    """That the newest drill of a kind was worse than those before, or that acknowledged rows were
    missing after it. One that measured nothing says nothing against it.
    """
    found = []
    for kind in DrillKind:
        ended = [d for d in facts.drills if d.kind is kind and d.state is not DrillState.RUNNING]
        last = next((one for one in reversed(ended) if one.measured is not None), None)
        if last is None or last.measured is None:
            continue
        if last.measured.missing:
            found.append(f"{last.what}: {last.text}; see: pgherd drill --history")
        elif last.regression:
            found.append(f"{last.what}: {last.regression}")
    return found
