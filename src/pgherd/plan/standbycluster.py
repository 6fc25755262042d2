"""Rules 105, 205, 206 and 98, 981-987: a cluster that follows a remote primary.

Theory of operation. It has no term: no elections, no lease, no synchronous set; every server is a
standby under closed names, so nothing is acknowledged whoever does what. One member, the standby
leader, streams from the remote, the others from it. Two at a time do no harm (both only receive),
so the standby leader is a plain fact, moved by a decision and not by an election. Before a server
is pointed anywhere its history of timelines is compared with the source's (`act.standbycluster`),
for here timelines are the remote's, and of no term: one with WAL that its source has not is copied
anew, the old directory kept. When the cluster is promoted the rest is a first election (F0).
"""

from __future__ import annotations

from pgherd.ledger import commands as cmd
from pgherd.model import action as act
from pgherd.model.facts import Facts, Member
from pgherd.model.ids import Lsn, NodeId, Timeline, slot_name
from pgherd.model.observation import Observation, Server, ServerSeen
from pgherd.model.standbycluster import Source
from pgherd.plan import configuring, slotkeeping, tending
from pgherd.plan.look import (
    age_ms,
    data_members,
    fresh,
    ineligible,
    observers_needed,
    silent_observers,
)
from pgherd.plan.own import Answer, MemberRule, Self, follows
from pgherd.plan.rule import Decision, HerdRule, Situation

ASK_AGAIN_MS = 10_000
"""How often a source from which nothing comes is asked why."""
FIRST_ASK_MS = 2_000
"""The same before the server is pointed to it."""
LOST = (Server.NONE, Server.UNUSABLE, Server.STOPPED, Server.STARTING, Server.HUNG)

# --- a member -------------------------------------------------------------------------------------


def standby_leader(facts: Facts) -> NodeId | None:
    """Who streams from the remote: the one that is named, or who makes the first copy."""
    if facts.follows is None:
        return None
    return facts.follows.leader or facts.founder


def no_primary(facts: Facts) -> str:
    """Why clients that want to write find nobody; "" where there may be a primary."""
    if facts.follows is None:
        return ""
    return f"this is a standby cluster, which takes no writes: it {facts.follows.sentence}"


def source(s: Self) -> Source | None:
    """Whom this member streams from; None while that is not known."""
    known, leader = s.facts.follows, standby_leader(s.facts)
    if known is None or leader is None:
        return None
    if leader == s.me:
        remote = known.remote
        return Source(remote.hosts, slot=remote.slot, sslmode=remote.sslmode)
    member = s.facts.members.get(leader)
    if member is None or not member.address.postgres_port:
        return None
    return Source((member.address.postgres(),), slot=slot_name(s.me), node=leader)


def is_there(s: Self, of: Source) -> bool:
    """Whether a source may answer: of the remote nobody here can say."""
    report = s.leader_report
    return of.node is None or (report is not None and report.server.state is Server.STANDBY)


def receives(server: ServerSeen) -> bool:
    """Whether WAL comes to it now."""
    return server.receiver is not None and server.receiver.status == "streaming"


def stand_down(s: Self) -> Answer | None:
    if s.facts.follows is None or s.server.state is not Server.PRIMARY:
        return None
    text = f"the cluster {s.facts.follows.sentence}"
    return text, act.StandDown(text)


def copy(s: Self) -> Answer | None:
    """No data, or what the source has not: a new copy, the old one is kept aside."""
    wanted, server = source(s), s.server
    if s.facts.follows is None:
        return None
    diverged = server.source is not None and server.source.diverged
    empty = server.state is Server.NONE
    if not (empty or diverged or s.promises.dirty_rewind or s.dead_end):
        return None
    if wanted is None or not is_there(s, wanted):
        return "waits for a standby leader to copy", None
    if wanted.node is not None and not s.facts.system_id:
        return f"waits until {wanted.node} has copied the remote primary", None
    whom = wanted.node or f"the remote primary at {s.facts.follows.remote}"
    why = ": it has WAL that is not there" if diverged else ""
    return f"copies {whom}{why}", act.CopySource(wanted, s.facts.system_id)


