"""What the facts and the reports mean to people: roles, states, lag, health. Pure.

Owns every derivation that the API shows. role is what the ledger assigned, state what a node's own
agent and its primary saw; how far a replica is behind is `distance`'s. Leaves
transport to the routes, and what has been to `stories`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from pgherd.api import (
    advice,
    ailing,
    cautions,
    distance,
    feeding,
    following,
    inhand,
    leases,
    promising,
    repairing,
    schema,
    versions,
    vips,
)
from pgherd.api.herd import ProxySeen, RaftRole, RaftSeen
from pgherd.api.times import iso
from pgherd.model.facts import Facts, Kind, Member, Phase
from pgherd.model.ids import Instant, NodeId, format_lsn
from pgherd.model.observation import Heard, Observation, Server
from pgherd.model.policy import Policy
from pgherd.plan import assurance, look
from pgherd.plan.splitbrain import Noticed
from pgherd.plan.trail import Trail
from pgherd.plan.truth import Standing

FRESH_MS = 1500
"""A report older than this says nothing about now: the default of `failover.detect`."""
ELECTION_MS = 1000
"""The default of `raft.election_timeout`."""


class Seen(msgspec.Struct, frozen=True):
    """Everything a view is made of. unix_ms: the wall clock, for showing times only ·
    policy, election_ms: of this node's file, which all nodes should share."""

    me: NodeId
    facts: Facts
    reports: dict[NodeId, Heard]
    now: Instant
    raft: RaftSeen
    unix_ms: int
    noticed: tuple[Noticed, ...] = ()
    policy: Policy = Policy()
    election_ms: int = ELECTION_MS
    fresh_ms: int = FRESH_MS
    trail: Trail = msgspec.field(default_factory=Trail)

    def fresh(self, node: NodeId) -> Observation | None:
        """A node's report, if it is recent enough to speak for now."""
        heard = self.reports.get(node)
        if heard is None or self.now - heard.at > self.fresh_ms:
            return None
        return heard.report

    def newest(self, node: NodeId) -> Observation | None:
        """A node's report, however old."""
        heard = self.reports.get(node)
        return heard.report if heard is not None else None


# --- one node ------------------------------------------------------------------------------------


def is_primary(seen: Seen, node: NodeId) -> bool:
    """Whether the ledger says that this node leads now and the node says that it does."""
    facts, report = seen.facts, seen.fresh(node)
    return (
        seen.raft.role is not RaftRole.REMOVED
        and facts.phase is Phase.STABLE
        and facts.leader is not None
        and facts.leader.node == node
        and report is not None
        and report.server.state is Server.PRIMARY
        and report.promises.incarnation == facts.leader.incarnation
    )


def is_streaming(seen: Seen, node: NodeId) -> bool:
    """Whether a replica receives WAL from the current leader under the current term."""
    facts, report = seen.facts, seen.fresh(node)
    if facts.follows is not None:
        return following.streams(facts, report)
    receiver = report.server.receiver if report is not None else None
    return (
        report is not None
        and report.server.state is Server.STANDBY
        and receiver is not None
        and receiver.status == "streaming"
        and receiver.term == facts.term
        and facts.leader is not None
        and receiver.upstream == facts.leader.node
    )


def is_healthy(seen: Seen, member: Member) -> bool:
    """Whether a member does what its role asks of it."""
    report = seen.fresh(member.node)
    if report is None:
        return False
    if member.kind is Kind.WITNESS:
        return True
    if member.kind is Kind.PROXY:
        return report.proxy_healthy
    leads = is_primary(seen, member.node) and is_assured(seen)
    serves = leads or is_streaming(seen, member.node)
    serves = serves or feeding.waits_out_its_delay(seen, report)
    return serves and report.server.healthy


def role_of(facts: Facts, member: Member) -> schema.NodeRole:
    """What the ledger assigned; nobody is primary between two reigns."""
    if member.kind is Kind.WITNESS:
        return "witness"
    if member.kind is Kind.PROXY:
        return "proxy"
    if following.is_standby_leader(facts, member.node):
        return "standby_leader"
    reigns = facts.phase in (Phase.STABLE, Phase.ESTABLISHING)
    return "primary" if reigns and facts.is_leader(member.node) else "replica"


def state_of(seen: Seen, member: Member) -> str:
    """What a node is doing, in one or two words."""
    report = seen.fresh(member.node)
    if report is None:
        return "unreachable" if member.node in seen.reports else "unknown"
    if member.kind is not Kind.DATA:
        return "running" if is_healthy(seen, member) else "no proxy"
    server = report.server
    stands = distance.truth(seen, member)
    if stands is not None:
        return stands[0].value
    plain = {
        Server.NONE: "empty",
        Server.UNUSABLE: "unusable",
        Server.STOPPED: "stopped",
        Server.STARTING: "starting",
        Server.HUNG: "hung",
    }
    if server.state in plain:
        return plain[server.state]
    if server.state is Server.PRIMARY:
        return primary_state(seen, member.node)
    return standby_state(seen, report)


