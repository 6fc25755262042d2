"""What would follow if nodes were lost now, or a switchover were asked for: the deciders are asked.

Theory of operation. A rehearsal takes what one node knows and plays the herd's next seconds on it:
the production table (`herd.decide`) says what to do, the production ledger applies it, and the
nodes that are left then report that they did it (`obeying`). Time goes from one instant at which a
rule may change its mind to the next, so that what is waited for is known to the millisecond, and
what an act takes is left out: `forecast` adds that. No rule is repeated here.

A rehearsal knows what its node knows. Between two reports a standby receives more, and which of
several equal ones has most then is not known before (`rivals`); whether an act will fail is not
known at all. Runs at most TURNS_MAX times through the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import apply_command
from pgherd.model.facts import Facts, Kind, Member, Phase
from pgherd.model.ids import Instant, Lsn, MemberKey, NodeId, RaftId
from pgherd.model.lease import expiry_ms
from pgherd.model.observation import Heard, HerdView, Server
from pgherd.model.policy import Policy
from pgherd.model.synctuning import forgets
from pgherd.plan import herd, obeying, upstreams
from pgherd.plan.election import streamers
from pgherd.plan.forward import PREFERRED_WITHIN_MS
from pgherd.plan.leaseclock import running
from pgherd.plan.look import acknowledges, known_end, leader_report
from pgherd.plan.rule import Decision, Membership, Situation

TURNS_MAX = 60
TERMS_MAX = 3
"""A change that needs more terms than this does not come to an end."""

SWITCHES = 603
"""The rule that begins the term of a planned switchover (`handover`)."""

LONG_MS = 60_000
"""For so long the elector is taken to lead consensus: a node that nobody heard by now is silent."""

replace = msgspec.structs.replace


class Known(msgspec.Struct, frozen=True):
    """What one node knows now. raft_leader: of consensus, None where none is known."""

    facts: Facts
    reports: dict[NodeId, Heard]
    policy: Policy
    now: Instant
    unix_ms: int
    raft_leader: NodeId | None
    raft_voters: tuple[RaftId, ...]
    raft_learners: tuple[RaftId, ...] = ()

    def is_heard(self, node: NodeId) -> bool:
        """Whether a node's report is recent enough to speak for now."""
        heard = self.reports.get(node)
        return heard is not None and self.now - heard.at < self.policy.detect_ms


class Step(msgspec.Struct, frozen=True):
    """One decision. waited_ms: after the beginning, as far as rules and not acts take time."""

    rule: int
    reason: str
    waited_ms: int


class Rehearsal(msgspec.Struct, frozen=True):
    """How it ends. primary: who takes writes then, None where nobody does; why: what was decided
    last, or what is waited for · waited_ms: until writes go on · lost_bytes: of WAL that is known
    of and that the new primary lacks, None where nothing acknowledged is given up.
    """

    primary: NodeId | None
    why: str
    steps: tuple[Step, ...]
    waited_ms: int
    has_quorum: bool
    facts: Facts
    lost_bytes: int | None = None

    def continues(self, before: Facts) -> bool:
        """Whether the primary of before goes on, with no election behind it or in between."""
        stays = self.primary is not None and before.phase is Phase.STABLE
        return stays and self.facts.term == before.term

    @property
    def switches(self) -> bool:
        """Whether a planned switchover was begun in it, and not only a failover."""
        return any(step.rule == SWITCHES for step in self.steps)


class Scene(msgspec.Struct, frozen=True):
    """The herd at one instant of a rehearsal. feeds: who streams from an elected winner · orphans:
    who streamed from one that is gone, in place of the primary.
    """

    facts: Facts
    reports: dict[NodeId, Heard]
    known: Known
    gone: frozenset[NodeId]
    me: NodeId
    now: Instant
    phase_since: Instant
    names_since: Instant
    held_since: Instant
    raft_voters: tuple[RaftId, ...]
    raft_learners: tuple[RaftId, ...]
    feeds: tuple[MemberKey, ...] = ()
    orphans: tuple[MemberKey, ...] = ()

    @property
    def waited_ms(self) -> int:
        """Since the beginning."""
        return self.now - self.known.now

    @property
    def silent(self) -> frozenset[NodeId]:
        """Who says nothing: who is gone, and who was not heard before."""
        known = self.known
        return self.gone | {node for node in known.facts.members if not known.is_heard(node)}


# --- what is asked -------------------------------------------------------------------------------


def if_lost(known: Known, lost: Iterable[NodeId]) -> Rehearsal:
    """What would follow if these nodes were gone this moment, for good."""
    return play(begin(known, frozenset(lost)))


