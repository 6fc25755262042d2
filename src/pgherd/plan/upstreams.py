"""Who streams from whom, and who should: plain questions about cascading. No decision here.

Theory of operation. A replica may name another member (`node.tags.replicatefrom`) to stream from in
place of the primary. It does so only in a stable term, from a standby that follows the same leader
in the same term and streams itself, and only through a slot that bears that term. The standby ends
those slots, with their walsenders, before its own WAL goes on under another leader (`act.follow`,
`act.promote`). So whatever a replica gets is of the reign that it adopted, whoever handed it on,
and its position compares with others' as if the leader had sent it (PROTOCOL.md 5). What it
confirms its upstream counts for no commit: only the leader's walsenders do.
"""

from __future__ import annotations

from collections.abc import Mapping

from pgherd.model.facts import Facts, Kind
from pgherd.model.ids import Instant, MemberKey, NodeId, feed_slot
from pgherd.model.observation import Observation, Server, ServerSeen

Reports = Mapping[NodeId, Observation]
"""The newest report of each node that is not silent."""
WAIT_MS = 3_000
WAIT_MOST_MS = 300_000
LASTED_MS = 60_000
"""Who has streamed from its upstream for so long left it for a reason of that day."""


class Patience:
    """When a replica that streams from the primary may go to its upstream. Looks go in.

    Not at once, and later each time that it came back soon, so that it does not go to and fro.
    """

    def __init__(self, now: Instant) -> None:
        self._source: NodeId | None = None
        self._since = now
        self._wait_ms = WAIT_MS

    def look(self, fed_by: NodeId | None, *, now: Instant) -> bool:
        """fed_by: whose server it streams from, None for the leader's; whether it may go over."""
        if fed_by != self._source:
            lasted = now - self._since >= LASTED_MS
            if fed_by is None:
                self._wait_ms = WAIT_MS if lasted else min(2 * self._wait_ms, WAIT_MOST_MS)
            self._source, self._since = fed_by, now
        return fed_by is None and now - self._since >= self._wait_ms


def wish(facts: Facts, node: NodeId) -> NodeId | None:
    """From whom a member is to stream in place of the primary, if that can be; else None."""
    member = facts.members.get(node)
    if member is None or not member.tags.replicatefrom or problem(facts, node):
        return None
    return NodeId(member.tags.replicatefrom)


def problem(facts: Facts, node: NodeId) -> str:
    """What is wrong with a member's wish, and what to do about it; "" when nothing is."""
    member = facts.members.get(node)
    name = member.tags.replicatefrom if member is not None else ""
    if not name:
        return ""
    key = f"node.tags.replicatefrom: {name}"
    found = facts.members.get(NodeId(name))
    if found is None:
        others = [one for one in members_with_data(facts) if one != node]
        return f"{key} is no member: name one of {', '.join(others) or 'none'}, or remove the key"
    if found.kind is not Kind.DATA:
        return f"{key} is a {found.kind.value} and has no data: name a data member"
    ring = around(facts, node)
    if ring:
        return f"{key} goes in a circle ({' -> '.join(ring)}): remove the key on one of them"
    return ""


def members_with_data(facts: Facts) -> list[NodeId]:
    return [node for node, one in sorted(facts.members.items()) if one.kind is Kind.DATA]


def around(facts: Facts, node: NodeId) -> tuple[NodeId, ...]:
    """The way from a member over its upstreams back to itself; empty where there is none."""
    way = [node]
    while (member := facts.members.get(way[-1])) is not None and member.tags.replicatefrom:
        following = NodeId(member.tags.replicatefrom)
        if following == node:
            return (*way, node)
        if following in way:
            return ()
        way.append(following)
    return ()


def fed_by(facts: Facts, server: ServerSeen) -> NodeId | None:
    """Whose server a standby names that is not the leader's; None where it names the leader's."""
    if not server.fed_at:
        return None
    for node, member in facts.members.items():
        if at(*member.address.postgres()) == server.fed_at:
            return node
    return NodeId(server.fed_at)


def at(host: str, port: int) -> str:
    """A server's place, as `ServerSeen.fed_at` has it."""
    return f"{host}:{port}"


def source(facts: Facts, server: ServerSeen) -> NodeId | None:
    """Whose server a standby names, if it follows this term's leader; else None."""
    leader = facts.leader
    if leader is None or (server.upstream, server.upstream_term) != (leader.node, facts.term):
        return None
    return fed_by(facts, server) or leader.node


def serves(facts: Facts, report: Observation, key: MemberKey) -> bool:
    """Whether a server says that a member streams from it in this term."""
    return any(
        one.member == key and one.term == facts.term and one.state == "streaming"
        for one in report.server.senders
    )


def streams(facts: Facts, reports: Reports, key: MemberKey) -> bool:
    """Whether a member streams, by the word of whoever feeds it, and so on up to the leader."""
    for _ in facts.members:
        report = reports.get(key.node)
        feeder = source(facts, report.server) if report is not None else None
        above = reports.get(feeder) if feeder is not None else None
        if above is None or not serves(facts, above, key):
            return False
        if facts.leader is not None and above.node == facts.leader.node:
            return True
        key = MemberKey(above.node, above.promises.incarnation)
    return False


def unwell(facts: Facts, report: Observation | None) -> str:
    """Why a follower feeds nobody now; "" when it does."""
    if report is None:
        return "is silent"
    server, promises, receiver = report.server, report.promises, report.server.receiver
    member = facts.member(MemberKey(report.node, promises.incarnation))
    if member is None or server.state is not Server.STANDBY or not server.healthy:
        return f"runs no standby ({server.state.value})"
    if member.leaving:
        return "is to leave the cluster"
    if source(facts, server) is None or promises.adopted != facts.term or server.stray is not None:
        return "does not follow the primary yet"
    if promises.promise > facts.term or promises.dirty_rewind:
        return "is between two primaries"
    if receiver is None or receiver.status != "streaming" or receiver.term != facts.term:
        return "does not stream itself"
    return ""


def feeds(facts: Facts, reports: Reports, node: NodeId) -> bool:
    """Whether a member's upstream is there for it, so that it is no synchronous copy."""
    named, leader, wanted = wish(facts, node), facts.leader, facts.switchover
    if named is None or leader is None or named == leader.node:
        return False
    if wanted is not None and wanted.candidate == node:
        return False
    return not unwell(facts, reports.get(named))


def fed(facts: Facts, node: NodeId) -> tuple[NodeId, ...]:
    """Who wants to stream from a member."""
    return tuple(one for one in members_with_data(facts) if wish(facts, one) == node)


def feed_slots(facts: Facts, node: NodeId, server: ServerSeen) -> dict[str, NodeId]:
    """The slots that a follower has for those who stream from it, by name, while it is of this
    term."""
    if source(facts, server) is None:
        return {}
    return {feed_slot(one, facts.term): one for one in fed(facts, node)}
