"""Commands that only look: status, nodes, history, version."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer

from pgherd.cli import topology
from pgherd.cli.app import Command, Common, asking
from pgherd.cli.output import Format, bar, emit, line, say, size, table
from pgherd.cli.upkeep import paused
from pgherd.model.errors import PgherdError

WATCH_S = 1.0
LATE_MS = 1000
CLEAR = "\x1b[H\x1b[2J"
NODE_COLUMNS = (
    "node",
    "role",
    "state",
    "sync",
    "votes",
    "epoch",
    "timeline",
    "postgresql",
    "lag",
    "address",
    "doing",
)


WatchOption = Annotated[bool, typer.Option("--watch", "-w", help="Show it again and again.")]


def watched(show: Callable[[], Callable[[], None]], *, watch: bool) -> None:
    """Ask and show once, or again and again; then a daemon that is away for a while is told of.

    show: asks, and returns what writes the answer: the screen is cleared in between.
    """
    while True:
        try:
            write = show()
        except PgherdError as error:
            if not watch:
                raise
            say(f"pgherd: {error}")
        else:
            if watch and sys.stdout.isatty():
                sys.stdout.write(CLEAR)
            write()
        if not watch:
            return
        time.sleep(WATCH_S)


@asking
def status(
    common: Common,
    watch: WatchOption = False,
    detailed: Annotated[bool, typer.Option("--detailed", help="Everything known.")] = False,
    consistent: Annotated[
        bool, typer.Option("--consistent", help="Ask through a quorum first.")
    ] = False,
) -> None:
    """The cluster in one look."""

    def look() -> Callable[[], None]:
        shown = read_status(common, detailed=detailed, consistent=consistent)
        return partial(show_status, common, shown, detailed=detailed)

    watched(look, watch=watch)


def read_status(common: Common, *, detailed: bool, consistent: bool) -> dict[str, Any]:
    params = {"consistent": "1"} if consistent else {}
    api = common.api()
    found: dict[str, Any] = api.get("/api/v1/cluster/status", **params)
    if detailed or common.output is Format.TABLE:
        found["nodes"] = api.get("/api/v1/nodes", **params)["nodes"]
    return found


def show_status(common: Common, found: dict[str, Any], *, detailed: bool) -> None:
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    sync = found["synchronous"]
    line(f"cluster   {found['cluster_name']}: {found['status']}, {found['failover_state']}")
    if found.get("pause"):
        line(f"! {paused(found['pause'])}")
    if follows := found.get("follows"):
        line(f"follows   {followed(follows)}")
    else:
        line(f"primary   {found['primary_node_id'] or 'none'}, epoch {found['epoch']}")
    quorum, voting = "yes" if found["has_quorum"] else "NO", ", ".join(found["raft_voters"])
    line(f"quorum    {quorum}, Raft leader {found['raft_leader']} of {voting}")
    if not follows:
        line(f"commits   {promise(sync)}")
        line(f"lease     {lease(found['lease'])}")
    for vip in found.get("vips", ()):
        owners = " and ".join(vip["owners"]) or "nobody"
        line(f"address   {vip['address']}, follows the {vip['follow']}: {owners}")
    if detailed:
        line(f"system    {found['system_id']}, last change {found['last_topology_change']}")
        line(f"failover  {'automatic' if found['auto_failover_enabled'] else 'OFF'}")
    line()
    show_nodes(found["nodes"], color=common.color)
    for problem in (*found["problems"], *found.get("warnings", ())):
        line(f"! {problem}")
    for node in found["nodes"]:
        if told := repaired(node):
            line(f"! {told}")
        if waits := node.get("pending_restart"):
            line(f"! {node['name']} waits for a restart: {', '.join(pending(waits))}")


def followed(found: dict[str, Any]) -> str:
    """What a standby cluster follows, and through whom."""
    comes = f"WAL up to {found['received_lsn']}" if found["is_streaming"] else "NOTHING COMES"
    through = found["standby_leader"] or "nobody yet"
    return f"the remote primary at {', '.join(found['hosts'])} through {through}, {comes}"


def repaired(node: dict[str, Any]) -> str:
    """What is done about a node that does not do its work, or was done in vain."""
    remedies = node.get("remedies") or []
    last = remedies[-1] if remedies else None
    if last is None or (node["is_healthy"] and last["state"] != "running"):
        return ""
    times = f", {last['tries']} times in a row" if last["tries"] > 1 else ""
    why = f": {last['problem']}" if last["problem"] else ""
    source = f" of {last['source']}" if last["source"] else ""
    return f"{node['name']}: {last['step']}{source}, {last['state']}{times}{why}"


def pending(waits: dict[str, dict[str, str]]) -> list[str]:
    """Which parameters wait for a restart, with both values."""
    return [f"{name} {one['old']} -> {one['new']}" for name, one in sorted(waits.items())]


def promise(sync: dict[str, Any]) -> str:
    """Where a commit is once it is acknowledged."""
    if sync["mode"] == "async":
        more = f"; {sync['mode_wanted']} is asked for" if sync["mode_wanted"] else ""
        return f"async: on the primary alone, a failover may lose the newest{more}"
    voters = ", ".join(sync["voters"]) or "nobody"
    weak = " (DEGRADED)" if sync["degraded"] else ""
    return f"{sync['mode']}: on the primary and {sync['num_sync']} of {voters}{weak}"


def lease(found: dict[str, Any] | None) -> str:
    """How long the primary may count on being one if nobody hears it from now on."""
    if found is None:
        return "none"
    left = found["seconds_left"]
    more = f", {left:.1f} s left" if left else ""
    sole = "" if found["is_sole"] else ", an earlier one has not ended"
    return f"{found['holder']}: {found['state']}{more}{sole}"


def show_nodes(nodes: list[dict[str, Any]], *, color: bool) -> None:
    table(
        NODE_COLUMNS,
        [
            (
                node["name"],
                node["role"],
                node["state"],
                node["is_sync"],
                node["is_voter"],
                node["epoch"],
                node["timeline"],
                postgresql(node),
                lag(node),
                f"{node['host']}:{node['postgresql_port']}",
                doing(node),
            )
            for node in nodes
        ],
        color=color,
    )


def postgresql(node: dict[str, Any]) -> str | None:
    """The version that runs, and what its next start would run where that is another."""
    now, then = node["postgresql_version"], node.get("postgresql_version_on_disk")
    both = now and then and "." in now and then != now
    return f"{now} -> {then}" if both else now


def lag(node: dict[str, Any]) -> str:
    """How far behind, in bytes and, where it is worth saying, in time."""
    late_ms = node.get("lag_ms")
    text = size(node["lag_bytes"])
    return f"{text}, {late_ms / 1000:.0f} s" if late_ms and late_ms >= LATE_MS else text


def doing(node: dict[str, Any]) -> str:
    percent = node["progress_percent"]
    text = str(node["doing"] or node["problem"])
    marks = [name for name in ("noloadbalance", "clonefrom", "nostream") if node["tags"].get(name)]
    text += f" ({', '.join(marks)})" if marks else ""
    text += f" ({delayed})" if (delayed := topology.delay(node)) else ""
    return f"{text} {bar(percent)}" if percent is not None else text


@asking
def nodes(common: Common, watch: WatchOption = False) -> None:
    """The members."""

    def look() -> Callable[[], None]:
        found = common.api().get("/api/v1/nodes")["nodes"]
        if common.output is Format.TABLE:
            return partial(show_nodes, found, color=common.color)
        return partial(emit, found, common.output)

    watched(look, watch=watch)


@asking
def history(
    common: Common,
    notes: Annotated[bool, typer.Option("--notes", help="What was decided, too.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500)] = 50,
) -> None:
    """Every failover and switchover."""
    found = common.api().get("/api/v1/history", limit=limit)
    if common.output is not Format.TABLE:
        emit(found if notes else found["reigns"], common.output)
        return
    columns = (
        "epoch",
        "at",
        "from",
        "to",
        "kind",
        "timeline",
        "start",
        "took ms",
        "rule",
        "lost bytes",
        "reason",
    )
    fields = (
        "epoch",
        "established_at",
        "old_primary",
        "primary",
        "kind",
        "timeline",
        "lsn",
        "duration_ms",
        "rule",
        "lost_bytes",
        "reason",
    )
    table(
        columns, [[one[field] for field in fields] for one in found["reigns"]], color=common.color
    )
    if notes:
        rows = [[one["at"], one["epoch"], one["kind"], one["text"]] for one in found["notes"]]
        table(("at", "epoch", "what", "text"), rows, color=common.color)


def version() -> None:
    """The version of this program."""
    from pgherd import __version__

    line(f"pgherd {__version__}")


COMMANDS: dict[str, Command] = {
    "status": status,
    "nodes": nodes,
    "history": history,
    "version": version,
}