def primary_state(seen: Seen, node: NodeId) -> str:
    if is_primary(seen, node):
        return "running"
    establishing = seen.facts.phase is Phase.ESTABLISHING and seen.facts.is_leader(node)
    return "promoting" if establishing else "closed"


def standby_state(seen: Seen, report: Observation) -> str:
    """Of a standby that follows nobody in a stable term."""
    if is_streaming(seen, report.node):
        return Standing.STREAMING.value
    frozen = report.promises.frozen
    if seen.facts.phase is Phase.ELECTING and frozen is not None:
        return "sealed" if frozen.term == seen.facts.term else "sealing"
    return "connecting" if report.server.upstream is not None else "waiting"


def node(seen: Seen, member: Member) -> schema.Node:
    """One member, as the API shows it."""
    report, heard = seen.newest(member.node), seen.reports.get(member.node)
    server = report.server if report is not None else None
    position = server.position if server is not None else None
    host, port = member.address.postgres()
    ago = seen.now - heard.at if heard is not None else 0
    tags = member.tags
    return schema.Node(
        node_id=member.node,
        name=member.node,
        host=host,
        postgresql_port=port,
        api_port=member.address.api_port,
        role=role_of(seen.facts, member),
        state=state_of(seen, member),
        is_healthy=is_healthy(seen, member),
        is_primary=is_primary(seen, member.node),
        is_sync=member.key in seen.facts.sync.voters,
        is_voter=member.raft_id in seen.raft.voters,
        timeline=server.timeline if server is not None else 0,
        lsn=format_lsn(position.lsn) if position is not None else None,
        epoch=position.epoch if position is not None else None,
        lag_bytes=distance.lag_bytes(seen, member),
        lag_ms=distance.lag_ms(seen, member),
        zone=tags.zone,
        tags=schema.Tags(
            failover_priority=tags.failover_priority,
            nofailover=tags.nofailover,
            nosync=tags.nosync,
            noloadbalance=report is not None and report.noloadbalance,
            clonefrom=report is not None and report.clonefrom,
            nostream=report is not None and report.nostream,
            labels=report.labels if report is not None else {},
            replicatefrom=tags.replicatefrom or None,
            delay_ms=tags.delay_ms,
        ),
        upstream=feeding.source(seen, member),
        upstream_reason=feeding.why(seen, member),
        maintenance=inhand.maintenance(seen.facts, member.node),
        stopped_by=inhand.stopped_by(seen.facts, member.node),
        postgresql_version=versions.running(server),
        postgresql_version_on_disk=versions.on_disk(server),
        version=report.version if report is not None else "",
        uptime_seconds=report.uptime_seconds if report is not None else 0,
        last_seen=iso(seen.unix_ms - ago) if heard is not None else None,
        doing=report.doing if report is not None else "",
        progress_percent=ailing.progress(report),
        state_reason=stands[1] if (stands := distance.truth(seen, member)) is not None else "",
        remedies=repairing.remedies(report),
        problem=ailing.problem_of(report),
        pending_restart=ailing.pending(report),
    )


def find_member(facts: Facts, name: str) -> Member | None:
    """A member by its name; a number works where names end in it (`2` for n2) and it is unique."""
    exact = facts.members.get(NodeId(name))
    if exact is not None or not name.isdigit():
        return exact
    found = [
        m for m in facts.members.values() if m.node.lstrip("abcdefghijklmnopqrstuvwxyz-") == name
    ]
    return found[0] if len(found) == 1 else None


# --- the herd ------------------------------------------------------------------------------------


def members(facts: Facts) -> list[Member]:
    return [member for _, member in sorted(facts.members.items())]


def data_members(facts: Facts) -> list[Member]:
    return [member for member in members(facts) if member.kind is Kind.DATA]


def raft_voters(seen: Seen) -> list[str]:
    """The names of all who vote in consensus now."""
    return [one.node for one in members(seen.facts) if one.raft_id in seen.raft.voters]


def has_quorum(seen: Seen) -> bool:
    """Whether consensus can commit, as far as this node knows: it hears a Raft leader."""
    return seen.raft.leader is not None


def is_assured(seen: Seen) -> bool:
    """Whether the ledger's primary may still be taken for the primary (`plan.assurance`)."""
    leader = seen.facts.leader
    report = seen.fresh(leader.node) if leader is not None else None
    return assurance.is_assured(seen.facts, report, knows_leader=has_quorum(seen))


