"""Commands that change the primary: switchover, promote, demote, failover. First comes the plan.

Owns the plan's wording and the question. The daemons decide; the answer says what became of it.
"""

from __future__ import annotations

import difflib
import sys
from typing import Annotated, Any

import typer

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.completion import node_names
from pgherd.cli.output import Format, emit, line, say, size
from pgherd.model.errors import OperatorError, PgherdError

CHANGE_TIMEOUT_S = 60.0
GRACE_S = 5.0

ToOption = Annotated[
    str | None,
    typer.Option("--to", help="The node to make primary.", autocompletion=node_names),
]
NodeArgument = Annotated[
    str, typer.Argument(metavar="N", help="The node.", autocompletion=node_names)
]
AtOption = Annotated[
    str | None, typer.Option("--at", help="When it is due: 2h, or 2026-01-31T23:00Z.")
]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Print the id, do not follow it.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


class Declined(PgherdError):
    """The person said no."""


@asking
def switchover(
    common: Common,
    to: ToOption = None,
    at: AtOption = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="End the scheduled one.")] = False,
    no_wait: NoWaitOption = False,
    yes: YesOption = False,
) -> None:
    """Make another node the primary, as planned, without losing anything."""
    if cancel:
        found = common.api().call("DELETE", "/api/v1/cluster/switchover")
        tell(common, found, f"{found['what']}: {found['state']}")
        return
    state, members = look(common)
    target = choose(members, to)
    say(f"plan: switchover from {state['primary_node_id'] or 'nobody'} to {describe(target, to)}")
    say("      new writes wait, the rest reaches the new primary, then clients connect there")
    body: dict[str, Any] = {}
    if at is not None:
        say(f"      at {at}, if there is somebody fit then")
        body["scheduled_at"] = at
    agree(yes)
    if target is not None and to is not None:
        body["candidate"] = target["name"]
    change(common, "/api/v1/cluster/switchover", body, no_wait=no_wait)


@asking
def promote(
    common: Common,
    node: NodeArgument,
    force: Annotated[
        bool, typer.Option("--force", help="By a failover, without the old primary's help.")
    ] = False,
    no_wait: NoWaitOption = False,
    yes: YesOption = False,
) -> None:
    """Make this node the primary."""
    state, members = look(common)
    target = choose(members, node)
    assert target is not None, "a named node is found or refused"
    what = "failover" if force else "switchover"
    say(f"plan: {what} from {state['primary_node_id'] or 'nobody'} to {describe(target, node)}")
    if force:
        say(f"      sessions of the old primary are cut; {given_up(state)}")
    agree(yes)
    change(common, f"/api/v1/promote/{target['name']}", {"force": force}, no_wait=no_wait)


@asking
def demote(
    common: Common, node: NodeArgument, no_wait: NoWaitOption = False, yes: YesOption = False
) -> None:
    """Have the primary hand over to the best candidate, and become a replica."""
    _, members = look(common)
    target = choose(members, node)
    assert target is not None, "a named node is found or refused"
    say(f"plan: switchover from {target['name']} to {describe(choose(members, None), None)}")
    agree(yes)
    change(common, f"/api/v1/demote/{target['name']}", {}, no_wait=no_wait)


@asking
def failover(
    common: Common,
    to: ToOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also while the primary is healthy.")
    ] = False,
    lost: Annotated[
        list[str] | None,
        typer.Option("--lost", help="With --force: a needed node that is lost for good."),
    ] = None,
    accept: Annotated[
        str | None,
        typer.Option("--accept-data-loss", help="With --lost: at most so much, as in 16MB."),
    ] = None,
    yes: YesOption = False,
) -> None:
    """Elect another primary now, without the old one's help."""
    if lost and not force:
        raise OperatorError("--lost gives data up", "add --force")
    state, members = look(common)
    target = choose(members, to)
    body: dict[str, Any] = {"force": force, "lost": lost or []}
    if accept is not None:
        body["accept_data_loss_bytes"] = size_of(accept)
    if target is not None and to is not None:
        body["candidate"] = target["name"]
    plan = common.api().post("/api/v1/failover/plan", body) if lost else None
    say(f"plan: failover from {state['primary_node_id'] or 'nobody'} to {describe(target, to)}")
    if plan is not None:
        show_loss(plan, lost or [])
    else:
        say(f"      sessions of the old primary are cut; {given_up(state)}")
    agree(yes)
    finish(common, ask(common, "/api/v1/failover", body))


def size_of(text: str) -> int:
    """Bytes of a size with its unit."""
    from pgherd.config.units import parse_size_bytes

    try:
        return parse_size_bytes(text)
    except ValueError as error:
        raise OperatorError(f"--accept-data-loss: {error}", "as in 0B, 64kB, 16MB") from error


