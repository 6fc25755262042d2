"""Routes that ask for a change: switchover, failover, join tokens.

Owns the wait until a change is done, and the answer that says what became of it. The change itself
is a command in the ledger; the deciders do the rest. Every daemon takes every call.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from typing import Annotated

from fastapi import APIRouter, Query, Response

from pgherd.api import forcing, schema, standbylead, views
from pgherd.api.deps import (
    CONSISTENT_TIMEOUT_S,
    SUBMIT_TIMEOUT_S,
    AdminDep,
    OperatorDep,
    Services,
    ServicesDep,
)
from pgherd.api.failures import STATUS_HINT, Problem, refused
from pgherd.api.herd import NoQuorum, TimedOut
from pgherd.api.reads import NodeName, find
from pgherd.api.times import iso, unix_ms_of
from pgherd.ledger.commands import (
    AnyCommand,
    AskWork,
    IssueToken,
    Refused,
    RequestFailover,
    RequestSwitchover,
)
from pgherd.model.facts import Facts, Kind, Phase
from pgherd.model.ids import NodeId
from pgherd.model.upkeep import Verb
from pgherd.pki.authority import fingerprint
from pgherd.pki.token import Invitation, encode_token, hash_secret, new_secret
from pgherd.plan.leaseclock import running
from pgherd.telemetry import trace

POLL_S = 0.02
WAIT_S = 60.0
ORDER_S = 15.0
"""An order to give members up is followed within moments, or the elector knows better."""
WAIT_S_MAX = 600.0

Wait = Annotated[float, Query(ge=0, le=WAIT_S_MAX, description="Seconds to wait; 0: answer 202.")]

router = APIRouter()

_given: deque[str] = deque(maxlen=64)
"""Traces that were the id of an order already: a request may give two."""


@router.post("/api/v1/cluster/switchover", responses={202: {"model": schema.Changed}})
async def switchover(
    services: ServicesDep,
    caller: OperatorDep,
    response: Response,
    body: schema.SwitchoverRequest | None = None,
    wait: Wait = WAIT_S,
) -> schema.Changed:
    """Change the primary as planned, without losing anything; waits until it is done."""
    before = await current_facts(services)
    candidate = candidate_of(before, body)
    if before.follows is not None:
        if body is not None and body.scheduled_at is not None:
            raise Problem(
                412,
                "standby_cluster",
                "a switchover in a standby cluster is done at once: no client waits for it",
                hint="leave scheduled_at out",
            )
        return await standbylead.hand_over(services, before, candidate, str(caller))
    if body is not None and body.scheduled_at is not None:
        return await schedule(services, response, before, candidate, body.scheduled_at, str(caller))
    wish = RequestSwitchover(id=new_id(), candidate=candidate, requested_by=str(caller))
    await submit(services, wish)
    if wait == 0:
        return accepted(response, wish.id, before)
    return await Follow(services, before, wish.id, wait_s=wait).switchover()


def due(services: Services, text: str | None) -> int:
    """When an operator means, in ms since 1970; 0 for never."""
    return unix_ms_of(text, now_ms=int(services.unix_s() * 1000))


async def schedule(
    services: Services,
    response: Response,
    before: Facts,
    candidate: NodeId | None,
    at: str,
    caller: str,
) -> schema.Changed:
    """Have the ledger keep a switchover until it is due."""
    at_ms = due(services, at)
    nodes = (candidate,) if candidate is not None else ()
    wish = AskWork(new_id(), Verb.SWITCHOVER, nodes, requested_by=caller, not_before_ms=at_ms)
    await submit(services, wish)
    return accepted(response, wish.id, before, due_at=iso(at_ms))


@router.post("/api/v1/promote/{node_id}", responses={202: {"model": schema.Changed}})
async def promote(
    node_id: NodeName,
    services: ServicesDep,
    caller: OperatorDep,
    response: Response,
    body: schema.PromoteRequest | None = None,
    wait: Wait = WAIT_S,
) -> schema.Changed:
    """Make a node the primary: by a switchover, with force by a failover."""
    if body is not None and body.force:
        order = schema.FailoverRequest(candidate=node_id, force=True)
        return await failover(services, caller, response, order, wait)
    wanted = schema.SwitchoverRequest(candidate=node_id)
    return await switchover(services, caller, response, wanted, wait)


@router.post("/api/v1/demote/{node_id}", responses={202: {"model": schema.Changed}})
async def demote(
    node_id: NodeName,
    services: ServicesDep,
    caller: OperatorDep,
    response: Response,
    wait: Wait = WAIT_S,
) -> schema.Changed:
    """Have the primary hand over to the best candidate; who is not the primary is left alone."""
    facts = await current_facts(services)
    node = find(facts, node_id).node
    if not facts.is_leader(node):
        raise Problem(412, "not_primary", f"{node} is not the primary", hint=STATUS_HINT)
    return await switchover(services, caller, response, None, wait)


@router.post("/api/v1/failover", responses={202: {"model": schema.Changed}})
@router.post(
    "/api/v1/cluster/failover",
    responses={202: {"model": schema.Changed}},
    operation_id="cluster_failover",
)
async def failover(
    services: ServicesDep,
    caller: OperatorDep,
    response: Response,
    body: schema.FailoverRequest | None = None,
    wait: Wait = WAIT_S,
) -> schema.Changed:
    """Elect another primary now, without the old one's help; waits until it is established.

    Where an election waits for members that nobody can bring back it goes on only without those
    that are named as lost, and what only they held is gone.
    """
    wanted = body or schema.FailoverRequest()
    if wanted.lost and not wanted.force:
        raise Problem(422, "invalid", "lost members are given up with force only", hint="add force")
    before = await current_facts(services)
    candidate = candidate_of(before, body)
    if before.follows is not None:
        raise standbylead.nobody_is_elected(before)
    seen = services.seen()
    if before.phase is Phase.ELECTING or wanted.lost:
        change = await without(services, before, wanted, candidate, caller=str(caller))
        if wait == 0:
            return accepted(response, change, before)
        return await Follow(services, before, change, wait_s=wait).failover()
    if views.can_write(seen) and not wanted.force:
        raise Problem(
            409,
            "primary_healthy",
            f"{views.primary_of(seen)} is healthy and takes writes",
            hint="use pgherd switchover, or pgherd failover --force",
        )
    order = RequestFailover(id=new_id(), candidate=candidate, requested_by=str(caller))
    await submit(services, order)
    if wait == 0:
        return accepted(response, order.id, before)
    return await Follow(services, before, order.id, wait_s=wait).failover()


async def without(
    services: Services,
    before: Facts,
    wanted: schema.FailoverRequest,
    candidate: NodeId | None,
    *,
    caller: str,
) -> str:
    """Have an election end: by itself, or without the members that are given up. The order's id."""
    change = new_id()
    if before.phase is Phase.STABLE:
        forcing.keys_of(before, wanted.lost)
        order = RequestFailover(id=change, candidate=candidate, requested_by=caller)
        await submit(services, order)
    found = await forcing.settled(services, before)
    if found is not None:
        seen = services.seen()
        if not wanted.lost:
            raise forcing.refuse_to_wait(seen, found, wanted.candidate)
        await submit(
            services,
            forcing.give_up(
                seen, found, wanted, id=change, candidate=candidate, requested_by=caller
            ),
        )
    return change


