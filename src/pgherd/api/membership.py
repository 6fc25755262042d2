"""Routes about who belongs to the herd: invite a node, remove one, move the lead, save the ledger.

Owns what is refused before anything is asked for, and the wait until it is done. The steps between
(sync set, slots, consensus, ledger) are the deciders'. Every daemon takes every call.
"""

from __future__ import annotations

import asyncio
import shlex

from fastapi import APIRouter, Response

from pgherd.api import schema, views
from pgherd.api.changes import POLL_S, WAIT_S, Wait, current_facts, make_join_token, submit
from pgherd.api.deps import SUBMIT_TIMEOUT_S, AdminDep, OperatorDep, Services, ServicesDep
from pgherd.api.failures import STATUS_HINT, Problem
from pgherd.api.herd import NoQuorum, RaftRole, TimedOut
from pgherd.api.reads import NodeName, find
from pgherd.api.suffrage import voters_without
from pgherd.api.times import iso
from pgherd.api.views import Seen
from pgherd.ledger.commands import AskLeave, SetMaxVoters
from pgherd.ledger.saved import Saved, render, without_secrets
from pgherd.model.facts import Facts, Member
from pgherd.model.ids import Instant

router = APIRouter()


@router.post("/api/v1/cluster/nodes", status_code=201)
@router.post("/raft/add-peer", status_code=201, operation_id="raft_add_peer")
async def add_node(
    services: ServicesDep, caller: AdminDep, body: schema.NodeWanted | None = None
) -> schema.NodeInvited:
    """Make a join token and say how to use it: a node becomes a member by its own `pgherd join`."""
    wanted = body or schema.NodeWanted()
    if wanted.name is not None and wanted.name in services.herd.facts().members:
        raise Problem(409, "name_taken", f"{wanted.name} is a member already", hint=STATUS_HINT)
    made = await make_join_token(services, schema.TokenRequest(ttl_seconds=wanted.ttl_seconds))
    return schema.NodeInvited(**made.model_dump(), command=join_command(made.token, wanted))


def join_command(token: str, wanted: schema.NodeWanted) -> str:
    """What to type on the new machine."""
    words = ["pgherd", "join", "--name", wanted.name or "NAME", "--token", token, "--start"]
    words += ["--address", wanted.address] if wanted.address else []
    words += ["--witness"] if wanted.witness else []
    words += ["--proxy"] if wanted.proxy else []
    return shlex.join(words)


@router.delete("/api/v1/cluster/nodes/{node_id}", responses={202: {"model": schema.NodeRemoved}})
async def remove_node(
    node_id: NodeName,
    services: ServicesDep,
    caller: AdminDep,
    response: Response,
    wait: Wait = WAIT_S,
) -> schema.NodeRemoved:
    """Remove a member for good: out of sync set, consensus and ledger; waits until it is gone."""
    facts = await current_facts(services)
    member = find(facts, node_id)
    missing = await silent_voters(services, member)
    if missing:
        raise Problem(
            412,
            "would_lose_quorum",
            f"without {member.node} too few voters answer: {', '.join(missing)} "
            f"{'does' if len(missing) == 1 else 'do'} not",
            hint="start those first, or remove them first if they are lost",
        )
    await submit(services, AskLeave(node=member.node, requested_by=str(caller)))
    if wait == 0:
        response.status_code = 202
        return removed("accepted", member, services.herd.facts())
    await until_gone(services, member, wait_s=wait)
    return removed("done", member, services.herd.facts())


@router.post("/raft/remove-peer", responses={202: {"model": schema.NodeRemoved}})
async def remove_peer(
    services: ServicesDep,
    caller: AdminDep,
    response: Response,
    body: schema.NodeUnwanted,
    wait: Wait = WAIT_S,
) -> schema.NodeRemoved:
    """The same, for tools that know of peers."""
    return await remove_node(body.node, services, caller, response, wait)


async def silent_voters(services: Services, leaving: Member) -> list[str]:
    """Who else would have to answer for a majority without this member; nobody: it may go.

    One that died a moment ago still looks alive, and would have the removal begin: whoever is
    needed must be heard after the question was asked, which takes a report's time.
    """
    asked = services.seen().now
    while True:
        seen = services.seen()
        if leaving.raft_id not in seen.raft.voters:
            return []
        left = voters_without(seen, leaving)
        needed = len(left) // 2 + 1
        heard = [member for member in left if heard_since(seen, member, asked)]
        maybe = [member for member in left if seen.fresh(member.node) is not None]
        if len(heard) >= needed:
            return []
        if len(maybe) < needed:
            return [str(member.node) for member in left if member not in maybe]
        await asyncio.sleep(POLL_S)


