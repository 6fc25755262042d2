"""Routes for what operators do with the herd: pause, restart, stop, copy anew, see how it stands.

Owns the form of what is asked, and what is refused before. What follows is the deciders'. Every
daemon takes every call: the ledger carries it to the node that it is about.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from pgherd.api import inhand, prechecks, views
from pgherd.api import upkeepschema as schema
from pgherd.api.changes import current_facts, new_id, submit
from pgherd.api.deps import (
    CONSISTENT_TIMEOUT_S,
    ConsistentDep,
    OperatorDep,
    Services,
    ServicesDep,
    viewer,
)
from pgherd.api.failures import Problem
from pgherd.api.reads import NodeName, find
from pgherd.api.times import unix_ms_of
from pgherd.ledger.commands import AskWork, EndWork, Pause, Resume, SetMaintenance
from pgherd.model.facts import Facts
from pgherd.model.ids import NodeId
from pgherd.model.upkeep import Verb, Work, WorkState

ActionId = Annotated[str, Path(max_length=32)]

router = APIRouter()


@router.post("/api/v1/cluster/pause")
@router.post("/cluster/pause", operation_id="pause_bare")
async def pause(
    services: ServicesDep, caller: OperatorDep, body: schema.PauseRequest | None = None
) -> schema.PauseState:
    """Nobody fails over and nothing is repaired by itself from now on."""
    wanted = body or schema.PauseRequest()
    until = unix_ms_of(wanted.until, now_ms=int(services.unix_s() * 1000))
    await current_facts(services)
    command = Pause(id=new_id(), requested_by=str(caller), reason=wanted.reason, until_ms=until)
    await submit(services, command)
    return await known(services)


@router.post("/api/v1/cluster/resume")
@router.post("/cluster/resume", operation_id="resume_bare")
async def resume(services: ServicesDep, caller: OperatorDep) -> schema.PauseState:
    """The pause is over; without one nothing changes."""
    found = (await current_facts(services)).upkeep.pause
    if found is not None:
        await submit(services, Resume(id=found.id, reason=f"resumed by {caller}"))
    return await known(services)


async def known(services: Services) -> schema.PauseState:
    """The pause as this node knows it once it has applied what was just agreed on."""
    await services.herd.consistent(timeout_s=CONSISTENT_TIMEOUT_S)
    return inhand.pause_state(services.herd.facts())


# --- maintenance of one node ---------------------------------------------------------------------


@router.post("/api/v1/nodes/{node_id}/maintenance")
async def maintain(
    node_id: NodeName,
    services: ServicesDep,
    caller: OperatorDep,
    body: schema.MaintenanceRequest,
) -> schema.MaintenanceState:
    """Have commits, new sessions and elections do without a node where they can, or no longer."""
    node = find(await current_facts(services), node_id).node
    command = SetMaintenance(
        node=node,
        enabled=body.enabled,
        requested_by=str(caller),
        reason=body.reason,
        allow_failover=body.allow_failover,
    )
    await submit(services, command)
    await services.herd.consistent(timeout_s=CONSISTENT_TIMEOUT_S)
    facts = services.herd.facts()
    return schema.MaintenanceState(
        node=node,
        maintenance=inhand.maintenance(facts, node),
        is_sync=any(key.node == node for key in facts.sync.voters),
    )


# --- work on PostgreSQL of one node, or of several one after the other ---------------------------


@router.post("/api/v1/nodes/{node_id}/restart", status_code=202)
async def restart_node(
    node_id: NodeName,
    services: ServicesDep,
    caller: OperatorDep,
    body: schema.WorkRequest | None = None,
) -> schema.Action:
    """Restart PostgreSQL there; the primary's in place, under a new epoch."""
    return await ask_for_one(services, Verb.RESTART, node_id, body, caller=str(caller))


@router.post("/api/v1/nodes/{node_id}/reload", status_code=202)
async def reload_node(
    node_id: NodeName,
    services: ServicesDep,
    caller: OperatorDep,
    body: schema.WorkRequest | None = None,
) -> schema.Action:
    """Have PostgreSQL there read its configuration files again."""
    return await ask_for_one(services, Verb.RELOAD, node_id, body, caller=str(caller))


@router.post("/api/v1/nodes/{node_id}/stop", status_code=202)
async def stop_node(
    node_id: NodeName,
    services: ServicesDep,
    caller: OperatorDep,
    body: schema.WorkRequest | None = None,
) -> schema.Action:
    """Stop PostgreSQL until it is started by hand; with force the primary hands over first."""
    return await ask_for_one(services, Verb.STOP, node_id, body, caller=str(caller))


@router.post("/api/v1/nodes/{node_id}/start", status_code=202)
async def start_node(
    node_id: NodeName,
    services: ServicesDep,
    caller: OperatorDep,
    body: schema.WorkRequest | None = None,
) -> schema.Action:
    """Start PostgreSQL that was stopped by hand."""
    return await ask_for_one(services, Verb.START, node_id, body, caller=str(caller))


