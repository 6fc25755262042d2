"""`pgherd explain`, of one node too, and `pgherd raft directives`: why things are as they are."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.output import Format, emit, line, table
from pgherd.model.errors import OperatorError

COLUMNS = ("id", "type", "target", "epoch", "status", "asked by", "created", "error")


@asking
def explain(
    common: Common,
    node: Annotated[str | None, typer.Argument(help="Why this node can lead, or cannot.")] = None,
    if_lost: Annotated[
        str | None, typer.Option("--if-lost", help="With a node: what if this one were lost.")
    ] = None,
) -> None:
    """Why the primary is the primary; of a node, whether it can become the primary."""
    if node is None and if_lost is not None:
        raise OperatorError(
            "--if-lost goes with a node", f"pgherd explain NODE --if-lost {if_lost}"
        )
    asked = {"if_lost": if_lost} if if_lost is not None else {}
    path = "/api/v1/explain" if node is None else f"/api/v1/explain/{node}"
    found = common.api().get(path, **asked)
    if common.output is not Format.TABLE:
        emit(found, common.output)
    elif node is None:
        show_all(found)
    else:
        show_node(found)


def show_all(found: dict[str, Any]) -> None:
    line(found["why_primary"])
    decided = f"by rule {found['last_rule']}: {found['last_reason']}"
    line(f"phase {found['phase']}, last decision {decided}")
    line(f"{found['node']}: {found['this_node'] or 'nothing to do'}")
    if found["herd"]:
        line(f"herd: {found['herd']}")
    for problem in found["problems"]:
        line(f"! {problem}")


def show_node(found: dict[str, Any]) -> None:
    line(f"{found['node']} is {found['role']}, {found['state']}")
    for ability, why in (("switch_over", "switchover"), ("be_elected", "elected")):
        said = found[f"why_not_{why}"]
        word = "a switchover to it" if ability == "switch_over" else "its election"
        line(f"{word} is possible" if found[f"can_{ability}"] else f"{word} is not: {said}")
    lost = found["if_lost"]
    if lost is not None:
        line(f"if {lost['lost']} were lost, writes {lost['writes']}: {lost['why']}")


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
