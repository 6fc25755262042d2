"""Rules 1204, 1205, 1301 and 1302: a password is changed, and nobody's stream ends for it.

Theory of operation. PostgreSQL has one password per role, so two roles take turns, and with them
two passwords are valid at once. All members have the new secret before the ledger names it. Then
the primary makes its role (1301), new connections use it (1204), and after a time the former role
may log in no more (1205). Streams that run go on under the role that they began with; whoever loses
one later is pointed to the leader anew (1302).
"""

from __future__ import annotations

from pgherd.ledger.commands import StepPassword
from pgherd.model import action as act
from pgherd.model.credentials import Credential, Stage, Which, mark
from pgherd.model.facts import Phase
from pgherd.model.observation import Server
from pgherd.plan.look import data_members, fresh, leader_report
from pgherd.plan.own import Answer, MemberRule, Self, follows, leads
from pgherd.plan.rule import Decision, HerdRule, Situation


def makes_roles(s: Self) -> Answer | None:
    wanted = mark(s.facts.credentials)
    if not wanted or not leads(s) or s.server.state is not Server.PRIMARY:
        return None
    if s.facts.phase is not Phase.STABLE or s.server.roles == wanted:
        return None
    if s.server.logins != wanted:
        return "waits for a new password from the other members", None
    return "sees to the roles whose passwords were changed", act.EnsureRoles(wanted)


def follows_anew(s: Self) -> Answer | None:
    """Without a stream there is none to lose."""
    leader = s.facts.leader
    member = s.facts.member(leader) if leader is not None else None
    if not follows(s) or s.server.state is not Server.STANDBY or not s.server.former_login:
        return None
    if s.server.receiver is not None or s.server.borrows or leader is None or member is None:
        return None
    if s.server.upstream_term != s.facts.term:
        return None
    host, port = member.address.postgres()
    action = act.Follow(term=s.facts.term, leader=leader, host=host, port=port)
    return f"follows {leader.node} under the role whose password counts", action


def in_use(s: Situation) -> Decision | None:
    for which, one in made(s, Stage.MADE):
        report = leader_report(s)
        if report is None or report.server.roles != mark(s.facts.credentials):
            continue
        alone = which is Which.SUPERUSER
        stage = Stage.ENDED if alone else Stage.BOTH
        return step(which, one, stage, 1204, "the primary has the new password")
    return None


def over(s: Situation) -> Decision | None:
    """A member that is not heard may need the former one yet."""
    for which, one in made(s, Stage.BOTH):
        if s.view.unix_ms < one.until_ms:
            continue
        behind = lacking(s)
        if behind:
            return Decision(1205, f"the former password waits for {', '.join(behind)}")
        return step(which, one, Stage.ENDED, 1205, "all members use the new password")
    return None


def made(s: Situation, stage: Stage) -> list[tuple[Which, Credential]]:
    """What is at a stage, while nothing else goes on."""
    if s.facts.phase is not Phase.STABLE or s.facts.switchover is not None:
        return []
    return [
        (which, one) for which, one in sorted(s.facts.credentials.items()) if one.stage is stage
    ]


def lacking(s: Situation) -> list[str]:
    """The members that do not say that they know all secrets."""
    wanted = mark(s.facts.credentials)
    known = {member.node: fresh(s, member.node) for member in data_members(s.facts)}
    return [
        node for node, report in known.items() if report is None or report.server.logins != wanted
    ]


def step(which: Which, one: Credential, stage: Stage, rule: int, reason: str) -> Decision:
    command = StepPassword(which, one.generation, stage, rule)
    return Decision(rule, f"{reason} of {which.value}", command)


MAKES_ROLES = MemberRule(
    1301, "The primary sees to roles whose passwords were changed.", makes_roles
)
FOLLOWS_ANEW = MemberRule(
    1302,
    "A follower without a stream, whose login is of a former password, follows anew.",
    follows_anew,
)
HERD_RULES = (
    HerdRule(1204, "A new password is used once the primary's server has it.", in_use),
    HerdRule(1205, "A former password ends when its time is over and all have the new one.", over),
)
