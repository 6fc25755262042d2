"""Commands that work on the nodes: restart, start, stop, reinit, maintenance, actions.

Owns the plans' wording and the following of an action. The steps are the daemons'.
"""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Annotated, Any

import typer

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.changing import (
    AtOption,
    NodeArgument,
    NoWaitOption,
    YesOption,
    agree,
    choose,
    look,
    tell,
)
from pgherd.cli.completion import node_names
from pgherd.cli.output import Format, emit, line, say, table
from pgherd.cli.progress import Progress
from pgherd.cli.upkeep import ReasonOption, UntilOption, paused
from pgherd.model.errors import OperatorError, PgherdError

POLL_S = 0.5
COLUMNS = ("id", "what", "state", "progress", "step", "requested_by", "requested_at", "due_at")


class Switch(StrEnum):
    """Into maintenance or out of it."""

    ON = "on"
    OFF = "off"


NodesArgument = Annotated[
    str | None, typer.Argument(metavar="[N]", help="The node.", autocompletion=node_names)
]
ForceOption = Annotated[bool, typer.Option("--force", help="Also where it costs.")]


class NotDone(PgherdError):
    """An action failed or was cancelled."""


@asking
def restart(
    common: Common,
    node: NodesArgument = None,
    rolling: Annotated[
        bool, typer.Option("--rolling", help="All, one by one, the primary last.")
    ] = False,
    pending: Annotated[
        bool, typer.Option("--pending", help="Only who has parameters that wait for it.")
    ] = False,
    at: AtOption = None,
    reason: ReasonOption = "",
    force: ForceOption = False,
    no_wait: NoWaitOption = False,
    yes: YesOption = False,
) -> None:
    """Restart PostgreSQL of one node, or of all of them one after the other."""
    if (node is None) == (not (rolling or pending)) or (node is not None and rolling):
        raise OperatorError("name one node, --rolling or --pending", "as in pgherd restart n2")
    body: dict[str, Any] = {"at": at, "reason": reason, "force": force}
    if node is None or pending:
        body |= {"pending": pending, "nodes": [node] if node is not None else []}
        show_rolling(common, body)
        agree(yes)
        follow(common, common.api().post("/api/v1/cluster/restart", body), no_wait=no_wait)
        return
    target = named(common, node)
    say(f"plan: restart PostgreSQL of {target['name']} ({target['role']}, {target['state']})")
    if target["is_primary"]:
        say("      in place, under a new epoch: writes wait until it is back")
    agree(yes)
    ask_one(common, target, "restart", body, no_wait=no_wait)


def show_rolling(common: Common, body: dict[str, Any]) -> None:
    """The order, and what was looked at."""
    found = common.api().post("/api/v1/cluster/restart/plan", body)
    say(f"plan: restart PostgreSQL of {', then '.join(found['order'])}")
    if body["at"] is not None:
        only = "; then only who waits for a restart" if body["pending"] else ""
        say(f"      at {body['at']}, if all is well then{only}")
    say("      the primary hands over before its turn")
    show_checks(found)


def show_checks(found: dict[str, Any]) -> None:
    """What was looked at, one line each."""
    for check in found["checks"]:
        say(f"      {'ok ' if check['ok'] else 'NO '} {check['name']}: {check['text']}")


@asking
def stop_postgres(
    common: Common,
    node: NodeArgument,
    reason: ReasonOption = "",
    force: ForceOption = False,
    no_wait: NoWaitOption = False,
    yes: YesOption = False,
) -> None:
    """Stop PostgreSQL of a node; it stays so until pgherd start-postgres."""
    target = named(common, node)
    say(f"plan: stop PostgreSQL of {target['name']} ({target['role']}) until it is started by hand")
    if target["is_primary"] and force:
        say("      it hands over first; where nobody can take over THERE IS NO PRIMARY then")
    agree(yes)
    ask_one(common, target, "stop", {"reason": reason, "force": force}, no_wait=no_wait)


@asking
def start_postgres(common: Common, node: NodeArgument, no_wait: NoWaitOption = False) -> None:
    """Start PostgreSQL that was stopped with pgherd stop-postgres."""
    ask_one(common, named(common, node), "start", {}, no_wait=no_wait)


@asking
def reinit(
    common: Common,
    node: NodeArgument,
    source: Annotated[
        str | None, typer.Option("--from", metavar="NODE", help="Copy this replica.")
    ] = None,
    from_leader: Annotated[
        bool, typer.Option("--from-leader", help="Copy the primary, whatever clonefrom says.")
    ] = False,
    reason: ReasonOption = "",
    force: ForceOption = False,
    no_wait: NoWaitOption = False,
    yes: YesOption = False,
) -> None:
    """Set a replica's data directory aside and copy another node anew."""
    if source is not None and from_leader:
        raise OperatorError("--from and --from-leader exclude each other", "leave one of them out")
    target = named(common, node)
    lender = named(common, source)["name"] if source is not None else None
    whom = lender or ("the primary" if from_leader else "the primary, or a replica with clonefrom")
    say(f"plan: copy {target['name']} ({target['role']}, {target['state']}) anew from {whom}")
    say("      it leaves the sync set first; what it has now is kept aside")
    agree(yes)
    body: dict[str, Any] = {"reason": reason, "force": force}
    if lender is not None:
        body["source"] = lender
    if from_leader:
        body["from_leader"] = True
    ask_one(common, target, "reinitialize", body, no_wait=no_wait)


