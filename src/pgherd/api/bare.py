"""Paths without a version, for tools that were written for other managers of PostgreSQL.

Owns `/cluster/state`, `/cluster/replication`, `/connections`, and the twins of calls that `changes`
and `upkeep` own. What is written for Patroni is `patroni`'s.
"""

from __future__ import annotations

from fastapi import APIRouter, Depends

from pgherd.api import bareschema as schema
from pgherd.api import bareviews, changes, slots, upkeep
from pgherd.api import upkeepschema as actions
from pgherd.api.deps import ConsistentDep, OperatorDep, SeenDep, ServicesDep, viewer
from pgherd.api.schema import Changed
from pgherd.api.upkeep import Order
from pgherd.model.upkeep import Verb

router = APIRouter()
LATER: dict[int | str, dict[str, object]] = {202: {"model": Changed}}


@router.get("/cluster/state", dependencies=[Depends(viewer)])
async def cluster_state(seen: ConsistentDep) -> schema.ClusterState:
    """How every data member stands, in a word of a fixed list, and whether there is a pause."""
    return bareviews.state(seen)


@router.get("/cluster/replication", dependencies=[Depends(viewer)])
async def cluster_replication(seen: ConsistentDep) -> schema.Replication:
    """Who streams and how far, what commits wait for, and every slot."""
    return bareviews.replication(seen, await slots.every(seen))


@router.get("/connections", dependencies=[Depends(viewer)])
async def connections(services: ServicesDep, seen: SeenDep) -> schema.Connections:
    """Client sessions of this node's proxy, by server."""
    return bareviews.connections(seen, services.herd.proxy())


@router.post("/cluster/reinitialize", status_code=202)
async def reinitialize(
    services: ServicesDep, caller: OperatorDep, body: schema.NodeReinit
) -> actions.Action:
    """Set the data directory of a replica aside and copy another node anew."""
    wanted = actions.ReinitRequest(**body.model_dump(exclude={"node"}))
    upkeep.refuse_two_sources(wanted)
    return await Order(body.node, services, caller, wanted).ask(Verb.REINIT)


router.post("/cluster/failover", responses=LATER, operation_id="failover_bare")(changes.failover)
router.post("/cluster/switchover", responses=LATER, operation_id="switchover_bare")(
    changes.switchover
)
router.delete("/cluster/switchover", operation_id="cancel_switchover_bare")(
    upkeep.cancel_switchover
)
