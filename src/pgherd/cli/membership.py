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
    proxy: Annotated[bool, typer.Option("--proxy", help="A way in for clients, no data.")] = False,
    ttl: Annotated[str, typer.Option("--ttl", help="How long the token is good for.")] = "1h",
) -> None:
    """Invite a node: make a token and print the command for the new machine."""
    from pgherd.config.units import parse_duration_ms

    try:
        seconds = parse_duration_ms(ttl) // 1000
    except ValueError as error:
        raise OperatorError(f"--ttl: {error}", "as in --ttl 1h") from error
    kind = {"witness": witness, "proxy": proxy}
    body = {"name": name, "address": address, **kind, "ttl_seconds": seconds}
    found = common.api().post("/api/v1/cluster/nodes", body)
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    line(found["command"])
    say(f"good once, until {found['expires_at']}")
    then = "leads clients in" if proxy else "votes and is copied to"
    say(f"  next: run this on the new machine; it learns first, then {then}")


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
    left = [one for one in members if one["name"] != target["name"]]
    voters = [one for one in left if one["is_voter"]]
    standing_by = any(
        one["is_healthy"] for one in left if not one["is_voter"] and one["role"] != "proxy"
    )
    if target["is_voter"] and standing_by:
        found.append("a member that stands by votes in its place")
    elif target["is_voter"] and len(voters) < 3:
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
            peer["why"],
        )
        for peer in found
    ]
    columns = ("node", "id", "suffrage", "leader", "leaving", "address", "last seen", "why")
    table(columns, rows, color=common.color)


@asking
def state(common: Common) -> None:
    """Consensus as the node that answers sees it."""
    found = common.api().get("/raft/state")
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    what = found["suffrage"] if found["state"] == "learner" else found["state"]
    line(f"{found['node']} is {what} in Raft term {found['raft_term']}")
    line(f"leader    {found['leader'] or 'none'}, quorum {'yes' if found['has_quorum'] else 'NO'}")
    line(f"voters    {', '.join(found['voters'])}; at most {found['max_voters']}")
    line(f"log       committed {found['commit_index']}, applied {found['applied_index']}")
    line(f"ledger    at level {found['ledger_level']}, which every member's program understands")


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


@asking
def max_voters(
    common: Common,
    count: Annotated[int, typer.Argument(metavar="N", help="1 to 7, best an odd number.")],
    yes: YesOption = False,
) -> None:
    """Change how many members vote at most; the others hold data and stand by."""
    now = common.api().get("/raft/peers")
    voting = [one["node"] for one in now["peers"] if one["suffrage"] in ("voter", "witness")]
    say(f"plan: at most {count} members vote, not {now['max_voters']}; now {', '.join(voting)} do")
    for text in odd_numbers(count, len(now["peers"])):
        say(f"      {text}")
    agree(yes)
    found = common.api().call("PUT", "/raft/max-voters", body={"max_voters": count})
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    line(f"at most {found['max_voters']} members vote")
    say("  next: see who does: pgherd raft peers")


def odd_numbers(count: int, members: int) -> list[str]:
    """What a number of votes is worth, for people to think about."""
    seats = min(count, members)
    found = [f"of {seats} voters {(seats - 1) // 2} may fail at once"]
    if seats % 2 == 0:
        found.append(f"as many as of {seats - 1}: an even number only makes a majority larger")
    return found


COMMANDS: dict[str, Command] = {"add-node": add_node, "remove-node": remove_node}
RAFT_COMMANDS: dict[str, Command] = {
    "peers": peers,
    "state": state,
    "transfer": transfer,
    "max-voters": max_voters,
    "recover": recover,
    "readmit": readmit,
}
