"""Proves flow control towards one node: when to send, when to wait, where to go on."""

from __future__ import annotations

import pytest

from pgherd.raft import progress as flow
from pgherd.raft.conformance import Progress


def test_probing_waits_for_an_answer_after_each_append_with_entries() -> None:
    """An empty append costs nothing and does not hold the next one back."""
    probe = Progress(match=3, next=4)
    assert not flow.sent(probe, count=0, commit=3).paused
    assert flow.sent(probe, count=2, commit=3).paused
    assert flow.sent(probe, count=2, commit=3).next == 4


def test_replicating_runs_ahead_until_the_window_is_full() -> None:
    """Each append takes one place; an acknowledgement frees all places up to its index."""
    peer = Progress(match=3, next=4, state="replicate", inflight_max=2)
    peer = flow.sent(peer, count=2, commit=3)
    assert (peer.next, peer.inflight, peer.paused) == (6, 1, False)
    peer = flow.sent(peer, count=1, commit=3)
    assert (peer.window, peer.inflight_full, peer.paused) == ((5, 6), True, True)
    acked = flow.acknowledged(peer, 5)
    assert acked is not None
    acked = flow.resume(acked, index=5, first=1)
    assert (acked.match, acked.next, acked.window, acked.paused) == (5, 7, (6,), False)


def test_old_acknowledgements_are_no_news() -> None:
    """Reordered answers change nothing."""
    assert flow.acknowledged(Progress(match=5, next=6), 5) is None
    assert flow.acknowledged(Progress(match=5, next=6), 4) is None


@pytest.mark.parametrize(
    ("index", "hint", "expected"),
    [(9, 4, 5), (9, 9, 9), (9, 0, 3), (8, 4, None)],
)
def test_a_refused_probe_goes_back_to_the_hint(index: int, hint: int, expected: int | None) -> None:
    """Never below the match, never forward; a refusal of another append is stale."""
    moved = flow.rejected(Progress(match=2, next=10, flow_paused=True), index=index, hint=hint)
    if expected is None:
        assert moved is None
    else:
        assert moved is not None
        assert (moved.next, moved.flow_paused) == (expected, False)


def test_a_refused_stream_starts_again_from_the_match() -> None:
    """Unless the refusal is of something acknowledged since."""
    peer = Progress(match=5, next=9, state="replicate", window=(8,), sent_commit=7)
    assert flow.rejected(peer, index=5, hint=0) is None
    moved = flow.rejected(peer, index=7, hint=6)
    assert moved is not None
    assert (moved.state, moved.next, moved.window, moved.sent_commit) == ("probe", 6, (), 5)


@pytest.mark.parametrize(("ok", "following"), [(True, 21), (False, 6)])
def test_a_reported_snapshot_is_probed_after_the_next_sign_of_life(
    ok: bool, following: int
) -> None:
    """From behind the snapshot if it arrived, from the match if not."""
    peer = flow.become_snapshot(Progress(match=5, next=9), 20)
    assert (peer.state, peer.paused, peer.pending_snapshot, peer.next) == ("snapshot", True, 20, 21)
    peer = flow.snapshot_reported(peer, ok=ok)
    assert (peer.state, peer.next, peer.paused) == ("probe", following, True)


def test_a_node_returns_from_a_snapshot_as_soon_as_the_log_reaches_it() -> None:
    """Whatever index was pending: it may have been given a snapshot by other means."""
    peer = flow.become_snapshot(Progress(match=5, next=9), 20)
    acked = flow.acknowledged(peer, 11)
    assert acked is not None
    assert flow.resume(acked, index=11, first=13).state == "snapshot"
    back = flow.resume(acked, index=11, first=12)
    assert (back.state, back.next, back.pending_snapshot) == ("replicate", 12, 0)


def test_commit_is_news_only_where_it_can_be_used() -> None:
    """A node that was told, or that lacks the entries, needs no extra append."""
    peer = Progress(match=5, next=6, sent_commit=4)
    assert flow.commit_is_news(peer, 5)
    assert not flow.commit_is_news(peer, 4)
    assert not flow.commit_is_news(Progress(match=5, next=6, sent_commit=5), 9)
