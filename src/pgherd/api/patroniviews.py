"""What facts and reports say, in the words of Patroni's API. Pure.

Owns the translation, and nothing of what it means: a replica that Patroni's tools take for a good
one is good by `views`. Where both have the word and mean something else, Patroni's meaning counts
here (docs/operate/patroni-api.md).
"""

from __future__ import annotations

from typing import Any

from pgherd.api import ailing, distance, views
from pgherd.api import patronischema as schema
from pgherd.api.herd import ProxySeen, RaftRole
from pgherd.api.times import iso
from pgherd.api.views import Seen
from pgherd.ledger.pgconfig import newest
from pgherd.model.facts import Facts, Kind, Member, Mode, Phase
from pgherd.model.ids import NodeId, format_lsn
from pgherd.model.observation import Observation, Server
from pgherd.model.upkeep import Verb
from pgherd.plan.truth import Standing

FOLLOWS = "4.0.4"
"""The version of Patroni whose API this is. Tools ask for it: since 3.0.4 replicas `stream`."""

STATES = {
    Server.NONE: "initializing new cluster",
    Server.UNUSABLE: "start failed",
    Server.STOPPED: "stopped",
    Server.STARTING: "starting",
    Server.HUNG: "unknown",
    Server.STANDBY: "running",
    Server.PRIMARY: "running",
}
ARCHIVE = "in archive recovery"
STREAMING = "streaming"
STANDBY_LEADER = "standby_leader"
LEADERS = {"primary": "leader", STANDBY_LEADER: STANDBY_LEADER}
"""Who leads, by our word for it: the second leads a cluster that follows another one."""
UNKNOWN = "unknown"


# --- one node ------------------------------------------------------------------------------------


def node(seen: Seen, *, proxy: ProxySeen | None, version: str) -> schema.PatroniNode:
    """The node that answers."""
    member, report = seen.facts.members.get(seen.me), seen.fresh(seen.me)
    server = report.server if report is not None else None
    runs = server is not None and server.state in (Server.PRIMARY, Server.STANDBY)
    waits = ailing.pending(report)
    return schema.PatroniNode(
        state=state_here(seen, member, report),
        role=role_here(seen, member, report),
        postmaster_start_time=iso(server.started_unix_ms) if server is not None and runs else None,
        server_version=version_num(report) if runs else None,
        xlog=xlog(report) if report is not None and runs else None,
        timeline=server.timeline if server is not None and runs else None,
        sync_standby=True if member is not None and is_sync(seen, member) else None,
        quorum_standby=True if member is not None and is_quorum(seen, member) else None,
        replication_state=replication_state(seen, member, report),
        replication=senders(seen, report) or None,
        cluster_unlocked=True if views.primary_of(seen) is None else None,
        pause=True if seen.facts.paused else None,
        dcs_last_seen=seen.unix_ms // 1000 if views.has_quorum(seen) else None,
        tags=tags(member, report) or None,
        database_system_identifier=seen.facts.system_id or None,
        pending_restart=True if waits else None,
        pending_restart_reason=changes(report),
        scheduled_restart=scheduled_restart(seen.facts, seen.me),
        patroni=schema.About(version=FOLLOWS, scope=seen.facts.cluster, name=seen.me),
        pgherd=views.check(seen, proxy=proxy, version=version),
    )


def version_num(report: Observation | None) -> int | None:
    return (report.server.version_num or None) if report is not None else None


def state_here(seen: Seen, member: Member | None, report: Observation | None) -> str:
    """The state of this node's PostgreSQL; a node without one has it stopped."""
    if report is None or member is None:
        return UNKNOWN
    if member.kind is not Kind.DATA:
        return "stopped"
    if stands(seen, member) is Standing.REBUILDING:
        return "creating replica"
    return STATES[report.server.state]


def role_here(seen: Seen, member: Member | None, report: Observation | None) -> str:
    """What this node's PostgreSQL is; primary only as long as the ledger says so as well."""
    if member is None or member.kind is not Kind.DATA:
        return "uninitialized"
    if report is not None and report.server.state is Server.NONE:
        return "uninitialized"
    if views.is_primary(seen, seen.me):
        return "primary"
    role: str = views.role_of(seen.facts, member)
    return role if role == STANDBY_LEADER else "replica"


def stands(seen: Seen, member: Member) -> Standing | None:
    found = distance.truth(seen, member)
    return found[0] if found is not None else None


def replication_state(seen: Seen, member: Member | None, report: Observation | None) -> str | None:
    """Of a standby: `streaming`, or that it replays what it has."""
    if member is None or report is None or report.server.state is not Server.STANDBY:
        return None
    return STREAMING if views.is_streaming(seen, member.node) else ARCHIVE