@router.post("/api/v1/nodes/{node_id}/reinitialize", status_code=202)
async def reinitialize_node(
    node_id: NodeName,
    services: ServicesDep,
    caller: OperatorDep,
    body: schema.ReinitRequest | None = None,
) -> schema.Action:
    """Set the data directory of a replica aside and copy another node anew."""
    wanted = body or schema.ReinitRequest()
    if wanted.source is not None and wanted.from_leader:
        raise Problem(422, "invalid", "source and from_leader exclude each other")
    return await ask_for_one(services, Verb.REINIT, node_id, wanted, caller=str(caller))


async def ask_for_one(
    services: Services,
    verb: Verb,
    node_id: str,
    body: schema.WorkRequest | None,
    *,
    caller: str,
) -> schema.Action:
    facts = await current_facts(services)
    member, wanted = find(facts, node_id), body or schema.WorkRequest()
    needs_copies = verb in (Verb.STOP, Verb.REINIT) and not facts.is_leader(member.node)
    if needs_copies and not wanted.force:
        check = prechecks.survives(services.seen(), member.node)
        if not check.ok:
            hint = "wait until another standby streams, or add force"
            raise Problem(412, "would_stop_commits", check.text, hint=hint)
    return await ask_for(services, verb, [member.node], wanted, caller=caller)


@router.post("/api/v1/cluster/restart", status_code=202)
async def restart_cluster(
    services: ServicesDep,
    caller: OperatorDep,
    body: schema.RestartRequest | None = None,
) -> schema.Action:
    """Restart PostgreSQL node by node: replicas, then a switchover, then the old primary."""
    wanted = body or schema.RestartRequest()
    facts = await current_facts(services)
    nodes = nodes_of(facts, wanted)
    checks = prechecks.rolling(services.seen(), nodes)
    if not checks.ok and not wanted.force:
        bad = "; ".join(check.text for check in checks.checks if not check.ok)
        raise Problem(412, "not_ready", bad, hint="see to it first, or add force")
    return await ask_for(services, Verb.RESTART, nodes, wanted, caller=str(caller), rolling=True)


@router.post("/api/v1/cluster/restart/plan")
async def restart_plan(
    services: ServicesDep, caller: OperatorDep, body: schema.RestartRequest | None = None
) -> schema.Checks:
    """What a rolling restart would look at, and its order; changes nothing."""
    facts = await current_facts(services)
    nodes = nodes_of(facts, body or schema.RestartRequest())
    return prechecks.rolling(services.seen(), nodes)


def nodes_of(facts: Facts, wanted: schema.RestartRequest) -> list[NodeId]:
    """The nodes that are named, or all that hold data and were not stopped by hand."""
    if wanted.nodes:
        return [find(facts, name).node for name in wanted.nodes]
    stopped = facts.upkeep.stopped
    return [member.node for member in views.data_members(facts) if member.node not in stopped]


async def ask_for(
    services: Services,
    verb: Verb,
    nodes: list[NodeId],
    wanted: schema.WorkRequest,
    *,
    caller: str,
    rolling: bool = False,
) -> schema.Action:
    """Through the ledger; the answer is how it stands there."""
    command = AskWork(
        id=new_id(),
        verb=verb,
        nodes=tuple(nodes),
        requested_by=caller,
        reason=wanted.reason,
        not_before_ms=unix_ms_of(wanted.at, now_ms=int(services.unix_s() * 1000)),
        rolling=rolling,
        force=wanted.force,
        source=source_of(services.herd.facts(), wanted),
        from_leader=isinstance(wanted, schema.ReinitRequest) and wanted.from_leader,
    )
    await submit(services, command)
    return inhand.action(await work_of(services, command.id))


def source_of(facts: Facts, wanted: schema.WorkRequest) -> NodeId | None:
    """Which node was asked to be copied."""
    named = wanted.source if isinstance(wanted, schema.ReinitRequest) else None
    return find(facts, named).node if named is not None else None


# --- what became of it ---------------------------------------------------------------------------


@router.get("/api/v1/actions", dependencies=[Depends(viewer)])
async def all_actions(seen: ConsistentDep) -> schema.Actions:
    """What is under way and what has ended lately, the newest first."""
    works = reversed(seen.facts.upkeep.works)
    return schema.Actions(actions=[inhand.action(work) for work in works])


@router.get("/api/v1/actions/{action_id}", dependencies=[Depends(viewer)])
async def one_action(action_id: ActionId, seen: ConsistentDep) -> schema.Action:
    """How one stands."""
    return inhand.action(found_work(seen.facts, action_id))


@router.delete("/api/v1/actions/{action_id}")
async def cancel_action(
    action_id: ActionId, services: ServicesDep, caller: OperatorDep
) -> schema.Action:
    """End it now, or after the node that it has in hand."""
    found_work(await current_facts(services), action_id)
    text = f"cancelled by {caller}"
    await submit(services, EndWork(id=action_id, state=WorkState.CANCELLED, text=text))
    return inhand.action(await work_of(services, action_id))


async def work_of(services: Services, id: str) -> Work:
    """The work as this node knows it once it has applied what was just agreed on."""
    await services.herd.consistent(timeout_s=CONSISTENT_TIMEOUT_S)
    return found_work(services.herd.facts(), id)


def found_work(facts: Facts, id: str) -> Work:
    work = facts.upkeep.work(id)
    if work is None:
        raise Problem(404, "unknown_action", f"there is no action {id}", hint="pgherd actions")
    return work
