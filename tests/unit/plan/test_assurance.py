"""Whether the ledger's primary may still be taken for one by who hears of no Raft leader."""

from __future__ import annotations

from plan_values import NAMES, NOW, facts, primary, replace, report, sender, sync

from pgherd.daemon.routing import TRUST_MS, snapshot
from pgherd.model.ids import Instant, Term
from pgherd.plan.assurance import is_assured

LEADER = report(1, primary()).report
ALONE = report(1, primary(senders=())).report


def test_what_speaks_for_a_primary_without_consensus() -> None:
    """Commits that are acknowledged under its own term, or a lease."""
    quiet = facts()
    assert quiet.sync.names_k == 1
    assert is_assured(quiet, ALONE, knows_leader=True)
    assert is_assured(quiet, LEADER, knows_leader=False)
    assert not is_assured(quiet, None, knows_leader=False)
    assert not is_assured(quiet, ALONE, knows_leader=False)
    late = primary(senders=(replace(sender(2), state="catchup"),))
    assert not is_assured(quiet, report(1, late).report, knows_leader=False)
    old = primary(senders=(replace(sender(2), term=Term(2)),))
    assert not is_assured(quiet, report(1, old).report, knows_leader=False)
    two = facts(sync=sync(2, 3, k=2))
    one = report(1, primary(senders=(sender(2),))).report
    assert is_assured(two, LEADER, knows_leader=False)
    assert not is_assured(two, one, knows_leader=False)


def test_a_lease_speaks_for_who_waits_for_nobody() -> None:
    nobody = facts(sync=sync())
    assert nobody.sync.names_k == 0
    for left_ms, is_so in ((None, False), (0, False), (1, True)):
        held = replace(LEADER, lease_left_ms=left_ms)
        assert is_assured(nobody, held, knows_leader=False) is is_so


def test_a_proxy_opens_no_session_to_a_primary_for_which_nothing_speaks() -> None:
    """On its own node as elsewhere: the deadline stands still."""
    reports = {NAMES[0]: report(1, primary()), NAMES[1]: report(2, primary())}
    for me in NAMES[:2]:
        since = Instant(NOW - 60_000)
        given = snapshot(
            facts(),
            reports,
            me=me,
            silent_after_ms=1500,
            now=NOW,
            hold_until=Instant(0),
            assured_at=since,
        )
        assert given.expires_at == since + TRUST_MS < NOW
