"""Plain questions about reports: who is heard, who is sealed, who streams. No decision here."""

from __future__ import annotations

from pgherd.ledger.lineage import still_strays
from pgherd.model.facts import Facts, Kind, Member, Mode
from pgherd.model.ids import CLOSED_NAME, Lsn, MemberKey, NodeId, Position, Term
from pgherd.model.lease import TTL_ASYNC_MS, TTL_MS
from pgherd.model.observation import Observation, Sender, Server
from pgherd.model.policy import Policy
from pgherd.model.upkeep import Verb
from pgherd.plan import upstreams
from pgherd.plan.rule import Situation

REPORTED_DEAD = (Server.NONE, Server.UNUSABLE, Server.STOPPED, Server.STARTING, Server.HUNG)


def age_ms(s: Situation, node: NodeId) -> int:
    """How long ago this node was last heard; since we lead when it never was."""
    heard = s.view.reports.get(node)
    if node == s.view.me:
        return 0
    return s.now - (heard.at if heard is not None else s.view.since)


def fresh(s: Situation, node: NodeId) -> Observation | None:
    """The newest report of a node that is not silent."""
    heard = s.view.reports.get(node)
    if heard is None or age_ms(s, node) >= s.policy.detect_ms:
        return None
    return heard.report


def data_members(facts: Facts) -> list[Member]:
    return [m for _, m in sorted(facts.members.items()) if m.kind is Kind.DATA]


def num_sync(facts: Facts, policy: Policy) -> int:
    """How many acknowledgements are wanted: configured, or half of the data members.

    But no more than there are that can give them: a delayed replica cannot, nor one that streams
    from another.
    """
    staying = [m for m in data_members(facts) if not m.leaving]
    half = len(staying) // 2
    if any(m.tags.delay_ms or m.tags.replicatefrom for m in staying):
        able = [m for m in staying if not m.tags.delay_ms and streams_directly(facts, m.node)]
        half = min(half, max(1, len(able)))
    return facts.num_sync or policy.num_sync or half


def streams_directly(facts: Facts, node: NodeId) -> bool:
    """Whether a member that does not lead is to stream from the primary."""
    named = upstreams.wish(facts, node)
    return not facts.is_leader(node) and (named is None or facts.is_leader(named))


def is_leaving(facts: Facts, key: MemberKey) -> bool:
    """Whether this member was asked to leave."""
    member = facts.member(key)
    return member is not None and member.leaving


def is_resting(facts: Facts, key: MemberKey) -> bool:
    """Whether commits should do without this member, where they can: an operator works on it."""
    work = facts.upkeep.in_hand(key.node)
    return key.node in facts.upkeep.maintenance or (work is not None and work.verb is Verb.REINIT)


def is_slow(s: Situation, leader: Observation, key: MemberKey) -> bool:
    """Whether a voter has been beyond the lag limit for the sync timeout, as its leader says."""
    limit = s.facts.tuning.max_lag_bytes
    return bool(limit) and leader.lagging_ms.get(str(key), 0) >= s.policy.sync_timeout_ms


def leader_report(s: Situation) -> Observation | None:
    """The fresh report of the ledger's leader, if its data directory is the one that leads."""
    leader = s.facts.leader
    if leader is None:
        return None
    report = fresh(s, leader.node)
    if report is None or report.promises.incarnation != leader.incarnation:
        return None
    return report


def known_end(facts: Facts, last: Observation | None) -> Lsn:
    """How far the leader's WAL is known to reach, by its last word and its lease; 0: not at all."""
    leader, ends = facts.leader, [Lsn(0)]
    if leader is not None and last is not None and last.promises.incarnation == leader.incarnation:
        ends.append(last.server.wal_end)
    if facts.lease is not None and facts.lease.holder == leader:
        ends.append(facts.lease.flush_lsn)
    return max(ends)


def silent_observers(s: Situation, node: NodeId) -> list[NodeId]:
    """Which fresh nodes, ourselves included, have not heard a node for the detection time."""
    observers = []
    for name in sorted(s.facts.members):
        if name == node:
            continue
        report = fresh(s, name)
        if name == s.view.me:
            if age_ms(s, node) >= s.policy.detect_ms:
                observers.append(name)
        elif report is not None:
            quiet = report.heard_ms.get(node, s.now - s.view.since)
            if quiet >= s.policy.detect_ms:
                observers.append(name)
    return observers


def observers_needed(s: Situation, node: NodeId) -> int:
    """Two observers agree before a silent agent is suspected; one where there are only two."""
    return min(2, max(1, len(s.facts.members) - 1))


def sealed(s: Situation) -> dict[MemberKey, Position]:
    """Every member that is sealed for the current term by its elector, with its position.

    Counts only the right cluster and incarnation, a position at or above the floor, no half-done
    rewind, and WAL that a term's leader wrote (PROTOCOL.md F3).
    """
    found: dict[MemberKey, Position] = {}
    for node, heard in sorted(s.view.reports.items()):
        member, report = s.facts.members.get(node), heard.report
        if member is None or fresh(s, node) is None:
            continue
        promises = report.promises
        position = promises.frozen.position if promises.frozen is not None else None
        if position is None or promises.frozen is None:
            continue
        if (
            promises.frozen.term == promises.promise == s.facts.term
            and promises.promise_elector == s.facts.elector
            and promises.incarnation == member.incarnation
            and report.server.system_id == s.facts.system_id
            and not promises.dirty_rewind
            and (promises.floor is None or position >= promises.floor.position)
        ):
            found[member.key] = position
    return without_strays(s, found)


