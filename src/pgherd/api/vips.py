"""Addresses that move, as people and programs see them: who has which, and who could not. Pure.

Made from what the nodes themselves report; `views` shows it beside all else.
"""

from __future__ import annotations

from collections.abc import Iterable

from pgherd.api.vipschema import Vip, VipNode
from pgherd.model.observation import Observation
from pgherd.model.vip import VipSeen


def shown(reports: Iterable[Observation]) -> list[Vip]:
    """Every address that a node has in its file, those that follow the primary first."""
    told: dict[str, list[tuple[Observation, VipSeen]]] = {}
    for report in sorted(reports, key=lambda report: report.node):
        for vip in report.vips:
            told.setdefault(vip.address, []).append((report, vip))
    found = [one(address, entries) for address, entries in told.items()]
    return sorted(found, key=lambda vip: (vip.follow != "primary", vip.follow, vip.address))


def one(address: str, entries: list[tuple[Observation, VipSeen]]) -> Vip:
    owners = [report.node for report, vip in entries if vip.owned]
    return Vip(
        address=address,
        follow=entries[0][1].follow.value,
        vip_owner=owners[0] if len(owners) == 1 else None,
        owners=list(owners),
        nodes=[
            VipNode(
                node=report.node,
                interface=vip.interface,
                owned=vip.owned,
                claimed_by=vip.claimed_by or None,
                problem=vip.problem,
            )
            for report, vip in entries
        ],
    )


def owner(reports: Iterable[Observation]) -> str | None:
    """Who has the first address: of those that follow the primary, if there is one."""
    found = shown(reports)
    return found[0].vip_owner if found else None


def problems(reports: Iterable[Observation]) -> list[str]:
    """Addresses that nobody has, or more than one node."""
    found = []
    for vip in shown(reports):
        name = f"the address {vip.address} (follows the {vip.follow})"
        if len(vip.owners) > 1:
            found.append(f"{name} is on {' and '.join(vip.owners)}: one of them leaves it soon")
        elif not vip.owners:
            found.append(f"nobody has {name}")
    return found
