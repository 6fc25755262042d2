"""`pgherd explain`, of one node too, and `pgherd raft directives`: why things are as they are."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.output import Format, emit, line, table
from pgherd.model.errors import OperatorError

CANDIDATES = ("node", "switchover to it", "its election")
COLUMNS = ("id", "type", "target", "epoch", "status", "asked by", "created", "error")


@asking
def explain(
    common: Common,
    node: Annotated[str | None, typer.Argument(help="Why this node can lead, or cannot.")] = None,
    if_lost: Annotated[
        list[str] | None,
        typer.Option("--if-lost", help="What if this node were lost; again for one more."),
    ] = None,
    if_switchover: Annotated[
        bool, typer.Option("--if-switchover", help="What a switchover would do now.")
    ] = False,
    to: Annotated[
        str | None, typer.Option("--to", help="With --if-switchover: to this node.")
    ] = None,
) -> None:
    """Why the primary is the primary, how that came, who could take over, and what if."""
    if to is not None and not if_switchover:
        raise OperatorError("--to goes with --if-switchover", "pgherd explain --help")
    if if_switchover and (if_lost or node is not None):
        raise OperatorError(
            "--if-switchover is a question of its own", "pgherd explain --if-switchover [--to N]"
        )
    asked: dict[str, Any] = {"if_lost": if_lost} if if_lost else {}
    if if_switchover:
        asked = {"if_switchover": True, **({"to": to} if to is not None else {})}
    path = "/api/v1/explain" if node is None else f"/api/v1/explain/{node}"
    found = common.api().get(path, **asked)
    if common.output is not Format.TABLE:
        emit(found, common.output)
    elif node is not None:
        show_node(found)
    elif asked:
        show_what_if(found["what_if"])
    else:
        show_all(found, color=common.color)


def show_all(found: dict[str, Any], *, color: bool) -> None:
    line(found["why_primary"])
    decided = f"by rule {found['last_rule']}: {found['last_reason']}"
    line(f"phase {found['phase']}, last decision {decided}")
    line(f"{found['node']}: {found['this_node'] or 'nothing to do'}")
    if found["herd"]:
        line(f"herd: {found['herd']}")
    for problem in found["problems"]:
        line(f"! {problem}")
    if found["last_change"] is not None:
        show_change(found["last_change"])
    line("")
    table(CANDIDATES, [candidate(one) for one in found["candidates"]], color=color)


def candidate(one: dict[str, Any]) -> tuple[str, str, str]:
    """A row: whether each way is open to a node, or why not."""
    ways = (("can_switch_over", "why_not_switchover"), ("can_be_elected", "why_not_elected"))
    return one["node"], *("possible" if one[can] else one[why] for can, why in ways)


def show_change(change: dict[str, Any]) -> None:
    """The last change of primary, step by step."""
    took = f", {seconds(change['duration_ms'])}" if change["duration_ms"] is not None else ""
    way = f"{change['kind']} from {change['from_node'] or 'nobody'} to {change['to_node']}"
    line(f"last change: {way}{took}, by rule {change['rule']}: {change['sentence']}")
    for one in change["steps"]:
        rule = f" (rule {one['rule']})" if one["rule"] else ""
        line(f"  {one['at']} +{seconds(one['after_ms'])} {one['kind']}: {one['text']}{rule}")


def show_what_if(found: dict[str, Any]) -> None:
    """What would follow, for how long writes would wait, what would be lost, and by which rules."""
    lost, outage = found["lost"], found["outage"]
    of = f"if {' and '.join(lost)} were lost" if lost else "with a switchover now"
    line(f"{of}, writes {found['writes']}: {found['why']}")
    if outage["expected_ms"] is None:
        line("outage: until somebody ends it")
    else:
        number = outage["measured"]
        made_of = f"the median of {number} here" if number else "the README's figure"
        most = seconds(outage["at_most_ms"])
        line(f"outage: about {seconds(outage['expected_ms'])} ({made_of}), at most {most}")
    line(f"loss: {found['loss']['text']}")
    for one in found["steps"]:
        line(f"  +{seconds(one['after_ms'])} rule {one['rule']}: {one['reason']}")


def seconds(ms: int) -> str:
    return f"{ms / 1000:.1f} s"


def show_node(found: dict[str, Any]) -> None:
    line(f"{found['node']} is {found['role']}, {found['state']}")
    for ability, why in (("switch_over", "switchover"), ("be_elected", "elected")):
        said = found[f"why_not_{why}"]
        word = "a switchover to it" if ability == "switch_over" else "its election"
        line(f"{word} is possible" if found[f"can_{ability}"] else f"{word} is not: {said}")
    if found["if_lost"] is not None:
        show_what_if(found["if_lost"])


@asking
def directives(
    common: Common,
    node: Annotated[str | None, typer.Option("--node", help="Of one node only.")] = None,
    status: Annotated[str | None, typer.Option("--status", help="In one state only.")] = None,
) -> None:
    """Every step of the last day that the ledger asks of nodes, the newest first."""
    wanted = {"node": node, "status": status}
    asked = {key: text for key, text in wanted.items() if text is not None}
    found = common.api().get("/raft/directives", **asked)["directives"]
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    names = ("id", "type", "target", "term", "status", "requested_by", "created_at", "error")
    table(COLUMNS, [tuple(one[name] for name in names) for one in found], color=common.color)


COMMANDS: dict[str, Command] = {"explain": explain}
RAFT_COMMANDS: dict[str, Command] = {"directives": directives}
