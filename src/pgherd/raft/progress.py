"""Flow control towards one node: what to send next, and when to wait.

Owns the transitions of a Progress, as functions from a value to the next one. Three states:
probe (the match is a guess: one append at a time), replicate (the match is known: appends follow
each other, as many unanswered as the window allows) and snapshot (nothing until it is in).
Leaves the sending itself to replicate.py. Numbers in brackets are the decisions of RAFT.md 4.
"""

from __future__ import annotations

from bisect import bisect_right

from msgspec.structs import replace

from pgherd.raft.types import Progress


def start(last: int, *, learner: bool, inflight_max: int) -> Progress:
    """Nothing is known of the node; a guess is that it has all of the log (5)."""
    return Progress(next=last + 1, learner=learner, inflight_max=inflight_max)


def become_probe(progress: Progress) -> Progress:
    """Guess again from the match, or from the snapshot that was sent (20)."""
    following = max(progress.match, progress.pending_snapshot) + 1
    return replace(
        _idle(progress),
        state="probe",
        next=following,
        sent_commit=min(progress.sent_commit, following - 1),
    )


def become_replicate(progress: Progress) -> Progress:
    """The match is known: stream from there (15)."""
    return replace(_idle(progress), state="replicate", next=progress.match + 1)


def become_snapshot(progress: Progress, index: int) -> Progress:
    """A snapshot up to index is under way: send nothing else (14)."""
    return replace(
        _idle(progress),
        state="snapshot",
        pending_snapshot=index,
        next=index + 1,
        sent_commit=index,
    )


def _idle(progress: Progress) -> Progress:
    """What every change of state does: nothing in flight, nothing pending (14)."""
    return replace(progress, window=(), flow_paused=False, pending_snapshot=0)


def sent(progress: Progress, *, count: int, commit: int) -> Progress:
    """After an append with `count` entries and this commit index went out (13)."""
    assert progress.state != "snapshot", "no append goes to a node that awaits a snapshot"
    progress = replace(progress, sent_commit=commit)
    if progress.state == "probe":
        return replace(progress, flow_paused=True) if count else progress
    if count:
        following = progress.next + count
        window = (*progress.window, following - 1)
        progress = replace(progress, next=following, window=window)
    return replace(progress, flow_paused=progress.inflight_full)


def acknowledged(progress: Progress, index: int) -> Progress | None:
    """After the node said that it stores all up to index; None when that is old news (15)."""
    if index <= progress.match:
        return None
    return replace(progress, match=index, next=max(progress.next, index + 1), flow_paused=False)


def resume(progress: Progress, *, index: int, first: int) -> Progress:
    """Stream again after a useful acknowledgement; first = the leader's first index (15).

    A node that awaits a snapshot is back as soon as the log reaches it, however it got there.
    """
    if progress.state == "probe":
        return become_replicate(progress)
    if progress.state == "snapshot":
        return become_replicate(progress) if progress.match + 1 >= first else progress
    return replace(progress, window=progress.window[bisect_right(progress.window, index) :])


def rejected(progress: Progress, *, index: int, hint: int) -> Progress | None:
    """After the node refused an append behind index; None when the refusal is stale (16)."""
    if progress.state == "replicate":
        return None if index <= progress.match else become_probe(progress)
    if index != progress.next - 1:
        return None
    following = max(min(index, hint + 1), progress.match + 1)
    return replace(
        progress,
        next=following,
        flow_paused=False,
        sent_commit=min(progress.sent_commit, following - 1),
    )


def snapshot_reported(progress: Progress, *, ok: bool) -> Progress:
    """After the transport said how a snapshot went; its answer or a heartbeat resumes (20)."""
    if progress.state != "snapshot":
        return progress
    if not ok:
        progress = replace(progress, pending_snapshot=0)
    return replace(become_probe(progress), flow_paused=True)


def commit_is_news(progress: Progress, commit: int) -> bool:
    """Whether an append would tell the node a commit index that it can use (15)."""
    return commit > progress.sent_commit and progress.sent_commit < progress.next - 1
