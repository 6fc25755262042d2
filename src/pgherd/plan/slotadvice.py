"""What people should know of a slot: whose it is, whether a failover leaves it, what to do. Pure.

Owns the sentences. The agent tells the gravest as warnings, the API all of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from pgherd.ledger.slots import find
from pgherd.model.facts import Facts, Kind, Member
from pgherd.model.ids import NodeId, feed_slot, slot_name
from pgherd.model.observation import Server, ServerSeen
from pgherd.model.slots import SYNCED_FROM_MAJOR, KeptSlot, SlotKind, SlotSeen

Servers = Mapping[NodeId, ServerSeen]
"""What is known of each server; those that are not heard are not in it."""
NEARLY = 0.8
"""The part of its budget from which on a slot is spoken of."""


def owner(facts: Facts, slot: SlotSeen) -> str:
    """`member n2`, `kept` or `other`."""
    for node in facts.members:
        names = (slot_name(node), feed_slot(node, facts.term))
        if slot.kind is SlotKind.PHYSICAL and slot.name in names:
            return f"member {node}"
    return "kept" if find(facts, slot.name) is not None else "other"


def heirs(facts: Facts) -> list[Member]:
    """Who may become primary beside the present one."""
    return [
        member
        for _, member in sorted(facts.members.items())
        if member.kind is Kind.DATA
        and member.tags.may_lead
        and not member.leaving
        and not facts.is_leader(member.node)
    ]


def lacks(facts: Facts, servers: Servers, slot: SlotSeen) -> list[NodeId]:
    """Who may become primary and has no usable copy of a slot of the primary."""
    return [one.node for one in heirs(facts) if not has_copy(servers.get(one.node), slot)]


def has_copy(server: ServerSeen | None, slot: SlotSeen) -> bool:
    """A temporary copy is one that PostgreSQL has not brought to a usable point yet."""
    copies = server.replication_slots if server is not None else ()
    return any(
        one.name == slot.name
        and one.kind is slot.kind
        and not one.lost
        and not one.temporary
        and (slot.kind is SlotKind.PHYSICAL or one.synced)
        for one in copies
    )


def survives(facts: Facts, servers: Servers, slot: SlotSeen) -> bool:
    """Whether whoever becomes primary has this slot of the present one; a member's own is made."""
    return owner(facts, slot).startswith("member") or not lacks(facts, servers, slot)


def at_failover(facts: Facts, servers: Servers, slot: SlotSeen) -> str:
    """Why a failover would cost a slot of the primary, and what to do; "" when it would not."""
    if slot.temporary or survives(facts, servers, slot):
        return ""
    if slot.kind is SlotKind.PHYSICAL:
        return f"physical slot {slot.name} is on this node only: pgherd slots create {slot.name}"
    return logical_at_failover(facts, servers, slot)


def logical_at_failover(facts: Facts, servers: Servers, slot: SlotSeen) -> str:
    what = f"logical slot {slot.name} of {slot.database} would not survive a failover"
    if facts.major < SYNCED_FROM_MAJOR:
        return (
            f"{what}: PostgreSQL {facts.major} copies no logical slots to standbys (17 does); after"
            " one, make it anew (pgherd slots create) and give its subscriber the data anew"
        )
    if not slot.failover:
        return (
            f"{what}: it was made without failover; on its subscriber: ALTER SUBSCRIPTION ... SET"
            " (failover = true), or pgherd slots drop and create it"
        )
    missing = ", ".join(lacks(facts, servers, slot))
    return (
        f"{what} to {missing}: PostgreSQL has not copied it there yet; it does once its reader and"
        " the standby have got on; see PostgreSQL's log there"
    )


def of_kept(facts: Facts, slot: KeptSlot, servers: Servers) -> str:
    """What is wrong with a slot that people asked for; "" when nothing is."""
    leader = facts.leader
    server = servers.get(leader.node) if leader is not None else None
    if slot.dropping or server is None or server.state is not Server.PRIMARY:
        return ""
    seen = next((one for one in server.replication_slots if one.name == slot.name), None)
    if seen is not None and not seen.lost:
        return ""
    if slot.kind is SlotKind.PHYSICAL or (seen is None and slot.asked_in == facts.term):
        return f"slot {slot.name} is about to be made"
    state = "has lost its WAL" if seen is not None else "did not survive the last failover"
    return (
        f"logical slot {slot.name} {state}, and its subscriber misses what was written since: give"
        f" it the data anew, then pgherd slots {'drop and ' if seen is not None else ''}create"
        f" {slot.name} --logical --database {slot.database} --plugin {slot.plugin}"
    )


def warnings(facts: Facts, servers: Servers, me: NodeId) -> list[str]:
    """What this node warns of: all of the primary's, and on any node what costs it its disk."""
    server = servers.get(me)
    if server is None or server.state not in (Server.PRIMARY, Server.STANDBY):
        return []
    end = server.wal_end
    leads = facts.is_leader(me) and server.state is Server.PRIMARY
    found = []
    for slot in server.replication_slots:
        budget, kept = server.slot_budget_bytes, slot.kept_bytes(end)
        if budget > 0 and kept > NEARLY * budget:
            share = f"{kept >> 20} MB of WAL, {budget >> 20} MB are its most"
            found.append(f"slot {slot.name} holds back {share}: see what its reader waits for")
        whose = owner(facts, slot)
        if not leads and slot.failover and not slot.synced and whose == "other":
            found.append(
                f"logical slot {slot.name} is of an earlier reign, and PostgreSQL copies none here"
                f" because of it: SELECT pg_drop_replication_slot('{slot.name}') on {me}"
            )
        if leads and whose.startswith("member") and not slot.active and not slot.lsn:
            found.append(
                f"nothing is kept for {whose[7:]}, its slot was given up: it comes back by the WAL"
                " that is left, or is copied anew; if it is gone for good: pgherd remove-node"
            )
        if leads and slot.kind is SlotKind.LOGICAL and (why := at_failover(facts, servers, slot)):
            found.append(why)
    return found + [why for one in facts.slots if leads and (why := of_kept(facts, one, servers))]