def xlog(report: Observation) -> schema.Xlog:
    server = report.server
    lsn = server.position.lsn if server.position is not None else 0
    if server.state is Server.PRIMARY:
        return schema.Xlog(location=lsn)
    received = server.receiver.flush_lsn if server.receiver is not None else lsn
    return schema.Xlog(
        received_location=max(received, lsn), replayed_location=lsn, paused=server.paused
    )


def senders(seen: Seen, report: Observation | None) -> list[schema.ReplicationRow]:
    """Who streams from this node; the address is the ledger's."""
    rows = []
    for one in report.server.senders if report is not None else ():
        member = seen.facts.members.get(one.member.node)
        waited = one.member in seen.facts.sync.names
        rows.append(
            schema.ReplicationRow(
                application_name=one.member.node,
                client_addr=member.address.postgres()[0] if member is not None else "",
                state=one.state,
                sync_state="quorum" if waited else "async",
                sync_priority=1 if waited else 0,
            )
        )
    return rows


def is_waited_for(seen: Seen, member: Member) -> bool:
    """Whether commits wait for this standby, alone or among others, and it streams."""
    facts = seen.facts
    return (
        facts.phase is Phase.STABLE
        and not facts.is_leader(member.node)
        and member.key in facts.sync.names
        and views.is_streaming(seen, member.node)
    )


def is_sync(seen: Seen, member: Member) -> bool:
    """Whether it has every acknowledged commit: all that are asked must have answered."""
    sync = seen.facts.sync
    return is_waited_for(seen, member) and sync.names_k == len(sync.names)


def is_quorum(seen: Seen, member: Member) -> bool:
    """Whether it is one of those of whom some must have answered."""
    return is_waited_for(seen, member) and not is_sync(seen, member)


def tags(member: Member | None, report: Observation | None) -> dict[str, Any]:
    """An operator's wishes and labels; what nobody wished is left out, as in Patroni."""
    if member is None:
        return {}
    mine = member.tags
    wishes: dict[str, Any] = {
        "nofailover": mine.nofailover,
        "nosync": mine.nosync,
        "noloadbalance": report is not None and report.noloadbalance,
        "clonefrom": report is not None and report.clonefrom,
        "failover_priority": mine.failover_priority if mine.failover_priority != 100 else None,
        "zone": mine.zone,
    }
    labels = report.labels if report is not None else {}
    return {**labels, **{name: value for name, value in wishes.items() if value}}


def tags_match(seen: Seen, wanted: dict[str, str]) -> bool:
    """Whether this node has every tag that is asked for, with that value."""
    member, report = seen.facts.members.get(seen.me), seen.newest(seen.me)
    has = tags(member, report)
    return all(name in has and written(has[name]) == value for name, value in wanted.items())


def written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def changes(report: Observation | None) -> dict[str, schema.Change] | None:
    """Parameters that wait for a restart; None where none does, or nobody knows."""
    found = ailing.pending(report) or {}
    shown = {
        name: schema.Change(old_value=one.old, new_value=one.new) for name, one in found.items()
    }
    return shown or None


def scheduled_restart(facts: Facts, node: NodeId) -> schema.Scheduled | None:
    for work in facts.upkeep.scheduled():
        if work.verb is Verb.RESTART and node in work.nodes:
            return schema.Scheduled(schedule=iso(work.not_before_ms) or "")
    return None


# --- all nodes -----------------------------------------------------------------------------------


def cluster(seen: Seen, *, proxy: ProxySeen | None, scheme: str) -> schema.PatroniCluster:
    """All data members."""
    members = views.data_members(seen.facts)
    return schema.PatroniCluster(
        members=[one_member(seen, member, scheme=scheme) for member in members],
        scope=seen.facts.cluster,
        pause=True if seen.facts.paused else None,
        scheduled_switchover=scheduled_switchover(seen.facts),
        routing_table=routing(seen, proxy),
    )


def one_member(seen: Seen, member: Member, *, scheme: str) -> schema.PatroniMember:
    report, newest_known = seen.fresh(member.node), seen.newest(member.node)
    host, port = member.address.postgres()
    server = newest_known.server if newest_known is not None else None
    return schema.PatroniMember(
        name=member.node,
        role=role_in_cluster(seen, member),  # type: ignore[arg-type] # one of its words
        state=state_in_cluster(seen, member, report),
        api_url=api_url(member, scheme),
        host=host,
        port=port,
        timeline=server.timeline if server is not None and server.timeline else None,
        tags=tags(member, newest_known) or None,
        pending_restart=True if ailing.pending(report) else None,
        pending_restart_reason=changes(report),
        scheduled_restart=scheduled_restart(seen.facts, member.node),
        **positions(seen, member, report),
    )


def api_url(member: Member, scheme: str) -> str:
    host, port = member.address.api()
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}:{port}/patroni"


