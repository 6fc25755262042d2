"""Rules 301-305: from sealed members to a winner (PROTOCOL.md F3-F5).

Nothing here waits for a clock to become safe: time only decides how long to hope for more members.
The one election that does is mode async's without its old primary (`bylease`).
"""

from __future__ import annotations

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import FIELDS
from pgherd.ledger.lineage import contains
from pgherd.model.facts import Facts, Handover, Mode, Phase, Reign
from pgherd.model.ids import CLOSED_NAMES, Lsn, MemberKey, NodeId, Position
from pgherd.model.observation import Observation, Server
from pgherd.plan.crashing import progress
from pgherd.plan.look import (
    able_to_run,
    data_members,
    fresh,
    ineligible,
    is_full,
    is_strict,
    leader_report,
    lease_ttl,
    least_room,
    num_sync,
    sealed,
)
from pgherd.plan.rule import Decision, HerdRule, Situation
from pgherd.plan.suspicion import BY_SILENCE, NOT_ESTABLISHED, begin
from pgherd.plan.upstreams import wish

NOTHING = Lsn(0)


def electing(s: Situation) -> bool:
    return s.facts.phase is Phase.ELECTING and s.facts.elector == s.view.me


def handover_drains(s: Situation) -> Decision | None:
    """The old leader of a switchover stops first; its end is the target."""
    facts = s.facts
    if not electing(s) or facts.handover is None or facts.handover.drained is not None:
        return None
    position = sealed(s).get(facts.leader) if facts.leader is not None else None
    if position is None:
        return None
    reason = f"{facts.leader} stopped at {position}"
    command = cmd.Drained(term=facts.term, elector=s.view.me, position=position)
    return Decision(301, reason, command)


def limit_reached(s: Situation) -> Decision | None:
    """What an operator asked for ends, undone, when it takes too long."""
    facts = s.facts
    if not electing(s) or (facts.handover is None and facts.forced is None):
        return None
    if s.now - s.view.phase_since >= s.policy.hold_timeout_ms:
        wish = facts.handover or facts.forced
        to = wish.candidate if wish is not None and wish.candidate else "another node"
        return begin(s, 302, f"the change of primary to {to} took too long and is undone")
    drains = facts.handover is not None and facts.handover.drained is None
    if drains and facts.leader is not None and fresh(s, facts.leader.node) is None:
        return begin(s, 302, f"{facts.leader.node} went silent during its switchover")
    if facts.handover is not None and candidate_gone(s, facts.handover):
        return begin(s, 302, f"{facts.handover.candidate} was lost during the switchover to it")
    return None


def candidate_gone(s: Situation, handover: Handover) -> bool:
    """Whether who should take over is silent, or has no standby before the old leader stopped."""
    report = fresh(s, handover.candidate)
    runs = report is not None and report.server.state is Server.STANDBY
    if s.facts.is_leader(handover.candidate):  # it is restarted in place
        runs = True
    return report is None or (handover.drained is None and not runs)


def false_alarm(s: Situation) -> Decision | None:
    """A leader that is alive, closed and under our promise has everything: it stays."""
    facts, report = s.facts, leader_report(s)
    if not electing(s) or facts.handover is not None or facts.forced is not None:
        return None
    if report is None or facts.leader is None or not is_closed_leader(s, report):
        return None
    position = report.server.position
    assert position is not None
    others = streamers(s, facts.leader, start=position, promoted=False)
    waiting = unsealed_standbys(s)
    if waiting and grace_left(s):
        return Decision(303, f"{facts.leader.node} stays; waits for {names(waiting)} to seal")
    voters, k = next_set(s, facts.leader, others)
    reason = f"{facts.leader.node} is alive and keeps the lead"
    return elect(
        s,
        rule=303,
        winner=facts.leader,
        start=position,
        promoted=False,
        voters=voters,
        k=k,
        reason=reason,
    )


def is_closed_leader(s: Situation, report: Observation) -> bool:
    server, promises = report.server, report.promises
    return (
        server.state is Server.PRIMARY
        and server.healthy
        and server.position is not None
        and promises.promise == s.facts.term
        and promises.promise_elector == s.facts.elector
        and server.names == CLOSED_NAMES
    )