@router.post("/api/v1/failover/plan")
async def failover_plan(
    services: ServicesDep, caller: OperatorDep, body: schema.FailoverRequest | None = None
) -> schema.FailoverPlan:
    """What a failover would wait for and lose now; changes nothing."""
    await current_facts(services)
    return forcing.plan(services.seen(), body or schema.FailoverRequest())


@router.post("/api/v1/tokens/join", status_code=201)
async def issue_join_token(
    services: ServicesDep, caller: AdminDep, body: schema.TokenRequest | None = None
) -> schema.TokenAnswer:
    """Make a single-use token for `pgherd join`; it leads to this node."""
    return await make_join_token(services, body or schema.TokenRequest())


async def make_join_token(services: Services, request: schema.TokenRequest) -> schema.TokenAnswer:
    """Commit the token's hash, and put the token together."""
    ca = services.ca_pem()
    me = services.herd.facts().members.get(services.herd.node)
    if ca is None or me is None or me.kind is not Kind.DATA:
        raise Problem(
            412,
            "no_authority",
            "this node has no certificate authority, so it can admit nobody",
            hint="ask a data member; a cluster made by pgherd init has one on each",
        )
    expires = int(services.unix_s()) + request.ttl_seconds
    secret, token_id = new_secret(), secrets.token_hex(4)
    await submit(
        services,
        IssueToken(id=token_id, secret_sha256=hash_secret(secret), expires_at_unix=expires),
    )
    host, port = me.address.api()
    invitation = Invitation(
        host=host, port=port, id=token_id, secret=secret, ca_sha256=fingerprint(ca)
    )
    return schema.TokenAnswer(
        id=token_id, token=encode_token(invitation), expires_at=iso(expires * 1000) or ""
    )


