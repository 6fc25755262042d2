"""Rules 601-603, 610, 611: from a wish for a switchover to the term that performs it."""

from __future__ import annotations

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import NEEDS
from pgherd.model.facts import Handover, Member, Phase
from pgherd.model.ids import MemberKey, NodeId
from pgherd.model.observation import Observation, Server
from pgherd.plan.look import fresh, ineligible, is_full, leader_report, least_room, streaming
from pgherd.plan.rule import Decision, HerdRule, Situation

SHOWS_MS = 3000
"""So long a standby that streams, by its own word, may be missing in the primary's report."""

COMES_OVER_MS = 15_000
"""So long a cascading replica that is to take over may need to come to the primary."""


def refused(s: Situation, rule: int, reason: str) -> Decision:
    assert s.facts.switchover is not None
    return Decision(rule, reason, cmd.EndSwitchover(id=s.facts.switchover.id, outcome=reason))


def unfit(s: Situation, leader: Observation, key: MemberKey) -> str:
    """Why a member cannot take over in a planned switchover; "" when it can."""
    member, report = s.facts.member(key), fresh(s, key.node)
    sender = streaming(leader, s.facts.term).get(key)
    if member is None or report is None:
        return f"{key.node} does not report"
    if key == s.facts.leader:
        return ""  # it is restarted in place
    if why := unwanted(member):
        return why
    if is_full(s, key.node):
        return f"{key.node} has {least_room(s)}"
    if why := ineligible(s, key.node):
        return f"{key.node} must not lead: {why}"
    if report.server.state is not Server.STANDBY:
        return f"{key.node} runs no standby ({report.server.state.value})"
    if sender is None:
        return unseen(key)
    behind = leader.server.insert_lsn - sender.flush_lsn
    if behind > s.policy.admission_lag_bytes:
        return f"{key.node} is {behind} bytes behind"
    return ""


def unwanted(member: Member) -> str:
    """Why its operator wants a member not to lead; "" where nothing says so."""
    if member.tags.nofailover:
        return f"{member.node} is tagged nofailover"
    if member.tags.delay_ms:
        return f"{member.node} is a delayed replica ({member.tags.delay_ms // 1000} s)"
    return f"{member.node} is to leave the cluster" if member.leaving else ""


def unseen(key: MemberKey) -> str:
    return f"{key.node} does not stream from the primary"


def shows_soon(s: Situation, leader: Observation, key: MemberKey) -> bool:
    """Whether nothing but the primary's report speaks against a member, which says it streams.

    One of the two reports is older, or its walsender was just renewed (`act.leading.settle`).
    """
    report = fresh(s, key.node)
    receiver = report.server.receiver if report is not None else None
    if receiver is None or unfit(s, leader, key) != unseen(key):
        return False
    return (receiver.upstream, receiver.term) == (leader.node, s.facts.term)


def comes_over(s: Situation, leader: Observation) -> bool:
    """Whether who was asked for streams from another replica, and can come to the primary."""
    wish = s.facts.switchover
    assert wish is not None
    report = fresh(s, wish.candidate) if wish.candidate is not None else None
    if report is None or not report.server.fed_at:
        return False
    return any(shows_soon(s, leader, key) for key in candidates(s))


def candidates(s: Situation) -> list[MemberKey]:
    """Whom a wish allows: the one that was asked for, or everybody but the primary.

    The primary itself only where its work is a restart in place (`upkeep`).
    """
    wish = s.facts.switchover
    assert wish is not None
    leader = s.facts.leader
    if leader is not None and wish.candidate == leader.node:
        return [leader]
    keys = [m.key for _, m in sorted(s.facts.members.items()) if m.key != leader]
    return [key for key in keys if key.incarnation and wish.candidate in (None, key.node)]


def preference(s: Situation, key: MemberKey) -> tuple[bool, int, str]:
    """The less the better: a synchronous copy, then the operator's priority."""
    member = s.facts.members[key.node]
    return key not in s.facts.sync.voters, -member.tags.failover_priority, key.node


def pick(s: Situation, leader: Observation) -> tuple[MemberKey | None, str]:
    """The asked-for candidate or the best one, and why there is none."""
    wish = s.facts.switchover
    assert wish is not None
    keys = candidates(s)
    if not keys:
        return None, f"{wish.candidate or 'no other member'} holds no data"
    fits = [key for key in keys if not unfit(s, leader, key)]

    if fits:
        return min(fits, key=lambda key: preference(s, key)), ""
    return None, "; ".join(unfit(s, leader, key) for key in keys)


