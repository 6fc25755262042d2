"""Rules 44, 1105 and 1601-1602: which slots a node has, and what they may cost it.

Theory of operation. Every data member has a physical slot on each node that may become primary, so
that a failover keeps the others' WAL. On the primary its reader moves it; on a standby the agent
does, to where the primary's walsenders say that the member is. Whom the primary does not serve
keeps its place there, within the budget: PostgreSQL ends a slot that keeps more than its share
(max_slot_wal_keep_size), and the agent gives up unused ones while the disk is nearly full. A slot
that was given up is there and keeps nothing, so its member can come back through it, by what WAL is
left or as a new copy. What people want to have on whoever is primary is made there the same way,
after all that commits wait for.
"""

from __future__ import annotations

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.model import action as act
from pgherd.model.facts import Facts, Kind, Phase
from pgherd.model.ids import Lsn, NodeId, slot_name
from pgherd.model.observation import Server
from pgherd.model.slots import KeptSlot, SlotKind, SlotSeen
from pgherd.plan import upstreams
from pgherd.plan.look import data_members, fresh
from pgherd.plan.own import Answer, MemberRule, Self, follows, leads
from pgherd.plan.rule import Decision, HerdRule, Situation

STEP_BYTES = 128 << 20
"""A standby moves a slot in steps of so much: WAL goes by whole files, and at restartpoints."""
GIVEN_UP_LEAST_BYTES = 64 << 20
"""A slot that keeps less is not worth its member's WAL."""


class Wanted(msgspec.Struct, frozen=True):
    """What a node's slots should be, beside those that are right. Names as in `act.KeepSlots`."""

    make: tuple[act.SlotMade, ...] = ()
    drop: tuple[str, ...] = ()
    renew: tuple[act.SlotMade, ...] = ()
    advance: tuple[tuple[str, Lsn], ...] = ()
    release: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any((self.make, self.drop, self.renew, self.advance, self.release))


def others(s: Self) -> tuple[NodeId, ...]:
    """Whom a node has slots for: every other data member, where it may become primary."""
    own = s.facts.members.get(s.me)
    if not leads(s) and (own is None or not own.tags.may_lead):
        return ()
    members = sorted(s.facts.members.items())
    return tuple(
        node
        for node, m in members
        if m.kind is Kind.DATA and node != s.me and node not in s.slots.nostream
    )


def seen_slots(s: Self) -> dict[str, SlotSeen]:
    return {slot.name: slot for slot in s.server.replication_slots}


# --- the members' slots --------------------------------------------------------------------------


def is_complete(s: Self, nodes: tuple[NodeId, ...]) -> bool:
    """One that a removed member still reads from cannot go yet, and nothing else waits for it."""
    ignored = {name for name in s.server.slots if name in s.policy.ignore_slots}
    wanted, present = set(kept_for(s, nodes)), set(s.server.slots) - ignored
    return wanted - ignored <= present and present - wanted <= set(s.server.slots_in_use)


def kept_for(s: Self, nodes: tuple[NodeId, ...]) -> dict[str, NodeId]:
    """Every slot that members have here, and whose it is: as heir, and as somebody's upstream."""
    feeds = upstreams.feed_slots(s.facts, s.me, s.server) if not leads(s) else {}
    return {slot_name(node): node for node in nodes} | feeds


def lead_slots(s: Self) -> Answer | None:
    if not leads(s) or s.server.state is not Server.PRIMARY:
        return None
    nodes = others(s)
    return None if is_complete(s, nodes) else ("keeps one slot per member", keep(s, nodes))


def lead_mends(s: Self) -> Answer | None:
    """Only beside a stable term, and after all else: no commit waits for it."""
    primary = s.server.state is Server.PRIMARY and s.facts.phase is Phase.STABLE
    if not leads(s) or not primary:
        return None
    nodes = others(s)
    wanted = Wanted(
        make=permanent_missing(s),
        drop=dropped_present(s),
        renew=(*lost_of_members(s, nodes), *lost_of_people(s)),
        advance=cascading(s, nodes),
        release=given_up(s, nodes),
    )
    return (sentence(wanted), keep(s, nodes, wanted)) if wanted else None


