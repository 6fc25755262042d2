"""Commands about replication slots: `slots list`, `create` and `drop`.

Owns the wording. What a node has is the daemons'.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.changing import GRACE_S, YesOption, agree
from pgherd.cli.output import Format, emit, line, say, size, table
from pgherd.model.errors import OperatorError

PATH = "/api/v1/replication/slots"
DONE_S = 15.0
COLUMNS = (
    "slot",
    "node",
    "type",
    "owner",
    "active",
    "holds back",
    "at most",
    "lost",
    "failover-safe",
)

NameArgument = Annotated[str, typer.Argument(help="The slot's name.")]


@asking
def list_(common: Common) -> None:
    """All slots of all nodes, and those that the cluster keeps on whoever is primary."""
    found = common.api().get(PATH)
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    table(COLUMNS, [row(one) for one in found["slots"]], color=common.color)
    for one in found["kept"]:
        if one["state"] != "kept":
            line(f"! {one['name']} is {one['state']}" + (one["problem"] and f": {one['problem']}"))
    for one in found["slots"]:
        if one["advice"]:
            line(f"! {one['node']}: {one['advice']}")


def row(one: dict[str, Any]) -> tuple[Any, ...]:
    kind = f"{one['type']} {one['database']} {one['plugin']}".strip()
    held, most = size(one["retained_bytes"]), size(one["budget_bytes"])
    safe = one["failover_safe"]
    return (
        *(one["name"], one["node"], kind, one["owner"], one["active"], held, most, one["lost"]),
        "copy" if one["synced"] else "-" if safe is None else safe,
    )


@asking
def create(
    common: Common,
    name: NameArgument,
    logical: Annotated[
        bool, typer.Option("--logical", help="Decode changes; else WAL as it is.")
    ] = False,
    database: Annotated[str, typer.Option("--database", help="Of a logical slot.")] = "",
    plugin: Annotated[str, typer.Option("--plugin", help="Of a logical slot.")] = "",
) -> None:
    """Have a slot on whoever is primary; the same again makes a lost logical one anew."""
    if (database or plugin) and not logical:
        raise OperatorError("a physical slot has no database and no plugin", "add --logical")
    if logical and not database:
        raise OperatorError("a logical slot is of one database", "add --database NAME")
    body = {"name": name, "type": "logical" if logical else "physical"}
    if logical:
        body |= {"database": database, "plugin": plugin or "pgoutput"}
    path = f"{PATH}?wait={DONE_S:g}"
    tell(common, common.api().post(path, body, timeout_s=DONE_S + GRACE_S), "exists")


@asking
def drop(common: Common, name: NameArgument, yes: YesOption = False) -> None:
    """Have a slot no more, on any node. Only those that the cluster keeps."""
    say(f"plan: drop slot {name} everywhere; who reads through it has to begin anew")
    agree(yes)
    found = common.api().call(
        "DELETE", f"{PATH}/{name}", params={"wait": f"{DONE_S:g}"}, timeout_s=DONE_S + GRACE_S
    )
    tell(common, found, "is gone")


def tell(common: Common, found: dict[str, Any], what: str) -> None:
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    on = f" on {found['primary']}" if found["primary"] and what == "exists" else ""
    line(f"slot {found['name']} {what}{on}")
    if found["advice"]:
        say(f"  note: {found['advice']}")


COMMANDS: dict[str, Command] = {"list": list_, "create": create, "drop": drop}
