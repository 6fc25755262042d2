"""What a standby cluster's members are and do, as the API shows it. Pure.

Owns the derivations that differ from a cluster with a primary; `views` asks here where one follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pgherd.api import standbyschema
from pgherd.model.facts import Facts, Member
from pgherd.model.ids import NodeId, format_lsn
from pgherd.model.observation import Observation, Server
from pgherd.plan.standbycluster import reach, receives, standby_leader

if TYPE_CHECKING:
    from pgherd.api.views import Seen


def is_standby_leader(facts: Facts, node: NodeId) -> bool:
    """Whether the ledger names this node as the one that streams from the remote."""
    return facts.follows is not None and facts.follows.leader == node


def runs(report: Observation | None) -> bool:
    """Whether a member's server is a standby that works, whatever comes to it."""
    return report is not None and report.server.state is Server.STANDBY and report.server.healthy


def serves(facts: Facts, reports: Sequence[Observation]) -> bool:
    """Whether one of these members of a standby cluster takes reads, however late it is."""
    return facts.follows is not None and any(runs(report) for report in reports)


def streams(facts: Facts, report: Observation | None) -> bool:
    """Whether a member gets WAL from whom it is to follow."""
    if report is None or report.server.state is not Server.STANDBY or facts.follows is None:
        return False
    seen, leader = report.server.source, facts.follows.leader
    if seen is None or not seen.named or not receives(report.server):
        return False
    wanted = "remote " if leader == report.node else f"{leader} "
    return not seen.mark or seen.mark.startswith(wanted)


def lag_bytes(seen: Seen, member: Member) -> int | None:
    """How far a member is behind its standby leader; how far that one is, nobody here knows."""
    leader = standby_leader(seen.facts)
    lead, report = seen.newest(leader) if leader is not None else None, seen.newest(member.node)
    if lead is None or report is None or report.server.position is None:
        return None
    return max(0, reach(lead)[1] - report.server.position.lsn)


def problems(seen: Seen) -> list[str]:
    """Why a standby cluster does not do all that it should, beside what its members say."""
    known = seen.facts.follows
    if known is None:
        return []
    if not seen.facts.system_id:
        return ["the remote primary has not been copied yet"]
    if known.leader is None:
        return ["nobody is standby leader"]
    report = seen.fresh(known.leader)
    source = report.server.source if report is not None else None
    if source is not None and source.problem:
        return [f"nothing comes from the remote primary: {source.problem}"]
    return []


def shown(seen: Seen) -> standbyschema.Follows | None:
    """What this cluster follows; None where it is writable."""
    known = seen.facts.follows
    if known is None:
        return None
    report = seen.fresh(known.leader) if known.leader is not None else None
    return standbyschema.Follows(
        hosts=[f"{host}:{port}" for host, port in known.remote.hosts],
        primary_slot_name=known.remote.slot,
        sslmode=known.remote.sslmode,
        standby_leader=known.leader,
        is_streaming=streams(seen.facts, report),
        received_lsn=format_lsn(reach(report)[1]) if report is not None else None,
        reason=known.reason,
    )
