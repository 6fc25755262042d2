"""Commands about what a commit promises: `sync show` and `sync set`.

Owns the plan's wording. The change is the daemons'.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.changing import YesOption, agree, ask
from pgherd.cli.output import Format, emit, line, say
from pgherd.cli.watching import promise
from pgherd.model.errors import OperatorError

PATH = "/api/v1/replication/sync"


@asking
def show(common: Common) -> None:
    """The mode, how many copies are wanted, and what is in force now."""
    tell(common, common.api().get(PATH))


@asking
def set_(
    common: Common,
    mode: Annotated[str | None, typer.Option("--mode", help="async, quorum or strict.")] = None,
    num_sync: Annotated[
        str | None, typer.Option("--num-sync", help="Copies beyond the primary's own, or auto.")
    ] = None,
    yes: YesOption = False,
) -> None:
    """Change the mode or the number of copies; waits until it is in force."""
    if mode is None and num_sync is None:
        raise OperatorError("nothing to change", "as in pgherd sync set --mode quorum")
    body: dict[str, Any] = {"replication": mode} if mode is not None else {}
    if num_sync is not None:
        body["num_sync_standbys"] = int(num_sync) if num_sync.isdecimal() else num_sync
    now = common.api().get(PATH)
    old, new = now["replication"], mode or now["replication"]
    copies = num_sync or now["num_sync_standbys"]
    say(f"plan: mode {new}, {copies} copies; now {old}, {now['num_sync_standbys']}")
    say(f"      {consequence(old, new)}")
    agree(yes)
    tell(common, ask(common, PATH, body))


def consequence(old: str, new: str) -> str:
    """What a change of mode does, for people to think about."""
    if new == "async":
        return "commits wait for nobody from then on: a failover may LOSE the newest ones"
    if old == "async":
        return "commits wait for copies once a standby has everything, not before"
    if new == "strict":
        return "writes WAIT where there are too few standbys"
    return "where no standby is left writes go on, and only this primary may lead then"


def tell(common: Common, found: dict[str, Any]) -> None:
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    line(promise(found["in_force"]))
    line(f"copies wanted: {found['num_sync_standbys']}")
    say(found["promise"])


COMMANDS: dict[str, Command] = {"show": show, "set": set_}
