"""`pgherd topology`: who streams from whom, as a tree.

Owns the drawing. What is so comes from the API, as for `nodes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.output import Format, emit, line

Node = dict[str, Any]
BRANCH, LAST, TRUNK, BLANK = "├─ ", "└─ ", "│  ", "   "


@asking
def topology(common: Common) -> None:
    """Who streams from whom."""
    nodes = common.api().get("/api/v1/nodes")["nodes"]
    if common.output is not Format.TABLE:
        emit([fed(node) for node in nodes], common.output)
        return
    for text in drawn(nodes):
        line(text)
    for node in nodes:
        if why := node["upstream_reason"]:
            line(f"! {node['name']}: {why}")


def fed(node: Node) -> Node:
    """What matters here of one node."""
    names = ("name", "role", "state", "is_sync", "upstream", "upstream_reason", "lag_bytes")
    return {name: node[name] for name in names}


def drawn(nodes: list[Node]) -> Iterator[str]:
    """The lines of the tree: whoever streams from nobody begins one, the primary first."""
    roots = [node for node in nodes if not node["upstream"]]
    for root in sorted(roots, key=lambda one: (not one["is_primary"], one["name"])):
        yield about(root)
        yield from below(nodes, root["name"], "", {root["name"]})


def below(nodes: list[Node], name: str, before: str, seen: set[str]) -> Iterator[str]:
    """Who streams from a node, and who from them; nobody is drawn twice."""
    found = [one for one in nodes if one["upstream"] == name and one["name"] not in seen]
    for place, one in enumerate(found):
        last = place == len(found) - 1
        yield f"{before}{LAST if last else BRANCH}{about(one)}"
        deeper = before + (BLANK if last else TRUNK)
        yield from below(nodes, one["name"], deeper, {*seen, one["name"]})


def about(node: Node) -> str:
    """One node in a line."""
    words = [node["name"], node["role"], node["state"]]
    words += ["sync"] if node["is_sync"] else []
    words += [late] if (late := delay(node)) else []
    words += [f"in zone {node['zone']}"] if node["zone"] else []
    return f"{words[0]}  {', '.join(words[1:])}"


def delay(node: Node) -> str:
    """The delay that a replica is to have; "" where it has none."""
    late_ms = node["tags"].get("delay_ms", 0)
    return f"delay {late_ms / 1000:g} s" if late_ms else ""


COMMANDS: dict[str, Command] = {"topology": topology}