def unsealed_standbys(s: Situation) -> list[MemberKey]:
    """Fresh running standbys of this cluster that have not sealed, or were not seen drained yet."""
    done = sealed(s)
    found = []
    for member in data_members(s.facts):
        report = fresh(s, member.node)
        sealed_and_seen = member.key in done and able_to_run(s, member.key)
        if sealed_and_seen or report is None or member.key == s.facts.leader:
            continue
        if member.tags.delay_ms and asked_for(s) != member.node:
            continue  # it has much to replay, and nothing rests on it
        if report.server.state is Server.STANDBY and not report.promises.dirty_rewind:
            found.append(member.key)
    return found


def grace_left(s: Situation) -> bool:
    """Whether it is early enough to hope for more sealed members.

    A switchover takes its time: the others seal only after the old leader has drained.
    """
    limit = s.policy.seal_grace_ms
    if s.facts.handover is not None:
        limit = s.policy.hold_timeout_ms // 2
    return s.now - s.view.phase_since < limit


def streamers(
    s: Situation, winner: MemberKey, *, start: Position, promoted: bool
) -> list[MemberKey]:
    """Sealed members that will stream from the winner as they are.

    They run, or have drained and stopped, and they end on the winner's history: one that must be
    rewound first waits for a stable term, which must not wait for it. Nobody waits for a delayed
    one, and for one that will stream from another replica only where there is nobody else.
    """
    reign = Reign(
        term=s.facts.term, leader=winner, start=start, promoted=promoted, rule=0, reason=""
    )
    history = (*s.facts.history, reign)
    found = []
    for key, position in sealed(s).items():
        runs = able_to_run(s, key) or (s.facts.handover is not None and key == s.facts.leader)
        if key != winner and runs and contains(history, position) and not by_archive(s, key):
            found.append(key)
    tags = {key: s.facts.members[key.node].tags for key in found}
    prompt = [key for key in found if not tags[key].delay_ms]
    there = {key.node for key in prompt}
    direct = [key for key in prompt if wish(s.facts, key.node) not in there]
    return direct or prompt


def by_archive(s: Situation, key: MemberKey) -> bool:
    """Whether a member never streams, by its own word."""
    report = fresh(s, key.node)
    return report is not None and report.nostream


def next_set(
    s: Situation, winner: MemberKey, others: list[MemberKey]
) -> tuple[tuple[MemberKey, ...], int]:
    """V' and k' of F5: everybody who may hold something, and as many as will stream.

    Who seals may still not stream (its WAL is gone from the winner): a term that was not
    established in time is followed by one that wants one less, as soon as its leader is one that
    has failed so before. Two that took turns, each with the other to be rewound, would else do so
    for ever.
    Mode strict never wants fewer than num_sync: where not so many stream, V' is empty, the names
    stay closed, and the set returns when there are enough. Mode async wants nobody.
    """
    facts, wanted = s.facts, num_sync(s.facts, s.policy)
    if facts.mode is Mode.ASYNC:
        return (), 0
    voters = {*facts.sync.voters, *others}
    voters |= {facts.leader} if facts.leader is not None else set()
    k = min(wanted, len(others))
    if facts.rule == NOT_ESTABLISHED and winner in never_established(facts):
        k = min(k, max(0, facts.sync.k - 1))
    if is_strict(facts) and k < wanted:
        k = 0
    return (tuple(sorted(voters - {winner})), k) if k else ((), 0)


def never_established(facts: Facts) -> set[MemberKey]:
    """Who led since the last established term."""
    found: set[MemberKey] = set()
    for reign in reversed(facts.history):
        if reign.established:
            break
        found.add(reign.leader)
    return found


def names(keys: list[MemberKey]) -> str:
    return ", ".join(key.node for key in keys)


def from_above(s: Situation, done: dict[MemberKey, Position]) -> str:
    """That somebody is ahead of this ledger: it was restored from a file that is too old."""
    epoch, who = max(
        ((position.epoch, key.node) for key, position in done.items()), default=(0, "")
    )
    ahead = f"{who} has WAL of term {epoch}, above all that this ledger knows of"
    return ahead if epoch >= s.facts.term else ""