@asking
def maintenance(
    common: Common,
    switch: Annotated[Switch, typer.Argument(metavar="on|off", help="Into it, or out of it.")],
    node: NodesArgument = None,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="All of them: as pgherd pause and resume.")
    ] = False,
    reason: ReasonOption = "",
    until: UntilOption = None,
    allow_failover: Annotated[
        bool, typer.Option("--allow-failover", help="It may become the primary all the same.")
    ] = False,
    no_wait: NoWaitOption = False,
    yes: YesOption = False,
) -> None:
    """Have commits, new sessions and elections do without a node where they can."""
    if (node is None) == (not cluster):
        raise OperatorError("name one node, or --cluster", "as in pgherd maintenance on n2")
    on = switch is Switch.ON
    if node is None:
        path = "/api/v1/cluster/pause" if on else "/api/v1/cluster/resume"
        found = common.api().post(path, {"reason": reason, "until": until} if on else None)
        text = paused(found["pause"]) if found["paused"] else "the cluster is not paused"
        tell(common, found, text)
        return
    target = named(common, node)
    if on and target["role"] == "replica":
        show_maintenance(common, target["name"], yes=yes)
    body = {"enabled": on, "reason": reason, "allow_failover": allow_failover, "until": until}
    found = common.api().post(f"/api/v1/nodes/{target['name']}/maintenance", body)
    if found["action"] is not None:
        say(f"{found['node']} is in maintenance; new sessions and elections go by it")
        follow(common, common.api().get(f"/api/v1/actions/{found['action']}"), no_wait=no_wait)
        return
    tell(
        common,
        found,
        f"{found['node']} is {'in' if found['maintenance'] else 'out of'} maintenance",
    )


def show_maintenance(common: Common, node: str, *, yes: bool) -> None:
    """What the others would have to do without; a question where that is too much."""
    found = common.api().post(f"/api/v1/nodes/{node}/maintenance/plan")
    say(f"plan: have commits, new sessions and elections do without {node}")
    show_checks(found)
    if not found["ok"]:
        agree(yes)


@asking
def actions(
    common: Common,
    id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Follow this one.")] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="End it.")] = False,
) -> None:
    """What is under way and what became of it."""
    if id is None:
        found = common.api().get("/api/v1/actions")["actions"]
        if common.output is not Format.TABLE:
            emit(found, common.output)
            return
        for one in found:
            done = one["progress_percent"]
            one["progress"] = f"{done} %" if done is not None else None
        table(COLUMNS, [tuple(one[name] for name in COLUMNS) for one in found], color=common.color)
    elif cancel:
        found = common.api().call("DELETE", f"/api/v1/actions/{id}")
        follow(common, found, no_wait=found["state"] == "cancelled")
    else:
        follow(common, common.api().get(f"/api/v1/actions/{id}"), no_wait=False)


def named(common: Common, node: str) -> dict[str, Any]:
    """The member that is meant."""
    _, members = look(common)
    target = choose(members, node)
    assert target is not None, "a named node is found or refused"
    return target


def ask_one(
    common: Common, target: dict[str, Any], verb: str, body: dict[str, Any], *, no_wait: bool
) -> None:
    found = common.api().post(f"/api/v1/nodes/{target['name']}/{verb}", body)
    follow(common, found, no_wait=no_wait)


def follow(common: Common, found: dict[str, Any], *, no_wait: bool) -> None:
    """Tell each step until the action has ended, or is due later; its id is the answer."""
    told, shows = Told(), Progress()
    while not no_wait and found["state"] in ("pending", "running"):
        if found["state"] == "pending" and found["due_at"]:
            say(f"is due at {found['due_at']}; cancel: pgherd actions {found['id']} --cancel")
            break
        told.say(found)
        shows.show(common, found["node"])
        time.sleep(POLL_S)
        found = common.api().get(f"/api/v1/actions/{found['id']}")
    shows.end()
    if not no_wait:
        told.say(found)
    if common.output is not Format.TABLE:
        emit(found, common.output)
    elif no_wait:
        line(found["id"])
    else:
        line(f"{found['what']}: {found['state']}")
    if found["state"] == "failed" or (found["state"] == "cancelled" and not no_wait):
        raise NotDone(found["step"] or found["state"], "pgherd status")


class Told:
    """What was said of an action: each step once, each node that is through."""

    def __init__(self) -> None:
        self._step = ""
        self._finished = 0

    def say(self, found: dict[str, Any]) -> None:
        """Say what is new."""
        finished, total = found["finished"], len(found["nodes"])
        for number in range(self._finished, len(finished)):
            if total > 1:
                say(f"{finished[number]} is through ({number + 1} of {total})")
        self._finished = len(finished)
        is_open = found["state"] in ("pending", "running")
        if is_open and found["step"] and found["step"] != self._step:
            self._step = found["step"]
            say(self._step)


COMMANDS: dict[str, Command] = {
    "restart": restart,
    "stop-postgres": stop_postgres,
    "start-postgres": start_postgres,
    "reinit": reinit,
    "maintenance": maintenance,
    "actions": actions,
}
