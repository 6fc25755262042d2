"""Commands for what operators do with the herd: pause and resume.

Owns the wording. The daemons decide.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.output import Format, emit, line, say

ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the others.")]


UntilOption = Annotated[
    str | None, typer.Option("--until", help="When it ends: 2h, or 2026-01-31T23:00Z.")
]


@asking
def pause(
    common: Common,
    until: UntilOption = None,
    reason: ReasonOption = "",
) -> None:
    """No failover and no repair by itself from now on; what you ask for is still done."""
    body = {"until": until, "reason": reason}
    found = common.api().post("/api/v1/cluster/pause", body)
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    line(paused(found["pause"]))
    say("nobody takes over if the primary fails, and nothing that breaks is repaired")
    say("  next: pgherd resume")


@asking
def resume(common: Common) -> None:
    """End a pause."""
    found = common.api().post("/api/v1/cluster/resume")
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    line("the cluster is not paused")


def paused(found: dict[str, Any]) -> str:
    """A pause in one line."""
    until = f"until {found['until']}" if found["until"] else "until pgherd resume"
    why = f": {found['reason']}" if found["reason"] else ""
    return f"PAUSED by {found['requested_by']} since {found['since']}, {until}{why}"


COMMANDS: dict[str, Command] = {"pause": pause, "resume": resume}
