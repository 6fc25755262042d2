"""Where clients connect: the nodes' proxies and servers, as the ledger has their addresses.

Owns the answer alone; the connection string made of it is the command line's.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query

from pgherd.api.deps import SeenDep, viewer
from pgherd.api.failures import Problem
from pgherd.api.shape import Model, NodeName
from pgherd.api.views import members
from pgherd.model.facts import Kind, Member

router = APIRouter(dependencies=[Depends(viewer)])
Way = Literal["primary", "replica", "direct"]


class Door(Model):
    """One address."""

    node: NodeName
    host: str
    port: int


class Doors(Model):
    """All addresses of one way in: any of them leads there, but for direct ones."""

    way: Way
    doors: list[Door]


@router.get("/api/v1/connect")
async def connect(
    seen: SeenDep,
    way: Annotated[Way, Query(description="Through proxies, or to the servers.")] = "primary",
) -> Doors:
    """Where to reach the primary or a replica through any node's proxy, or the servers."""
    found = [door for member in members(seen.facts) if (door := door_of(member, way)) is not None]
    if not found:
        raise Problem(
            404,
            "no_listener",
            f"no node has a listener for {way}",
            hint="add one to proxy.listeners, or ask for way=direct",
        )
    return Doors(way=way, doors=found)


def door_of(member: Member, way: Way) -> Door | None:
    """A member's address for this way in; None where it has none, or leaves."""
    if member.leaving or (way == "direct" and member.kind is not Kind.DATA):
        return None
    if way == "direct":
        host, port = member.address.postgres()
    else:
        host, port = member.address.proxy(replica=way == "replica")
    return Door(node=member.node, host=host, port=port) if port else None
