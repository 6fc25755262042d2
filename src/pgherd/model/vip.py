"""An address that clients use and that moves between nodes: what is wanted, and what one node has.

Owns the nouns. Who may have one is `plan.vip`'s, the network is `act.vip`'s.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

MOST = 16
"""Addresses of one node; each is told in every report."""


class Follow(StrEnum):
    """What has to be on a node for an address to be there."""

    PRIMARY = "primary"
    REPLICA = "replica"
    PROXY = "proxy"


class Vip(msgspec.Struct, frozen=True):
    """One address as a node's file wants it. address: without its prefix length."""

    address: str
    prefix: int
    interface: str
    follow: Follow

    @property
    def is_ipv6(self) -> bool:
        """Whether it is an address of IPv6."""
        return ":" in self.address


class VipSeen(msgspec.Struct, frozen=True):
    """One address as a node tells of it in its report.

    owned, taking: whether it is on this node, or about to be · problem: why this node could not
    have it, with what to do about it; "" where it could · claimed_by: the link address that
    answered when it was to be taken.
    """

    address: str
    follow: Follow
    interface: str
    owned: bool = False
    taking: bool = False
    problem: str = ""
    claimed_by: str = ""
