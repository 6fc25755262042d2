"""An election that waits for members that nobody can bring back: what it waits for, what going on
without them would lose, and the order to do so.

Owns that plan and the order's conditions. Whether the order still fits when it arrives is decided
by the ledger and by rule 308.
"""

from __future__ import annotations

import asyncio

from pgherd.api import schema
from pgherd.api.advice import Waits, give_up_command
from pgherd.api.deps import Services
from pgherd.api.failures import Problem
from pgherd.api.views import Seen, find_member, waits
from pgherd.ledger.commands import GiveUp
from pgherd.ledger.giving import loss_bytes, needed
from pgherd.model.facts import Facts, Phase
from pgherd.model.ids import Lsn, MemberKey, NodeId, listed
from pgherd.plan.look import known_end

SETTLE_S = 2.0
"""Who has not sealed within this time of an election is not on its way."""
PATIENCE_S = 8.0
POLL_S = 0.05


def loss(seen: Seen, found: Waits) -> tuple[Lsn, int | None]:
    """How far the old leader's WAL is known to reach, and how much of that nobody sealed has."""
    leader = seen.facts.leader
    end = known_end(seen.facts, seen.newest(leader.node) if leader is not None else None)
    return end, loss_bytes(end, found.best.lsn) if found.best is not None else None


def plan(seen: Seen, body: schema.FailoverRequest) -> schema.FailoverPlan:
    """What a failover would do now, without doing it."""
    now = waits(seen)
    lost = keys_of(seen.facts, body.lost)
    if now is None:
        return schema.FailoverPlan(needed=False, waits_for="", missing=[], lost=[])
    leader = seen.facts.leader
    heard = seen.reports.get(leader.node) if leader is not None else None
    left = [key for key in now.missing if key not in lost]
    return schema.FailoverPlan(
        needed=True,
        waits_for=now.problem,
        missing=sorted({key.node for key in now.missing}),
        lost=sorted({key.node for key in lost}),
        not_given_up=sorted({key.node for key in left}),
        kept_up_to=str(now.best) if now.best is not None else None,
        loss_bytes=loss(seen, now)[1],
        heard_seconds_ago=(seen.now - heard.at) // 1000 if heard is not None else None,
        command=give_up_command([key.node for key in now.missing], to=body.candidate)
        if now.missing
        else "",
    )


def keys_of(facts: Facts, names: list[str]) -> tuple[MemberKey, ...]:
    """The copies that are meant by the names of members: those that the election needs."""
    found: set[MemberKey] = set()
    for name in names:
        member = find_member(facts, name)
        node = member.node if member is not None else NodeId(name)
        mine = {key for key in needed(facts) if key.node == node}
        if not mine:
            who = listed(needed(facts)) or "nobody"
            raise Problem(
                404 if member is None else 412,
                "unknown_node" if member is None else "not_needed",
                f"{name} is no member" if member is None else f"no election needs {name}",
                hint=f"it needs: {who}",
            )
        found |= mine
    return tuple(sorted(found))


async def settled(services: Services, before: Facts) -> Waits | None:
    """What an election waits for once everybody who is on the way has sealed; None once it ended.

    before: the facts when the order came.
    """
    clock = services.clock
    until, since = clock() + PATIENCE_S, clock()
    while clock() < until:
        seen = services.seen()
        if seen.facts.phase is Phase.STABLE and has_ended(before, seen.facts):
            return None
        found = waits(seen)
        if found is None:
            since = clock()
        elif clock() - since >= SETTLE_S:
            return found
        await asyncio.sleep(POLL_S)
    return waits(services.seen())


def has_ended(before: Facts, now: Facts) -> bool:
    """Whether the election that was, or the next one, is behind these facts."""
    return now.term > before.term or before.phase is Phase.ELECTING


def refuse_to_wait(seen: Seen, now: Waits, to: str | None) -> Problem:
    """Nobody was given up, and without that nothing would come of it."""
    command = give_up_command([key.node for key in now.missing], to=to)
    hint = f"start {listed(now.missing)}; only if they are lost for good: {command}"
    return Problem(
        412,
        "voters_missing",
        f"no election can end: {now.problem}",
        hint=hint if now.missing else "see docs/operate/troubleshooting.md, No primary",
        details={"missing": sorted({key.node for key in now.missing})},
    )


def give_up(
    seen: Seen,
    now: Waits,
    body: schema.FailoverRequest,
    *,
    id: str,
    candidate: NodeId | None,
    requested_by: str,
) -> GiveUp:
    """The order, or a Problem where rule 308 would not follow it."""
    lost = keys_of(seen.facts, body.lost)
    left = [key for key in now.missing if key not in lost]
    if left:
        names = [key.node for key in now.missing]
        raise Problem(
            412,
            "not_given_up",
            f"{listed(left)} may hold what nobody else does, and was not given up for lost",
            hint=f"start it, or give it up too: {give_up_command(names, to=body.candidate)}",
        )
    end, much = loss(seen, now)
    accepted = body.accept_data_loss_bytes
    if accepted is not None and (much is None or much > accepted):
        told = "it is not known how much" if much is None else f"{much} bytes of WAL"
        raise Problem(
            412,
            "too_much_loss",
            f"{told} would be lost, {accepted} bytes were accepted",
            hint="bring one of the lost members back, or accept more",
        )
    return GiveUp(
        id=id,
        term=seen.facts.term,
        lost=tuple(key for key in lost if key in now.missing),
        candidate=candidate,
        known_end=end,
        accept_bytes=accepted,
        requested_by=requested_by,
    )


def not_followed(seen: Seen) -> Problem:
    """The order stands in the ledger, and the elector knows more that speaks against it."""
    who = seen.facts.elector
    return Problem(
        412,
        "not_elected",
        f"{who} does not elect anybody in spite of the loss",
        hint=f"it may have heard more than this node: see pgherd explain there, and ask on {who}",
    )
