"""Rules 82 and 83: the mild remedies for a follower that gets nothing, and why it gets nothing.

Theory of operation. A follower in trouble goes down a ladder, one step at a time and each mild one
once: its receiver is restarted, it is pointed to its leader anew, and then it is rewound or copied
(rules 56, 58, 61), which have their own limits. The trouble is over when its leader says that it
streams. What was tried is kept on its disk, so that an agent that is restarted goes on from there.
What the server's log says decides whether a step can help at all.
"""

from __future__ import annotations

from pgherd.model import action as act
from pgherd.model.facts import Phase
from pgherd.model.ids import NodeId
from pgherd.model.observation import Server
from pgherd.model.remedy import Step
from pgherd.plan import upstreams
from pgherd.plan.following import leader_member
from pgherd.plan.own import Answer, MemberRule, Self, follows, follows_already, is_gone

STUCK_MS = 5_000
"""So long nothing came, or nothing was replayed, before a replica is called stuck."""


def stalled(s: Self, part: int) -> bool:
    """Whether a follower has received nothing for this part of the time that it may."""
    if s.ladder is None or s.leader_report is None or s.facts.phase is not Phase.STABLE:
        return False
    if s.server.delays:
        return False  # it asks for no more until it has replayed what it has
    return is_fed(s) and s.ladder.received_ms >= s.policy.stuck_after_ms // part


def is_fed(s: Self) -> bool:
    """Whether it is a standby that should get WAL from its leader now."""
    return (
        follows(s)
        and s.server.state is Server.STANDBY
        and not s.server.borrows
        and not s.nostream
        and follows_already(s)
    )


def restart_receiver(s: Self) -> Answer | None:
    tried = has_tried(s, Step.RESTART_RECEIVER) or has_tried(s, Step.REPOINT)
    if not stalled(s, 4) or s.server.receiver is None or tried:
        return None
    return f"receives nothing{because(s)}: restarts its receiver", act.RestartReceiver()


def point_anew(s: Self) -> Answer | None:
    if not stalled(s, 2) or has_tried(s, Step.REPOINT) or is_gone(s) or s.server.fetches:
        return None
    member, leader = leader_member(s), s.facts.leader
    if member is None or leader is None:
        return None
    host, port = member.address.postgres()
    why = f"receives nothing{because(s)}: is pointed to {leader.node} anew"
    return why, act.Repoint(term=s.facts.term, leader=leader, host=host, port=port)


def has_tried(s: Self, step: Step) -> bool:
    return s.ladder is not None and step in s.ladder.tried


def because(s: Self) -> str:
    text = s.ladder.said.text if s.ladder is not None else ""
    return f" ({text})" if text else ""


def stuck(s: Self) -> str:
    """Why a follower does not come on, for people; "" while it does."""
    ladder, report = s.ladder, s.leader_report
    if ladder is None or report is None or not is_fed(s):
        return ""
    name = upstreams.fed_by(s.facts, s.server) or report.node
    if s.server.delays:
        return ""
    if ladder.received_ms >= STUCK_MS:
        if ladder.said.text:
            return f"receives nothing from {name}: {ladder.said.text}"
        has = s.server.receiver is not None
        return f"receives nothing from {name}: its receiver {'waits' if has else 'does not run'}"
    if ladder.replayed_ms < STUCK_MS or s.server.delay_ms:
        return ""
    if s.server.paused:
        return "replay is paused: SELECT pg_wal_replay_resume() there goes on"
    return "receives, and replays nothing: a query there holds it up, or recovery_min_apply_delay"


def step_of(planned: act.Planned) -> Step | None:
    """Which remedy an act is; None for one that is none."""
    match planned.action:
        case act.RestartReceiver():
            return Step.RESTART_RECEIVER
        case act.Repoint():
            return Step.REPOINT
        case act.Fetch(fetches=True):
            return Step.FETCH
        case act.Rewind():
            return Step.REWIND
        case act.Rebuild():
            return Step.COPY
        case _:
            return None


def source_of(planned: act.Planned) -> NodeId | None:
    """From whom it copies or rewinds."""
    match planned.action:
        case act.Rebuild() as copy:
            return copy.source
        case act.Rewind() as rewind:
            return rewind.leader.node
        case _:
            return None


RULES: tuple[MemberRule, ...] = (
    MemberRule(82, "A receiver through which nothing comes is restarted, once.", restart_receiver),
    MemberRule(83, "A follower that still gets nothing is pointed anew, once.", point_anew),
)
