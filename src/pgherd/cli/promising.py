"""Commands about what a commit promises: `sync show` and `sync set`.

Owns the plan's wording. The change is the daemons'.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.changing import YesOption, agree, ask
from pgherd.cli.output import Format, emit, line, say, size, table
from pgherd.cli.watching import promise
from pgherd.model.errors import OperatorError
from pgherd.model.synctuning import COMMITS, weakens

PATH = "/api/v1/replication/sync"
NONE = "none"


@asking
def show(common: Common) -> None:
    """What a commit promises, who takes part, what is wanted, and what is in force now."""
    tell(common, common.api().get(PATH))


@asking
def set_(
    common: Common,
    mode: Annotated[str | None, typer.Option("--mode", help="async, quorum or strict.")] = None,
    num_sync: Annotated[
        str | None, typer.Option("--num-sync", help="Copies beyond the primary's own, or auto.")
    ] = None,
    commit: Annotated[
        str | None,
        typer.Option(
            "--synchronous-commit",
            help=f"{', '.join(COMMITS)}; default: as the primary's parameters say.",
        ),
    ] = None,
    max_lag: Annotated[
        str | None,
        typer.Option("--max-lag", help="A voter further behind leaves, as in 64MB; or none."),
    ] = None,
    nosync: Annotated[
        list[str] | None, typer.Option("--nosync", help="A node that no commit waits for.")
    ] = None,
    every: Annotated[bool, typer.Option("--sync-all", help="No node is nosync any more.")] = False,
    yes: YesOption = False,
) -> None:
    """Change what is named; waits until mode and wait of commits are in force."""
    body: dict[str, Any] = {"replication": mode} if mode is not None else {}
    if num_sync is not None:
        body["num_sync_standbys"] = int(num_sync) if num_sync.isdecimal() else num_sync
    if commit is not None:
        body["synchronous_commit"] = commit
    if max_lag is not None:
        body["max_lag_bytes"] = lag_of(max_lag)
    if nosync and every:
        raise OperatorError("--nosync and --sync-all do not go together", "name one of them")
    if nosync or every:
        body["nosync"] = nosync or []
    if not body:
        raise OperatorError("nothing to change", "as in pgherd sync set --mode quorum")
    plan(common.api().get(PATH), body)
    agree(yes)
    tell(common, ask(common, PATH, body))


def lag_of(text: str) -> int:
    from pgherd.config.units import parse_size_bytes

    if text == NONE:
        return 0
    try:
        return parse_size_bytes(text)
    except ValueError as error:
        raise OperatorError(f"--max-lag: {error}", "as in 64MB, or none") from error


def plan(now: dict[str, Any], body: dict[str, Any]) -> None:
    """What changes, and what that means."""
    if "replication" in body or "num_sync_standbys" in body:
        old, new = now["replication"], body.get("replication") or now["replication"]
        copies = body.get("num_sync_standbys") or now["num_sync_standbys"]
        say(f"plan: mode {new}, {copies} copies; now {old}, {now['num_sync_standbys']}")
        say(f"      {consequence(old, new)}")
    if "synchronous_commit" in body:
        commit, before = body["synchronous_commit"], now["synchronous_commit"] or "default"
        say(f"plan: synchronous_commit {commit}; now {before}")
        if weakens("" if commit == "default" else commit):
            say("      commits are ACKNOWLEDGED before standbys have them on disk: a failover may")
            say("      lose the newest ones, whatever the mode says")
    if "max_lag_bytes" in body:
        say(f"plan: lag limit {limit(body['max_lag_bytes'])}; now {limit(now['max_lag_bytes'])}")
        say("      a voter beyond it leaves the sync set, where commits have enough others")
    if "nosync" in body:
        say(f"plan: nosync {names(body['nosync'])}; now {names(now['nosync'])}")


def limit(count: int) -> str:
    return size(count) if count else NONE


def names(nodes: list[str]) -> str:
    return ", ".join(nodes) or "nobody"


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
    wait, pending = found["synchronous_commit"], not found["synchronous_commit_in_force"]
    line(f"synchronous_commit: {wait or 'default'}" + (" (not in force yet)" if pending else ""))
    line(f"lag limit: {limit(found['max_lag_bytes'])}")
    rows = [
        (
            *(one["node"], one["zone"], one["is_sync"], one["is_connected"]),
            *(size(one["lag_bytes"]), one["why_not"]),
        )
        for one in found["standbys"]
    ]
    table(("standby", "zone", "sync", "streams", "lag", "why not"), rows, color=common.color)
    if found["last_change"] is not None:
        line(f"last change {found['last_change']['at']}: {found['last_change']['text']}")
    for text in found["warnings"]:
        line(f"! {text}")
    say(found["promise"])


COMMANDS: dict[str, Command] = {"show": show, "set": set_}