def asked(s: Situation) -> Observation | None:
    """The primary's report, when a switchover is asked for and could start."""
    if s.facts.phase is not Phase.STABLE or s.facts.switchover is None:
        return None
    return leader_report(s)


def find_candidate(s: Situation) -> Decision | None:
    if s.facts.phase is not Phase.STABLE or s.facts.switchover is None:
        return None
    report = asked(s)
    if report is None:
        return Decision(601, "waits for the primary's report")
    candidate, problem = pick(s, report)
    if candidate is not None:
        return None
    age_ms = s.view.unix_ms - s.facts.switchover.requested_at_ms
    is_new = 0 <= age_ms < SHOWS_MS
    if 0 <= age_ms < COMES_OVER_MS and comes_over(s, report):
        return Decision(601, f"waits until {s.facts.switchover.candidate} streams from the primary")
    if is_new and any(shows_soon(s, report, key) for key in candidates(s)):
        return Decision(601, f"waits for the primary's next report: {problem}")
    return refused(s, 601, f"switchover refused: {problem}")


def checkpoint_first(s: Situation) -> Decision | None:
    report, wish = asked(s), s.facts.switchover
    if report is None or wish is None or report.server.checkpointed_for == wish.id:
        return None
    candidate, _ = pick(s, report)
    to = candidate.node if candidate is not None else "a candidate"
    return Decision(602, f"the primary checkpoints before it hands over to {to}")


def ready(s: Situation) -> MemberKey | None:
    """Who takes over in a switchover that only clients are waited for."""
    report, wish = asked(s), s.facts.switchover
    if report is None or wish is None or report.server.checkpointed_for != wish.id:
        return None
    return pick(s, report)[0]


def holds(s: Situation) -> bool:
    """Whether clients are held in this cluster, and all its programs understand that."""
    return s.policy.hold_ms > 0 and s.facts.level >= NEEDS[cmd.Hold]


def hold(s: Situation) -> Decision | None:
    candidate, wish = ready(s), s.facts.switchover
    if candidate is None or wish is None or wish.held or not holds(s):
        return None
    reason = f"clients are held while {candidate.node} takes over"
    return Decision(610, reason, cmd.Hold(id=wish.id, term=s.facts.term, rule=610, reason=reason))


def loud(s: Situation) -> list[NodeId]:
    """At whose proxies transactions may still run, for as long as that is waited for.

    A silent node is not waited for: its clients can come to no harm, only to an error.
    """
    wish = s.facts.switchover
    if wish is None or not wish.held or s.now - s.view.held_since >= s.policy.hold_ms:
        return []
    heard = [(node, fresh(s, node)) for node in sorted(s.facts.members)]
    return [node for node, report in heard if report is not None and report.quiet != wish.id]


def wait_for_transactions(s: Situation) -> Decision | None:
    if ready(s) is None or not (nodes := loud(s)):
        return None
    return Decision(611, f"waits for transactions that came through {', '.join(nodes)}")


def start(s: Situation) -> Decision | None:
    facts, candidate, wish = s.facts, ready(s), s.facts.switchover
    if candidate is None or wish is None or loud(s) or not (wish.held or not holds(s)):
        return None
    what = "restart in place of" if candidate == facts.leader else "switchover to"
    reason = f"{what} {candidate.node} asked for by {wish.requested_by}"
    command = cmd.Begin(
        expected=facts.term,
        elector=s.view.me,
        rule=603,
        reason=reason,
        handover=Handover(switchover=wish.id, candidate=candidate.node),
    )
    return Decision(603, reason, command)


RULES = (
    HerdRule(
        601, "A switchover without a fit candidate is refused, with the reason.", find_candidate
    ),
    HerdRule(602, "The primary checkpoints before it hands over.", checkpoint_first),
    HerdRule(610, "Clients are held: no transaction begins at the primary any more.", hold),
    HerdRule(
        611,
        "Running transactions are waited for, as long as the hold lasts.",
        wait_for_transactions,
    ),
    HerdRule(603, "A switchover begins a term in which the old primary drains first.", start),
)
