"""What would follow if nodes were lost, or somebody switched over: a rehearsal, in words. Pure.

Owns the sentences. What would be decided is the deciders' own answer (`plan.rehearsal`), how long
it would take is `plan.forecast`'s.
"""

from __future__ import annotations

from collections.abc import Sequence

from pgherd.api import candidacy, views
from pgherd.api.explainschema import Loss, Outage, PlayedStep, WhatIf, Writes
from pgherd.api.views import Seen
from pgherd.model.facts import Facts, Member, Mode
from pgherd.model.ids import NodeId
from pgherd.plan import herd, rehearsal
from pgherd.plan.forecast import forecast
from pgherd.plan.look import leader_report, streaming
from pgherd.plan.rehearsal import Rehearsal
from pgherd.plan.standbycluster import no_primary


def if_lost(seen: Seen, lost: Sequence[Member]) -> WhatIf:
    """What would follow if these members were gone for good, all at once."""
    known, names = candidacy.known(seen), sorted({one.node for one in lost})
    played = rehearsal.if_lost(known, names)
    others: tuple[NodeId, ...] = ()
    if played.primary is not None and not played.continues(seen.facts):
        others = rehearsal.rivals(known, names, played.primary)
    why = why_lost(seen, played, names, others)
    return told(seen, played, why, lost=names, others=others)


def if_switched(seen: Seen, to: Member | None) -> WhatIf:
    """What would follow if a switchover were asked for now: who takes over, and the stall."""
    played = rehearsal.if_switched(candidacy.known(seen), to.node if to is not None else None)
    done = played.primary is not None and not seen.facts.is_leader(played.primary)
    if done and played.switches:
        held = any(step.rule == 610 for step in played.steps)
        how = "clients are held meanwhile" if held else "clients are not held meanwhile"
        why = f"{played.primary} would take over, {how}"
    else:
        name = to.node if to is not None else None
        why = candidacy.why_no_switchover(seen, name) or candidacy.why_not_planned(played)
    return told(seen, played, why, planned=played.switches)


def told(
    seen: Seen,
    played: Rehearsal,
    why: str,
    *,
    lost: Sequence[NodeId] = (),
    others: Sequence[NodeId] = (),
    planned: bool = False,
) -> WhatIf:
    guess = forecast(seen.facts, played, seen.policy, election_ms=seen.election_ms, planned=planned)
    return WhatIf(
        lost=list(lost),
        has_quorum=played.has_quorum,
        writes=writes(seen.facts, played, planned=planned),
        new_primary=played.primary,
        also_possible=list(others),
        why=why,
        outage=Outage(
            expected_ms=guess.expected_ms, at_most_ms=guess.at_most_ms, measured=guess.measured
        ),
        loss=Loss(bytes=guess.lost_bytes, text=guess.loss),
        steps=[
            PlayedStep(
                rule=one.rule,
                sentence=herd.SENTENCES[one.rule],
                reason=one.reason,
                after_ms=one.waited_ms,
            )
            for one in played.steps
        ],
    )


def writes(before: Facts, played: Rehearsal, *, planned: bool) -> Writes:
    """What becomes of commits."""
    if played.primary is None:
        return "wait"
    if not played.continues(before):
        return "go on after a switchover" if planned else "go on after an election"
    return "go on after a wait" if played.waited_ms else "go on"


def why_lost(
    seen: Seen, played: Rehearsal, lost: Sequence[NodeId], others: Sequence[NodeId]
) -> str:
    """Who would be elected, or why nobody; of a replica, whether commits find their copies."""
    facts, primary = seen.facts, played.primary
    if why := no_primary(facts):
        return f"{why}; {played.steps[-1].reason}" if played.steps else why
    if primary is None:
        unfit = candidacy.unfit(seen, lost) if facts.leader and facts.leader.node in lost else ""
        return f"{played.why}; {unfit}" if unfit and played.has_quorum else played.why
    if not played.has_quorum:
        return played.why
    if played.continues(facts):
        return why_it_stays(seen, played, lost)
    when = " once its lease is over" if facts.mode is Mode.ASYNC else ""
    rivals = f", or {' or '.join(others)} if it has received more by then" if others else ""
    return f"{primary} would be elected{when}{rivals}"


def why_it_stays(seen: Seen, played: Rehearsal, lost: Sequence[NodeId]) -> str:
    """The primary stays; whether commits still find their copies."""
    facts, report = seen.facts, leader_report(candidacy.situation(seen))
    assert report is not None, "who goes on is heard"
    senders = streaming(report, facts.term)
    left = [key for key in facts.sync.names if key.node not in lost and key in senders]
    why = (
        f"{views.primary_of(seen)} leads, and {len(left)} of {facts.sync.names_k} copies needed "
        "would stream"
    )
    return f"{why}; {played.steps[-1].reason}" if played.steps else why