def quorum_problem(s: Situation, done: dict[MemberKey, Position]) -> str:
    """F3: why the sealed members are not enough; "" when they are."""
    facts = s.facts
    if ahead := from_above(s, done):
        return ahead
    if facts.leader is not None and facts.leader in done:
        return ""
    voters = [key for key in facts.sync.voters if key in done]
    report = leader_report(s)
    more = progress(report.server.recovery) if report is not None else ""
    if not facts.sync.voters:
        who = facts.leader.node if facts.leader else "the last leader"
        if facts.mode is Mode.ASYNC:
            return f"{who} is not sealed: mode async waits until {who}'s lease is over"
        text = f"only {who} may hold everything (no synchronous standby), and it is not sealed"
        return f"{text}; it comes up: {more}" if more else text
    if len(voters) < facts.sync.r:
        missing = [key for key in facts.sync.voters if key not in done]
        text = f"{len(voters)} of {facts.sync.r} needed voters are sealed; missing {names(missing)}"
        return f"{text}; the old leader comes up: {more}" if more else text
    return ""


def not_enough_sealed(s: Situation) -> Decision | None:
    if not electing(s):
        return None
    if s.facts.handover is not None and s.facts.handover.drained is None:
        return Decision(304, f"waits for {s.facts.leader} to drain and stop")
    problem = quorum_problem(s, sealed(s))
    return Decision(304, problem) if problem else None


def choose(s: Situation) -> Decision | None:
    """F4, F5: the target is the greatest sealed position; a winner must be at it."""
    if not electing(s):
        return None
    done, target, able = complete(s)
    wanted = wanted_winner(s, able)
    waiting = unsealed_standbys(s)
    if waiting and grace_left(s):
        return Decision(305, f"waits for {names(waiting)} to seal")
    if wanted is None:
        return Decision(305, f"nobody who may lead has reached {target}{about_unfit(s, done)}")
    others = streamers(s, wanted, start=done[wanted], promoted=True)
    voters, k = next_set(s, wanted, others)
    reason = f"{wanted.node} has everything up to {target}{taken(s, wanted)}"
    reason += about_disks(s, able, wanted)
    return elect(
        s,
        rule=305,
        winner=wanted,
        start=done[wanted],
        promoted=True,
        voters=voters,
        k=k,
        reason=reason,
    )


def taken(s: Situation, winner: MemberKey) -> str:
    """That a winner caught up within this election, for people."""
    grant = s.facts.forward
    if grant is None or grant.candidate != winner:
        return ""
    return f", the last of it from {grant.holder.node}"


def complete(s: Situation) -> tuple[dict[MemberKey, Position], Position, list[MemberKey]]:
    """Who is sealed and where, the target, and who has reached it and may lead."""
    done = sealed(s)
    counted = [key for key in done if key in s.facts.sync.voters or key == s.facts.leader]
    target = max(done[key] for key in counted)
    able = [key for key in done if done[key] >= target and may_win(s, key)]
    return done, target, [key for key in able if done[key] == target or not is_handed_on(s, key)]


def is_handed_on(s: Situation, key: MemberKey) -> bool:
    """Whether what a member has beyond all voters may have come through another standby.

    That one would have it too, unless it has been lost since, or was promoted by somebody by then.
    """
    return key not in s.facts.sync.voters and bool(s.facts.members[key.node].tags.replicatefrom)


def equally_full(s: Situation) -> Decision | None:
    """Nobody but members with full disks could follow a leader whose own disk is full."""
    leader = s.facts.leader
    if not electing(s) or asked_for(s) is not None or leader is None or not is_full(s, leader.node):
        return None
    _, _, able = complete(s)
    if not able or leader in able or roomy(s, able):
        return None
    full = names([*able, leader])
    return Decision(309, f"{full} have {least_room(s)}: make room on one of them")


def roomy(s: Situation, able: list[MemberKey]) -> list[MemberKey]:
    return [key for key in able if not is_full(s, key.node)]


def with_room(s: Situation, able: list[MemberKey]) -> list[MemberKey]:
    """Who has room; where nobody has, rather the old leader again than another full disk."""
    again = [key for key in able if key == s.facts.leader]
    return roomy(s, able) or again or able


def about_disks(s: Situation, able: list[MemberKey], winner: MemberKey) -> str:
    """Who was passed over for the room on its disk, or that the winner has little."""
    full = [key for key in able if is_full(s, key.node)]
    if winner in full:
        return f", and {least_room(s)}, as whoever else could lead"
    return f"; passed over with {least_room(s)}: {names(full)}" if full else ""