def show_loss(plan: dict[str, Any], lost: list[str]) -> None:
    """What is given up, what stays, and what has to be so."""
    if not plan["needed"]:
        say("      sessions of the old primary are cut; no election waits for anybody now")
        say(f"      if this one then does, what only {', '.join(lost)} held is LOST")
        return
    away = ", ".join(plan["lost"])
    much = size(plan["loss_bytes"]) if plan["loss_bytes"] is not None else "an unknown amount"
    ago = plan["heard_seconds_ago"]
    heard = f", heard {ago} s ago; more may have been written since" if ago is not None else ""
    say(f"      the election waits: {plan['waits_for']}")
    say(f"      LOST: what only {away} held, by the last word {much} of WAL{heard}")
    say(f"      kept: everything up to {plan['kept_up_to'] or 'what is found'}, on who is left")
    say(f"      {away} must be off, or cut off from all clients, until this is done")
    say("      they come back as replicas; what they have beyond is taken off them")
    if plan["not_given_up"]:
        say(f"      not enough: {', '.join(plan['not_given_up'])} is needed too; {plan['command']}")


def given_up(state: dict[str, Any]) -> str:
    """What a failover may lose."""
    if state["synchronous"]["mode"] == "async":
        return "mode async: what only it has is lost, up to failover.max_lag and a lease's writes"
    return "no acknowledged commit is given up"


def look(common: Common) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    api = common.api()
    return api.get("/api/v1/cluster/status"), api.get("/api/v1/nodes")["nodes"]


def choose(members: list[dict[str, Any]], to: str | None) -> dict[str, Any] | None:
    """The member that was named; else the one that looks best, for showing only."""
    if to is not None:
        for member in members:
            if to in (member["name"], member["name"].lstrip("abcdefghijklmnopqrstuvwxyz-")):
                return member
        names = [str(member["name"]) for member in members]
        near = difflib.get_close_matches(to, names, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise OperatorError(f"{to} is no member", f"{meant}the members: {', '.join(names)}")
    able = [
        member
        for member in members
        if member["role"] == "replica" and member["is_healthy"] and may_lead(member["tags"])
    ]
    able.sort(key=lambda one: (-one["tags"]["failover_priority"], one["lag_bytes"] or 0))
    return able[0] if able else None


def may_lead(tags: dict[str, Any]) -> bool:
    """Whether a node with these tags is made primary without being named."""
    return not tags["nofailover"] and not tags.get("delay_ms")


def describe(target: dict[str, Any] | None, to: str | None) -> str:
    if target is None:
        return "the best candidate (none looks able now)"
    lag = size(target["lag_bytes"])
    state = f"{target['name']} ({target['state']}, lag {lag})"
    return state if to is not None else f"the best candidate, now probably {state}"


def agree(yes: bool) -> None:
    """Go on only with --yes or a person's word."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise OperatorError("there is no terminal to ask at", "add --yes to go on without asking")
    sys.stderr.write("go on? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Declined("nothing was changed", "pgherd status")


def ask(common: Common, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Ask, and wait for the end; the daemon's own limit ends a little before ours."""
    limit_s = max(common.timeout_s, CHANGE_TIMEOUT_S)
    found: dict[str, Any] = common.api().post(
        f"{path}?wait={limit_s:g}", body, timeout_s=limit_s + GRACE_S
    )
    return found


def change(common: Common, path: str, body: dict[str, Any], *, no_wait: bool) -> None:
    """Ask for another primary, and follow it unless it is for later."""
    if not no_wait:
        finish(common, ask(common, path, body))
        return
    found = common.api().post(f"{path}?wait=0", body)
    tell(common, found, found["id"])


def tell(common: Common, found: dict[str, Any], text: str) -> None:
    """The API's own object for programs, a line for people."""
    if common.output is not Format.TABLE:
        emit(found, common.output)
    else:
        line(text)


def finish(common: Common, found: dict[str, Any]) -> None:
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    if found["status"] == "scheduled":
        line(found["id"])
        say(f"is due at {found['due_at']}; undo: pgherd switchover --cancel")
        return
    if found["new_primary"] is None:
        line(found["reason"])
        return
    line(f"{found['new_primary']} is the primary of epoch {found['epoch']}")
    took = found["duration_ms"]
    say(f"took {took} ms: {found['reason']}" if took is not None else found["reason"])


COMMANDS: dict[str, Command] = {
    "switchover": switchover,
    "promote": promote,
    "demote": demote,
    "failover": failover,
}
