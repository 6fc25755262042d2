"""What one node makes of the ledger's lease: it counts, distrusts its stalls, and warns once."""

from __future__ import annotations

import msgspec

from pgherd.daemon.leasing import Leasing
from pgherd.daemon.reports import Reports
from pgherd.model.facts import Facts, Phase, SyncState
from pgherd.model.ids import Instant, MemberKey, NodeId, RaftId, Term
from pgherd.model.lease import Ask, Lease
from pgherd.model.observation import Observation, ServerSeen
from pgherd.model.promises import Promises

N1 = NodeId("n1")
KEY = MemberKey(N1, "a1")
OTHER = MemberKey(NodeId("n2"), "a2")
OWN = Promises(promise=Term(3), incarnation="a1")


def facts(asked_ms: int, *, voters: tuple[MemberKey, ...] = (OTHER,), term: int = 3) -> Facts:
    """A stable term under n1, whose lease was renewed as it asked at that time."""
    lease = Lease(
        id=term, holder=KEY, term=Term(term), ttl_ms=10_000, asked=Ask("b", Instant(asked_ms))
    )
    return Facts(
        cluster="test",
        phase=Phase.STABLE,
        term=Term(term),
        leader=KEY,
        sync=SyncState(voters=voters),
        lease=lease,
    )


class Node:
    """A node and what it told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.leasing = Leasing(N1, boot="b", tell=lambda *what: self.told.append(what))

    def look(self, known: Facts, now: int, own: Promises = OWN) -> bool:
        """Look at a time; whether it may write alone."""
        self.leasing.look(known, own, now=Instant(now))
        return self.leasing.has(known, own, now=Instant(now))


def test_a_lease_that_runs_out_is_told_once_and_so_is_its_return() -> None:
    """The journal of a node that is cut off says when, and what it means for clients."""
    node = Node()
    assert node.look(facts(1000), 1000)
    assert node.look(facts(1000), 10_249)
    assert node.told == []
    assert [node.look(facts(1000), now) for now in (10_250, 10_450, 60_000)] == [False] * 3
    assert node.look(facts(60_000), 60_001)
    assert node.look(facts(61_000), 61_001)
    assert node.told == [
        (
            "lease.lost",
            "the lease of n1 ran out: consensus did not renew it;"
            " that stops no write, for standbys acknowledge them",
        ),
        ("lease.regained", "the lease of n1 is renewed again"),
    ]


def test_without_voters_the_warning_says_that_writes_wait() -> None:
    node = Node()
    node.look(facts(1000, voters=()), 1000)
    node.look(facts(1000, voters=()), 20_000)
    [(kind, text)] = node.told
    assert kind == "lease.lost"
    assert text.endswith("writes wait, for no standby has them")


def test_a_lease_that_never_counted_is_no_loss() -> None:
    """A new leader waits for its first renewal, and a follower holds none: nothing to warn of."""
    node = Node()
    fresh = msgspec.structs.replace(facts(0), lease=Lease(3, KEY, Term(3), 10_000))
    assert not node.look(fresh, 1000)
    elsewhere = msgspec.structs.replace(facts(0), leader=OTHER)
    assert not node.look(elsewhere, 1000)
    assert node.leasing.left_ms(elsewhere, OWN, now=Instant(1000)) is None
    assert node.leasing.ask(elsewhere, OWN, now=Instant(1000)) is None
    assert node.leasing.ask(fresh, OWN, now=Instant(1000)) == Ask("b", Instant(1000))
    expired = msgspec.structs.replace(fresh, lease=Lease(3, KEY, Term(3), 10_000, expired=True))
    assert node.leasing.ask(expired, OWN, now=Instant(1000)) == Ask("b", Instant(1000))
    assert node.told == []


def test_only_a_first_ask_wakes_who_hears_it() -> None:
    """Who leads consensus renews at once what was never renewed; later asks come every 200 ms."""
    heard = Reports(NodeId("n2"), started=Instant(0))
    report = Observation(N1, RaftId(1), sequence=1, server=ServerSeen(), promises=OWN)
    replace = msgspec.structs.replace
    assert heard.take(report, now=Instant(1))
    assert not heard.take(replace(report, sequence=2, applied_index=7), now=Instant(2))
    assert heard.take(replace(report, ask=Ask("b", Instant(3))), now=Instant(3))
    again = replace(report, ask=Ask("b", Instant(4)), lease_left_ms=9)
    assert not heard.take(again, now=Instant(4))
    assert heard.newest[N1].report.ask == Ask("b", Instant(4))


def test_a_stall_beyond_the_margin_loses_the_lease_until_it_is_asked_for_anew() -> None:
    """FAULTS 90: the clock is read anew, and a loop that stood still asks before it counts."""
    node = Node()
    assert node.look(facts(1000), 1200)
    node.leasing.was_late(Instant(2100), late_ms=700, ttl_ms=10_000)
    assert node.look(facts(1000), 2100)
    node.leasing.was_late(Instant(4100), late_ms=1800, ttl_ms=10_000)
    assert not node.look(facts(1000), 4100)
    assert not node.look(facts(4000), 4200)
    assert node.look(facts(4101), 4200)
