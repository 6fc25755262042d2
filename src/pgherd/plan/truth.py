"""Where a replica truly stands: in one of six states, from what all nodes report. Pure.

Not from its own word alone: a receiver that runs says little, and a replica that is cut off has
nothing left to replay. The primary's walsender, the record of reigns and the remedy in progress
decide, and how far it is behind is measured from the primary's end.
"""

from __future__ import annotations

from enum import StrEnum

from pgherd.ledger.lineage import contains, still_strays
from pgherd.model.facts import Facts, Member, Phase
from pgherd.model.observation import Observation, Server
from pgherd.model.remedy import Step


class Standing(StrEnum):
    """What a replica of a stable term does.

    RECOVERY: it replays the WAL that it has, and receives none yet · DELAYED: it follows, and
    replays as late as its operator wants.
    """

    STREAMING = "streaming"
    CATCHING_UP = "catching up"
    RECOVERY = "archive recovery"
    STUCK = "stuck"
    DIVERGED = "diverged"
    REBUILDING = "rebuilding"
    DELAYED = "delayed"


def standing(
    facts: Facts, member: Member, report: Observation, feeder: Observation | None
) -> tuple[Standing, str] | None:
    """The state of a replica, and why; None where none of them fits, as for one that is down.

    feeder: the report of whom it streams from (`upstreams.source`), if it is fresh.
    """
    running = report.repairs.running
    if running is not None and running.step in (Step.REWIND, Step.COPY):
        return Standing.REBUILDING, f"{running.step.value} since: {running.reason}"
    if facts.phase is not Phase.STABLE or facts.is_leader(member.node):
        return None
    if why := diverged(facts, report):
        return Standing.DIVERGED, why
    if report.server.state is not Server.STANDBY:
        return None
    if report.repairs.stuck:
        return Standing.STUCK, report.repairs.stuck
    return receiving(facts, member, report, feeder)


def diverged(facts: Facts, report: Observation) -> str:
    """Why its WAL is not on the primary's history; "" where it is, or where it has none."""
    position, adopted = report.server.position, report.promises.adopted
    stray = still_strays(facts.history, adopted, report.server.stray)
    if stray is not None:
        return f"timeline {stray.timeline} in it was opened by no election"
    if position is None or contains(facts.history, position):
        return ""
    return f"its WAL, up to {position}, is not on the history of epoch {facts.term}"


def receiving(
    facts: Facts, member: Member, report: Observation, feeder: Observation | None
) -> tuple[Standing, str] | None:
    """Of one that follows: as the walsender that feeds it has it, where that is known."""
    server, leader, promises = report.server, facts.leader, report.promises
    if (
        leader is not None
        and server.fetches
        and server.receiver is None
        and (promises.adopted, promises.adopted_leader) == (facts.term, leader.node)
    ):
        return Standing.RECOVERY, "replays WAL that it fetches from the archive"
    if leader is None or (server.upstream, server.upstream_term) != (leader.node, facts.term):
        return None
    if server.delay_ms:
        return Standing.DELAYED, f"replays what is older than {server.delay_ms // 1000} s"
    receiver = server.receiver
    streams = receiver is not None and receiver.status == "streaming"
    if not streams or receiver is None or receiver.term != facts.term:
        return Standing.RECOVERY, "replays the WAL that it has, and receives none yet"
    senders = feeder.server.senders if feeder is not None else ()
    behind = any(one.member == member.key and one.state == "catchup" for one in senders)
    return (Standing.CATCHING_UP if behind else Standing.STREAMING), ""
