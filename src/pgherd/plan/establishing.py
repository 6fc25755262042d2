"""Rules 401-402: from the winner's promotion to a term that may acknowledge (PROTOCOL.md F8)."""

from __future__ import annotations

from pgherd.ledger import commands as cmd
from pgherd.model.facts import Phase
from pgherd.model.observation import Observation, Server
from pgherd.plan.election import names
from pgherd.plan.look import leader_report, streaming
from pgherd.plan.rule import Decision, HerdRule, Situation
from pgherd.plan.suspicion import NOT_ESTABLISHED, begin


def establish(s: Situation) -> Decision | None:
    facts = s.facts
    if facts.phase is not Phase.ESTABLISHING:
        return None
    report = leader_report(s)
    if report is None or facts.leader is None:
        return None
    server = report.server
    written = server.position is not None and server.position.epoch == facts.term
    if server.state is not Server.PRIMARY or not written or not server.epoch_record_end:
        return None
    holders = tuple(
        sorted(
            key
            for key, sender in streaming(report, facts.term).items()
            if key in facts.sync.voters and sender.flush_lsn >= server.epoch_record_end
        )
    )
    if len(holders) < facts.sync.k:
        return None
    reason = f"the epoch record of term {facts.term} is on {len(holders)} voters"
    command = cmd.Establish(
        term=facts.term,
        timeline=server.timeline,
        epoch_record_end=server.epoch_record_end,
        names=holders if facts.sync.k else (),
    )
    return Decision(401, reason, command)


def voters_gone(s: Situation) -> Decision | None:
    """Nobody takes the epoch record: begin anew, so that k' follows from who is there now."""
    facts = s.facts
    if facts.phase is not Phase.ESTABLISHING or facts.leader is None:
        return None
    report = leader_report(s)
    limit = s.policy.sync_timeout_ms
    if report is None or report.fencing:
        limit = s.policy.start_timeout_ms
    elif report.server.state is not Server.PRIMARY:
        limit = s.policy.hold_timeout_ms
    node = facts.leader.node
    if report is not None and report.ineligible and report.server.state is Server.STANDBY:
        return begin(s, NOT_ESTABLISHED, f"{node} must not lead: {report.ineligible}")
    if s.now - s.view.phase_since < limit:
        return Decision(402, f"waits until {node} {still_to_do(s, report)}")
    return begin(s, NOT_ESTABLISHED, f"{node} could not establish term {facts.term}")


def still_to_do(s: Situation, report: Observation | None) -> str:
    """What an elected winner has before it."""
    facts = s.facts
    if report is None or not report.fencing:
        return f"is promoted and its epoch record on {facts.sync.k} voters"
    if facts.unsealed:
        return f"has fenced {names(list(facts.unsealed))}, or run its hook before the promotion"
    return "has run its hook before the promotion"


RULES = (
    HerdRule(401, "A term is established when its epoch record is flushed by k voters.", establish),
    HerdRule(402, "A term that cannot be established is begun anew.", voters_gone),
)