def follow_slots(s: Self) -> Answer | None:
    """Only beside a stable term: a failover waits for no slot."""
    standby = s.server.state is Server.STANDBY and s.facts.phase is Phase.STABLE
    if not follows(s) or not standby:
        return None
    nodes = others(s)
    if not is_complete(s, nodes):
        return "keeps one slot per member, for the day when it leads", keep(s, nodes)
    wanted = Wanted(
        make=permanent_missing(s),
        drop=(*dropped_present(s), *stale(s)),
        renew=lost_of_members(s, nodes),
        advance=behind(s, nodes),
        release=given_up(s, nodes),
    )
    return (sentence(wanted), keep(s, nodes, wanted)) if wanted else None


def keep(s: Self, nodes: tuple[NodeId, ...], wanted: Wanted | None = None) -> act.KeepSlots:
    wanted = wanted or Wanted()
    return act.KeepSlots(
        nodes,
        ignored=s.policy.ignore_slots,
        make=wanted.make,
        drop=wanted.drop,
        renew=wanted.renew,
        advance=wanted.advance,
        release=wanted.release,
        feeds=tuple(sorted(set(kept_for(s, nodes)) - {slot_name(node) for node in nodes})),
    )


def sentence(wanted: Wanted) -> str:
    """What is done, the gravest first."""
    if wanted.release:
        return f"gives up what slot {wanted.release[0]} keeps: the disk is nearly full"
    if wanted.renew:
        return f"makes slot {wanted.renew[0].name} anew: it had lost its WAL"
    if wanted.drop:
        return f"drops slot {wanted.drop[0]}, which was dropped, or is of its own reign"
    if wanted.make:
        return f"makes slot {wanted.make[0].name}, as was asked for"
    return f"moves slot {wanted.advance[0][0]} to where its member is"


def lost_of_members(s: Self, nodes: tuple[NodeId, ...]) -> tuple[act.SlotMade, ...]:
    """Lost ones, and those that keep nothing though their member is back and will need it soon.

    What a member that nobody hears was to have is not kept anew: nobody knows from where on.
    """
    found = []
    seen = seen_slots(s)
    for name, node in kept_for(s, nodes).items():
        slot, heard = seen.get(name), node in s.slots.heard
        if slot is None or slot.active or slot.name in s.policy.ignore_slots:
            continue
        if slot.lost or (heard and not slot.lsn and not is_tight(s)):
            found.append(act.SlotMade(slot.name, reserve=heard))
    return tuple(found)


def behind(s: Self, nodes: tuple[NodeId, ...]) -> tuple[tuple[str, Lsn], ...]:
    """On a standby: whose slot keeps more than its member needs, as far as the primary knows.

    The primary's own follows what is replayed here: if it comes back, it is from there on.
    """
    leader, position = s.leader_report, s.server.position
    if leader is None or position is None:
        return ()
    at = {sender.member.node: sender.flush_lsn for sender in leader.server.senders}
    at = {**s.slots.at, **at, leader.node: position.lsn}
    theirs = {slot.name: slot.lsn for slot in leader.server.replication_slots}
    wanted = {name: at[node] for name, node in kept_for(s, nodes).items() if at.get(node)}
    for kept in s.facts.slots:
        if kept.kind is SlotKind.PHYSICAL and theirs.get(kept.name):
            wanted[kept.name] = theirs[kept.name]
    found = []
    for name, slot in seen_slots(s).items():
        to = min(wanted.get(name, Lsn(0)), position.lsn)
        if slot.lsn and not slot.active and not slot.lost and to - slot.lsn >= STEP_BYTES:
            found.append((name, to))
    return tuple(found)


def cascading(s: Self, nodes: tuple[NodeId, ...]) -> tuple[tuple[str, Lsn], ...]:
    """On the primary: whose slot nobody reads from because its member streams from another one."""
    seen, found = seen_slots(s), []
    for node in nodes:
        slot, to = seen.get(slot_name(node)), s.slots.at.get(node, Lsn(0))
        if slot is None or not slot.lsn or slot.active or slot.lost:
            continue
        if to - slot.lsn >= STEP_BYTES:
            found.append((slot.name, to))
    return tuple(found)


def is_tight(s: Self) -> bool:
    return 0 <= s.slots.disk_free_bytes < s.policy.slot_min_free_disk_bytes