def if_switched(known: Known, candidate: NodeId | None) -> Rehearsal:
    """What would follow if a switchover were asked for now."""
    scene = begin(known, frozenset())
    order = cmd.RequestSwitchover(id="rehearsal", candidate=candidate, requested_by="a rehearsal")
    facts, outcome = apply_command(scene.facts, order, at_ms=known.unix_ms)
    if isinstance(outcome, cmd.Refused):
        stays = facts.leader if acknowledged(scene, situation(scene)) else None
        return ended(scene, (), primary=stays, why=outcome.reason)
    return play(obey(replace(scene, facts=facts)))


def if_alone_able(known: Known, lost: Iterable[NodeId], node: NodeId) -> Rehearsal:
    """The same as `if_lost` with no other member allowed to lead: whether this one could."""
    reports = {
        other: heard
        if other == node
        else replace(heard, report=replace(heard.report, ineligible=f"only {node} is asked about"))
        for other, heard in known.reports.items()
    }
    return if_lost(replace(known, reports=reports), lost)


def rivals(known: Known, lost: Iterable[NodeId], winner: NodeId) -> tuple[NodeId, ...]:
    """Who else would be elected, had it received more than the others when the primary is lost."""
    lost = frozenset(lost)
    ends = [obeying.end_of(one.report.server) for one in known.reports.values()]
    most = max((end.lsn for end in ends if end is not None), default=Lsn(0))
    found = []
    for node, member in sorted(known.facts.members.items()):
        heard = known.reports.get(node)
        if node in lost or node == winner or heard is None or not streams(known, member):
            continue
        server = heard.report.server
        position = obeying.end_of(server)
        assert position is not None, "who streams has a position"
        ahead = replace(server, position=replace(position, lsn=Lsn(most + 1)))
        changed = replace(heard, report=replace(heard.report, server=ahead))
        with_more = replace(known, reports={**known.reports, node: changed})
        if if_lost(with_more, lost).primary == node:
            found.append(node)
    return tuple(found)


def streams(known: Known, member: Member) -> bool:
    """Whether a member may have received more than its report says."""
    heard = known.reports.get(member.node)
    if member.kind is not Kind.DATA or heard is None or not known.is_heard(member.node):
        return False
    server = heard.report.server
    return (
        server.state is Server.STANDBY
        and server.receiver is not None
        and server.position is not None
    )


# --- how it goes ---------------------------------------------------------------------------------


def begin(known: Known, gone: frozenset[NodeId]) -> Scene:
    """The first instant: who is gone was heard until now, and is heard no more."""
    reports = {
        node: replace(heard, at=known.now if known.is_heard(node) else heard.at)
        for node, heard in known.reports.items()
    }
    for node, heard in reports.items():
        if node not in gone:
            reports[node] = replace(heard, report=obeying.without(heard.report, gone))
    return Scene(
        facts=known.facts,
        reports=reports,
        known=known,
        gone=gone,
        me=elector(known, gone),
        now=known.now,
        phase_since=known.now,
        names_since=known.now,
        held_since=known.now,
        raft_voters=known.raft_voters,
        raft_learners=known.raft_learners,
        orphans=orphans(known, gone),
    )


def orphans(known: Known, gone: frozenset[NodeId]) -> tuple[MemberKey, ...]:
    """Whose upstream is gone: they come over to the primary."""
    found = []
    for node, member in sorted(known.facts.members.items()):
        heard = known.reports.get(node)
        if node in gone or heard is None or not known.is_heard(node):
            continue
        if upstreams.source(known.facts, heard.report.server) in gone and not member.tags.delay_ms:
            found.append(member.key)
    return tuple(found)


def elector(known: Known, gone: frozenset[NodeId]) -> NodeId:
    """Who decides: the leader of consensus, or a voter that is left, not the primary if it can.

    A leader that nobody hears any more is one that has been forgotten in a moment.
    """
    left = voters_left(known, gone)
    if known.raft_leader is not None and known.raft_leader in left:
        return known.raft_leader
    return min(left, key=lambda node: (known.facts.is_leader(node), node), default=NodeId(""))


def voters_left(known: Known, gone: frozenset[NodeId]) -> list[NodeId]:
    """Whose vote would still be heard."""
    return [
        node
        for node, member in sorted(known.facts.members.items())
        if member.raft_id in known.raft_voters and node not in gone and known.is_heard(node)
    ]


