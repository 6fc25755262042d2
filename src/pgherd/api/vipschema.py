"""The public form of addresses that move: part of the contract. Owns shapes, as `schema` does."""

from __future__ import annotations

from typing import Literal

from pgherd.api.shape import Model, NodeName


class VipNode(Model):
    """An address on one node. claimed_by: the link address that answered when it was to be taken.

    problem: why this node cannot have it, and what to do.
    """

    node: NodeName
    interface: str
    owned: bool
    claimed_by: str | None
    problem: str


class Vip(Model):
    """An address that moves. vip_owner: the one node that has it; owners: all that say so."""

    address: str
    follow: Literal["primary", "replica", "proxy"]
    vip_owner: NodeName | None
    owners: list[NodeName]
    nodes: list[VipNode]


class Vips(Model):
    """All addresses that move, as the nodes that are heard have them."""

    vips: list[Vip]
