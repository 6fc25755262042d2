"""`pgherd upgrade minor`: PostgreSQL's newer minor version, node by node.

Owns the plan's wording. The steps are the daemons', as of any rolling restart.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.changing import AtOption, NoWaitOption, YesOption, agree
from pgherd.cli.client import REFUSED
from pgherd.cli.output import Format, emit, say
from pgherd.cli.tending import ForceOption, follow, show_checks
from pgherd.cli.upkeep import ReasonOption
from pgherd.model.errors import PgherdError

PATH = "/api/v1/cluster/upgrade/minor"


class NotReady(PgherdError):
    """It would be refused as things stand."""

    exit_code = REFUSED


@asking
def minor(
    common: Common,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done and what speaks against it.")
    ] = False,
    at: AtOption = None,
    reason: ReasonOption = "",
    force: ForceOption = False,
    no_wait: NoWaitOption = False,
    yes: YesOption = False,
) -> None:
    """Restart whose server is older than what is installed: replicas, switchover, old primary."""
    body: dict[str, Any] = {"at": at, "reason": reason, "force": force}
    found = common.api().post(f"{PATH}/plan", body)
    say(f"plan: minor upgrade of {', then '.join(found['order'])}")
    if at is not None:
        say(f"      at {at}, if all is well then; who has nothing newer then is passed over")
    say("      each is restarted once, with the programs on its disk; the primary hands over first")
    show_checks(found)
    if dry_run:
        if common.output is not Format.TABLE:
            emit(found, common.output)
        if not found["ok"] and not force and at is None:
            bad = "; ".join(check["text"] for check in found["checks"] if not check["ok"])
            raise NotReady(f"it would be refused: {bad}", "see to it first, or add --force")
        return
    agree(yes)
    follow(common, common.api().post(PATH, body), no_wait=no_wait)


COMMANDS: dict[str, Command] = {"minor": minor}