def given_up(s: Self, nodes: tuple[NodeId, ...]) -> tuple[str, ...]:
    """While the disk is nearly full: the unused slot that keeps most, of a silent member first."""
    if s.server.position is None or not is_tight(s):
        return ()
    end, seen = s.server.wal_end, seen_slots(s)
    found = []
    for name, node in kept_for(s, nodes).items():
        slot = seen.get(name)
        if slot is None or slot.active or slot.name in s.policy.ignore_slots:
            continue
        if slot.kept_bytes(end) >= GIVEN_UP_LEAST_BYTES:
            found.append((node in s.slots.heard, -slot.kept_bytes(end), slot.name))
    return (min(found)[2],) if found else ()


# --- what people want to have on whoever is primary -----------------------------------------------


def permanent_missing(s: Self) -> tuple[act.SlotMade, ...]:
    """Physical ones wherever somebody may become primary; logical ones where they were asked for.

    On standbys PostgreSQL itself makes the logical ones, from 17 on.
    """
    if not others(s):
        return ()
    seen = seen_slots(s)
    return tuple(
        made(slot)
        for slot in s.facts.slots
        if not slot.dropping
        and slot.name not in seen
        and (slot.kind is SlotKind.PHYSICAL or (leads(s) and slot.asked_in == s.facts.term))
    )


def made(slot: KeptSlot) -> act.SlotMade:
    return act.SlotMade(slot.name, reserve=True, database=slot.database, plugin=slot.plugin)


def lost_of_people(s: Self) -> tuple[act.SlotMade, ...]:
    """A physical one is made anew; a logical one only when that is asked for again."""
    seen = seen_slots(s)
    return tuple(
        made(slot)
        for slot in s.facts.slots
        if not slot.dropping
        and slot.kind is SlotKind.PHYSICAL
        and (found := seen.get(slot.name)) is not None
        and found.lost
        and not found.active
    )


def dropped_present(s: Self) -> tuple[str, ...]:
    """Those that are to go. One that is read from goes when its reader has; a copy goes by itself,
    with the primary's."""
    seen = seen_slots(s)
    return tuple(
        slot.name
        for slot in s.facts.slots
        if slot.dropping
        and (found := seen.get(slot.name)) is not None
        and not found.active
        and not found.synced
    )


def stale(s: Self) -> tuple[str, ...]:
    """On a former primary: kept logical slots of its own reign. What they would decode from is not
    held any more, and PostgreSQL copies none to where another has its name."""
    seen = seen_slots(s)
    return tuple(
        slot.name
        for slot in s.facts.slots
        if slot.kind is SlotKind.LOGICAL
        and not slot.dropping
        and (found := seen.get(slot.name)) is not None
        and not (found.synced or found.active or found.temporary)
    )


LEADS = MemberRule(44, "A leader keeps one slot per data member.", lead_slots)
MENDS = MemberRule(
    1602,
    "A leader has the slots that people asked for, makes lost ones anew, and gives unused ones up"
    " before the disk is full.",
    lead_mends,
)
FOLLOWS = MemberRule(
    1601,
    "A follower that may lead some day keeps one slot per data member, and moves it on.",
    follow_slots,
)


# --- the herd -------------------------------------------------------------------------------------


def nowhere(s: Situation) -> Decision | None:
    """A slot that was dropped is forgotten once every data member says that it has none."""
    for slot in s.facts.slots:
        if slot.dropping and not any(may_have(s, node, slot) for node in data_nodes(s.facts)):
            command = cmd.ForgetSlot(slot.name, slot.asked_at_ms, 1105)
            return Decision(1105, f"slot {slot.name} is nowhere any more", command)
    return None


def data_nodes(facts: Facts) -> list[NodeId]:
    return [member.node for member in data_members(facts)]


def may_have(s: Situation, node: NodeId, slot: KeptSlot) -> bool:
    """Whether a node has a slot, or is not known to have none; who has no data has none."""
    report = fresh(s, node)
    if report is None:
        return True
    server = report.server
    running = server.state in (Server.PRIMARY, Server.STANDBY)
    if server.state is Server.NONE:
        return False
    return not running or any(one.name == slot.name for one in server.replication_slots)


HERD_RULES: tuple[HerdRule, ...] = (
    HerdRule(1105, "A slot that was dropped is forgotten once no member has it.", nowhere),
)
