"""What an operator gives up for lost, and what remains written of it (PROTOCOL.md 7, override).

An election that needs what nobody can bring back waits for ever. A person may end that: the named
members are not waited for, and what only they held is gone. Owns the order, its limits and its
words. Leaves who wins to `plan`.
"""

from __future__ import annotations

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger.outcome import Result, note, refuse
from pgherd.model.facts import Facts, GivenUp, Phase
from pgherd.model.ids import Lsn, MemberKey, listed


def needed(facts: Facts) -> set[MemberKey]:
    """Who may hold what was acknowledged: the voters and the last leader."""
    leader = {facts.leader} if facts.leader is not None else set()
    return {*facts.sync.voters, *leader}


def give_up(facts: Facts, c: cmd.GiveUp, at_ms: int) -> Result:
    """Take the order, for this election only."""
    if facts.phase is not Phase.ELECTING or facts.term != c.term:
        return refuse(facts, "stale", f"term {facts.term} is {facts.phase.value}")
    if facts.handover is not None:
        return refuse(facts, "busy", "a switchover is under way")
    strangers = sorted(set(c.lost) - needed(facts))
    if not c.lost or strangers:
        who = listed(strangers) or "nobody"
        return refuse(facts, "not_needed", f"the election does not wait for {who}")
    if c.candidate is not None and c.candidate not in facts.members:
        return refuse(facts, "unknown_node", f"{c.candidate} is no member")
    order = GivenUp(
        id=c.id,
        lost=tuple(sorted(c.lost)),
        candidate=c.candidate,
        requested_by=c.requested_by,
        known_end=c.known_end,
        accept_bytes=c.accept_bytes,
    )
    facts = msgspec.structs.replace(facts, given_up=order)
    return note(facts, at_ms=at_ms, kind="data.given-up", text=c.reason), cmd.Done()


def loss_bytes(known_end: Lsn, start: Lsn) -> int | None:
    """How much of what the old leader was known to have written is not in the winner's WAL.

    No less than that was written, and more may have been; None where nothing is known.
    """
    return max(0, known_end - start) if known_end else None


def cannot_lose(facts: Facts, c: cmd.Elect) -> str:
    """Why an election must not go on without these members; "" when it may."""
    if not c.lost:
        return ""
    order = facts.given_up
    if order is None or not set(c.lost) <= set(order.lost):
        return f"nobody gave up {listed(c.lost)}"
    if c.voters:
        return "who was elected in spite of a loss leads alone at first"
    return ""


def told(facts: Facts, c: cmd.Elect) -> str:
    """What a reign's history says of its loss; "" where nothing was given up."""
    order = facts.given_up
    if not c.lost or order is None:
        return ""
    lost = loss_bytes(max(order.known_end, c.known_end), c.start.lsn)
    much = "an unknown amount" if lost is None else f"{lost} bytes by the last that was heard"
    return (
        f"acknowledged writes may be lost: {order.requested_by} gave up {listed(c.lost)} "
        f"with WAL after {c.start}, {much}"
    )
