"""Plan steps: what the ledger asks of nodes, and what became of it. Pure.

Theory of operation. A plan is in the ledger, and its steps are there for every node to read: a
piece of work with its nodes (docs/adr/0043-work-in-the-ledger.md), an election that asks every
member to seal, a reign that asks its winner to promote. None has a record beside the facts, which
could say something else: each is shown from the facts themselves, under an id that follows from
them. What ended longer than a day ago is told by the history alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pgherd.api import views
from pgherd.api.shape import Model, NodeName
from pgherd.api.times import iso
from pgherd.api.views import Seen
from pgherd.model.facts import Member, Phase, Reign
from pgherd.model.ids import NodeId
from pgherd.model.upkeep import Work, WorkState
from pgherd.plan.forgetting import KEPT_MS

Status = Literal["pending", "in_progress", "completed", "failed", "cancelled"]
STATES: dict[WorkState, Status] = {
    WorkState.PENDING: "pending",
    WorkState.RUNNING: "pending",
    WorkState.DONE: "completed",
    WorkState.FAILED: "failed",
    WorkState.CANCELLED: "cancelled",
}
"""Of a node whose turn has not come, or of one that has never had one."""


class Directive(Model):
    """One step for one node. term: the epoch in which it was asked for, null where the ledger kept
    none · error: why it failed, or what it waits for."""

    id: str
    type: str
    target: NodeName | None
    term: int | None
    status: Status
    error: str
    requested_by: str
    reason: str
    created_at: str | None
    ended_at: str | None


class Directives(Model):
    """Every step of the last day, the newest first."""

    directives: list[Directive]
    as_of: int


def all_of(seen: Seen) -> list[Directive]:
    """Every step that is not over for longer than a day, the newest first."""
    found = [*of_works(seen), *of_reigns(seen), *of_election(seen)]
    return sorted(found, key=lambda one: one.created_at or "", reverse=True)


def is_kept(seen: Seen, ended_at_ms: int) -> bool:
    return not ended_at_ms or seen.unix_ms - ended_at_ms < KEPT_MS


def of_works(seen: Seen) -> Iterator[Directive]:
    """What operators asked for, node by node."""
    for work in seen.facts.upkeep.works:
        if not is_kept(seen, work.ended_at_ms):
            continue
        for node in work.nodes or (None,):
            yield of_work(work, node)


def of_work(work: Work, node: NodeId | None) -> Directive:
    status = STATES[work.state]
    if node is not None and node in work.finished:
        status = "completed"
    elif work.is_open and (work.node == node or not work.verb.by_turns):
        status = "in_progress" if work.state is WorkState.RUNNING else "pending"
    return Directive(
        id=f"{work.id}.{node}" if node is not None else work.id,
        type=work.verb.value,
        target=node,
        term=work.term or None,
        status=status,
        error=work.text if status not in ("completed", "pending") else "",
        requested_by=work.requested_by,
        reason=work.reason,
        created_at=iso(work.asked_at_ms),
        ended_at=iso(work.ended_at_ms),
    )


def of_reigns(seen: Seen) -> Iterator[Directive]:
    """Whom elections told to lead."""
    facts = seen.facts
    for reign in facts.history:
        is_now = reign.term == facts.term and facts.phase is Phase.ESTABLISHING
        over_ms = reign.established_at_ms or (0 if is_now else reign.began_at_ms)
        if is_kept(seen, over_ms):
            yield of_reign(reign, is_now=is_now)


def of_reign(reign: Reign, *, is_now: bool) -> Directive:
    status: Status = "completed" if reign.established else "failed"
    return Directive(
        id=f"epoch-{reign.term}.{reign.leader.node}",
        type="promote" if reign.promoted else "keep_leading",
        target=reign.leader.node,
        term=reign.term,
        status="in_progress" if is_now else status,
        error=""
        if reign.established or is_now
        else "another epoch began before it was established",
        requested_by=f"rule {reign.rule}",
        reason=reign.reason,
        created_at=iso(reign.began_at_ms),
        ended_at=iso(reign.established_at_ms),
    )


def of_election(seen: Seen) -> Iterator[Directive]:
    """Who is asked to seal, while nobody is elected yet."""
    facts = seen.facts
    if facts.phase is not Phase.ELECTING:
        return
    for member in views.data_members(facts):
        sealed = has_sealed(seen, member)
        waits = "" if sealed else f"{member.node} is {views.state_of(seen, member)}"
        yield Directive(
            id=f"epoch-{facts.term}.seal.{member.node}",
            type="seal",
            target=member.node,
            term=facts.term,
            status="completed" if sealed else "in_progress",
            error=waits,
            requested_by=f"rule {facts.rule}",
            reason=facts.reason,
            created_at=iso(facts.began_at_ms),
            ended_at=None,
        )


def has_sealed(seen: Seen, member: Member) -> bool:
    report = seen.fresh(member.node)
    frozen = report.promises.frozen if report is not None else None
    return frozen is not None and frozen.term == seen.facts.term
