"""What one node's report says is wrong with its server, for people.

Pure. Owns the text and the percentage that `views` shows beside all else of a node.
"""

from __future__ import annotations

from collections.abc import Iterable

from pgherd.api.configschema import PendingRestart
from pgherd.model.observation import Observation
from pgherd.plan import crashing


def progress(report: Observation | None) -> int | None:
    """Percent of what a node does now, or of what its server replays before it takes sessions."""
    if report is None:
        return None
    recovery = report.server.recovery
    if report.progress_percent < 0 and recovery is not None and recovery.total_bytes:
        left = min(recovery.left_bytes, recovery.total_bytes)
        return 100 - 100 * left // recovery.total_bytes
    return report.progress_percent if report.progress_percent >= 0 else None


def problem_of(report: Observation | None) -> str:
    """Everything that is wrong, or "" where nothing is."""
    if report is None:
        return ""
    server = report.server
    coming_up = crashing.progress(server.recovery)
    stuck = report.repairs.stuck
    said = (server.problem, coming_up, stuck, server.settings_problem, *report.alarms)
    return "; ".join(text for text in said if text)


def pending(report: Observation | None) -> dict[str, PendingRestart] | None:
    """Which parameters wait for a restart of its server; None where it is not known."""
    if report is None or not report.server.matched:
        return None
    return {one.name: PendingRestart(old=one.old, new=one.new) for one in report.server.pending}


def unwell(reports: Iterable[Observation | None]) -> list[str]:
    """What servers that do their work suffer from all the same."""
    return [
        f"{report.node}: {text}"
        for report in reports
        if report is not None
        for text in (report.server.problem, report.repairs.stuck)
        if text
    ]