def has_quorum(known: Known, gone: frozenset[NodeId]) -> bool:
    """Whether consensus could go on."""
    return len(voters_left(known, gone)) > len(known.raft_voters) // 2


def situation(scene: Scene) -> Situation:
    """The scene as the elector sees it."""
    known = scene.known
    view = HerdView(
        me=scene.me,
        reports=scene.reports,
        since=Instant(known.now - LONG_MS),
        phase_since=scene.phase_since,
        names_since=scene.names_since,
        held_since=scene.held_since,
        unix_ms=known.unix_ms + scene.waited_ms,
        raft_voters=scene.raft_voters,
        raft_learners=scene.raft_learners,
        caught_up=tuple(
            member.raft_id
            for node, member in known.facts.members.items()
            if node not in scene.silent
        ),
        leases_over=leases_over(scene),
    )
    return Situation(facts=scene.facts, view=view, policy=known.policy, now=scene.now)


def leases_over(scene: Scene) -> tuple[tuple[int, int], ...]:
    """Of those who are silent, counted from the beginning."""
    return tuple(
        lease.mark
        for lease in running(scene.facts)
        if lease.holder.node in scene.silent and scene.waited_ms >= expiry_ms(lease.ttl_ms)
    )


def play(scene: Scene) -> Rehearsal:
    """Decide, apply, obey, until writes go on or nothing changes any more."""
    if not has_quorum(scene.known, scene.gone):
        return without_quorum(scene)
    first, why = scene.facts.term, ""
    steps: list[Step] = []
    for _ in range(TURNS_MAX):
        s = situation(scene)
        if writes_go_on(scene, s):
            return ended(scene, tuple(steps), primary=scene.facts.leader, why=why)
        decision = herd.decide(
            scene.facts,
            view=s.view,
            policy=s.policy,
            now=s.now,
            urgent_only=scene.facts.switchover is None and not leads_on(scene, s),
        )
        why = decision.reason
        if not herd.is_act(decision):
            after = next((at for at in instants(scene) if at > scene.now), None)
            if after is None:
                break
            scene = wait(scene, after)
            continue
        steps.append(Step(decision.rule, decision.reason, scene.waited_ms))
        done = applied(scene, decision, s)
        if isinstance(done, str):
            why = f"{why}: {done}"
            break
        scene = done
        if scene.facts.term > first + TERMS_MAX:
            break
    return ended(scene, tuple(steps), why=why)


def leads_on(scene: Scene, s: Situation) -> bool:
    """Whether the primary lives: one that is gone is taken for alive until it is found silent."""
    leader = s.facts.leader
    return leader is not None and leader.node not in scene.gone and leader_report(s) is not None


def writes_go_on(scene: Scene, s: Situation) -> bool:
    """Whether the primary acknowledges, and nobody is asked to take over from it."""
    return s.facts.switchover is None and acknowledged(scene, s)


def acknowledged(scene: Scene, s: Situation) -> bool:
    """Whether commits are acknowledged at this instant."""
    report = leader_report(s) if leads_on(scene, s) else None
    stable = s.facts.phase is Phase.STABLE
    return stable and report is not None and acknowledges(s.facts, report)


def without_quorum(scene: Scene) -> Rehearsal:
    """Nothing can be agreed on: the primary goes on while its standbys acknowledge."""
    s, facts = situation(scene), scene.facts
    left, all_of = len(voters_left(scene.known, scene.gone)), len(scene.raft_voters)
    why = f"no quorum would be left ({left} of {all_of} votes)"
    if not has_quorum(scene.known, frozenset()):
        now = len(voters_left(scene.known, frozenset()))
        why = f"{now} of {all_of} votes are heard here now, and what others know is not known"
    if not writes_go_on(scene, s):
        return ended(scene, (), why=f"{why}: nobody can be elected", quorum=False)
    assert facts.leader is not None, "writes go on at somebody"
    name = facts.leader.node
    if not facts.sync.names_k:
        seconds = facts.lease.ttl_ms / 1000 if facts.lease is not None else 0
        why += f": {name} waits for no standby, and writes on only until its lease ends, after at"
        return ended(scene, (), why=f"{why} most {seconds:g} s", quorum=False)
    why += f": {name} goes on with its standbys, and nobody could take over from it"
    return ended(scene, (), primary=facts.leader, why=why, quorum=False)