def about_unfit(s: Situation, done: dict[MemberKey, Position]) -> str:
    """Who was sealed and says that it must not lead, and why."""
    found = [f"{key.node} must not: {why}" for key in done if (why := ineligible(s, key.node))]
    return f"; {', '.join(found)}" if found else ""


def may_win(s: Situation, key: MemberKey) -> bool:
    """Whether a member may lead: able, not excluded by its tags, an order or the policy."""
    member = s.facts.member(key)
    if member is None or member.tags.nofailover or not able_to_run(s, key):
        return False
    if member.tags.delay_ms and asked_for(s) != key.node:
        return False
    if ineligible(s, key.node) or is_stranger(s, key):
        return False
    again = key == s.facts.leader
    if again and s.facts.handover is not None and s.facts.handover.candidate == key.node:
        return True  # an operator has it restarted in place
    return not again or (s.facts.forced is None and s.policy.restart_in_place)


def is_stranger(s: Situation, key: MemberKey) -> bool:
    """Whether a first election is not for this copy: nothing shows that it is on one history with
    those that count, for nobody led any of them in a term."""
    counted = key in s.facts.sync.voters or key == s.facts.leader
    return not s.facts.history and not counted


def wanted_winner(s: Situation, able: list[MemberKey]) -> MemberKey | None:
    """The operator's candidate; else who has room, by priority, then name.

    Whose term ended by silence leads again among equals, if it is back and sealed by now: nobody
    moves for nothing. Whose server died, or could not establish its term, comes after all others.
    """
    asked = asked_for(s)
    if asked is not None:
        return next((key for key in able if key.node == asked), None)

    return min(with_room(s, able), key=lambda key: rank(s, key), default=None)


def rank(s: Situation, key: MemberKey) -> tuple[bool, bool, int, bool, str]:
    """Whom an election prefers among equals: the least."""
    facts, member = s.facts, s.facts.members[key.node]
    old = key == facts.leader
    is_last = old and facts.rule not in BY_SILENCE
    return member.leaving, is_last, -member.tags.failover_priority, not old, key.node


def asked_for(s: Situation) -> NodeId | None:
    """Whom an operator names."""
    facts = s.facts
    asked = facts.handover.candidate if facts.handover is not None else None
    for order in (facts.forced, facts.given_up):
        if order is not None and order.candidate is not None:
            asked = order.candidate
    return asked


def elect(
    s: Situation,
    *,
    rule: int,
    winner: MemberKey,
    start: Position,
    promoted: bool,
    voters: tuple[MemberKey, ...],
    k: int,
    reason: str,
    lost_bytes: int | None = None,
    lost: tuple[MemberKey, ...] = (),
    known_end: Lsn = NOTHING,
) -> Decision:
    command = cmd.Elect(
        term=s.facts.term,
        elector=s.view.me,
        winner=winner,
        start=start,
        promoted=promoted,
        voters=tuple(key for key in voters if key != winner),
        k=k,
        rule=rule,
        reason=reason,
        lease_ttl_ms=lease_ttl(s.facts, s.policy),
        lost_bytes=lost_bytes,
        lost=lost,
        known_end=known_end,
        unsealed=unsealed(s, winner),
    )
    return Decision(rule, reason, command)


def unsealed(s: Situation, winner: MemberKey) -> tuple[MemberKey, ...]:
    """Who led up to now and is not sealed: it may run, and is for a fencing command."""
    if s.facts.level < FIELDS[cmd.Elect, "unsealed"]:
        return ()
    led = {*s.facts.unsealed, *((s.facts.leader,) if s.facts.leader is not None else ())}
    return tuple(sorted(led - {winner, *sealed(s)}))


FIRST = (
    HerdRule(
        301,
        "In a switchover the old leader's final position is recorded before the others seal.",
        handover_drains,
    ),
    HerdRule(
        302,
        "A switchover or an ordered failover that takes too long is undone under a new term.",
        limit_reached,
    ),
    HerdRule(
        303, "A leader that is alive and closed keeps the lead under the new term.", false_alarm
    ),
)
RULES = (
    HerdRule(304, "Without enough sealed voters nobody is elected.", not_enough_sealed),
    HerdRule(
        309,
        "A full disk is not followed by another that is as full.",
        equally_full,
    ),
    HerdRule(
        305,
        "The winner has the greatest sealed position, and V and k follow from who is sealed.",
        choose,
    ),
)
