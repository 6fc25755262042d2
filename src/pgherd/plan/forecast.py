"""How long writes would wait, and what might be lost, if it went as a rehearsal has it. Pure.

Two figures for the wait. What is expected: what the rules wait for, and for the acts the median of
what this cluster's own changes of primary took. The most: where the rules' own limits end it, after
which a term begins anew; it holds as long as no act fails. The most is the promise, the other one a
help. Owns the arithmetic; what happens in between is the rehearsal's.
"""

from __future__ import annotations

from itertools import pairwise

import msgspec

from pgherd.model.facts import Facts, Mode
from pgherd.model.pace import LOOP_MS, REPORT_MS
from pgherd.model.policy import Policy
from pgherd.plan.rehearsal import Rehearsal

MEASURED_MOST = 10
"""The newest changes of primary tell more about the next one than older ones."""

ACTS_MS = 600
"""From a term's begin to its establishment where no change was measured yet: the README's."""

WHOLE_MS = 1000
"""So late at most a rule that is not urgent is asked when nothing happens."""

FAILOVER, SWITCHOVER = 2, 6
"""The hundreds of the rules that begin a term for a failover, and for a switchover."""


class Forecast(msgspec.Struct, frozen=True):
    """expected_ms, at_most_ms: without acknowledged writes, None where nobody knows an end ·
    measured: changes of primary that the first is made of, 0: none, it is the README's · loss: for
    people · lost_bytes: of WAL that may be lost, by what is known now; 0 where no acknowledged
    commit can be.
    """

    expected_ms: int | None
    at_most_ms: int | None
    measured: int
    lost_bytes: int
    loss: str


def forecast(
    before: Facts, played: Rehearsal, policy: Policy, *, election_ms: int, planned: bool = False
) -> Forecast:
    """election_ms: raft.election_timeout · planned: what was rehearsed is a switchover."""
    lost, loss = losses(before, played, policy)
    if played.primary is None:
        return Forecast(None, None, 0, lost, loss)
    if played.continues(before):
        waits = played.waited_ms
        slack = 2 * election_ms + WHOLE_MS + 2 * REPORT_MS + LOOP_MS if waits else 0
        return Forecast(waits, waits + slack, 0, lost, loss)
    took = durations(before, SWITCHOVER if planned else FAILOVER)
    acts = sorted(took)[len(took) // 2] if took else ACTS_MS
    if planned:
        most = policy.hold_ms + policy.hold_timeout_ms + establishing_ms(policy)
    else:
        noticed = 2 * election_ms + 2 * REPORT_MS + LOOP_MS
        most = played.waited_ms + noticed + policy.seal_grace_ms + establishing_ms(policy)
    return Forecast(played.waited_ms + acts, most, len(took), lost, loss)


def establishing_ms(policy: Policy) -> int:
    """From an election to where rule 402 begins another term."""
    fence = policy.fence.deadline_ms if policy.fence is not None else 0
    return policy.hold_timeout_ms + fence


def durations(facts: Facts, kind: int) -> list[int]:
    """How long the newest changes of primary of a kind took, from term to acknowledged writes."""
    reigns = [reign for reign in facts.history if reign.established]
    found = [
        new.established_at_ms - new.began_at_ms
        for old, new in pairwise(reigns)
        if old.leader != new.leader and new.rule // 100 == kind and new.began_at_ms
    ]
    return [ms for ms in found if ms >= 0][-MEASURED_MOST:]


def losses(before: Facts, played: Rehearsal, policy: Policy) -> tuple[int, str]:
    """What may be lost of what clients were told, in bytes and in words."""
    if played.lost_bytes is not None:
        lost = max(0, played.lost_bytes)
        if before.mode is not Mode.ASYNC:
            return lost, (
                f"synchronous_commit = {before.tuning.commit} acknowledges what the primary alone "
                f"has: {lost} bytes are known that the new one lacks, and what comes until then"
            )
        return lost, (
            f"mode async: {lost} bytes are known that the new primary lacks, "
            f"failover.max_lag allows {policy.max_lag_bytes}, and nobody knows what the old one "
            "writes until its lease is over"
        )
    if played.primary is None:
        return 0, "nothing that was acknowledged is given up: writes wait instead"
    if before.mode is Mode.ASYNC and played.continues(before):
        return 0, "the primary stays: nothing is lost"
    return 0, "no acknowledged commit"
