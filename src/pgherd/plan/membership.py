"""Rules 701-707 and 801: data directories, Raft membership, and where Raft leadership sits.

Who votes is `voting`'s choice. A change towards it is one member at a time and never weakens the
herd on the way: who is chosen votes first, and who is not loses its vote only after that.

A member leaves in steps, each only after the one before: out of the sync set (506 or 502), Raft
leadership handed on, out of consensus, out of the ledger. The leader that removes itself from two
voters would leave the other one stuck (tests/data/raft/two-to-one.txt), so it never does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import counted
from pgherd.ledger.syncset import stands_for_data
from pgherd.model.facts import Kind, Member, Phase
from pgherd.model.ids import NodeId, RaftId
from pgherd.plan.look import age_ms, fresh
from pgherd.plan.rule import Decision, HerdRule, Membership, Situation
from pgherd.plan.voting import Candidate, choose

QUIET_BEFORE_TRANSFER_MS = 2000


def new_incarnation(s: Situation) -> Decision | None:
    facts = s.facts
    if not facts.system_id:
        return None
    for node, member in sorted(facts.members.items()):
        report = fresh(s, node)
        if report is None or report.server.system_id != facts.system_id:
            continue
        incarnation = report.promises.incarnation
        if not incarnation or incarnation == member.incarnation:
            continue
        if report.raft_id != member.raft_id:
            continue  # said before it was re-admitted: of a copy that counts for nothing now
        if member.incarnation and counted(facts, member.key):
            continue
        reason = f"{node} has data directory {incarnation}"
        return Decision(701, reason, cmd.RegisterIncarnation(node, incarnation))
    return None


def in_consensus(s: Situation, member: Member) -> bool:
    return member.raft_id in (*s.view.raft_voters, *s.view.raft_learners)


def new_learner(s: Situation) -> Decision | None:
    for node, member in sorted(s.facts.members.items()):
        if not member.leaving and not in_consensus(s, member):
            change = Membership("learner", member.raft_id)
            return Decision(702, f"{node} becomes a Raft learner", membership=change)
    return None


def chosen(s: Situation) -> list[Member]:
    """The members that are to vote, by name; all who may, while all of them do and have a seat."""
    fit = [
        member
        for _, member in sorted(s.facts.members.items())
        if in_consensus(s, member) and member.voter and not member.leaving
    ]
    if len(fit) <= s.facts.max_voters and all(votes(s, member) for member in fit):
        return fit
    candidates = [
        Candidate(
            node=member.node,
            witness=member.kind is Kind.WITNESS,
            zone=member.tags.zone,
            votes=votes(s, member),
            leads=member.node == s.view.me,
            able=is_able(s, member),
        )
        for member in fit
    ]
    names = choose(candidates, seats=s.facts.max_voters)
    return [member for member in fit if member.node in names]


def votes(s: Situation, member: Member) -> bool:
    return member.raft_id in s.view.raft_voters


def is_able(s: Situation, member: Member) -> bool:
    """Whether a member can be counted on for a vote: a voter is, until it was silent for long."""
    if votes(s, member):
        return silence_ms(s, member) < s.policy.voter_timeout_ms
    return member.raft_id in s.view.caught_up and fresh(s, member.node) is not None


class Seats(msgspec.Struct, frozen=True):
    """The way from who votes to who is chosen. waits: chosen without a vote, by name.

    spare: those who vote, stay and are not chosen; the lost first, then the silent, who leads
    consensus last.
    """

    chosen: list[Member]
    waits: list[Member]
    spare: list[Member]

    @property
    def excess(self) -> int:
        """How many more vote than are to; negative while seats are free."""
        return len(self.spare) - len(self.waits)


def seats(s: Situation) -> Seats:
    wanted = chosen(s)
    spare = [
        member
        for member in s.facts.members.values()
        if votes(s, member) and member not in wanted and not member.leaving
    ]
    spare.sort(
        key=lambda one: (
            is_able(s, one),
            fresh(s, one.node) is not None,
            one.node == s.view.me,
            one.node,
        )
    )
    return Seats(wanted, [member for member in wanted if not votes(s, member)], spare)


def silence_ms(s: Situation, member: Member) -> int:
    """For how long a member has not reported, or has not answered in consensus."""
    return max(age_ms(s, member.node), s.view.unanswered_ms.get(member.raft_id, 0))


def new_voter(s: Situation) -> Decision | None:
    found = seats(s)
    if found.excess >= 0:
        return None
    change = Membership("voter", found.waits[0].raft_id)
    return Decision(703, f"{found.waits[0].node} has caught up and votes", membership=change)


def replacing_voter(s: Situation) -> Decision | None:
    """One vote more for a while: with the newcomer's answer a majority is no harder to reach."""
    found = seats(s)
    if found.excess or not found.waits:
        return None
    newcomer, old = found.waits[0], found.spare[0]
    why = f"{newcomer.node} is to vote in place of {old.node}, {why_spare(s, old)}"
    return Decision(706, why, membership=Membership("voter", newcomer.raft_id))


def why_spare(s: Situation, member: Member) -> str:
    """Why somebody else votes in place of a voter."""
    if not member.voter:
        return "a proxy node"
    if not is_able(s, member):
        return f"silent for {silence_ms(s, member) // 1000} s"
    return "so that votes are better spread over zones and witnesses"


