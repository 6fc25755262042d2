"""Routes for what operators do with the herd: pause, restart, stop, copy anew, see how it stands.

Owns the form of what is asked, and what is refused before. What follows is the deciders'. Every
daemon takes every call: the ledger carries it to the node that it is about.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response

from pgherd.api import inhand, prechecks, views
from pgherd.api import upkeepschema as schema
from pgherd.api.changes import current_facts, due, new_id, submit
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
from pgherd.api.views import Seen
from pgherd.ledger.commands import AskWork, EndWork, Pause, Resume, SetMaintenance
from pgherd.ledger.levels import ACTIONS
from pgherd.model.errors import PeerError, PostgresError
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
    until = due(services, wanted.until)
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


@router.post(
    "/api/v1/nodes/{node_id}/maintenance", responses={202: {"model": schema.MaintenanceState}}
)
async def maintain(
    node_id: NodeName,
    services: ServicesDep,
    caller: OperatorDep,
    response: Response,
    body: schema.MaintenanceRequest,
) -> schema.MaintenanceState:
    """Have commits, new sessions and elections do without a node where they can, or no longer."""
    facts = await current_facts(services)
    node = find(facts, node_id).node
    command = SetMaintenance(
        node=node,
        enabled=body.enabled,
        requested_by=str(caller),
        reason=body.reason,
        allow_failover=body.allow_failover,
        until_ms=due(services, body.until) if body.enabled else 0,
        id=new_id() if body.enabled and facts.level >= ACTIONS else "",
    )
    await submit(services, command)
    await services.herd.consistent(timeout_s=CONSISTENT_TIMEOUT_S)
    facts = services.herd.facts()
    work = facts.upkeep.work(command.id)
    if work is not None and work.is_open:
        response.status_code = 202
    return schema.MaintenanceState(
        node=node,
        maintenance=inhand.maintenance(facts, node),
        is_sync=any(key.node == node for key in facts.sync.voters),
        action=work.id if work is not None and work.is_open else None,
    )


@router.post("/api/v1/nodes/{node_id}/maintenance/plan")
async def maintenance_plan(
    node_id: NodeName, services: ServicesDep, caller: OperatorDep
) -> schema.Checks:
    """Whether the others can do without a node, and what runs on it for long; changes nothing."""
    facts = await current_facts(services)
    node = find(facts, node_id).node
    if node not in {member.node for member in views.data_members(facts)}:
        raise Problem(404, "unknown_node", f"{node} is no data member", hint="pgherd nodes")
    try:
        found = await services.herd.long_transactions(node, prechecks.LONG_S)
    except (PostgresError, PeerError) as error:
        return prechecks.without(services.seen(), node, (), str(error))
    return prechecks.without(services.seen(), node, found)


# --- work on PostgreSQL of one node, or of several one after the other ---------------------------


class Order:
    """What is asked of PostgreSQL on one node, by whom: what these routes have in common."""

    def __init__(
        self,
        node_id: NodeName,
        services: ServicesDep,
        caller: OperatorDep,
        body: schema.WorkRequest | None = None,
    ) -> None:
        self._node_id = node_id
        self._services = services
        self._caller = str(caller)
        self._wanted = body or schema.WorkRequest()

    async def ask(self, verb: Verb) -> schema.Action:
        """Through the ledger, unless commits would miss the copy."""
        facts = await current_facts(self._services)
        node = find(facts, self._node_id).node
        needs_copies = verb in (Verb.STOP, Verb.REINIT) and not facts.is_leader(node)
        if needs_copies and not self._wanted.force:
            check = prechecks.survives(self._services.seen(), node)
            if not check.ok:
                hint = "wait until another standby streams, or add force"
                raise Problem(412, "would_stop_commits", check.text, hint=hint)
        return await ask_for(self._services, verb, [node], self._wanted, caller=self._caller)


OrderDep = Annotated[Order, Depends()]


@router.post("/api/v1/nodes/{node_id}/restart", status_code=202)
async def restart_node(order: OrderDep) -> schema.Action:
    """Restart PostgreSQL there; the primary's in place, under a new epoch."""
    return await order.ask(Verb.RESTART)


@router.post("/api/v1/nodes/{node_id}/reload", status_code=202)
async def reload_node(order: OrderDep) -> schema.Action:
    """Have PostgreSQL there read its configuration files again."""
    return await order.ask(Verb.RELOAD)


@router.post("/api/v1/nodes/{node_id}/stop", status_code=202)
async def stop_node(order: OrderDep) -> schema.Action:
    """Stop PostgreSQL until it is started by hand; with force the primary hands over first."""
    return await order.ask(Verb.STOP)


@router.post("/api/v1/nodes/{node_id}/start", status_code=202)
async def start_node(order: OrderDep) -> schema.Action:
    """Start PostgreSQL that was stopped by hand."""
    return await order.ask(Verb.START)


@router.post("/api/v1/nodes/{node_id}/reinitialize", status_code=202)
async def reinitialize_node(
    node_id: NodeName,
    services: ServicesDep,
    caller: OperatorDep,
    body: schema.ReinitRequest | None = None,
) -> schema.Action:
    """Set the data directory of a replica aside and copy another node anew."""
    wanted = body or schema.ReinitRequest()
    refuse_two_sources(wanted)
    return await Order(node_id, services, caller, wanted).ask(Verb.REINIT)


