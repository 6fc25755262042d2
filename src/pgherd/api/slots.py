"""Routes of replication slots: see them all, have one on whoever is primary, have it no more.

Owns what is refused before, and the wait until it is so. The list of kept slots is the ledger's,
what follows on each node the member decider's. Every daemon takes every call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Response

from pgherd.api import slotschema as schema
from pgherd.api.changes import POLL_S, WAIT_S_MAX, current_facts, submit
from pgherd.api.deps import AdminDep, ConsistentDep, Services, ServicesDep, viewer
from pgherd.api.failures import Problem
from pgherd.api.herd import TimedOut
from pgherd.api.times import iso
from pgherd.api.views import Seen, primary_of
from pgherd.ledger.commands import DropSlot, KeepSlot
from pgherd.ledger.slots import find
from pgherd.model.errors import PeerError, PostgresError
from pgherd.model.facts import Facts
from pgherd.model.ids import NodeId, format_lsn
from pgherd.model.observation import Server, ServerSeen
from pgherd.model.pgconfig import ConfigAsked
from pgherd.model.slots import KeptSlot, SlotKind, SlotSeen
from pgherd.plan import slotadvice

DONE_S = 15.0
READ_S = 4.0
"""How long somebody reads from a slot before that counts against its end."""

Wait = Annotated[
    float, Query(ge=0, le=WAIT_S_MAX, description="Seconds to wait until it is so; 0: answer 202.")
]
SlotName = Annotated[str, Path(max_length=63)]
ACCEPTED: dict[int | str, dict[str, Any]] = {202: {"model": schema.SlotChanged}}

router = APIRouter()


@router.get("/api/v1/replication/slots", dependencies=[Depends(viewer)])
async def every(seen: ConsistentDep) -> schema.Slots:
    """All slots of all servers that are heard, and those that the cluster keeps."""
    servers = heard(seen)
    shown = [
        slot_shown(seen.facts, servers, node, slot)
        for node, server in sorted(servers.items())
        for slot in server.replication_slots
    ]
    kept = [kept_shown(seen.facts, servers, one) for one in seen.facts.slots]
    return schema.Slots(slots=shown, kept=kept, as_of=seen.raft.applied)


@router.post("/api/v1/replication/slots", responses=ACCEPTED)
async def create(
    services: ServicesDep,
    caller: AdminDep,
    response: Response,
    body: schema.SlotWanted,
    wait: Wait = DONE_S,
) -> schema.SlotChanged:
    """Have a slot on whoever is primary from now on; waits until the primary has it."""
    facts = await current_facts(services)
    command = KeepSlot(
        body.name,
        SlotKind(body.type),
        requested_by=str(caller),
        database=body.database,
        plugin=body.plugin,
    )
    await refuse_what_cannot_be(services, facts, command)
    await submit(services, command)
    return await settled(services, response, body.name, has_it, wait_s=wait)


@router.delete("/api/v1/replication/slots/{slot_name}", responses=ACCEPTED)
async def drop(
    slot_name: SlotName,
    services: ServicesDep,
    caller: AdminDep,
    response: Response,
    wait: Wait = DONE_S,
) -> schema.SlotChanged:
    """Have it no more, anywhere; waits until no server that is heard has it."""
    facts = await current_facts(services)
    if find(facts, slot_name) is None:
        raise Problem(
            404,
            "unknown_slot",
            f"the cluster keeps no slot {slot_name}; it drops only what it keeps",
            hint="see which it keeps: pgherd slots list; drop others with pg_drop_replication_slot",
        )
    if (reader := await reader_of(services, slot_name)) is not None:
        text = f"slot {slot_name} is read from on {reader} now"
        raise Problem(409, "in_use", text, hint="stop its reader first, then drop it again")
    await submit(services, DropSlot(slot_name, requested_by=str(caller)))
    return await settled(services, response, slot_name, has_none, wait_s=wait)


async def reader_of(services: Services, name: str) -> NodeId | None:
    """The node on which somebody goes on reading from a slot: one look may be a second old."""
    began_s = services.clock()
    while True:
        servers = heard(services.seen()).items()
        reader = next((node for node, server in servers if is_read(server, name)), None)
        if reader is None or services.clock() - began_s > READ_S:
            return reader
        await asyncio.sleep(POLL_S)


def is_read(server: ServerSeen, name: str) -> bool:
    return any(one.name == name and one.active for one in server.replication_slots)


async def refuse_what_cannot_be(services: Services, facts: Facts, command: KeepSlot) -> None:
    """A slot of another kind or of somebody else under this name; logical ones without WAL."""
    seen = on_primary(services.seen(), command.name)
    is_same = seen is not None and (seen.kind, seen.database, seen.plugin) == (
        command.kind,
        command.database,
        command.plugin,
    )
    if seen is not None and not is_same:
        text = f"another slot {command.name} exists on the primary: {seen.kind.value}"
        hint = "take another name, or drop that one with pg_drop_replication_slot"
        raise Problem(409, "name_taken", text, hint=hint)
    if command.kind is SlotKind.LOGICAL and find(facts, command.name) is None:
        await needs_logical_wal(services)


async def needs_logical_wal(services: Services) -> None:
    try:
        checked = await services.herd.check_config(ConfigAsked({}, ("wal_level",)))
    except (PostgresError, PeerError) as error:
        text = f"the primary's server could not be asked for wal_level: {error}"
        raise Problem(503, "unchecked", text, hint="wait for a primary: pgherd status") from error
    level = checked.running.get("wal_level", "")
    if level != "logical":
        raise Problem(
            412,
            "wal_level",
            f"logical slots need wal_level = logical; the primary has {level}",
            hint="pgherd config set wal_level=logical, then pgherd restart --rolling",
        )


async def settled(
    services: Services,
    response: Response,
    name: str,
    is_so: Callable[[Seen, str], bool],
    *,
    wait_s: float,
) -> schema.SlotChanged:
    began_s = services.clock()
    while wait_s and not is_so(services.seen(), name):
        if services.clock() - began_s > wait_s:
            raise TimedOut(
                f"slot {name} is in the ledger, and not yet so after {wait_s:g} s; {why(services)}",
                "see pgherd slots list; take it back: pgherd slots drop",
            )
        await asyncio.sleep(POLL_S)
    if not wait_s:
        response.status_code = 202
    seen = services.seen()
    servers, slot = heard(seen), on_primary(seen, name)
    return schema.SlotChanged(
        status="done" if wait_s else "accepted",
        name=name,
        primary=primary_of(seen),
        advice=slotadvice.at_failover(seen.facts, servers, slot) if slot is not None else "",
    )


def why(services: Services) -> str:
    """What the primary complains of."""
    seen = services.seen()
    leader = seen.facts.leader
    report = seen.fresh(leader.node) if leader is not None else None
    said = "; ".join(report.alarms) if report is not None else ""
    return said or "it goes on"


def heard(seen: Seen) -> dict[NodeId, ServerSeen]:
    """The servers of all nodes that are heard now."""
    reports = {node: seen.fresh(node) for node in seen.facts.members}
    return {node: one.server for node, one in reports.items() if one is not None}


def on_primary(seen: Seen, name: str) -> SlotSeen | None:
    leader = seen.facts.leader
    server = heard(seen).get(leader.node) if leader is not None else None
    slots = server.replication_slots if server is not None else ()
    return next((slot for slot in slots if slot.name == name), None)


def has_it(seen: Seen, name: str) -> bool:
    slot = on_primary(seen, name)
    return find(seen.facts, name) is not None and slot is not None and not slot.lost


def has_none(seen: Seen, name: str) -> bool:
    """Copies that PostgreSQL made go by themselves."""
    kept = find(seen.facts, name)
    servers = heard(seen).values()
    found = [slot for server in servers for slot in server.replication_slots if slot.name == name]
    return (kept is None or kept.dropping) and all(slot.synced for slot in found)


def slot_shown(
    facts: Facts, servers: slotadvice.Servers, node: NodeId, slot: SlotSeen
) -> schema.Slot:
    server = servers[node]
    leads = facts.is_leader(node) and server.state is Server.PRIMARY
    budget, end = server.slot_budget_bytes, server.wal_end
    whose = slotadvice.owner(facts, slot)
    advice = slotadvice.at_failover(facts, servers, slot) if leads else ""
    if slot.lost and whose == "other":
        advice = f"its WAL is gone: SELECT pg_drop_replication_slot('{slot.name}') on {node}"
    return schema.Slot(
        name=slot.name,
        node=node,
        type=slot.kind.value,
        owner=whose,
        active=slot.active,
        lsn=format_lsn(slot.lsn) if slot.lsn else None,
        retained_bytes=slot.kept_bytes(end),
        budget_bytes=budget if budget >= 0 else None,
        lost=slot.lost,
        temporary=slot.temporary,
        synced=slot.synced,
        database=slot.database,
        plugin=slot.plugin,
        failover_safe=slotadvice.survives(facts, servers, slot) if leads else None,
        advice=advice,
    )


def kept_shown(facts: Facts, servers: slotadvice.Servers, slot: KeptSlot) -> schema.KeptSlot:
    problem = slotadvice.of_kept(facts, slot, servers)
    state: Literal["kept", "missing", "dropping"]
    state = "dropping" if slot.dropping else "missing" if problem else "kept"
    return schema.KeptSlot(
        name=slot.name,
        type=slot.kind.value,
        database=slot.database,
        plugin=slot.plugin,
        state=state,
        requested_by=slot.requested_by,
        requested_at=iso(slot.asked_at_ms) or "",
        problem=problem,
    )