def heard_since(seen: Seen, member: Member, asked: Instant) -> bool:
    heard = seen.reports.get(member.node)
    return member.node == seen.me or (heard is not None and heard.at >= asked)


async def until_gone(services: Services, member: Member, *, wait_s: float) -> None:
    """Wait until the ledger has forgotten it, or until we hear that it was ourselves."""
    began_s = services.clock()
    while services.herd.facts().members.get(member.node, None) is not None:
        if services.herd.facts().members[member.node].raft_id != member.raft_id:
            return
        if services.herd.raft().role is RaftRole.REMOVED:
            return
        if services.clock() - began_s > wait_s:
            raise TimedOut(
                f"{member.node} is not gone after {wait_s:g} s; its removal goes on",
                "see what it waits for: pgherd explain, on the Raft leader",
            )
        await asyncio.sleep(POLL_S)


def removed(status: str, member: Member, facts: Facts) -> schema.NodeRemoved:
    left = [node for node in sorted(facts.members) if node != member.node]
    return schema.NodeRemoved(
        status="done" if status == "done" else "accepted",
        node=member.node,
        raft_id=member.raft_id,
        members=list(left),
    )


@router.put("/raft/max-voters")
async def set_max_voters(
    services: ServicesDep, caller: AdminDep, body: schema.MaxVoters
) -> schema.MaxVoters:
    """Change how many members vote at most; the steps towards it follow by themselves."""
    await submit(services, SetMaxVoters(body.max_voters, requested_by=str(caller)))
    return body


@router.post("/raft/transfer-leadership")
async def transfer_leadership(
    services: ServicesDep, caller: OperatorDep, body: schema.LeadershipRequest | None = None
) -> schema.LeadershipMoved:
    """Move the lead of consensus, which is not the primary's; waits until it has moved."""
    await current_facts(services)
    seen = services.seen()
    old = seen.raft.leader
    if old is None:
        raise NoQuorum("consensus has no leader", STATUS_HINT)
    named = body.to if body is not None else None
    target = find(seen.facts, named) if named is not None else heir(seen)
    why = unfit_to_lead(seen, target)
    if why:
        raise Problem(412, "cannot_lead", why, hint="see who can: pgherd raft peers")
    await services.herd.transfer(target.node, timeout_s=SUBMIT_TIMEOUT_S)
    return schema.LeadershipMoved(old_leader=old, new_leader=target.node)


def heir(seen: Seen) -> Member:
    """The first voter that could lead instead of the present leader."""
    for member in views.members(seen.facts):
        if member.node != seen.raft.leader and not unfit_to_lead(seen, member):
            return member
    raise Problem(412, "nobody", "no other node can lead consensus now", hint="pgherd raft peers")


def unfit_to_lead(seen: Seen, member: Member) -> str:
    """Why a member cannot lead consensus; "" when it can, or does already."""
    node = member.node
    if node == seen.raft.leader:
        return ""
    if member.raft_id not in seen.raft.voters:
        return f"{node} does not vote"
    if member.leaving:
        return f"{node} is being removed"
    if seen.fresh(node) is None:
        return f"{node} does not answer"
    if seen.facts.is_leader(node) and len(seen.raft.voters) > 1:
        return f"{node} is the primary: one crash would cost two elections, so it hands the lead on"
    return ""


@router.get("/raft/snapshot")
async def save_ledger(services: ServicesDep, caller: AdminDep) -> schema.LedgerSaved:
    """The ledger and its members as of now, to be kept in a file; there is no secret in it."""
    await current_facts(services)
    seen = services.seen()
    facts, raft = without_secrets(seen.facts), seen.raft
    when = f"{iso(seen.unix_ms)} by {seen.me}, pgherd {services.version}"
    saved = Saved(
        facts=facts,
        index=raft.applied,
        raft_term=raft.term,
        voters=raft.voters,
        saved=when,
        at_ms=seen.unix_ms,
    )
    return schema.LedgerSaved(
        cluster=facts.cluster,
        epoch=facts.term,
        raft_index=raft.applied,
        members=sorted(facts.members),
        saved=when,
        content=render(saved),
    )