def refuse_two_sources(wanted: schema.ReinitRequest) -> None:
    if wanted.source is not None and wanted.from_leader:
        raise Problem(422, "invalid", "source and from_leader exclude each other")


@router.post("/api/v1/cluster/restart", status_code=202)
async def restart_cluster(
    services: ServicesDep,
    caller: OperatorDep,
    body: schema.RestartRequest | None = None,
) -> schema.Action:
    """Restart PostgreSQL node by node: replicas, then a switchover, then the old primary."""
    wanted = body or schema.RestartRequest()
    await current_facts(services)
    nodes = nodes_of(services.seen(), wanted)
    checks = prechecks.rolling(services.seen(), nodes)
    if not checks.ok and not wanted.force and wanted.at is None:
        bad = "; ".join(check.text for check in checks.checks if not check.ok)
        raise Problem(412, "not_ready", bad, hint="see to it first, or add force")
    return await ask_for(services, Verb.RESTART, nodes, wanted, caller=str(caller), rolling=True)


@router.post("/api/v1/cluster/restart/plan")
async def restart_plan(
    services: ServicesDep, caller: OperatorDep, body: schema.RestartRequest | None = None
) -> schema.Checks:
    """What a rolling restart would look at, and its order; changes nothing."""
    await current_facts(services)
    nodes = nodes_of(services.seen(), body or schema.RestartRequest())
    return prechecks.rolling(services.seen(), nodes)


def nodes_of(seen: Seen, wanted: schema.RestartRequest) -> list[NodeId]:
    """The nodes that are named, or all that hold data and were not stopped by hand.

    Whose restart is pending shows when its turn comes; with nobody now nothing is asked for.
    """
    facts = seen.facts
    stopped = facts.upkeep.stopped
    nodes = [find(facts, name).node for name in wanted.nodes] or [
        member.node for member in views.data_members(facts) if member.node not in stopped
    ]
    if not wanted.pending or wanted.at is not None:
        return nodes
    reports = [(node, seen.fresh(node)) for node in nodes]
    waiting = [node for node, report in reports if report is not None and report.server.pending]
    if not waiting:
        hint = "see what each runs with: pgherd config show"
        raise Problem(412, "nothing_pending", "no server waits for a restart", hint=hint)
    return waiting


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
        not_before_ms=due(services, wanted.at),
        rolling=rolling,
        force=wanted.force,
        source=source_of(services.herd.facts(), wanted),
        from_leader=isinstance(wanted, schema.ReinitRequest) and wanted.from_leader,
        only_pending=isinstance(wanted, schema.RestartRequest) and wanted.pending,
        only_outdated=isinstance(wanted, schema.UpgradeRequest),
    )
    await submit(services, command)
    return inhand.action(await work_of(services, command.id), services.herd.reports())


def source_of(facts: Facts, wanted: schema.WorkRequest) -> NodeId | None:
    """Which node was asked to be copied."""
    named = wanted.source if isinstance(wanted, schema.ReinitRequest) else None
    return find(facts, named).node if named is not None else None


# --- what became of it ---------------------------------------------------------------------------


@router.get("/api/v1/actions", dependencies=[Depends(viewer)])
async def all_actions(seen: ConsistentDep) -> schema.Actions:
    """What is under way and what has ended lately, the newest first."""
    works = reversed(seen.facts.upkeep.works)
    return schema.Actions(actions=[inhand.action(work, seen.reports) for work in works])


@router.get("/api/v1/actions/{action_id}", dependencies=[Depends(viewer)])
async def one_action(action_id: ActionId, seen: ConsistentDep) -> schema.Action:
    """How one stands."""
    return inhand.action(found_work(seen.facts, action_id), seen.reports)


@router.delete("/api/v1/actions/{action_id}")
async def cancel_action(
    action_id: ActionId, services: ServicesDep, caller: OperatorDep
) -> schema.Action:
    """End it now, or after the node that it has in hand."""
    work = found_work(await current_facts(services), action_id)
    return await cancelled(services, work.id, str(caller))


@router.delete("/api/v1/cluster/switchover")
async def cancel_switchover(services: ServicesDep, caller: OperatorDep) -> schema.Action:
    """End the switchover that is scheduled, or one under way whose handover has not begun."""
    facts = await current_facts(services)
    asked = [work for work in facts.upkeep.open_works() if work.verb is Verb.SWITCHOVER]
    if not asked:
        raise Problem(404, "unknown_action", "no switchover is scheduled", hint="pgherd actions")
    return await cancelled(services, asked[0].id, str(caller))


async def cancelled(services: Services, id: str, caller: str) -> schema.Action:
    """End it, as far as that can be, and say how it stands."""
    text = f"cancelled by {caller}"
    await submit(services, EndWork(id=id, state=WorkState.CANCELLED, text=text))
    return inhand.action(await work_of(services, id), services.herd.reports())


async def work_of(services: Services, id: str) -> Work:
    """The work as this node knows it once it has applied what was just agreed on."""
    await services.herd.consistent(timeout_s=CONSISTENT_TIMEOUT_S)
    return found_work(services.herd.facts(), id)


def found_work(facts: Facts, id: str) -> Work:
    """The work of this id, or the only one whose id begins so."""
    begun = [one for one in facts.upkeep.works if one.id.startswith(id)]
    work = facts.upkeep.work(id) or (begun[0] if len(begun) == 1 else None)
    if work is None:
        raise Problem(404, "unknown_action", f"there is no action {id}", hint="pgherd actions")
    return work
