"""For how long a voter has been beyond the limit that was asked for, as its leader counts it."""

from __future__ import annotations

from pgherd.daemon.reports import Reports
from pgherd.model.facts import Facts, SyncState
from pgherd.model.ids import Instant, Lsn, MemberKey, NodeId, Term
from pgherd.model.observation import Sender, Server, ServerSeen
from pgherd.model.synctuning import SyncTuning

VOTER, OTHER = MemberKey(NodeId("n2"), "b"), MemberKey(NodeId("n3"), "c")
LIMIT = 1 << 20


def known(tuning: SyncTuning) -> Facts:
    return Facts(cluster="main", term=Term(3), sync=SyncState(voters=(VOTER,)), tuning=tuning)


def leader(*, flush: int, replay: int, term: int = 3) -> ServerSeen:
    senders = tuple(
        Sender(one, Term(term), "streaming", Lsn(flush), Lsn(replay)) for one in (VOTER, OTHER)
    )
    return ServerSeen(state=Server.PRIMARY, insert_lsn=Lsn(10 << 20), senders=senders)


def test_it_counts_from_when_it_fell_behind_and_begins_anew() -> None:
    reports, facts = Reports(NodeId("n1"), started=Instant(0)), known(SyncTuning("", LIMIT))
    slow, near = leader(flush=8 << 20, replay=0), leader(flush=10 << 20, replay=0)
    assert reports.lagging(facts, slow, now=Instant(1000)) == {"n2.b": 0}
    assert reports.lagging(facts, slow, now=Instant(4000)) == {"n2.b": 3000}
    assert reports.lagging(facts, near, now=Instant(5000)) == {}
    assert reports.lagging(facts, slow, now=Instant(6000)) == {"n2.b": 0}
    assert reports.lagging(facts, leader(flush=0, replay=0, term=2), now=Instant(7000)) == {}


def test_with_remote_apply_what_is_replayed_counts() -> None:
    reports, shown = Reports(NodeId("n1"), started=Instant(0)), leader(flush=10 << 20, replay=0)
    applies = known(SyncTuning("remote_apply", LIMIT))
    assert reports.lagging(applies, shown, now=Instant(1)) == {"n2.b": 0}
    assert reports.lagging(known(SyncTuning("on", LIMIT)), shown, now=Instant(2)) == {}
    assert reports.lagging(known(SyncTuning()), shown, now=Instant(3)) == {}
