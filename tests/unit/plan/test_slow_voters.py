"""Who leaves the sync set by a lag limit or by name, and that commits never have too few for it."""

from __future__ import annotations

from plan_values import END, facts, look, primary, replace, report, sender, sync

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL
from pgherd.ledger.syncset import broken_rule, stepped
from pgherd.model.facts import Facts
from pgherd.model.ids import Lsn, NodeId
from pgherd.model.synctuning import SyncTuning
from pgherd.plan import herd
from pgherd.plan.rule import Decision

LIMIT = SyncTuning(max_lag_bytes=1 << 20)
LONG = {"n3.a3": 5000}


def tuned(tuning: SyncTuning = LIMIT, **changes: object) -> Facts:
    return facts(level=LEVEL, tuning=tuning, **changes)


def decide(known: Facts, **said: object) -> Decision:
    leader = report(1, primary(known), **said)
    seen = look(known, leader)
    return herd.decide(known, view=seen.view, policy=seen.policy, now=seen.now)


def left(decision: Decision) -> list[str]:
    assert isinstance(decision.command, cmd.ChangeSync)
    return [one.node for one in decision.command.names]


def test_a_slow_voter_leaves_in_the_order_that_keeps_q() -> None:
    """PostgreSQL first; the ledger's V, R and k are what they were until the barrier."""
    known = tuned()
    decision = decide(known, lagging_ms=LONG)
    assert decision.rule == 506
    assert left(decision) == ["n2"]
    command = decision.command
    assert isinstance(command, cmd.ChangeSync)
    assert (command.voters, command.k, command.r) == (
        known.sync.voters,
        known.sync.k,
        known.sync.r,
    )
    assert broken_rule(stepped(known.sync, command)) == ""


def test_not_yet_and_not_without_a_limit() -> None:
    assert decide(tuned(), lagging_ms={"n3.a3": 100}).rule == 900
    assert decide(tuned(SyncTuning()), lagging_ms=LONG).rule == 900


def test_the_last_ones_that_commits_need_stay_however_slow() -> None:
    """A limit takes voters that commits can do without, never a copy that they wait for."""
    everybody = {"n2.a2": 5000, "n3.a3": 5000}
    assert decide(tuned(), lagging_ms=everybody).rule == 900
    alone = tuned(sync=sync(3))
    assert decide(alone, lagging_ms=LONG).command is None or decide(alone).rule == 505
    both = tuned(sync=sync(2, 3, k=2), num_sync=2)
    assert decide(both, lagging_ms=LONG).rule == 900


def test_who_left_comes_back_only_well_within_the_limit() -> None:
    near = tuned(sync=sync(2))
    assert decide(near).rule == 505
    end = Lsn(END + (1 << 20))
    far = primary(near, insert_lsn=end, senders=(sender(2, flush=end), sender(3, flush=END)))
    seen = look(near, report(1, far))
    assert herd.decide(near, view=seen.view, policy=seen.policy, now=seen.now).rule == 900


def test_nosync_takes_a_voter_out_by_name() -> None:
    found = decide(tuned(SyncTuning(nosync=(NodeId("n3"),))))
    assert (found.rule, left(found)) == (506, ["n2"])
    still = tuned(SyncTuning(nosync=(NodeId("n2"), NodeId("n3"))))
    assert left(decide(still)) == ["n3"]
    assert decide(replace(still, sync=sync(3))).command is None
    outside = replace(still, sync=sync(2), tuning=SyncTuning(nosync=(NodeId("n3"),)))
    assert decide(outside).rule == 900
