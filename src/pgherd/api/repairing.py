"""Repairs and their progress, in the public form. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pgherd.api import repairschema as schema
from pgherd.api.times import iso
from pgherd.model.observation import Observation
from pgherd.model.remedy import Remedy, Step


def remedies(report: Observation | None) -> list[schema.Remedy]:
    """What a node did lately, the newest last."""
    return [remedy(one) for one in report.repairs.remedies] if report is not None else []


def remedy(one: Remedy) -> schema.Remedy:
    return schema.Remedy(
        step=one.step.value,
        rule=one.rule,
        reason=one.reason,
        state=one.ending.value,
        problem=one.why,
        source=one.source,
        tries=one.tries,
        began_at=iso(one.began_unix_ms),
        ended_at=iso(one.ended_unix_ms) if one.ended_unix_ms else None,
    )


def progress(reports: Iterable[Observation]) -> list[schema.Progress]:
    """What goes on now, by node."""
    found = (of(report) for report in sorted(reports, key=lambda one: one.node))
    return [one for one in found if one is not None]


def of(report: Observation) -> schema.Progress | None:
    """What one node has under way: a copy, a rewind, or the replay before it takes sessions."""
    running = report.repairs.running
    if running is not None and running.step in (Step.COPY, Step.REWIND):
        return copying(report, running)
    recovery = report.server.recovery
    if recovery is None or not recovery.total_bytes:
        return None
    done = recovery.total_bytes - min(recovery.left_bytes, recovery.total_bytes)
    return schema.Progress(
        node=report.node,
        phase="recovery",
        source=None,
        reason=report.doing,
        percent=100 * done // recovery.total_bytes,
        done_bytes=done,
        total_bytes=recovery.total_bytes,
        bytes_per_second=None,
        left_seconds=recovery.left_ms // 1000 if recovery.left_ms >= 0 else None,
        began_at=None,
    )


def copying(report: Observation, running: Remedy) -> schema.Progress:
    copied = report.repairs.copied
    speed = copied.done_bytes * 1000 // copied.after_ms if copied and copied.after_ms else None
    left = max(0, copied.total_bytes - copied.done_bytes) if copied is not None else 0
    return schema.Progress(
        node=report.node,
        phase="copy" if running.step is Step.COPY else "rewind",
        source=running.source,
        reason=running.reason,
        percent=copied.percent if copied is not None else None,
        done_bytes=copied.done_bytes if copied is not None else None,
        total_bytes=copied.total_bytes if copied is not None else None,
        bytes_per_second=speed,
        left_seconds=left // speed if speed else None,
        began_at=iso(running.began_unix_ms),
    )