def primary_of(seen: Seen) -> NodeId | None:
    """The ledger's primary of an established term; None between two reigns, or who was removed."""
    facts = seen.facts
    if seen.raft.role is RaftRole.REMOVED:
        return None
    return facts.leader.node if facts.phase is Phase.STABLE and facts.leader is not None else None


def can_write(seen: Seen) -> bool:
    """Whether a commit would be acknowledged now: the gate is open and k standbys stream."""
    facts = seen.facts
    if facts.leader is None or not is_primary(seen, facts.leader.node):
        return False
    if any(one.about.node == facts.leader.node for one in seen.noticed):
        return False  # nobody is led to it
    report = seen.fresh(facts.leader.node)
    assert report is not None, "a primary has a fresh report"
    return look.acknowledges(facts, report)


def failover_state(seen: Seen) -> schema.FailoverState:
    """Where the herd stands between two primaries."""
    facts = seen.facts
    if facts.phase is Phase.UNBORN:
        return "normal"
    if facts.switchover is not None or facts.handover is not None:
        return "switchover"
    if facts.phase is Phase.ELECTING:
        return "sealing"
    if facts.phase is Phase.ESTABLISHING:
        return "promoting"
    leader = primary_of(seen)
    report = seen.fresh(leader) if leader is not None else None
    if leader is None or report is None or not is_primary(seen, leader):
        return "detecting"
    if not report.server.healthy or report.server.probe_failures:
        return "detecting"
    returning = [m for m in data_members(facts) if m.node != leader and seen.fresh(m.node)]
    return "normal" if all(is_streaming(seen, m.node) for m in returning) else "recovering"


def lease(seen: Seen) -> schema.Lease | None:
    """The primary's lease, by its own fresh report."""
    held = seen.facts.lease
    return leases.shown(seen.facts, seen.fresh(held.holder.node) if held is not None else None)


def waits(seen: Seen) -> advice.Waits | None:
    """What the present election waits for, as far as this node has heard; None when for nothing."""
    return advice.waits(seen.facts, seen.reports, me=seen.me, now=seen.now, fresh_ms=seen.fresh_ms)


def problems(seen: Seen) -> list[str]:
    """Why the herd is not fully operational, one sentence each."""
    facts, found = seen.facts, []
    if seen.raft.role is RaftRole.REMOVED:
        return [f"{seen.me} was removed from this cluster; what is shown here is of before"]
    if seen.raft.role is RaftRole.AMNESIA:
        return [f"{seen.me} has amnesia and takes no part: {seen.raft.amnesia}"]
    if not has_quorum(seen):
        found += advice.lost_quorum(seen.me, raft_voters(seen))
    if facts.follows is not None:
        found += following.problems(seen)
    elif facts.phase is Phase.UNBORN:
        found.append("the cluster has no data yet")
    elif facts.phase is not Phase.STABLE:
        found.append(f"epoch {facts.term} is {facts.phase.value}: {facts.reason}")
        found += advice.stuck_election(waits(seen))
    elif not can_write(seen):
        found.append("commits are not acknowledged now")
    for member in members(facts):
        if member.leaving:
            found.append(f"{member.node} is being removed")
        if not is_healthy(seen, member):
            more = ailing.problem_of(seen.newest(member.node))
            found.append(
                f"{member.node} is {state_of(seen, member)}" + (f": {more}" if more else "")
            )
    if why := leases.problem(facts, lease(seen)):
        found.append(why)
    found += promising.problems(facts)
    sync = promising.shown(facts)
    if sync.degraded and facts.follows is None:
        found.append(f"commits wait for {sync.num_sync} of {sync.wanted} synchronous copies")
    found += vips.problems(fresh_reports(seen))
    return [*found, *(one.sentence(iso(one.since_unix_ms)) for one in seen.noticed)]


def fresh_reports(seen: Seen) -> list[Observation]:
    """What the nodes say that are heard now."""
    return [heard.report for heard in fresh_heard(seen)]


def fresh_heard(seen: Seen) -> list[Heard]:
    return [heard for node_, heard in seen.reports.items() if seen.fresh(node_) is not None]


def split_brain(seen: Seen) -> bool:
    """Whether a node contradicts the ledger. The protocol forbids it; we look anyway."""
    return bool(seen.noticed)


def cluster_health(seen: Seen) -> schema.ClusterHealth:
    """operational: all is well · degraded: writes work, something is missing · down: no writes; of
    a standby cluster, which takes none: no reads."""
    if not (following.serves(seen.facts, fresh_reports(seen)) or can_write(seen)):
        return "down"
    return "degraded" if problems(seen) else "operational"


