"""Routes of a standby cluster: its promotion, the demotion of a writable one.

Owns what is asked and refused before, and the wait until it is done. What may count in the first
election is found here, from reports; the ledger and the deciders do the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from fastapi import APIRouter

from pgherd.api import following
from pgherd.api.changes import current_facts, submit
from pgherd.api.deps import CONSISTENT_TIMEOUT_S, AdminDep, Services, ServicesDep
from pgherd.api.failures import STATUS_HINT, Problem
from pgherd.api.herd import TimedOut
from pgherd.api.standbyschema import (
    ClusterDemoted,
    ClusterPromoted,
    DemoteClusterRequest,
    PromoteClusterRequest,
)
from pgherd.api.views import Seen, data_members
from pgherd.config.fields import split_host_port
from pgherd.ledger.commands import DemoteCluster, PromoteCluster
from pgherd.model.errors import PgherdError
from pgherd.model.facts import Facts, Phase
from pgherd.model.ids import MemberKey, NodeId, format_lsn
from pgherd.model.observation import Server
from pgherd.model.standbycluster import Following, Remote, RemoteSeen
from pgherd.plan.standbycluster import reach

POLL_S = 0.05
WAIT_S = 40.0
SETTLE_S = 10.0
"""How long a member that runs is waited for that does not stream from the standby leader yet."""
FORCE = "pgherd cluster promote --force"

router = APIRouter()


class Ready(msgspec.Struct, frozen=True):
    """Who counts in the first election, and which data members do not."""

    voters: tuple[MemberKey, ...]
    left_out: tuple[NodeId, ...]


@router.post("/api/v1/cluster/promote", operation_id="promote_cluster")
async def promote(
    services: ServicesDep, caller: AdminDep, body: PromoteClusterRequest | None = None
) -> ClusterPromoted:
    """Make a standby cluster writable; waits until it has a primary."""
    force = body is not None and body.force
    before = await current_facts(services)
    if before.follows is None:
        raise Problem(
            412, "not_standby", "this is no standby cluster: it is writable", hint=STATUS_HINT
        )
    seen, known, ready = await settled(services)
    if not force:
        refuse_to_lose(seen, known, ready)
        refuse_to_split(seen, known, await asked(services, known))
    command = PromoteCluster(
        known.number, ready.voters, str(caller), left_out=ready.left_out, forced=force
    )
    await submit(services, command)
    facts = await until(
        services,
        lambda now: now.follows is None and now.phase is Phase.STABLE,
        "the promotion of the cluster",
    )
    reign = facts.reign()
    assert reign is not None, "a stable term has a reign"
    return ClusterPromoted(
        new_primary=reign.leader.node,
        epoch=facts.term,
        lsn=format_lsn(reign.start.lsn),
        left_out=list(ready.left_out),
        reason=reign.reason,
    )


async def settled(services: Services) -> tuple[Seen, Following, Ready]:
    """Who counts, once whoever runs and is about to follow has had a moment to do so."""
    began_s = services.clock()
    while True:
        seen = services.seen()
        known = seen.facts.follows
        if known is None:
            raise Problem(409, "stale", "the cluster was promoted meanwhile", hint=STATUS_HINT)
        ready = counted(seen, known)
        coming = [node for node in ready.left_out if following.runs(seen.fresh(node))]
        if not coming or services.clock() - began_s > SETTLE_S:
            return seen, known, ready
        await asyncio.sleep(POLL_S)


def counted(seen: Seen, known: Following) -> Ready:
    """The standby leader and whoever streams from it, which is only who is on its history."""
    leader = known.leader
    lead = seen.fresh(leader) if leader is not None else None
    if leader is None or lead is None or not following.runs(lead):
        raise Problem(
            412,
            "no_standby_leader",
            f"{leader or 'nobody'} is standby leader, and its server is not up",
            hint="wait until another takes its place, or start it: pgherd status",
        )
    voters, left = [], []
    for member in data_members(seen.facts):
        report = seen.fresh(member.node)
        follows = following.streams(seen.facts, report)
        fits = report is not None and report.promises.incarnation == member.incarnation
        if fits and (member.node == leader or follows):
            voters.append(member.key)
        else:
            left.append(member.node)
    return Ready(tuple(voters), tuple(left))


def refuse_to_lose(seen: Seen, known: Following, ready: Ready) -> None:
    """Somebody who does not count may have more than all who do."""
    assert known.leader is not None, "a standby leader counts"
    lead = seen.newest(known.leader)
    for node in ready.left_out:
        report, heard = seen.newest(node), seen.fresh(node)
        if heard is not None and lead is not None and reach(heard)[1] <= reach(lead)[1]:
            continue  # it has nothing that the standby leader has not
        if report is not None and report.server.state is Server.NONE:
            continue
        what = "is not heard" if heard is None else "is ahead of the standby leader"
        raise Problem(
            412,
            "would_lose",
            f"{node} {what}: what only it received would be lost",
            hint=f"wait for it, or go on without it: {FORCE}",
            details={"node": node},
        )


async def asked(services: Services, known: Following) -> tuple[RemoteSeen, ...]:
    """What the remote says of itself now, to the standby leader, which can reach it if any can."""
    assert known.leader is not None, "a standby leader counts"
    try:
        return await services.herd.ask_remote(known.leader, known.remote)
    except PgherdError as error:
        raise Problem(
            503,
            "unavailable",
            f"{known.leader} cannot ask the remote primary: {error.message}",
            hint=f"try again; if the remote is certainly down: {FORCE}",
        ) from error


def refuse_to_split(seen: Seen, known: Following, remote: tuple[RemoteSeen, ...]) -> None:
    """A remote that takes writes, or has more than came here."""
    lives = next((one for one in remote if one.is_primary), None)
    if lives is not None:
        raise Problem(
            412,
            "remote_alive",
            f"the remote primary {lives.host}:{lives.port} is alive: both clusters would take"
            " writes, and those of one of them would be lost",
            hint="demote it first, there: pgherd cluster demote --to HOST:PORT of this one;"
            f" or stop it; or {FORCE}",
        )
    assert known.leader is not None, "a standby leader counts"
    lead = seen.newest(known.leader)
    ahead = next(
        (
            one
            for one in remote
            if not one.problem and lead is not None and one.lsn > reach(lead)[1]
        ),
        None,
    )
    if ahead is not None and lead is not None:
        raise Problem(
            412,
            "behind",
            f"the remote has WAL up to {format_lsn(ahead.lsn)} at {ahead.host}:{ahead.port}, here"
            f" it ends at {format_lsn(reach(lead)[1])}: the rest would be lost",
            hint=f"wait until it has come, or go on without it: {FORCE}",
        )


@router.post("/api/v1/cluster/demote", operation_id="demote_cluster")
async def demote(
    services: ServicesDep, caller: AdminDep, body: DemoteClusterRequest
) -> ClusterDemoted:
    """Make a writable cluster a standby cluster, or have one follow another remote; waits until
    nothing of it is a primary any more."""
    before = await current_facts(services)
    hosts = tuple(address(text) for text in body.hosts)
    refuse_itself(before, hosts)
    remote = Remote(hosts, slot=body.primary_slot_name, sslmode=body.sslmode)
    await submit(services, DemoteCluster(before.term, remote, str(caller)))
    old = before.leader.node if before.leader is not None else None
    await until(
        services,
        lambda now: now.follows is not None and (old is None or has_stood_down(services, old)),
        "the demotion of the cluster",
    )
    known = services.herd.facts().follows
    report = services.seen().newest(old) if old is not None else None
    position = report.server.position if report is not None else None
    return ClusterDemoted(
        standby_leader=known.leader if known is not None else None,
        hosts=list(body.hosts),
        lsn=format_lsn(position.lsn) if position is not None else None,
    )


def address(text: str) -> tuple[str, int]:
    try:
        return split_host_port(text)
    except ValueError as error:
        raise Problem(422, "invalid", str(error), hint="write host:port") from error


def refuse_itself(facts: Facts, hosts: tuple[tuple[str, int], ...]) -> None:
    """A cluster that follows itself follows nobody."""
    own = {m.address.postgres(): m.node for m in data_members(facts)}
    for host, port in hosts:
        if (host, port) in own:
            raise Problem(
                422,
                "invalid",
                f"{host}:{port} is {own[host, port]} of this cluster",
                hint="name the servers of the other site",
            )


def has_stood_down(services: Services, node: NodeId) -> bool:
    """Whether who led is a standby now, by its own word."""
    return following.runs(services.seen().fresh(node))


async def until(services: Services, done: Callable[[Facts], bool], what: str) -> Facts:
    """Wait, on what a quorum knows first."""
    await services.herd.consistent(timeout_s=CONSISTENT_TIMEOUT_S)
    began_s = services.clock()
    while not done(facts := services.herd.facts()):
        if services.clock() - began_s > WAIT_S:
            raise TimedOut(f"{what} is not done after {WAIT_S:g} s; it goes on", STATUS_HINT)
        await asyncio.sleep(POLL_S)
    return facts
