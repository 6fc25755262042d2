"""What has been, as the API shows it: history, consensus. Pure.

Owns the words for what brought a reign about. Leaves the present state to `views`.
"""

from __future__ import annotations

from pgherd.api import schema
from pgherd.api.suffrage import suffrage_of, why
from pgherd.api.times import iso
from pgherd.api.views import (
    Seen,
    has_quorum,
    members,
    raft_voters,
)
from pgherd.model.facts import Facts, Member, Note, Reign
from pgherd.model.ids import NodeId, format_lsn


def history(facts: Facts, *, limit: int) -> schema.History:
    """The newest reigns and notes, oldest first."""
    return schema.History(
        reigns=reign_entries((*facts.past, *facts.history))[-limit:],
        notes=[note_entry(note) for note in facts.notes[-limit:]],
    )


def reign_kind(reign: Reign) -> str:
    """What brought a reign about, by the hundreds of the rule that began it."""
    kinds = {1: "bootstrap", 2: "failover", 6: "switchover"}
    return kinds.get(reign.rule // 100, "recovery")


def reign_entries(history: tuple[Reign, ...]) -> list[schema.HistoryEntry]:
    """Each reign with who led before it."""
    found, old = [], None
    for reign in history:
        found.append(reign_entry(reign, old))
        if reign.established:
            old = reign.leader.node
    return found


def reign_entry(reign: Reign, old: NodeId | None) -> schema.HistoryEntry:
    took = reign.established_at_ms - reign.began_at_ms
    return schema.HistoryEntry(
        epoch=reign.term,
        timeline=reign.timeline or None,
        lsn=format_lsn(reign.start.lsn),
        primary=reign.leader.node,
        old_primary=old,
        kind=reign_kind(reign),
        promoted=reign.promoted,
        rule=reign.rule,
        reason=reign.reason,
        lost_bytes=reign.lost_bytes,
        gave_up=[key.node for key in reign.gave_up],
        established=reign.established,
        began_at=iso(reign.began_at_ms),
        established_at=iso(reign.established_at_ms),
        duration_ms=max(0, took) if reign.established and reign.began_at_ms else None,
    )


def note_entry(note: Note) -> schema.HistoryNote:
    return schema.HistoryNote(
        at=iso(note.at_ms) or "", epoch=note.term, kind=note.kind, text=note.text, rule=note.rule
    )


def raft_state(seen: Seen) -> schema.RaftState:
    """Consensus on this node."""
    member = seen.facts.members.get(seen.me)
    return schema.RaftState(
        node=seen.me,
        state=seen.raft.role.value,
        suffrage=suffrage_of(seen, member) if member is not None else "none",
        voters=raft_voters(seen),
        max_voters=seen.facts.max_voters,
        raft_term=seen.raft.term,
        leader=seen.raft.leader,
        commit_index=seen.raft.commit,
        applied_index=seen.raft.applied,
        has_quorum=has_quorum(seen),
        ledger_level=seen.facts.level,
    )


def raft_peers(seen: Seen) -> schema.RaftPeers:
    """The members of consensus."""
    return schema.RaftPeers(
        max_voters=seen.facts.max_voters,
        peers=[raft_peer(seen, member) for member in members(seen.facts)],
    )


def raft_peer(seen: Seen, member: Member) -> schema.RaftPeer:
    host, port = member.address.raft()
    heard = seen.reports.get(member.node)
    return schema.RaftPeer(
        node=member.node,
        raft_id=member.raft_id,
        address=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        suffrage=suffrage_of(seen, member),
        why=why(seen, member),
        kind=member.kind.value,
        is_leader=seen.raft.leader == member.node,
        is_leaving=member.leaving,
        level=member.level,
        last_seen=iso(seen.unix_ms - (seen.now - heard.at)) if heard is not None else None,
    )
