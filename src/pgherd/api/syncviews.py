"""What facts and reports say of synchronous replication, for people. Pure."""

from __future__ import annotations

from pgherd.api import feeding, promising, views
from pgherd.api import syncschema as schema
from pgherd.api.times import iso
from pgherd.api.views import Seen
from pgherd.model.facts import Member, Note, Phase
from pgherd.model.observation import Observation, Sender
from pgherd.plan import look
from pgherd.plan.leading import commit_of

CHANGES = ("sync.changed", "sync.tuned", "mode.set")


def settings(seen: Seen) -> schema.SyncSettings:
    """What is asked for, beside what is in force."""
    facts, in_force = seen.facts, promising.shown(seen.facts)
    standbys = [standby(seen, one) for one in views.data_members(facts) if not leads(seen, one)]
    connected = sum(one.is_sync and one.is_connected for one in standbys)
    healthy = not in_force.degraded and connected == len(facts.sync.voters)
    return schema.SyncSettings(
        replication=facts.mode.value,
        replication_wanted=facts.mode_wanted.value if facts.mode_wanted is not None else None,
        num_sync_standbys=facts.num_sync or "auto",
        synchronous_commit=facts.tuning.commit or None,  # type: ignore[arg-type] # the ledger checks
        synchronous_commit_in_force=commit_in_force(seen),
        max_lag_bytes=facts.tuning.max_lag_bytes,
        nosync=list(facts.tuning.nosync),
        promise=promising.promise(facts),
        warnings=promising.warnings(facts),
        in_force=in_force,
        num_sync_standbys_configured=in_force.wanted,
        num_sync_standbys_connected=connected,
        all_healthy=healthy and facts.phase is Phase.STABLE,
        standbys=standbys,
        last_change=last_change(seen),
    )


def leads(seen: Seen, member: Member) -> bool:
    return seen.facts.is_leader(member.node)


def leader_report(seen: Seen) -> Observation | None:
    leader = seen.facts.leader
    return seen.fresh(leader.node) if leader is not None else None


def commit_in_force(seen: Seen) -> bool:
    """Whether the primary says that its commits wait as was asked for."""
    report = leader_report(seen)
    return report is not None and report.server.commit == commit_of(seen.facts)


def sender_of(seen: Seen, member: Member) -> Sender | None:
    """The primary's walsender for a member, while it streams."""
    report = leader_report(seen)
    return look.streaming(report, seen.facts.term).get(member.key) if report is not None else None


def standby(seen: Seen, member: Member) -> schema.SyncStandby:
    report, sender = leader_report(seen), sender_of(seen, member)
    is_sync = member.key in seen.facts.sync.voters
    lag = None
    if report is not None and sender is not None:
        lag = max(0, report.server.insert_lsn - sender.flush_lsn)
    return schema.SyncStandby(
        node=member.node,
        zone=member.tags.zone,
        is_sync=is_sync,
        is_connected=sender is not None,
        lag_bytes=lag,
        why_not="" if is_sync else why_not(seen, member, sender, lag),
    )


def why_not(seen: Seen, member: Member, sender: Sender | None, lag: int | None) -> str:
    """Why a standby is not in the set, as far as it can be said."""
    facts = seen.facts
    if facts.mode_wanted is None and facts.mode.value == "async":
        return "mode async has no set"
    if member.tags.nosync:
        return "nosync, by its own file"
    if member.node in facts.tuning.nosync:
        return "nosync, as was asked for"
    if member.leaving or member.node in facts.upkeep.maintenance:
        return "it leaves" if member.leaving else "it is in maintenance"
    if member.tags.delay_ms:
        return "it is a delayed replica"
    source = feeding.source(seen, member)
    if sender is None and source is not None and not facts.is_leader(source):
        return f"it streams from {source}"
    if sender is None:
        return "it does not stream"
    limit = facts.tuning.max_lag_bytes
    if limit and lag is not None and lag > limit // 2:
        return f"it is {lag} bytes behind; a lag limit of {limit} is in force"
    return "there are enough others, or it is about to come in"


def last_change(seen: Seen) -> schema.SyncChange | None:
    notes = [one for one in seen.facts.notes if one.kind in CHANGES]
    return shown(notes[-1]) if notes else None


def shown(note: Note) -> schema.SyncChange:
    return schema.SyncChange(at=iso(note.at_ms) or "", epoch=note.term, text=note.text)
