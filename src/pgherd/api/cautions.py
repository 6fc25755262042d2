"""What nodes warn of themselves, as the herd's status shows it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pgherd.model.observation import Observation


def told(reports: Iterable[Observation]) -> list[str]:
    """Every warning with the node that it is about, by name."""
    found = sorted(reports, key=lambda report: report.node)
    return [f"{report.node}: {text}" for report in found for text in report.warnings]
