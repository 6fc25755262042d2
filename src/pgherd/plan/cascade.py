"""Rules 94 and 95: from whom a replica streams, and how late it replays.

Owns when a cascading replica goes to its upstream and when it comes back to the primary, and when a
delayed one has its delay. Both leave the synchronous set first: the herd sees to that
(`look.wants_sync`), and here nothing is done before. Who may feed whom is `upstreams`' to say.
"""

from __future__ import annotations

from pgherd.ledger.syncset import stands_for_data
from pgherd.model import action as act
from pgherd.model.facts import Phase
from pgherd.model.ids import NodeId, feed_slot
from pgherd.model.observation import Observation, Server
from pgherd.plan import delayed, upstreams
from pgherd.plan.own import Answer, MemberRule, Self, follows, follows_already, my_key

NOTHING_MS = 5_000
"""So long nothing came from an upstream that says that all is well."""


def settled(s: Self) -> bool:
    """Whether it follows this stable term's leader, from wherever."""
    stable = follows(s) and s.facts.phase is Phase.STABLE
    standby = s.server.state is Server.STANDBY and not s.server.borrows
    return stable and standby and follows_already(s)


def goes_over(s: Self) -> Answer | None:
    leader = s.facts.leader
    if leader is None or not settled(s):
        return None
    to, why = wanted(s)
    now = upstreams.fed_by(s.facts, s.server) or leader.node
    member = s.facts.members.get(to)
    if to == now or member is None or not member.address.postgres_port:
        return None
    host, port = member.address.postgres()
    source = None if to == leader.node else to
    action = act.Follow(term=s.facts.term, leader=leader, host=host, port=port, source=source)
    return f"streams from {to}: {why}", action


def wanted(s: Self) -> tuple[NodeId, str]:
    """From whom it should stream now, and why."""
    facts, leader = s.facts, s.facts.leader
    assert leader is not None, "it follows one"
    named = upstreams.wish(facts, s.me)
    if named is None:
        return leader.node, upstreams.problem(facts, s.me) or "the primary"
    if named == leader.node:
        return leader.node, "it is the primary"
    if facts.switchover is not None and facts.switchover.candidate == s.me:
        return leader.node, "it is to become primary"
    if stands_for_data(facts, s.me):
        return leader.node, f"leaves the synchronous set before it streams from {named}"
    why = not_now(s, named)
    return (leader.node, f"{named} {why}") if why else (named, "node.tags.replicatefrom")


def not_now(s: Self, named: NodeId) -> str:
    """Why it does not stream from who is named at this moment; "" when it does."""
    report = s.peers.get(named)
    if why := upstreams.unwell(s.facts, report):
        return why
    assert report is not None, "else it is silent"
    slot = feed_slot(s.me, s.facts.term)
    if slot not in report.server.slots:
        return "has no slot for it yet"
    if upstreams.fed_by(s.facts, s.server) != named:
        if not has_wal_for(s, report, slot):
            return "has not all that it lacks"
        return "" if s.may_go_over else "is back, and has to last a while"
    waits = s.ladder is not None and s.ladder.received_ms >= NOTHING_MS
    return "sends it nothing" if waits else ""


def has_wal_for(s: Self, above: Observation, slot: str) -> bool:
    """Whether an upstream keeps WAL from where this member is on, as far as it told."""
    position = s.server.position
    kept = [one for one in above.server.replication_slots if one.name == slot]
    return position is not None and all(one.lsn <= position.lsn and not one.lost for one in kept)


def is_served(s: Self) -> bool:
    """Whether who feeds this member says that it streams: the leader, or its upstream."""
    feeder = upstreams.fed_by(s.facts, s.server)
    report = s.peers.get(feeder) if feeder is not None else s.leader_report
    return report is not None and upstreams.serves(s.facts, report, my_key(s))


def told(s: Self) -> str:
    """From whom a follower streams where that is not plain, for people; "" where it is."""
    own = s.facts.members.get(s.me)
    if own is None or not own.tags.replicatefrom or s.facts.leader is None or not settled(s):
        return ""
    to, why = wanted(s)
    return f", streams from {to}: {why}"


def delays(s: Self) -> Answer | None:
    if not settled(s) or s.server.delay_ms == (wanted := delayed.delay_ms(s)):
        return None
    text = f"replays what is older than {wanted // 1000} s" if wanted else "replays all at once"
    return text, act.Delay(wanted)


RULES: tuple[MemberRule, ...] = (
    MemberRule(
        94,
        "A replica streams from the member that its file names while that one streams itself, and"
        " else from the primary.",
        goes_over,
    ),
    MemberRule(
        95,
        "A delayed replica has its delay once it follows a stable term's leader and no commit waits"
        " for it.",
        delays,
    ),
)
