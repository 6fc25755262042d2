"""`pgherd drill`: make a change of primary, measure it, and tell how it was before.

Owns the two questions and the wording. The daemon that is asked measures.
"""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.changing import Declined, YesOption, agree
from pgherd.cli.output import Format, emit, line, say, table
from pgherd.model.errors import OperatorError, PgherdError

POLL_S = 0.3
FOLLOW_S = 165.0
"""More than the daemon's own limit."""

COLUMNS = ("began", "kind", "state", "from", "to", "via", "outage", "failed", "missing", "asked by")


class DrillFailed(PgherdError):
    """It ended, and not well."""


@asking
def drill(
    common: Common,
    kill: Annotated[
        bool, typer.Option("--kill", help="Unplanned: the primary's postmaster is killed.")
    ] = False,
    confirm: Annotated[
        str | None, typer.Option("--confirm", help="With --kill: the cluster's name.")
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="What was measured before.")] = False,
    yes: YesOption = False,
) -> None:
    """Change the primary on purpose, and measure how long writes stand still."""
    api = common.api()
    if history:
        found = api.get("/api/v1/drills")
        if common.output is not Format.TABLE:
            emit(found, common.output)
        else:
            table(COLUMNS, [row(one) for one in found["drills"]], color=common.color)
        return
    if confirm is not None and not kill:
        raise OperatorError("--confirm goes with --kill", "pgherd drill --help")
    show_plan(api, kill=kill)
    agree(yes)
    body: dict[str, Any] = {"kind": "kill" if kill else "switchover"}
    if kill:
        body["confirm"] = confirm if confirm is not None else ask_name()
    begun = api.post("/api/v1/drill", body)
    say(f"drill {begun['id']} runs, measured by {begun['node']}")
    tell(common, follow(api, begun))


def show_plan(api: Any, *, kill: bool) -> None:
    """What is about to be done, and what is expected of it."""
    state = api.get("/api/v1/cluster/status")
    primary = state["primary_node_id"]
    if not kill:
        expected = api.get("/api/v1/explain", if_switchover=True)["what_if"]
        say(f"plan: probe writes, a switchover from {primary or 'nobody'}, probe writes")
    else:
        asked = {"if_lost": primary} if primary else {}
        expected = api.get("/api/v1/explain", **asked)["what_if"]
        say(f"plan: probe writes, the postmaster of {primary or 'nobody'} is KILLED, probe writes")
        say("      sessions of the primary are cut; what they had not committed is gone")
    if expected is not None:
        say(f"      {expected['why']}; {expected['loss']['text']}")


def ask_name() -> str:
    """The second question."""
    if not sys.stdin.isatty():
        raise OperatorError(
            "a kill is asked for twice, and there is no terminal to ask at",
            "add --confirm with the cluster's name",
        )
    sys.stderr.write("the cluster's name, to kill its primary: ")
    sys.stderr.flush()
    said = sys.stdin.readline().strip()
    if not said:
        raise Declined("nothing was changed", "pgherd status")
    return said


def follow(api: Any, begun: dict[str, Any]) -> dict[str, Any]:
    """Until it has ended."""
    until = time.monotonic() + FOLLOW_S
    one = begun
    while one["state"] == "running" and time.monotonic() < until:
        time.sleep(POLL_S)
        try:
            one = api.get(f"/api/v1/drills/{begun['id']}")
        except PgherdError:
            if time.monotonic() >= until:
                raise
    return one


def tell(common: Common, one: dict[str, Any]) -> None:
    """The figures; a drill that failed is an error."""
    if common.output is not Format.TABLE:
        emit(one, common.output)
    elif one["outage_ms"] is not None:
        line(f"writes stood still for {one['outage_ms']} ms ({one['text']})")
        line(
            f"{one['acknowledged']} probe writes acknowledged, {one['failed']} failed,"
            f" {one['missing']} missing, through {one['via']}"
        )
        if one["regression"]:
            line(f"! worse than before: {one['regression']}")
    if one["state"] != "done":
        raise DrillFailed(f"the drill is {one['state']}: {one['text']}", "pgherd explain")


def row(one: dict[str, Any]) -> tuple[Any, ...]:
    outage = f"{one['outage_ms']} ms" if one["outage_ms"] is not None else ""
    return (
        *(one["began_at"], one["kind"], one["state"] + (" !" if one["regression"] else "")),
        *(one["old_primary"], one["new_primary"] or "", one["via"], outage),
        *(one["failed"], one["missing"], one["requested_by"]),
    )


COMMANDS: dict[str, Command] = {"drill": drill}
