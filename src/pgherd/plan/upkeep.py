"""Rules 104 and 1101-1104: what the herd does for its operators, node by node.

Theory of operation. Work is a list of nodes in the ledger. The Raft leader takes one of them in
hand and writes down what its server was; the node sees that and does its part (`tending`); when the
reports show another server, or another copy, that works, the node is crossed off and the next one
is taken. Nothing is remembered outside the ledger, so whoever leads consensus goes on with it.
Replicas come first; the primary hands over before its turn, or is restarted in place by a
switchover to itself, which is a new term like any other.

Pure. The wall clock here is the Raft leader's: it says when an operator's time has come, and
nothing that keeps commits safe rests on it.
"""

from __future__ import annotations

from pgherd.ledger import commands as cmd
from pgherd.ledger.commands import Shift
from pgherd.model.facts import Phase
from pgherd.model.ids import NodeId
from pgherd.model.observation import Observation, Server, ServerSeen
from pgherd.model.upkeep import Verb, Work, WorkState
from pgherd.plan import programs
from pgherd.plan.look import (
    data_members,
    fresh,
    is_fed_otherwise,
    leader_report,
    streaming,
)
from pgherd.plan.readiness import cannot_begin
from pgherd.plan.rule import Decision, HerdRule, Situation
from pgherd.plan.tending import counts_on

MOVES = "moves"
"""The mark of a primary that hands over first."""
LEAVES = "leaves"
"""The mark of a copy that leaves the sync set first."""
PATIENCE_MS = 60_000
"""How long a copy may take to leave the sync set, or a server to stop or to reload."""


def pause_ends(s: Situation) -> Decision | None:
    pause = s.facts.upkeep.pause
    if pause is None or not pause.until_ms or s.view.unix_ms < pause.until_ms:
        return None
    reason = f"the pause asked for by {pause.requested_by} is over"
    return Decision(104, reason, cmd.Resume(id=pause.id, reason=reason))


def due(s: Situation) -> list[Work]:
    """The work that can go on now: nothing does in an election, or while a switchover runs."""
    if s.facts.phase is not Phase.STABLE or s.facts.switchover is not None:
        return []
    return [work for work in s.facts.upkeep.open_works() if work.not_before_ms <= s.view.unix_ms]


def current(s: Situation) -> list[Work]:
    """Of that, what takes nodes in hand."""
    return [work for work in due(s) if work.verb.by_turns]


# --- 1101: a node is taken in hand --------------------------------------------------------------


def take_next(s: Situation) -> Decision | None:
    waits: Decision | None = None
    for work in current(s):
        if work.node is not None:
            continue
        node = next_node(s, work)
        if node is None or not may_begin(s, work):
            continue
        if why := not_now(s, work, node):
            waits = waits or Decision(1101, f"{work.what} waits: {why}")
            continue
        return begin_with(s, work, node)
    return waits


def may_begin(s: Situation, work: Work) -> bool:
    """What was scheduled is looked at first, and says why it waits (rule 1111)."""
    return work not in s.facts.upkeep.scheduled() or not cannot_begin(s, work)[0]


def next_node(s: Situation, work: Work) -> NodeId | None:
    """Replicas in the order in which they were named, the primary last."""
    left = [node for node in work.nodes if node not in work.finished and node in s.facts.members]
    return min(left, key=s.facts.is_leader, default=None)


def not_now(s: Situation, work: Work, node: NodeId) -> str:
    """What a node's turn waits for: in a rolling restart, for those before it to be back."""
    other = s.facts.upkeep.at_work(work)
    if other is not None and work.state is WorkState.PENDING:
        return f"{other.what} ({other.id}) is under way"
    if not work.rolling or work.force:
        return ""
    report = leader_report(s)
    if report is None:
        return "the primary does not report"
    behind = [one for one in work.finished if one != node and not is_back(s, report, one)]
    if behind:
        return f"{', '.join(behind)} has not caught up yet"
    voters = [key for key in s.facts.sync.voters if key.node != node]
    alive = [key for key in voters if key in streaming(report, s.facts.term)]
    if (
        s.facts.sync.k
        and len(alive) < s.facts.sync.k
        and len(data_members(s.facts)) > s.facts.sync.k + 1
    ):
        return f"without {node} too few synchronous standbys would be left"
    return ""


def is_back(s: Situation, leader: Observation, node: NodeId) -> bool:
    """Whether a node serves again: as the primary, or as a standby that streams and is close."""
    if node == leader.node:
        return leader.server.state is Server.PRIMARY
    if is_fed_otherwise(s, s.facts.members[node]):
        return True
    sender = streaming(leader, s.facts.term).get(s.facts.members[node].key)
    near = leader.server.insert_lsn - s.policy.admission_lag_bytes
    return sender is not None and sender.flush_lsn >= near


def begin_with(s: Situation, work: Work, node: NodeId) -> Decision:
    leads, report = s.facts.is_leader(node), fresh(s, node)
    pid = str(report.server.pid) if report is not None else ""
    by = f"asked for by {work.requested_by}"
    if leads and work.verb is Verb.RESTART and not work.rolling:
        return take(
            work, node, mark=pid, text=f"{node} restarts in place, {by}", shift=Shift.IN_PLACE
        )
    if leads and work.verb in (Verb.RESTART, Verb.STOP):
        return take(work, node, mark=MOVES, text=f"{node} hands over first, {by}", shift=Shift.AWAY)
    if work.verb is Verb.REINIT:
        return take(
            work, node, mark=LEAVES, text=f"{node} leaves the sync set, if it is in it, {by}"
        )
    return take(work, node, mark=pid, text=f"{work.verb.value} of {node}, {by}")


