"""How nodes stand in a word of a fixed list, replication in one look, and connections. Pure.

The list is older than our own states and shorter: `state_of` of `views` says more, and is told as
the reason.
"""

from __future__ import annotations

from pgherd.api import ailing, distance, inhand, syncviews, views
from pgherd.api import bareschema as schema
from pgherd.api.herd import ProxySeen
from pgherd.api.slotschema import Slots
from pgherd.api.views import Seen
from pgherd.model.facts import Member, Phase
from pgherd.model.ids import format_lsn
from pgherd.model.observation import Observation, Server
from pgherd.plan.truth import Standing

STANDBYS: dict[Standing, schema.FixedState] = {
    Standing.STREAMING: "running_replica",
    Standing.CATCHING_UP: "lagging",
    Standing.STUCK: "lagging",
    Standing.RECOVERY: "recovering",
    Standing.DIVERGED: "recovering",
    Standing.REBUILDING: "rebuilding",
}
DOWN: dict[Server, schema.FixedState] = {
    Server.NONE: "initializing",
    Server.UNUSABLE: "fenced",
    Server.STOPPED: "stopped",
    Server.STARTING: "recovering",
    Server.HUNG: "unknown",
}


def state(seen: Seen) -> schema.ClusterState:
    """Every data member."""
    facts = seen.facts
    return schema.ClusterState(
        cluster_name=facts.cluster,
        epoch=facts.term,
        paused=facts.paused,
        pause=inhand.pause(facts),
        nodes=[node_state(seen, member) for member in views.data_members(facts)],
        as_of=seen.raft.applied,
    )


def node_state(seen: Seen, member: Member) -> schema.NodeState:
    """One of them."""
    more = ailing.problem_of(seen.newest(member.node))
    stands = distance.truth(seen, member)
    words = [views.state_of(seen, member), stands[1] if stands is not None else "", more]
    return schema.NodeState(
        node=member.node,
        state=fixed_state(seen, member),
        role="primary" if views.role_of(seen.facts, member) == "primary" else "replica",
        reason=": ".join(word for word in words if word),
    )


def fixed_state(seen: Seen, member: Member) -> schema.FixedState:
    """The word for a data member."""
    report = seen.fresh(member.node)
    if report is None:
        return "unknown"
    stands = distance.truth(seen, member)
    if stands is not None and stands[0] is Standing.REBUILDING:
        return "rebuilding"
    if changing := at_a_change(seen, member, report):
        return changing
    if report.server.state in DOWN:
        return DOWN[report.server.state]
    if report.server.state is Server.PRIMARY:
        return "running_primary" if views.is_primary(seen, member.node) else "fenced"
    if stands is None:  # of an election, or of a follower that follows nobody yet
        return "running_replica" if seen.facts.phase is not Phase.STABLE else "recovering"
    return "lagging" if is_far(seen, member) else STANDBYS[stands[0]]


def at_a_change(seen: Seen, member: Member, report: Observation) -> schema.FixedState | None:
    """Of who takes the lead or gives it away just now."""
    facts = seen.facts
    if not facts.is_leader(member.node):
        return None
    if facts.phase is Phase.ESTABLISHING and report.server.state in (
        Server.STANDBY,
        Server.PRIMARY,
    ):
        return "promoting"
    if facts.phase is Phase.ELECTING and facts.handover is not None:
        return "demoting" if report.server.state is Server.PRIMARY else None
    return None


def is_far(seen: Seen, member: Member) -> bool:
    """Whether a standby is further behind than the limit that was asked for, where there is one."""
    limit, lag = seen.facts.tuning.max_lag_bytes, distance.lag_bytes(seen, member)
    return bool(limit) and lag is not None and lag > limit


def replication(seen: Seen, slots: Slots) -> schema.Replication:
    """Everything about replication that this node knows."""
    facts = seen.facts
    leader = views.primary_of(seen)
    report = seen.fresh(leader) if leader is not None else None
    end = distance.primary_lsn(seen)
    others = [one for one in views.data_members(facts) if not facts.is_leader(one.node)]
    return schema.Replication(
        primary=leader,
        epoch=facts.term,
        timeline=report.server.timeline if report is not None else 0,
        lsn=format_lsn(end) if end is not None else None,
        standbys=[standby(seen, one) for one in others],
        synchronous=syncviews.settings(seen),
        slots=slots,
        as_of=seen.raft.applied,
    )


def standby(seen: Seen, member: Member) -> schema.Standby:
    sender = syncviews.sender_of(seen, member)
    is_waited_for = member.key in seen.facts.sync.names
    return schema.Standby(
        node=member.node,
        state=views.state_of(seen, member),
        sync_state="quorum" if is_waited_for else "async",
        flush_lsn=format_lsn(sender.flush_lsn) if sender is not None else None,
        replay_lsn=format_lsn(sender.replay_lsn) if sender is not None else None,
        lag_bytes=distance.lag_bytes(seen, member),
        lag_ms=distance.lag_ms(seen, member),
    )


def connections(seen: Seen, proxy: ProxySeen | None) -> schema.Connections:
    """What this node's proxy carries."""
    sessions = proxy.sessions if proxy is not None else {}
    by_listener = {name: sum(counts.values()) for name, counts in sorted(sessions.items())}
    by_backend: dict[str, int] = {}
    for counts in sessions.values():
        for backend, number in counts.items():
            by_backend[backend] = by_backend.get(backend, 0) + number
    return schema.Connections(
        node=seen.me,
        active_connections=sum(by_backend.values()),
        held=proxy.held if proxy is not None else 0,
        by_backend=dict(sorted(by_backend.items())),
        by_listener=by_listener,
        proxy_healthy=proxy.healthy if proxy is not None else None,
    )
