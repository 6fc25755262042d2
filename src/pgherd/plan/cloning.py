"""Whom a member copies: a replica that is fit to be copied, or the leader. No act here.

A replica is as good a source as the leader if it streams from it in this term, has its epoch record
and is near its end: then all that its copy holds is on the leader's history (PROTOCOL.md F7), and
what the copy still lacks the leader has.
"""

from __future__ import annotations

from collections.abc import Mapping

from pgherd.model.facts import Facts, Kind, Phase
from pgherd.model.ids import Lsn, NodeId
from pgherd.model.observation import Observation, Server
from pgherd.plan.own import Lender, Self

LAG_BYTES_MAX = 128 << 20
"""How far behind a replica may be that is copied: far less than the leader keeps for everybody
(`wal_keep_size`), and more than the jump of a segment, which every base backup makes.
"""


def lenders(facts: Facts, me: NodeId, reports: Mapping[NodeId, Observation]) -> tuple[Lender, ...]:
    """All replicas that can be copied now, wanted ones first, then by how much they have.

    reports: of who is not silent.
    """
    leader = facts.leader
    report = reports.get(leader.node) if leader is not None else None
    if report is None or report.server.position is None or facts.phase is not Phase.STABLE:
        return ()
    near = report.server.position.lsn - LAG_BYTES_MAX
    found = [
        (not one.clonefrom, -end, Lender(node, *member.address.postgres(), one.clonefrom))
        for node, one in sorted(reports.items())
        if (member := facts.members.get(node)) is not None
        and node != me
        and member.kind is Kind.DATA
        and member.incarnation == one.promises.incarnation
        and not member.leaving
        and not facts.upkeep.spares(node)
        and (end := fit_end(facts, one)) >= max(near, 1)
    ]
    return tuple(lender for _, _, lender in sorted(found, key=lambda each: each[:2]))


def fit_end(facts: Facts, report: Observation) -> Lsn:
    """How far the WAL of a replica that is on the leader's history reaches; 0 where it is not."""
    server, promises = report.server, report.promises
    receiver, position = server.receiver, server.position
    streams = (
        facts.leader is not None
        and server.state is Server.STANDBY
        and server.healthy
        and receiver is not None
        and receiver.status == "streaming"
        and (receiver.upstream, receiver.term) == (facts.leader.node, facts.term)
    )
    whole = not promises.dirty_rewind and promises.floor is None and server.stray is None
    if not streams or not whole or position is None or position.epoch != facts.term:
        return Lsn(0)
    return position.lsn


def lender(s: Self, wanted: NodeId | None) -> Lender | None:
    """Which replica to copy; None for the leader. wanted: by an operator, in this copy's name.

    Who could not be copied in this trouble is not asked again unless an operator says so.
    """
    if wanted is not None:
        return next((one for one in s.lenders if one.node == wanted), None)
    failed = s.ladder.failed if s.ladder is not None else ()
    fit = (one for one in s.lenders if one.preferred and one.node not in failed)
    return next(fit, None)