def take(
    work: Work, node: NodeId, *, mark: str, text: str, shift: Shift = Shift.NONE, rule: int = 1101
) -> Decision:
    command = cmd.TakeInHand(
        id=work.id, step=work.step, node=node, mark=mark, text=text, rule=rule, shift=shift
    )
    return Decision(rule, text, command)


# --- 1102: the next step with the node in hand ---------------------------------------------------


def next_step(s: Situation) -> Decision | None:
    for work in current(s):
        node = work.node
        if node is None or node not in s.facts.members:
            continue
        report = fresh(s, node)
        if work.mark == MOVES and report is not None and has_moved(s, work, node):
            text = f"{work.verb.value} of {node}"
            return take(work, node, mark=str(report.server.pid), text=text, rule=1102)
        key = s.facts.members[node].key
        if work.mark == LEAVES and not counts_on(s.facts, key):
            text = f"{node} is copied anew, asked for by {work.requested_by}"
            return take(work, node, mark=key.incarnation, text=text, rule=1102)
    return None


def has_moved(s: Situation, work: Work, node: NodeId) -> bool:
    """Whether a primary has handed over; by force it is stopped where nobody can take over."""
    forced = work.verb is Verb.STOP and work.force
    if forced or s.facts.is_leader(node):
        return forced
    report = leader_report(s)
    return report is not None and is_back(s, report, node)


# --- 1103: a node has done its part --------------------------------------------------------------


def crossed_off(s: Situation) -> Decision | None:
    for work in current(s):
        if work.node is not None and work.mark not in (MOVES, LEAVES) and has_done(s, work):
            reason = f"{work.verb.value} of {work.node} is done"
            return Decision(1103, reason, cmd.CrossOff(id=work.id, step=work.step, rule=1103))
    return None


def has_done(s: Situation, work: Work) -> bool:
    assert work.node is not None
    member, report = s.facts.members.get(work.node), fresh(s, work.node)
    leader = leader_report(s)
    if member is None or report is None:
        return False
    server = report.server
    if work.verb is Verb.STOP:
        return server.state is Server.STOPPED
    if work.verb is Verb.RELOAD:  # one at rest reads them when it starts
        return server.reloaded == work.id or server.state is Server.STOPPED
    if leader is None or not is_back(s, leader, work.node) or not serves(s, server):
        return False
    if work.verb is Verb.REINIT:
        return bool(member.incarnation) and member.incarnation != work.mark
    anew = work.verb is Verb.START or str(server.pid) != work.mark
    return anew and programs.is_through(work, server)


def serves(s: Situation, server: ServerSeen) -> bool:
    """Whether a server itself says that it serves; the primary's word may be of its predecessor."""
    if server.state is Server.PRIMARY:
        return True
    receiver = server.receiver
    streams = receiver is not None and receiver.term == s.facts.term
    streams = streams or (server.delay_ms > 0 and server.upstream_term == s.facts.term)
    return server.state is Server.STANDBY and streams


# --- 1104: work that cannot go on ----------------------------------------------------------------


def fails(s: Situation) -> Decision | None:
    for work in current(s):
        if why := hopeless(s, work):
            reason = f"{work.what} fails: {why}"
            end = cmd.EndWork(id=work.id, state=WorkState.FAILED, text=why, rule=1104)
            return Decision(1104, reason, end)
    return None


def hopeless(s: Situation, work: Work) -> str:
    """Why work cannot go on; "" while it can."""
    gone = [node for node in work.nodes if node not in s.facts.members]
    if gone:
        return f"{', '.join(gone)} is no member any more"
    node, since = work.node, s.view.unix_ms - work.stepped_at_ms
    if node is None:
        return ""
    if s.facts.is_leader(node) and work.verb is Verb.REINIT:
        return f"{node} was elected meanwhile: switch over first"
    if s.facts.is_leader(node) and shifted_in_vain(s, work, node):
        return f"the switchover did not come about: {outcome(s)}"
    report = fresh(s, node)
    if report is not None and (why := programs.in_vain(work, report.server)):
        return why
    slow = work.verb in (Verb.RESTART, Verb.START, Verb.REINIT) and work.mark != LEAVES
    limit = s.policy.start_timeout_ms if slow else PATIENCE_MS
    if work.verb is Verb.REINIT and slow:
        return ""  # a copy takes as long as it takes, and its progress shows
    return f"{node} is not through after {limit // 1000} s: {work.text}" if since > limit else ""


def shifted_in_vain(s: Situation, work: Work, node: NodeId) -> bool:
    """Whether a primary that was to hand over, or to restart in place, still is what it was."""
    if work.mark == MOVES:
        return True
    report = fresh(s, node)
    same = report is not None and str(report.server.pid) == work.mark
    return work.verb is Verb.RESTART and same


def outcome(s: Situation) -> str:
    """The deciders' last word about a switchover."""
    kinds = ("switchover.ended", "switchover.undone")
    said = [note.text for note in s.facts.notes if note.kind in kinds]
    return said[-1] if said else "it was given up"


RULES = (
    HerdRule(104, "A pause ends when its time is over on the Raft leader's clock.", pause_ends),
    HerdRule(1102, "Who has handed over, or has left the sync set, has its turn.", next_step),
    HerdRule(1103, "A node that has done its part of some work is crossed off.", crossed_off),
    HerdRule(1104, "Work that cannot go on fails, with the reason.", fails),
    HerdRule(1101, "Work that is due takes the next node in hand, the primary last.", take_next),
)