class Follow:
    """Waits for a change that was asked for, and tells what became of it."""

    def __init__(self, services: Services, before: Facts, change: str, *, wait_s: float) -> None:
        self._services = services
        self._before = before
        self._change = change
        self._wait_s = wait_s
        self._began_s = services.clock()

    async def switchover(self) -> schema.Changed:
        """Wait until the wish has left the facts and a term is established."""
        await self._until_known()
        while self._is_wished() or self._facts().phase is not Phase.STABLE:
            await self._pause("the switchover")
        return self._outcome(
            "switchover_undone", ("switchover.ended", "switchover.undone", "term.established")
        )

    async def failover(self) -> schema.Changed:
        """Wait until the order has left the facts and a term is established."""
        await self._until_known()
        began_s = self._services.clock()
        while self._is_ordered() or self._facts().phase is not Phase.STABLE:
            facts = self._facts()
            if facts.given_up is None or any(running(facts)):
                began_s = self._services.clock()
            elif self._services.clock() - began_s > ORDER_S:
                raise forcing.not_followed(self._services.seen())
            await self._pause("the failover")
        return self._outcome("failover_undone", ("failover.ended", "term.established"))

    async def _until_known(self) -> None:
        """Wait until this node has applied the command that the herd committed."""
        while not (self._is_wished() or self._is_ordered()):
            if await self._services.herd.consistent(timeout_s=CONSISTENT_TIMEOUT_S):
                return
            await self._pause("the change")

    def _facts(self) -> Facts:
        return self._services.herd.facts()

    def _is_wished(self) -> bool:
        wish = self._facts().switchover
        return wish is not None and wish.id == self._change

    def _is_ordered(self) -> bool:
        facts = self._facts()
        return any(
            one is not None and one.id == self._change for one in (facts.forced, facts.given_up)
        )

    def _outcome(self, code: str, kinds: tuple[str, ...]) -> schema.Changed:
        facts = self._facts()
        if self._has_moved(facts):
            return self._done(facts)
        raise Problem(
            412,
            code,
            self._why(facts, kinds),
            hint="see why with: pgherd explain",
            details={"id": self._change, "primary": facts.leader.node if facts.leader else None},
        )

    def _has_moved(self, facts: Facts) -> bool:
        return forcing.has_ended(self._before, facts) and facts.leader != self._before.leader

    def _why(self, facts: Facts, kinds: tuple[str, ...]) -> str:
        """The newest note about it, in the deciders' words."""
        old = set(self._before.notes)
        new = [note for note in facts.notes if note not in old and note.kind in kinds]
        return new[-1].text if new else "it was given up"

    async def _pause(self, what: str) -> None:
        if self._services.clock() - self._began_s > self._wait_s:
            raise TimedOut(f"{what} is not done after {self._wait_s:g} s; it goes on", STATUS_HINT)
        await asyncio.sleep(POLL_S)

    def _done(self, facts: Facts) -> schema.Changed:
        reign = facts.reign()
        assert reign is not None, "a term was established"
        return schema.Changed(
            status="done",
            id=self._change,
            old_primary=self._before.leader.node if self._before.leader else None,
            new_primary=reign.leader.node,
            epoch=facts.term,
            reason=reign.reason,
            duration_ms=max(0, reign.established_at_ms - reign.began_at_ms),
        )


async def current_facts(services: Services) -> Facts:
    """The facts as a quorum confirms them, so that what follows is told apart from what was."""
    if not await services.herd.consistent(timeout_s=CONSISTENT_TIMEOUT_S):
        raise NoQuorum("no quorum confirms the state of the herd, so nothing was asked for")
    return services.herd.facts()


def candidate_of(facts: Facts, body: schema.CandidateRequest | None) -> NodeId | None:
    """The member that was named, by name or number."""
    if body is None or body.candidate is None:
        return None
    return find(facts, body.candidate).node


async def submit(services: Services, command: AnyCommand) -> None:
    """Through consensus, or a Problem with the ledger's reason."""
    outcome = await services.herd.submit(command, timeout_s=SUBMIT_TIMEOUT_S)
    if isinstance(outcome, Refused):
        raise refused(outcome)


def accepted(
    response: Response, change: str, before: Facts, *, due_at: str | None = None
) -> schema.Changed:
    response.status_code = 202
    return schema.Changed(
        status="scheduled" if due_at is not None else "accepted",
        due_at=due_at,
        id=change,
        old_primary=before.leader.node if before.leader else None,
        new_primary=None,
        epoch=before.term,
    )


def new_id() -> str:
    """An id for an order, in the form of a trace id.

    It is the trace of the request where this cluster began that, and begins as it where the caller
    did: one trace may give many orders.
    """
    found = trace.current()
    if found is None:
        return secrets.token_hex(16)
    if found.parent or found.id in _given:
        return found.id[:16] + secrets.token_hex(8)
    _given.append(found.id)
    return found.id
