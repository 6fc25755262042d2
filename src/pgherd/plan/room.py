"""Rules 620 and 86: a primary hands over before its disk is full, and a full one gets the ballast.

A primary that cannot write ends, and its clients with it; a planned change costs them nothing. It
goes only to who has far more room: what one node writes the others write too, and a primary that
moves from one full disk to the next helps nobody.
"""

from __future__ import annotations

from pgherd.ledger import commands as cmd
from pgherd.model import action as act
from pgherd.model.facts import Phase
from pgherd.model.ids import MemberKey
from pgherd.model.observation import Disk, Observation, Server
from pgherd.model.policy import Policy
from pgherd.plan.handover import preference, unfit
from pgherd.plan.look import fresh, is_full, leader_report, least_room
from pgherd.plan.own import Answer, MemberRule, Self
from pgherd.plan.rule import Decision, HerdRule, Situation

ROOM_TIMES = 2
"""So many times the primary's room, and the least that there must be, has who takes over."""
SCARCE_PARTS = 5
"""What a disk loses counts only once less than this part of it is left."""


def fills_soon(disk: Disk, policy: Policy) -> bool:
    """Whether little is left, and that is gone within the time that an operator named."""
    is_scarce = disk.free_bytes * SCARCE_PARTS < disk.size_bytes
    return is_scarce and 0 <= disk.full_in_ms < policy.disk_full_within_ms


def why_full(s: Situation, report: Observation) -> str:
    """What a node's disk lacks, for people; "" when it lacks nothing."""
    if is_full(s, report.node):
        return f"{report.node} has {least_room(s)}"
    for disk in report.disks:
        if fills_soon(disk, s.policy):
            minutes = -(-disk.full_in_ms // 60_000)
            return f"the {disk.mount} disk of {report.node} is full in {minutes} min"
    return ""


def roomy(s: Situation, leader: Observation) -> list[MemberKey]:
    """Who could take over, and would not have the same trouble soon."""
    least = ROOM_TIMES * max(leader.disk_free_bytes, s.policy.min_free_disk_bytes)
    keys = [member.key for member in s.facts.members.values() if member.key != s.facts.leader]
    found = []
    for key in keys:
        report = fresh(s, key.node)
        if report is None or report.disk_free_bytes < least or why_full(s, report):
            continue
        if key.incarnation and not unfit(s, leader, key):
            found.append(key)
    return sorted(found, key=lambda key: preference(s, key))


def hand_over(s: Situation) -> Decision | None:
    facts, leader = s.facts, leader_report(s)
    if leader is None or not s.policy.failover_enabled:
        return None
    if facts.phase is not Phase.STABLE or facts.switchover is not None or facts.paused:
        return None
    why = why_full(s, leader)
    if not why:
        return None
    found = roomy(s, leader)
    if not found:
        return Decision(620, f"{why}, and nobody who could take over has much more room")
    since = facts.history[-1].began_at_ms if facts.history else 0
    if s.view.unix_ms - since < s.policy.minimum_interval_ms:
        return Decision(620, f"{why}, but the primary has only just changed")
    wish = cmd.RequestSwitchover(
        id=f"room-{s.view.unix_ms}", candidate=found[0].node, requested_by=f"pgherd: {why}"
    )
    return Decision(620, f"{why}: {found[0].node} takes over", wish)


def free_ballast(s: Self) -> Answer | None:
    if s.server.state is not Server.STOPPED or not s.server.starved:
        return None
    return "its disk is full: its server gets the room of the ballast", act.FreeBallast()


HERD_RULES = (
    HerdRule(
        620, "A primary whose disk is nearly full hands over to who has far more room.", hand_over
    ),
)
RULES = (
    MemberRule(
        86, "A server that cannot start on a full disk gets the room of the ballast.", free_ballast
    ),
)
