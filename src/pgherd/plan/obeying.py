"""What nodes would report once they had done what the ledger asks of them. Pure.

The world of a rehearsal (`rehearsal`), in which every act succeeds and takes no time: who is heard
seals, stops, is promoted and streams as it is told, and who is gone says nothing more. Owns nothing
that decides: it answers what the deciders will see, never what they should say to it.
"""

from __future__ import annotations

import msgspec

from pgherd.model.facts import Facts, Frozen, Phase
from pgherd.model.ids import CLOSED_NAMES, Lsn, MemberKey, NodeId, Position, Term
from pgherd.model.observation import Heard, Observation, Sender, Server, ServerSeen
from pgherd.plan.leading import names_text

RECORD_BYTES = 256
"""As if an epoch record were so long; only that it is behind the start matters."""

replace = msgspec.structs.replace


def obeyed(facts: Facts, report: Observation, *, feeds: tuple[MemberKey, ...]) -> Observation:
    """The next report of a node that is heard. feeds: who streams from an elected winner, or comes
    over to a primary that stays."""
    leads = facts.is_leader(report.node)
    match facts.phase:
        case Phase.ELECTING if facts.handover is not None and facts.handover.drained is None:
            return drained(facts, report) if leads else report
        case Phase.ELECTING:
            return promised(facts, report)
        case Phase.ESTABLISHING if leads:
            return promoted(facts, report, feeds)
        case Phase.STABLE if leads:
            return leading(facts, report, feeds)
        case _:
            return report


def end_of(server: ServerSeen) -> Position | None:
    """Where its WAL ends once all that it has received is replayed."""
    position, receiver = server.position, server.receiver
    if position is None or receiver is None:
        return position
    return Position(position.epoch, max(position.lsn, receiver.flush_lsn))


def frozen_at(facts: Facts, report: Observation, position: Position) -> Observation:
    """The promises of one that is sealed for the present election."""
    promises = replace(
        report.promises,
        promise=facts.term,
        promise_elector=facts.elector,
        frozen=Frozen(facts.term, position),
    )
    return replace(report, promises=promises)


def drained(facts: Facts, report: Observation) -> Observation:
    """The old primary of a switchover: it has sent all that it has, and stopped."""
    server = report.server
    if server.state is not Server.PRIMARY or server.position is None:
        return report
    position = Position(server.position.epoch, server.wal_end)
    stopped = replace(server, state=Server.STOPPED, clean=True, position=position, senders=())
    return frozen_at(facts, replace(report, server=stopped), position)


def promised(facts: Facts, report: Observation) -> Observation:
    """A standby seals; a leader that lives closes; who runs neither stays as it is.

    Whom a fast-forward is granted to has taken what it lacked.
    """
    server, position, grant = report.server, end_of(report.server), facts.forward
    if position is None or report.promises.dirty_rewind:
        return report
    if grant is not None and grant.candidate.node == report.node:
        position = max(position, grant.target)
    if server.state is Server.STANDBY:
        parked = replace(
            server,
            position=position,
            receiver=None,
            upstream=None,
            upstream_term=Term(0),
            drained=True,
            fed_at="",
        )
        return frozen_at(facts, replace(report, server=parked), position)
    if server.state is Server.PRIMARY and facts.is_leader(report.node):
        promises = replace(report.promises, promise=facts.term, promise_elector=facts.elector)
        closed = replace(server, names=CLOSED_NAMES)
        return replace(report, server=closed, promises=promises)
    return report


def promoted(facts: Facts, report: Observation, feeds: tuple[MemberKey, ...]) -> Observation:
    """The winner is primary, its epoch record written and on all who stream from it."""
    start = facts.history[-1].start
    end = Lsn(start.lsn + RECORD_BYTES)
    senders = streaming_at(facts, end, feeds)
    server = replace(
        report.server,
        state=Server.PRIMARY,
        position=Position(facts.term, end),
        insert_lsn=end,
        epoch_record_end=end,
        senders=senders,
        names=CLOSED_NAMES,
        drained=False,
    )
    promises = replace(report.promises, adopted=facts.term, adopted_leader=report.node)
    return replace(report, server=server, promises=promises, fencing=False)


def leading(facts: Facts, report: Observation, comes: tuple[MemberKey, ...]) -> Observation:
    """The primary tells its server of the newest set; a barrier needs those that acknowledge."""
    server, sync = report.server, facts.sync
    if server.state is not Server.PRIMARY:
        return report
    there = {one.member for one in server.senders}
    more = streaming_at(facts, server.wal_end, tuple(key for key in comes if key not in there))
    senders = (*server.senders, *more)
    streams = {one.member for one in senders if one.term == facts.term}
    complete = len(streams & set(sync.names)) >= sync.names_k
    server = replace(
        server,
        senders=senders,
        names=names_text(facts),
        names_generation=sync.generation,
        settled=sync.generation if complete else server.settled,
        checkpointed_for=facts.switchover.id if facts.switchover is not None else "",
        checkpointed_term=facts.term,
    )
    return replace(report, server=server)


def streaming_at(facts: Facts, end: Lsn, keys: tuple[MemberKey, ...]) -> tuple[Sender, ...]:
    """Walsenders that have sent everything up to here."""
    return tuple(
        Sender(member=key, term=facts.term, state="streaming", flush_lsn=end, replay_lsn=end)
        for key in keys
    )


def without(report: Observation, gone: frozenset[NodeId]) -> Observation:
    """The same with the connections of those who are gone cut."""
    server = report.server
    senders = tuple(one for one in server.senders if one.member.node not in gone)
    receiver = server.receiver
    if receiver is not None and receiver.upstream in gone:
        end = end_of(server)
        server = replace(server, receiver=None, position=end)
    return replace(report, server=replace(server, senders=senders))


def later(heard: Heard, facts: Facts, *, silent: frozenset[NodeId], passed_ms: int) -> Heard:
    """The same when some time has gone by: for how long somebody has been missing."""
    report = heard.report
    quiet = {node: report.heard_ms.get(node, 0) + passed_ms for node in silent}
    streams = {one.member for one in report.server.senders if one.term == facts.term}
    missing = {
        str(key): report.missing_ms.get(str(key), 0) + passed_ms
        for key in {*facts.sync.voters, *facts.sync.names} - streams
    }
    report = replace(report, heard_ms={**report.heard_ms, **quiet}, missing_ms=missing)
    return replace(heard, report=report)