def start(s: Self) -> Answer | None:
    if s.facts.follows is None:
        return None
    if (kept := tending.stays_stopped(s)) is not None:
        return kept
    if s.server.state is not Server.STOPPED:
        return None
    return "starts without upstream, to know its position", act.StartStandby()


def stream(s: Self) -> Answer | None:
    wanted, seen = source(s), s.server.source
    if s.facts.follows is None or s.server.state is not Server.STANDBY or wanted is None:
        return None
    if not is_there(s, wanted):
        return None
    whom = wanted.node or "the remote primary"
    action = act.Stream(wanted, s.facts.system_id)
    if seen is None or not seen.named or seen.mark != wanted.mark:
        if seen is not None and asked_lately(s, wanted, FIRST_ASK_MS):
            return f"waits for {whom}: {seen.problem}", None
        return f"follows {whom}", action
    if receives(s.server) or asked_lately(s, wanted, ASK_AGAIN_MS):
        return None
    return f"gets nothing from {whom}: asks why", action


def asked_lately(s: Self, wanted: Source, within_ms: int) -> bool:
    """Whether this source was asked so short a time ago that the answer still counts."""
    seen = s.server.source
    return seen is not None and seen.asked == wanted.mark and s.now - seen.asked_at < within_ms


def too_little(s: Self) -> Answer | None:
    """The remote may raise what standbys must match: replay pauses then, and never goes on."""
    return configuring.too_little(s) if s.facts.follows is not None else None


def keep_slots(s: Self) -> Answer | None:
    """The standby leader has a slot for each of the others; whoever is it no more has none."""
    if s.facts.follows is None or s.server.state is not Server.STANDBY:
        return None
    leads = standby_leader(s.facts) == s.me
    nodes = tuple(m.node for m in data_members(s.facts) if m.node != s.me) if leads else ()
    if slotkeeping.is_complete(s, nodes):
        return None
    return "keeps one slot per member that streams from here", slotkeeping.keep(s, nodes)


def steady(s: Self) -> Answer | None:
    known, leader = s.facts.follows, standby_leader(s.facts)
    if known is None:
        return None
    seen = s.server.source
    why = f"; {seen.problem}" if seen is not None and seen.problem else ""
    if leader is None:
        return f"{known.sentence}, once it has a standby leader", None
    if leader == s.me:
        return f"{known.sentence}{why}", None
    return f"follows {leader}, the standby leader{why}", None


def leave_source(s: Self) -> Answer | None:
    """After the promotion, whoever did not take part in its election: as by rule 54."""
    seen, facts = s.server.source, s.facts
    if not follows(s) or s.server.state is not Server.STANDBY or facts.elector is None:
        return None
    if seen is None or not seen.named:
        return None
    return "leaves what the standby cluster followed", act.Seal(facts.term, facts.elector)


RULES: tuple[MemberRule, ...] = (
    MemberRule(981, "A primary of a cluster that was demoted stands down.", stand_down),
    MemberRule(
        98,
        "In a standby cluster a member without usable data copies its source, as does one that has"
        " what its source has not.",
        copy,
    ),
    MemberRule(982, "In a standby cluster a stopped server starts without upstream first.", start),
    MemberRule(
        983,
        "The standby leader streams from the remote primary, the others from the standby leader.",
        stream,
    ),
    MemberRule(
        987,
        "A member of a standby cluster that replays no more, for want of a parameter, is"
        " restarted.",
        too_little,
    ),
    MemberRule(984, "The standby leader keeps one slot per data member.", keep_slots),
    MemberRule(985, "A member of a standby cluster with nothing to do follows.", steady),
    MemberRule(
        986, "After the promotion of its cluster a member stops receiving first.", leave_source
    ),
)

# --- the herd -------------------------------------------------------------------------------------


def reach(report: Observation) -> tuple[Timeline, Lsn]:
    """How far a member's WAL goes: here, where one history is followed, timelines compare."""
    server = report.server
    replayed = server.position.lsn if server.position is not None else Lsn(0)
    received = server.receiver.flush_lsn if server.receiver is not None else Lsn(0)
    return server.timeline, max(replayed, received)


