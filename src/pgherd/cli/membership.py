"""Commands about who belongs to the cluster: add-node, remove-node, and those of consensus.

Owns the plans' wording. The steps are the daemons'; lost quorum is `recovering`'s.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.changing import CHANGE_TIMEOUT_S, GRACE_S, YesOption, agree, choose, look
from pgherd.cli.output import Format, emit, line, say, table
from pgherd.cli.readmitting import readmit
from pgherd.cli.recovering import recover
from pgherd.model.errors import OperatorError

NameOption = Annotated[str | None, typer.Option("--name", help="The node's name.")]
REMOVE_NEXT = "move its directories away to use the machine again: pgherd join"


@asking
def add_node(
    common: Common,
    name: NameOption = None,
    address: Annotated[
        str | None, typer.Option("--address", help="Where the others will reach it.")
    ] = None,
    witness: Annotated[bool, typer.Option("--witness", help="Only vote, no data.")] = False,
    ttl: Annotated[str, typer.Option("--ttl", help="How long the token is good for.")] = "1h",
) -> None:
    """Invite a node: make a token and print the command for the new machine."""
    from pgherd.config.units import parse_duration_ms

    try:
        seconds = parse_duration_ms(ttl) // 1000
    except ValueError as error:
        raise OperatorError(f"--ttl: {error}", "as in --ttl 1h") from error
    body = {"name": name, "address": address, "witness": witness, "ttl_seconds": seconds}
    found = common.api().post("/api/v1/cluster/nodes", body)
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    line(found["command"])
    say(f"good once, until {found['expires_at']}")
    say("  next: run this on the new machine; it learns first, then votes and is copied to")


@asking
def remove_node(common: Common, name: NameOption = None, yes: YesOption = False) -> None:
    """Take a node out of the cluster for good; its data directory is left alone."""
    if name is None:
        raise OperatorError("--name is missing", "pgherd remove-node --name n2")
    state, members = look(common)
    target = choose(members, name)
    assert target is not None, "a named node is found or refused"
    say(f"plan: remove {target['name']} ({target['role']}, {target['state']})")
    for text in consequences(state, members, target):
        say(f"      {text}")
    agree(yes)
    limit_s = max(common.timeout_s, CHANGE_TIMEOUT_S)
    found = common.api().call(
        "DELETE",
        f"/api/v1/cluster/nodes/{target['name']}",
        params={"wait": f"{limit_s:g}"},
        timeout_s=limit_s + GRACE_S,
    )
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    line(f"{found['node']} is no member any more; left: {', '.join(found['members'])}")
    say(f"  next, on {found['node']}: stop pgherd there; {REMOVE_NEXT}")


def consequences(
    state: dict[str, Any], members: list[dict[str, Any]], target: dict[str, Any]
) -> list[str]:
    """What a removal changes, for people to think about."""
    found = ["it leaves the sync set, then consensus; then its slot is dropped and its name free"]
    copies = [
        one["name"]
        for one in members
        if one["role"] == "replica" and one["is_healthy"] and one["name"] != target["name"]
    ]
    if target["role"] == "replica" and not copies:
        found.append("NO copy is left beside the primary: commits are on one node alone from then")
    voters = [one for one in members if one["is_voter"] and one["name"] != target["name"]]
    if target["is_voter"] and len(voters) < 3:
        found.append(f"only {len(voters)} voters are left: none of them may fail")
    return found


@asking
def peers(common: Common) -> None:
    """The members of consensus."""
    found = common.api().get("/raft/peers")["peers"]
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    rows = [
        (
            peer["node"],
            peer["raft_id"],
            peer["suffrage"],
            peer["is_leader"],
            peer["is_leaving"],
            peer["address"],
            peer["last_seen"],
        )
        for peer in found
    ]
    columns = ("node", "id", "suffrage", "leader", "leaving", "address", "last seen")
    table(columns, rows, color=common.color)


@asking
def state(common: Common) -> None:
    """Consensus as the node that answers sees it."""
    found = common.api().get("/raft/state")
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    line(f"{found['node']} is {found['state']} in Raft term {found['raft_term']}")
    line(f"leader    {found['leader'] or 'none'}, quorum {'yes' if found['has_quorum'] else 'NO'}")
    line(f"log       committed {found['commit_index']}, applied {found['applied_index']}")


@asking
def transfer(
    common: Common,
    to: Annotated[str | None, typer.Option("--to", help="The node that is to lead.")] = None,
) -> None:
    """Move the lead of consensus to another node; the primary stays."""
    body = {"to": to} if to is not None else {}
    found = common.api().post("/raft/transfer-leadership", body)
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    line(f"{found['new_leader']} leads consensus, before it {found['old_leader']} did")


COMMANDS: dict[str, Command] = {"add-node": add_node, "remove-node": remove_node}
RAFT_COMMANDS: dict[str, Command] = {
    "peers": peers,
    "state": state,
    "transfer": transfer,
    "recover": recover,
    "readmit": readmit,
}
