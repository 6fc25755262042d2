"""What a leader sends to make other logs equal to its own, and what that commits.

Owns appends, snapshots and the count. Leaves flow control to progress.py and the handling of the
answers to leader.py. Numbers in brackets are the decisions of RAFT.md 4.
"""

from __future__ import annotations

from pgherd.raft import progress as flow
from pgherd.raft.core import Core
from pgherd.raft.majority import committed_index
from pgherd.raft.types import Entry


def append(core: Core, node: int, *, empty_ok: bool = True) -> bool:
    """Send a node what it lacks, or a snapshot where the log is gone; whether anything went (13).

    Entries go out before they are stored here: the own vote for them is counted only afterwards.
    """
    peer = core.progress[node]
    if peer.paused:
        return False
    prev = peer.next - 1
    try:
        prev_term = core.log.term(prev)
        entries = _entries_for(core, node)
    except LookupError:
        return _send_snapshot(core, node)
    if not entries and not empty_ok:
        return False
    commit = core.log.commit
    core.send("App", node, index=prev, log_term=prev_term, entries=tuple(entries), commit=commit)
    core.progress[node] = flow.sent(peer, count=len(entries), commit=commit)
    return True


def append_all(core: Core) -> None:
    """Send every peer an append, empty or not."""
    for node in core.peers():
        append(core, node)


def heartbeat_all(core: Core) -> None:
    """Tell every peer that this node leads, with the commit index it can use (19)."""
    context = core.reads.context()
    for node in core.peers():
        peer = core.progress[node]
        commit = min(peer.match, core.log.commit)
        core.send("Heartbeat", node, commit=commit, context=context)
        if peer.sent_commit != commit:
            core.update(node, sent_commit=commit)


def count(core: Core) -> bool:
    """Move the commit index to what a quorum stores; only to an entry of the own term (17).

    Entries of earlier terms are committed with it, never by counting alone (paper 5.4.2).
    """
    matches = {node: peer.match for node, peer in core.progress.items()}
    index = committed_index(core.conf, matches)
    if index is None or index <= core.log.commit or not core.log.matches(index, core.term):
        return False
    core.log.commit_to(index)
    return True


def _entries_for(core: Core, node: int) -> list[Entry]:
    """The entries to send next; none while the window is full, so that it is probed empty."""
    peer = core.progress[node]
    if peer.state == "replicate" and peer.inflight_full:
        return []
    end = core.log.last_index() + 1
    return core.log.slice(peer.next, end, core.config.max_size_per_msg)


def _send_snapshot(core: Core, node: int) -> bool:
    """Send the newest snapshot to a node that answers at all (14)."""
    peer = core.progress[node]
    if not peer.active:
        return False
    snapshot = core.log.storage.snapshot()
    if snapshot.index == 0:
        core.say("WARN", f"has neither entries from {peer.next} nor a snapshot for {node}")
        return False
    core.progress[node] = flow.become_snapshot(peer, snapshot.index)
    core.send("Snap", node, snapshot=snapshot)
    core.say("DEBUG", f"sends {node} the snapshot at {snapshot.index}")
    return True