def fit(s: Situation) -> dict[NodeId, Observation]:
    """Who may be standby leader now, by name."""
    found = {}
    for member in data_members(s.facts):
        report = fresh(s, member.node)
        if report is None or not may_lead(s, member, report):
            continue
        found[member.node] = report
    return found


def may_lead(s: Situation, member: Member, report: Observation) -> bool:
    server = report.server
    runs = server.state is Server.STANDBY and server.healthy and server.position is not None
    diverged = server.source is not None and server.source.diverged
    unwanted = member.leaving or member.tags.nofailover or ineligible(s, member.node)
    return runs and not diverged and not unwanted and not report.promises.dirty_rewind


def best(s: Situation, among: dict[NodeId, Observation]) -> NodeId | None:
    """The furthest; among equals by priority, then by name."""

    def rank(node: NodeId) -> tuple[Timeline, Lsn, int]:
        return *reach(among[node]), s.facts.members[node].tags.failover_priority

    return max(sorted(among), key=rank, default=None)


def named(s: Situation, rule: int, node: NodeId, reason: str) -> Decision:
    follows_now = s.facts.follows
    assert follows_now is not None, "asked of a standby cluster only"
    return Decision(rule, reason, cmd.LeadStandby(follows_now.number, node, rule, reason))


def first_leader(s: Situation) -> Decision | None:
    known = s.facts.follows
    if known is None or known.leader is not None or not s.facts.system_id:
        return None
    node = best(s, fit(s))
    if node is None:
        return Decision(105, "waits for a member that can be standby leader")
    return named(s, 105, node, f"{node} {known.sentence}")


def lost_leader(s: Situation) -> Decision | None:
    """By silence as of a primary (203), and at once where it says so itself."""
    known = s.facts.follows
    if known is None or known.leader is None:
        return None
    why = lost(s, known.leader)
    if not why:
        return None
    others = {node: one for node, one in fit(s).items() if node != known.leader}
    if held := held_back(s):
        return Decision(205, f"{why}; {held}")
    node = best(s, others)
    if node is None:
        return Decision(205, f"{why}, and nobody else can be standby leader")
    return named(s, 205, node, f"{why}; {node} has most of what came")


def lost(s: Situation, node: NodeId) -> str:
    """Why this standby leader is none; "" while it is, or may soon be again."""
    member, report = s.facts.members.get(node), fresh(s, node)
    if member is None or member.leaving:
        return f"{node} leaves"
    if report is None:
        if node == s.view.me or age_ms(s, node) < s.policy.detect_ms:
            return ""
        observers = silent_observers(s, node)
        enough = len(observers) >= observers_needed(s, node)
        return f"{node} is silent for {' and '.join(observers)}" if enough else ""
    server = report.server
    if server.state in LOST and not server.was_primary:
        return f"{node} reports its own server {server.state.value}"
    if server.source is not None and server.source.diverged:
        return f"{node} has WAL that the remote primary has not"
    return ""


def held_back(s: Situation) -> str:
    """Why nobody takes a standby leader's place by itself; "" when somebody may."""
    pause = s.facts.upkeep.pause
    if not s.policy.failover_enabled:
        return "failover is disabled"
    return pause.sentence if pause is not None else ""


def further(s: Situation) -> Decision | None:
    """Where the remote gives nothing, what another has is lost to the rest unless it leads."""
    known = s.facts.follows
    if known is None or known.leader is None or held_back(s):
        return None
    able = fit(s)
    mine = able.get(known.leader)
    if mine is None or receives(mine.server) or mine.server.source is None:
        return None
    node = best(s, able)
    if node is None or reach(able[node]) <= reach(mine):
        return None
    return named(s, 206, node, f"{node} has more than {known.leader}, to which nothing comes")


HERD_RULES: tuple[HerdRule, ...] = (
    HerdRule(105, "A standby cluster gets a standby leader once it has data.", first_leader),
    HerdRule(205, "A standby leader that is lost is replaced by who has most.", lost_leader),
    HerdRule(
        206,
        "While nothing comes from the remote primary, who has most is standby leader.",
        further,
    ),
)