def without_strays(s: Situation, done: dict[MemberKey, Position]) -> dict[MemberKey, Position]:
    """Those whom nobody else promoted: whose end is of the leader of its epoch.

    The last leader has all that it had when it was promoted so, and counts if nobody has more.
    """
    reports = {key: s.view.reports[key.node].report for key in done}
    strays = {
        key: still_strays(s.facts.history, report.promises.adopted, report.server.stray)
        for key, report in reports.items()
    }
    left = {key: position for key, position in done.items() if strays[key] is None}
    last = s.facts.leader
    if last is None or (stray := strays.get(last)) is None:
        return left
    had = Position(done[last].epoch, stray.begins)
    return left if any(at > had for at in left.values()) else {**left, last: done[last]}


def able_to_run(s: Situation, key: MemberKey) -> bool:
    """Whether a sealed member runs as a drained standby now, so that it can be promoted."""
    report = fresh(s, key.node)
    return (
        report is not None
        and report.server.state is Server.STANDBY
        and report.server.drained
        and report.server.healthy
    )


def is_full(s: Situation, node: NodeId) -> bool:
    """Whether a node that is heard says that its disk has less room than there must be."""
    report = fresh(s, node)
    return report is not None and 0 <= report.disk_free_bytes < s.policy.min_free_disk_bytes


def ineligible(s: Situation, node: NodeId) -> str:
    """Why a node must not lead, by an operator's word or its own; "" when nobody says so."""
    care = s.facts.upkeep.maintenance.get(node)
    if care is not None and not care.allow_failover:
        return care.sentence
    report = fresh(s, node)
    return report.ineligible if report is not None else ""


def least_room(s: Situation) -> str:
    """The room that there must be, for people."""
    return f"less than {s.policy.min_free_disk_bytes >> 20} MB free on disk"


def streaming(leader: Observation, term: Term) -> dict[MemberKey, Sender]:
    """Standbys that stream from the leader under the term's token."""
    return {
        sender.member: sender
        for sender in leader.server.senders
        if sender.term == term and sender.state == "streaming"
    }


def acknowledges(facts: Facts, leader: Observation) -> bool:
    """Whether the primary of a stable term tells clients of success now, by its own report.

    Its server is well, its gate open, and as many stream from it as commits wait for.
    """
    server = leader.server
    if server.state is not Server.PRIMARY or not server.healthy or CLOSED_NAME in server.names:
        return False
    streams = streaming(leader, facts.term)
    return len(streams.keys() & set(facts.sync.names)) >= facts.sync.names_k


def fresh_reports(s: Situation) -> dict[NodeId, Observation]:
    """The newest report of every member that is not silent."""
    return {node: report for node in s.facts.members if (report := fresh(s, node)) is not None}


def is_fed_otherwise(s: Situation, member: Member) -> bool:
    """Whether a member follows well that the primary itself does not send to.

    It streams from another one that does, or is late by its operator's will: a delayed replica asks
    for no more before it has replayed what it has.
    """
    report = fresh(s, member.node)
    if report is None or upstreams.source(s.facts, report.server) is None:
        return False
    server = report.server
    late = server.state is Server.STANDBY and server.delay_ms > 0
    fed = bool(server.fed_at)
    return late or (fed and upstreams.streams(s.facts, fresh_reports(s), member.key))


def cascades(s: Situation, node: NodeId) -> bool:
    """Whether a member streams from another replica, or is about to: no commit waits for it."""
    named = upstreams.wish(s.facts, node)
    report = fresh(s, named) if named is not None else None
    return named is not None and upstreams.feeds(s.facts, {named: report} if report else {}, node)


def is_strict(facts: Facts) -> bool:
    return facts.mode is Mode.STRICT


def lease_ttl(facts: Facts, policy: Policy) -> int:
    """How long the next lease lasts: configured, or as the mode in force wants it."""
    return policy.lease_ttl_ms or (TTL_ASYNC_MS if facts.mode is Mode.ASYNC else TTL_MS)


def running_ttl(facts: Facts, policy: Policy) -> int:
    """How long the lease of the ledger lasts; the next one's time where there is none."""
    return facts.lease.ttl_ms if facts.lease is not None else lease_ttl(facts, policy)


def wants_sync(s: Situation, key: MemberKey) -> bool:
    """Whether a member may be in the sync set at all: able, reporting lately, above its floor."""
    member = s.facts.member(key)
    if member is None or member.kind is not Kind.DATA or member.tags.nosync or member.leaving:
        return False
    if key.node in s.facts.tuning.nosync or member.tags.delay_ms or cascades(s, key.node):
        return False
    if key.node in s.view.asking:
        return False  # it has forgotten what it acknowledged
    heard = s.view.reports.get(key.node)
    patience = s.policy.detect_ms + s.policy.sync_timeout_ms
    if heard is None or age_ms(s, key.node) >= patience:
        return False
    promises, position = heard.report.promises, heard.report.server.position
    if promises.incarnation != key.incarnation:
        return False
    floor = promises.floor
    return floor is None or (position is not None and position >= floor.position)