def spare_voter(s: Situation) -> Decision | None:
    """A silent one costs nothing; one that answers goes only while all that stay do."""
    found = seats(s)
    if found.excess <= 0:
        return None
    member = found.spare[0]
    staying = [one for one in found.chosen if votes(s, one)]
    if member.node == s.view.me:
        return hand_on(s, 707, staying)
    more = short_of_majority(s, without(s, member.raft_id))
    if more:
        return Decision(707, f"{member.node} keeps its vote: {more} voters more must answer")
    silent = [one.node for one in staying if fresh(s, one.node) is None]
    if silent and fresh(s, member.node) is not None:
        return Decision(707, f"{member.node} keeps its vote until {', '.join(silent)} answers")
    why = f"raft.max_voters is {s.facts.max_voters}"
    if not member.voter:
        why = "a proxy node never does"
    elif not is_able(s, member):
        why = f"silent for {silence_ms(s, member) // 1000} s"
    change = Membership("learner", member.raft_id)
    return Decision(707, f"{member.node} votes no more: {why}", membership=change)


def leave_consensus(s: Situation) -> Decision | None:
    """One leaving member goes out of the Raft configuration, led by somebody who stays."""
    if not s.facts.is_quiet:
        return None
    for node, member in sorted(s.facts.members.items()):
        if not member.leaving or not in_consensus(s, member):
            continue
        if stands_for_data(s.facts, node):
            return Decision(704, f"waits until {node} has left the sync set")
        if node == s.view.me:
            return hand_on(s, 704, s.facts.members.values())
        missing = short_of_majority(s, without(s, member.raft_id))
        if missing:
            return Decision(
                704, f"{node} stays for now: without it {missing} voters more must answer"
            )
        change = Membership("remove", member.raft_id)
        return Decision(704, f"{node} leaves consensus", membership=change)
    return None


def hand_on(s: Situation, rule: int, among: Iterable[Member]) -> Decision:
    """A Raft leader that is to lose its vote hands over first."""
    heir = successor(s, among) or successor(s, among, primary_too=True)
    if heir is None:
        return Decision(rule, f"{s.view.me} leads consensus, and no other voter has caught up")
    why = f"Raft leadership moves to {heir}: {s.view.me} is to vote no more"
    return Decision(rule, why, transfer_to=heir)


def without(s: Situation, leaving: RaftId) -> list[RaftId]:
    """The voters that would be left."""
    return [raft_id for raft_id in s.view.raft_voters if raft_id != leaving]


def short_of_majority(s: Situation, voters: Collection[RaftId]) -> int:
    """How many voters short of a majority these voters would be right after a change."""
    answering = sum(
        member.raft_id in voters and fresh(s, node) is not None
        for node, member in s.facts.members.items()
    )
    return max(0, len(voters) // 2 + 1 - answering)


def forget(s: Situation) -> Decision | None:
    if not s.facts.is_quiet:
        return None
    for node, member in sorted(s.facts.members.items()):
        counts = stands_for_data(s.facts, node)
        if member.leaving and not in_consensus(s, member) and not counts:
            command = cmd.RemoveMember(node, member.raft_id)
            return Decision(705, f"{node} is no member any more", command)
    return None


def successor(s: Situation, among: Iterable[Member], *, primary_too: bool = False) -> NodeId | None:
    """A voter that stays, answers and has caught up; not the primary unless it must be."""
    for member in sorted(among, key=lambda one: one.node):
        node = member.node
        fits = member.raft_id in s.view.raft_voters and member.raft_id in s.view.caught_up
        if node == s.view.me or member.leaving or not fits or fresh(s, node) is None:
            continue
        if primary_too or not s.facts.is_leader(node):
            return node
    return None


def move_raft_leadership(s: Situation) -> Decision | None:
    """One crash should not cost two elections."""
    facts = s.facts
    if facts.phase is not Phase.STABLE or not facts.is_leader(s.view.me):
        return None
    if s.now - max(s.view.phase_since, s.view.since) < QUIET_BEFORE_TRANSFER_MS:
        return None
    heir = successor(s, facts.members.values())
    if heir is None:
        return None
    return Decision(801, f"Raft leadership moves off the primary to {heir}", transfer_to=heir)


RULES = (
    HerdRule(
        701, "A new data directory is registered once the old one counts nowhere.", new_incarnation
    ),
    HerdRule(702, "A new member starts as a Raft learner.", new_learner),
    HerdRule(703, "A learner that has caught up becomes a voter, while a seat is free.", new_voter),
    HerdRule(
        706,
        "Who is chosen in place of a voter that is lost, or less well placed, votes first.",
        replacing_voter,
    ),
    HerdRule(
        707,
        "A voter too many loses its vote: one that is lost, or that others were chosen before.",
        spare_voter,
    ),
    HerdRule(
        704,
        "A leaving member that counts for no commit leaves consensus, if the rest can go on.",
        leave_consensus,
    ),
    HerdRule(705, "A leaving member that is out of consensus is forgotten.", forget),
    HerdRule(801, "Raft leadership moves to a node other than the primary.", move_raft_leadership),
)