def applied(scene: Scene, decision: Decision, s: Situation) -> Scene | str:
    """The scene after a decision, or why the ledger refused it."""
    if decision.transfer_to is not None:
        scene = replace(scene, me=decision.transfer_to)
    if decision.membership is not None:
        scene = seated(scene, decision.membership)
    if decision.command is None:
        return scene
    command, before = decision.command, scene.facts
    facts, outcome = apply_command(before, command, at_ms=s.view.unix_ms)
    if isinstance(outcome, cmd.Refused):
        return outcome.reason
    if isinstance(command, cmd.Elect):
        feeds = streamers(s, command.winner, start=command.start, promoted=command.promoted)
        scene = replace(scene, feeds=tuple(feeds))
    moved = (facts.term, facts.phase, facts.elector) != (before.term, before.phase, before.elector)
    held = facts.switchover is not None and facts.switchover.held
    scene = replace(
        scene,
        facts=facts,
        phase_since=scene.now if moved else scene.phase_since,
        names_since=scene.now
        if facts.sync.generation != before.sync.generation
        else scene.names_since,
        held_since=scene.now if held else scene.held_since,
    )
    return obey(scene)


def seated(scene: Scene, change: Membership) -> Scene:
    """Consensus with one member changed."""
    one = change.raft_id
    voters = tuple(each for each in scene.raft_voters if each != one)
    learners = tuple(each for each in scene.raft_learners if each != one)
    match change.verb:
        case "voter":
            voters = (*voters, one)
        case "learner":
            learners = (*learners, one)
    return replace(scene, raft_voters=voters, raft_learners=learners)


def obey(scene: Scene) -> Scene:
    """All who are heard do what the ledger says, and report it."""
    reports, wish = dict(scene.reports), scene.facts.switchover
    feeds = scene.feeds
    if scene.facts.phase is Phase.STABLE:
        is_late = scene.waited_ms >= scene.known.policy.detect_ms
        feeds = scene.orphans if is_late else ()
    for node in scene.reports.keys() - scene.silent:
        heard = reports[node]
        report = obeying.obeyed(scene.facts, heard.report, feeds=feeds)
        quiet = wish.id if wish is not None and wish.held else ""
        reports[node] = replace(heard, report=replace(report, quiet=quiet), at=scene.now)
    return replace(scene, reports=reports)


def wait(scene: Scene, until: Instant) -> Scene:
    """Time goes by."""
    passed, silent, reports = until - scene.now, scene.silent, dict(scene.reports)
    for node in scene.reports.keys() - silent:
        heard = obeying.later(reports[node], scene.facts, silent=silent, passed_ms=passed)
        reports[node] = replace(heard, at=until)
    return obey(replace(scene, reports=reports, now=until))


def instants(scene: Scene) -> Iterator[Instant]:
    """When a rule may change its mind by the clock alone, in order."""
    policy, facts, begun = scene.known.policy, scene.facts, scene.known.now
    leases = [expiry_ms(lease.ttl_ms) for lease in running(facts)]
    found = [begun + ms for ms in (policy.detect_ms, policy.minimum_interval_ms, *leases)]
    found += [begun + policy.sync_timeout_ms, begun + policy.detect_ms + policy.sync_timeout_ms]
    found += [
        scene.phase_since + ms
        for ms in (
            policy.seal_grace_ms,
            PREFERRED_WITHIN_MS,
            policy.sync_timeout_ms,
            policy.hold_timeout_ms // 2,
            policy.hold_timeout_ms,
            policy.start_timeout_ms,
        )
    ]
    found += [scene.names_since + policy.sync_timeout_ms, scene.held_since + policy.hold_ms]
    return (Instant(at) for at in sorted(found))


def ended(
    scene: Scene,
    steps: tuple[Step, ...],
    *,
    why: str,
    primary: MemberKey | None = None,
    quorum: bool = True,
) -> Rehearsal:
    return Rehearsal(
        primary=primary.node if primary is not None else None,
        why=why,
        steps=steps,
        waited_ms=scene.waited_ms,
        has_quorum=quorum,
        facts=scene.facts,
        lost_bytes=lost_bytes(scene) if primary is not None else None,
    )


def lost_bytes(scene: Scene) -> int | None:
    """What the old primary is known to have written and the new one lacks, where it may be lost."""
    reign, before = scene.facts.reign(), scene.known.facts
    if reign is None or reign == before.reign() or before.leader in (None, reign.leader):
        return None
    given_up = reign.lost_bytes
    if given_up is None and forgets(before.tuning.commit) and reign.rule != SWITCHES:
        given_up = 0
    if given_up is None:
        return None
    last = scene.reports.get(before.leader.node)
    end = known_end(before, last.report if last is not None else None)
    return max(given_up, end - reign.start.lsn)
