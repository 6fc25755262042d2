"""Rows for both deciders' tables about slots."""

from __future__ import annotations

from typing import Any

from plan_values import (
    END,
    EVERYBODY,
    TERM,
    facts,
    look,
    member,
    myself,
    primary,
    replace,
    report,
    standby,
)

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL
from pgherd.model import action as act
from pgherd.model.facts import Facts, Tags
from pgherd.model.ids import Lsn, NodeId, Term
from pgherd.model.observation import Server, ServerSeen
from pgherd.model.policy import Policy
from pgherd.model.slots import KeptSlot, SlotKind, SlotSeen
from pgherd.plan.own import Self, SlotsSeen

BIG = Lsn(1 << 30)
N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
TIGHT = Policy(slot_min_free_disk_bytes=1 << 30)
BOTH = frozenset({N1, N2, N3})


def kept(name: str = "feed", **changes: Any) -> KeptSlot:
    made = KeptSlot(name, SlotKind.PHYSICAL, "ann", asked_at_ms=7, asked_in=TERM)
    return replace(made, **changes)


def decoded(**changes: Any) -> KeptSlot:
    wanted = {"kind": SlotKind.LOGICAL, "database": "app", "plugin": "pgoutput"}
    return kept("changes", **{**wanted, **changes})


def wants(*slots: KeptSlot, **changes: Any) -> Facts:
    return facts(level=LEVEL, slots=slots, **changes)


def physical(name: str, lsn: int = 1, **changes: Any) -> SlotSeen:
    return replace(SlotSeen(name, SlotKind.PHYSICAL, Lsn(lsn)), **changes)


def logical(name: str = "changes", **changes: Any) -> SlotSeen:
    return replace(SlotSeen(name, SlotKind.LOGICAL, Lsn(1), database="app"), **changes)


def leads(*slots: SlotSeen, known: Facts | None = None, free: int = -1, heard: Any = BOTH) -> Self:
    """n1 leads with these slots, beside what it should have; its disk has so much room."""
    server = primary(replication_slots=slots, insert_lsn=BIG)
    seen = SlotsSeen(heard=frozenset(heard), disk_free_bytes=free)
    return myself(known or facts(), server, policy=TIGHT, slots=seen)


def follows(*slots: SlotSeen, known: Facts | None = None, theirs: Any = (), **more: Any) -> Self:
    """n2 follows n1, whose walsenders are at END and whose slots are these."""
    leader = replace(primary(), replication_slots=theirs)
    own = standby(replication_slots=slots, **more)
    told = report(1, leader).report
    return myself(known or facts(), own, me=2, leader_report=told, policy=TIGHT)


def off() -> Facts:
    """n2 is never to lead."""
    members = {**facts().members, N2: member(2, tags=Tags(nofailover=True))}
    return facts(members=members)


LOST = physical("pgherd_n2", lsn=0, lost=True)
EMPTY = physical("pgherd_n2", lsn=0)
HOLDS = physical("pgherd_n2")
FAR = replace(standby().position, lsn=BIG)
GONE = kept(dropping=True)
FED = wants(decoded())


def without(server: ServerSeen, node: NodeId) -> ServerSeen:
    left = tuple(name for name in EVERYBODY if name != f"pgherd_{node}")
    return replace(server, slots=left, slots_in_use=left)


MEMBER_CASES = (
    (
        "a follower makes the slot that it lacks",
        1601,
        act.KeepSlots,
        myself(facts(), without(standby(), N3), me=2),
    ),
    (
        "a follower that never leads keeps none",
        1601,
        act.KeepSlots,
        myself(off(), standby(slots=EVERYBODY, slots_in_use=()), me=2),
    ),
    ("what a follower has is right", 59, None, follows(physical("pgherd_n3", END))),
    (
        "a follower moves a slot on",
        1601,
        act.KeepSlots,
        follows(
            physical("feed"), known=wants(kept()), theirs=(physical("feed", BIG),), position=FAR
        ),
    ),
    ("a follower makes a kept slot", 1601, act.KeepSlots, follows(known=wants(kept()))),
    ("a follower leaves logical ones to PostgreSQL", 59, None, follows(known=wants(decoded()))),
    ("a former primary drops what it decoded", 1601, act.KeepSlots, follows(logical(), known=FED)),
    ("a copy of PostgreSQL's is let be", 59, None, follows(logical(synced=True), known=FED)),
    ("somebody's own logical slot is let be", 59, None, follows(logical("own"), known=FED)),
    ("a lost slot is made anew", 1602, act.KeepSlots, leads(LOST)),
    ("a lost slot that is read from is let be", 48, None, leads(replace(LOST, active=True))),
    ("a slot that keeps nothing, of a member that is back", 1602, act.KeepSlots, leads(EMPTY)),
    ("the same, of a member that is silent", 48, None, leads(EMPTY, heard=())),
    ("an unused slot on a full disk", 1602, act.KeepSlots, leads(HOLDS, free=1 << 20)),
    ("an unused slot on a roomy disk", 48, None, leads(HOLDS, free=2 << 30)),
    ("a used slot on a full disk", 48, None, leads(replace(HOLDS, active=True), free=1 << 20)),
    ("a slot that was asked for", 1602, act.KeepSlots, leads(known=wants(kept()))),
    ("a logical slot that was asked for", 1602, act.KeepSlots, leads(known=wants(decoded()))),
    (
        "a logical slot that a failover lost is not made anew by itself",
        48,
        None,
        leads(known=wants(decoded(asked_in=Term(2)))),
    ),
    ("a kept slot that is there", 48, None, leads(physical("feed"), known=wants(kept()))),
    (
        "a slot that is to go",
        1602,
        act.KeepSlots,
        leads(physical("feed"), known=wants(GONE)),
    ),
    (
        "a slot that is to go, and is read from",
        48,
        None,
        leads(physical("feed", active=True), known=wants(GONE)),
    ),
)


HERD_CASES = (
    ("a dropped slot is nowhere", 1105, cmd.ForgetSlot, look(wants(GONE))),
    (
        "a dropped slot is still somewhere",
        900,
        None,
        look(wants(GONE), report(2, standby(replication_slots=(physical("feed"),)))),
    ),
    (
        "a dropped slot, and a server that cannot say",
        900,
        None,
        look(wants(GONE), report(3, ServerSeen(state=Server.STOPPED))),
    ),
    ("a kept slot is nowhere yet", 900, None, look(wants(kept()))),
)