def role_in_cluster(seen: Seen, member: Member) -> str:
    facts = seen.facts
    role: str = views.role_of(facts, member)
    if seen.raft.role is not RaftRole.REMOVED and role in LEADERS:
        return LEADERS[role]
    if is_sync(seen, member):
        return "sync_standby"
    return "quorum_standby" if is_quorum(seen, member) else "replica"


def state_in_cluster(seen: Seen, member: Member, report: Observation | None) -> str:
    """`running` of the leader, `streaming` of a replica that does; nobody is guessed at."""
    if report is None:
        return UNKNOWN
    if stands(seen, member) is Standing.REBUILDING:
        return "creating replica"
    state = report.server.state
    if state is Server.PRIMARY and not views.is_primary(seen, member.node):
        return "stopping" if seen.facts.phase is Phase.ELECTING else "starting"
    return replication_state(seen, member, report) or STATES[state]


def positions(seen: Seen, member: Member, report: Observation | None) -> dict[str, Any]:
    """How far a replica is, and how far behind: `unknown` where nobody can say."""
    if seen.facts.is_leader(member.node):
        return {}
    if report is None or report.server.state is not Server.STANDBY:
        return {"lag": UNKNOWN, "receive_lag": UNKNOWN, "replay_lag": UNKNOWN}
    at = xlog(report)
    received, replayed = at.received_location or 0, at.replayed_location or 0
    end, replay_lag = distance.primary_lsn(seen), distance.lag_bytes(seen, member)
    known = end is not None and replay_lag is not None
    return {
        "lag": replay_lag if known else UNKNOWN,
        "lsn": format_lsn(replayed),  # type: ignore[arg-type] # a position in bytes
        "receive_lag": max(0, (end or 0) - received) if known else UNKNOWN,
        "receive_lsn": format_lsn(received),  # type: ignore[arg-type] # the same
        "replay_lag": replay_lag if known else UNKNOWN,
        "replay_lsn": format_lsn(replayed),  # type: ignore[arg-type] # the same
    }


def scheduled_switchover(facts: Facts) -> schema.ScheduledSwitchover | None:
    for work in facts.upkeep.scheduled():
        if work.verb is Verb.SWITCHOVER:
            told = {
                "at": iso(work.not_before_ms) or "",
                "from": facts.leader.node if facts.leader is not None else None,
                "to": work.nodes[0] if work.nodes else None,
            }
            return schema.ScheduledSwitchover.model_validate(told)
    return None


def routing(seen: Seen, proxy: ProxySeen | None) -> schema.RoutingTable:
    if proxy is not None:
        primary = next(iter(proxy.backends.get("primary", ())), None)
        replicas = list(proxy.backends.get("replica", ()))
    else:
        leader = views.primary_of(seen)
        primary = leader if leader is not None and views.is_primary(seen, leader) else None
        members = views.data_members(seen.facts)
        replicas = [one.node for one in members if views.is_streaming(seen, one.node)]
    return schema.RoutingTable(
        primary=primary, replicas=[*replicas], split_brain=views.split_brain(seen)
    )


def history(facts: Facts) -> list[list[int | str]]:
    """One line per timeline that ended: which, where, why, when the next began, and on whom."""
    lines: list[list[int | str]] = []
    timeline = 0
    for reign in facts.history:
        if reign.promoted and timeline and reign.established:
            when = iso(reign.established_at_ms) or ""
            lines.append([timeline, reign.start.lsn, reign.reason, when, reign.leader.node])
        timeline = reign.timeline or timeline
    return lines


def config(facts: Facts, *, shows_access: bool) -> schema.PatroniConfig:
    """What the cluster agreed on; what is each node's own is not in it."""
    now, mode = newest(facts), facts.mode_wanted or facts.mode
    return schema.PatroniConfig(
        postgresql=schema.PatroniPostgresql(
            parameters=dict(sorted(now.parameters.items())),
            pg_hba=list(now.hba) if now.hba_whole and shows_access else None,
            pg_ident=(list(now.ident) or None) if shows_access else None,
        ),
        pause=facts.paused,
        synchronous_mode=False if mode is Mode.ASYNC else "quorum",
        synchronous_mode_strict=mode is Mode.STRICT,
        synchronous_node_count=facts.num_sync or None,
        maximum_lag_on_syncnode=facts.tuning.max_lag_bytes or -1,
        slots={
            one.name: schema.PatroniSlot(
                type=one.kind.value,
                database=one.database or None,
                plugin=one.plugin or None,
            )
            for one in facts.slots
            if not one.dropping
        },
    )


def failsafe(facts: Facts, *, scheme: str) -> dict[str, str]:
    """Every data member and where it answers."""
    return {one.node: api_url(one, scheme) for one in views.data_members(facts)}
