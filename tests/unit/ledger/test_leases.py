"""The ledger's lease: who gets one, what renews it, and what ends it. No clock is read here."""

from __future__ import annotations

from test_apply import (
    K1,
    K2,
    K3,
    N1,
    N3,
    after,
    begin,
    born,
    elect,
    establish,
    refused,
    stable,
)

from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import apply_command
from pgherd.ledger.machine import Ledger
from pgherd.model.facts import Facts
from pgherd.model.ids import Instant, Lsn, MemberKey, Term
from pgherd.model.lease import Ask, Lease

TTL_MS = 10_000


def leased() -> Facts:
    """Term 1 is stable under n1, which has lease 1."""
    given = elect(1, K1, K2, K3, k=1, lease_ttl_ms=TTL_MS)
    return after(born(), begin(0), given, establish(1, K2, K3))


def renew(
    at: int = 5000, *, holder: MemberKey = K1, id: int = 1, term: int = 1, by: str = "b"
) -> cmd.RenewLease:
    return cmd.RenewLease(
        id=id, term=Term(term), holder=holder, ask=Ask(by, Instant(at)), flush_lsn=Lsn(at)
    )


def expire(seq: int, *, id: int = 1) -> cmd.ExpireLease:
    return cmd.ExpireLease(id=id, renew_seq=seq, rule=901, reason="not renewed")


def grant(expected: int, *, holder: MemberKey = K1, term: int = 1) -> cmd.GrantLease:
    return cmd.GrantLease(
        term=Term(term), holder=holder, expected=expected, ttl_ms=TTL_MS, rule=903, reason="back"
    )


def second_term(facts: Facts, winner: MemberKey) -> Facts:
    others = tuple(key for key in (K1, K2, K3) if key != winner)
    return after(facts, begin(1), elect(2, winner, *others, k=1, lease_ttl_ms=TTL_MS))


def held(facts: Facts) -> Lease:
    assert facts.lease is not None
    return facts.lease


def test_an_election_gives_the_winner_a_lease() -> None:
    """F5: it comes with the leader, before anything was renewed."""
    lease = held(leased())
    assert lease == Lease(id=1, holder=K1, term=Term(1), ttl_ms=TTL_MS)
    assert stable().lease is None


def test_a_renewal_counts_and_keeps_what_it_brought() -> None:
    """The number rises, the ask and how far the WAL is durable are the newest."""
    lease = held(after(leased(), renew(5000), renew(6000)))
    assert (lease.mark, lease.asked, lease.flush_lsn) == ((1, 2), Ask("b", Instant(6000)), 6000)


def test_only_the_holder_renews_in_its_own_term_and_in_order() -> None:
    """Another member, another incarnation, another lease, another term, an older ask."""
    facts = after(leased(), renew(5000))
    wrong = (
        renew(6000, holder=K2),
        renew(6000, holder=MemberKey(N1, "b1")),
        renew(6000, id=2),
        renew(6000, term=2),
        renew(5000),
        renew(4000),
    )
    assert {refused(facts, command) for command in wrong} == {"stale"}
    assert held(after(facts, renew(10, by="next boot"))).renew_seq == 2


def test_a_begun_term_ends_renewals() -> None:
    """F1: from the first entry of a new term on the old holder renews nothing."""
    assert refused(after(leased(), begin(1)), renew()) == "stale"
    assert refused(second_term(leased(), K2), renew()) == "stale"


def test_an_end_names_the_renewal_that_it_saw() -> None:
    """A lease that was renewed since its end was proposed goes on (etcd 12528)."""
    facts = after(leased(), renew(5000))
    assert refused(facts, expire(0)) == "stale"
    assert refused(facts, expire(1, id=2)) == "stale"
    ended = after(facts, expire(1))
    assert held(ended).expired
    assert refused(ended, expire(1)) == "stale"
    assert ended.notes[-1].kind == "lease.ended"


def test_an_expired_lease_needs_a_new_grant() -> None:
    """Renewals stay refused; the leader of the same term gets another number, nobody else."""
    ended = after(leased(), expire(0))
    assert refused(ended, renew()) == "stale"
    assert refused(ended, grant(1, holder=K2)) == "stale"
    assert refused(ended, grant(1, term=2)) == "stale"
    assert refused(ended, grant(0)) == "stale"
    assert refused(leased(), grant(1)) == "stale"
    again = after(ended, grant(1))
    assert held(again) == Lease(id=2, holder=K1, term=Term(1), ttl_ms=TTL_MS)
    assert refused(after(ended, begin(1)), grant(1)) == "stale"


def test_the_first_lease_may_be_granted_in_the_middle_of_a_reign() -> None:
    """A herd that was elected by an older program gets its lease without an election."""
    assert held(after(stable(), grant(0))).id == 1


def test_a_new_lease_is_not_sole_before_the_old_one_has_ended() -> None:
    """Who was cut off may still count on its own; its end makes the new one sole."""
    new = second_term(after(leased(), renew()), K2)
    former = held(new).former
    assert former is not None
    assert (held(new).holder, former.holder, former.mark) == (K2, K1, (1, 1))
    assert refused(new, expire(0)) == "stale"
    alone = after(new, expire(1))
    assert held(alone) == Lease(id=2, holder=K2, term=Term(2), ttl_ms=TTL_MS)
    assert refused(alone, expire(1)) == "stale"


def test_a_lease_that_has_ended_or_was_its_own_is_no_former_one() -> None:
    """A false alarm, and an election after the expiry, give a lease that is sole at once."""
    assert held(second_term(leased(), K1)).former is None
    assert held(second_term(after(leased(), expire(0)), K2)).former is None


def test_the_lease_before_a_reign_that_never_was_sole_still_counts() -> None:
    """n2 wins and is lost before n1's lease has ended: n3 waits for n1's, not for n2's."""
    others = (K1, K2)
    third = after(
        second_term(leased(), K2), begin(2), elect(3, K3, *others, k=1, lease_ttl_ms=TTL_MS)
    )
    former = held(third).former
    assert former is not None
    assert (held(third).id, held(third).holder.node, former.holder) == (3, N3, K1)


def test_the_lease_of_the_last_term_can_end_in_an_election() -> None:
    """Nobody can be elected for long: the record says that the old lease is over."""
    ended = after(leased(), begin(1), expire(0))
    assert held(ended).expired


def test_a_lease_survives_a_snapshot() -> None:
    """With its former one: a node that is restored knows the same as the others."""
    facts = second_term(after(leased(), renew()), K2)
    one, other = Ledger(facts), Ledger(Facts(cluster="test"))
    other.restore(one.snapshot())
    assert other.facts == facts


def test_renewals_leave_no_history() -> None:
    """One every few seconds: neither notes nor anything else grows."""
    facts = leased()
    small = len(Ledger(facts).snapshot())
    for number in range(1000):
        facts, outcome = apply_command(facts, renew(6000 + number), at_ms=7)
        assert isinstance(outcome, cmd.Done)
    assert len(Ledger(facts).snapshot()) < small + 64
