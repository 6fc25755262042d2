"""Actuators of a fast-forward: the holder lends, the candidate takes and is sealed again."""

from __future__ import annotations

from pgherd.act.failpoints import reached
from pgherd.act.hands import ActFailed, Hands, StaleAct, log
from pgherd.model import action as act
from pgherd.model.facts import Frozen
from pgherd.model.ids import FEED_SLOT, NodeId, Term
from pgherd.postgres import lending, sealing


def _must_be_sealed(hands: Hands, term: Term, elector: NodeId | None = None) -> None:
    now = hands.promises()
    hands.guard(term)
    if now.promise != term or now.frozen is None or now.frozen.term != term:
        raise StaleAct(f"is not sealed for term {term}")
    if elector not in (None, now.promise_elector):
        raise StaleAct(f"term {term} was promised to {now.promise_elector}")


async def lend(hands: Hands, a: act.Lend) -> None:
    """Only what is sealed: it does not grow while the slot is there."""
    _must_be_sealed(hands, a.term)
    await lending.lend(hands.server, a.to)


async def fast_forward(hands: Hands, a: act.FastForward) -> None:
    """Take the seal back durably, stream up to the target, seal anew; a failure is sealed too."""
    _must_be_sealed(hands, a.term, a.elector)
    known = hands.promises()
    await lending.end(hands.server, of=a.adopted, kind=FEED_SLOT)
    fields: dict[str, object] = {"frozen": None}
    if known.adopted < a.adopted:  # what comes is of that reign, recorded in it or not
        fields |= {"adopted": a.adopted, "adopted_leader": a.adopted_leader}
    await hands.change(**fields)
    await reached("fast_forward.unsealed")
    there = await lending.take(
        hands.server,
        me=hands.me,
        host=a.host,
        port=a.port,
        upto=a.target.lsn,
        stall_s=a.stall_ms / 1000,
    )
    await reached("fast_forward.taken")
    position = hands.position(await sealing.seal(hands.server, timeout_s=hands.seal_timeout_s))
    hands.guard(a.term)
    await hands.change(frozen=Frozen(a.term, position))
    log.info("forward.ended", position=str(position), target=str(a.target), reached=there)
    if position < a.target:
        raise ActFailed(f"{a.holder.node} sent nothing more behind {position}")


async def end_lending(hands: Hands, of: Term | None = None) -> None:
    """Before this server's WAL grows again: what was lent as it stood still is lent no more.

    Nor is anybody fed any longer who is of another term than this server will be; of: that term,
    None where it leads, or goes back.
    """
    ended = await lending.end(hands.server, of=of)
    if ended:
        log.info("forward.lending_ended", slots=ended)