def healthy_nodes(seen: Seen) -> int:
    return sum(is_healthy(seen, member) for member in seen.facts.members.values())


def status(seen: Seen) -> schema.ClusterStatus:
    """The herd in one look."""
    facts = seen.facts
    reign = facts.reign()
    return schema.ClusterStatus(
        cluster_name=facts.cluster,
        status=cluster_health(seen),
        primary_node_id=primary_of(seen),
        node_count=len(facts.members),
        healthy_nodes=healthy_nodes(seen),
        has_quorum=has_quorum(seen),
        raft_leader=seen.raft.leader,
        raft_voters=raft_voters(seen),
        epoch=facts.term,
        phase=facts.phase.value,
        failover_state=failover_state(seen),
        auto_failover_enabled=seen.policy.failover_enabled,
        paused=facts.paused,
        pause=inhand.pause(facts),
        synchronous=promising.shown(facts),
        lease=lease(seen),
        vips=vips.shown(fresh_reports(seen)),
        follows=following.shown(seen),
        split_brain=split_brain(seen),
        system_id=facts.system_id,
        problems=problems(seen),
        warnings=[
            *inhand.warnings(facts),
            *feeding.warnings(seen),
            *promising.warnings(facts),
            *advice.too_few_to_lose_one(raft_voters(seen)),
            *cautions.told(fresh_reports(seen)),
            *cautions.on_trial(seen.facts),
            *cautions.drilled(facts),
            *versions.warnings(seen),
            *ailing.unwell(seen.fresh(m.node) for m in members(facts) if is_healthy(seen, m)),
        ],
        last_topology_change=iso(reign.established_at_ms or reign.began_at_ms) if reign else None,
        timestamp=iso(seen.unix_ms) or "",
        as_of=seen.raft.applied,
    )


def health(seen: Seen) -> schema.ClusterHealthAnswer:
    """Whether writes are possible, in short. Lag: of the healthy replica furthest behind."""
    facts = seen.facts
    replicas = [
        member
        for member in data_members(facts)
        if is_healthy(seen, member) and not facts.is_leader(member.node)
    ]
    lags = [lag for one in replicas if (lag := distance.lag_bytes(seen, one)) is not None]
    late = [lag for one in replicas if (lag := distance.lag_ms(seen, one)) is not None]
    return schema.ClusterHealthAnswer(
        cluster_status=cluster_health(seen),
        healthy_nodes=healthy_nodes(seen),
        total_nodes=len(facts.members),
        primary_node_id=primary_of(seen),
        has_quorum=has_quorum(seen),
        replication_lag_bytes=max(lags, default=None),
        replication_lag_ms=max(late, default=None),
        as_of=seen.raft.applied,
        mismatches=versions.mismatches(seen),
    )


def nodes(seen: Seen) -> schema.Nodes:
    """All members, by name."""
    return schema.Nodes(
        nodes=[node(seen, member) for member in members(seen.facts)], as_of=seen.raft.applied
    )


# --- this node, for load balancers ---------------------------------------------------------------


def check(seen: Seen, *, proxy: ProxySeen | None, version: str) -> schema.Check:
    """This node in short."""
    member, report = seen.facts.members.get(seen.me), seen.newest(seen.me)
    position = report.server.position if report is not None else None
    outside = "amnesia" if seen.raft.role is RaftRole.AMNESIA else "unknown"
    return schema.Check(
        status=check_status(seen, proxy),
        node=seen.me,
        role=role_of(seen.facts, member) if member is not None else "replica",
        state=state_of(seen, member) if member is not None else outside,
        split_brain=split_brain(seen),
        vip_owner=vips.owner(fresh_reports(seen)),
        proxy_healthy=proxy.healthy if proxy is not None else None,
        proxy_engine=proxy.engine if proxy is not None and proxy.engine else None,
        has_quorum=has_quorum(seen),
        timeline=report.server.timeline if report is not None else 0,
        lsn=format_lsn(position.lsn) if position is not None else None,
        lag_bytes=distance.lag_bytes(seen, member) if member is not None else None,
        epoch=seen.facts.term,
        version=version,
    )


def check_status(
    seen: Seen, proxy: ProxySeen | None
) -> Literal["ok", "degraded", "split_brain", "no_backends"]:
    """ok only when this node serves its role."""
    member = seen.facts.members.get(seen.me)
    if split_brain(seen):
        return "split_brain"
    if member is None or not is_healthy(seen, member):
        return "degraded"
    wants = "primary" if seen.facts.follows is None else "replica"
    if proxy is not None and not proxy.backends.get(wants) and proxy.backends:
        return "no_backends"
    return "ok" if proxy is None or proxy.healthy else "degraded"
