"""Routes for a minor upgrade: a rolling restart of whose server is older than what is installed.

Owns what is refused before; what follows is the deciders', as of any rolling restart.
"""

from __future__ import annotations

from fastapi import APIRouter

from pgherd.api import prechecks, upkeep, versions, views
from pgherd.api import upkeepschema as schema
from pgherd.api.changes import current_facts
from pgherd.api.deps import OperatorDep, ServicesDep
from pgherd.api.failures import Problem
from pgherd.api.views import Seen
from pgherd.model.ids import NodeId
from pgherd.model.upkeep import Verb
from pgherd.plan import programs

router = APIRouter()


@router.post("/api/v1/cluster/upgrade/minor", status_code=202)
async def upgrade_minor(
    services: ServicesDep, caller: OperatorDep, body: schema.UpgradeRequest | None = None
) -> schema.Action:
    """Restart whose server is older than what is installed: replicas, switchover, old primary."""
    wanted = body or schema.UpgradeRequest()
    await current_facts(services)
    seen = services.seen()
    nodes = nodes_of(seen, later=wanted.at is not None)
    checks = prechecks.upgrade(seen, nodes)
    if not checks.ok and not wanted.force and wanted.at is None:
        bad = "; ".join(check.text for check in checks.checks if not check.ok)
        raise Problem(412, "not_ready", bad, hint="see to it first, or add force")
    return await upkeep.ask_for(
        services, Verb.RESTART, nodes, wanted, caller=str(caller), rolling=True
    )


@router.post("/api/v1/cluster/upgrade/minor/plan")
async def upgrade_minor_plan(
    services: ServicesDep, caller: OperatorDep, body: schema.UpgradeRequest | None = None
) -> schema.Checks:
    """What a minor upgrade would look at, and its order; changes nothing."""
    await current_facts(services)
    seen = services.seen()
    later = body is not None and body.at is not None
    return prechecks.upgrade(seen, nodes_of(seen, later=later))


def nodes_of(seen: Seen, *, later: bool) -> list[NodeId]:
    """Whose server waits for it; all, where it is for later: who does shows when its turn comes.

    Refused, also by force, while some server would not start with what is on its disk.
    """
    servers = versions.servers(seen)
    never = [one for one in programs.mismatches(seen.facts, servers) if one.stops]
    if never:
        text = "; ".join(f"{one.node}: {one.text}" for one in never)
        raise Problem(412, "cannot_start", text, hint=never[0].todo)
    if later:
        stopped = seen.facts.upkeep.stopped
        return [one.node for one in views.data_members(seen.facts) if one.node not in stopped]
    nodes = programs.outdated(seen.facts, servers)
    if not nodes:
        hint = "install the packages of the newer minor version on the nodes, then: pgherd nodes"
        text = f"nothing newer is installed: {versions.standing(servers)}"
        raise Problem(412, "nothing_newer", text, hint=hint)
    return nodes
