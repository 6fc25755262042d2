"""A standby cluster in the ledger: what its commands change, what they refuse, what is left of a
reign.
"""

from __future__ import annotations

import msgspec
import pytest
from test_apply import after, refused, stable

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL, needed_level
from pgherd.ledger.rescue import rescued, restored
from pgherd.ledger.saved import Saved
from pgherd.ledger.standbycluster import unfit
from pgherd.model.errors import OperatorError
from pgherd.model.facts import Facts, Phase
from pgherd.model.ids import NodeId, Term
from pgherd.model.promises import Promises
from pgherd.model.standbycluster import Following, Remote
from pgherd.model.upkeep import Verb

REMOTE = Remote((("far", 5432),))
N1, N2 = NodeId("n1"), NodeId("n2")
replace = msgspec.structs.replace


def writable() -> Facts:
    return replace(stable(), level=LEVEL)


def demoted() -> Facts:
    facts = writable()
    return after(facts, cmd.DemoteCluster(facts.term, REMOTE, "ann"))


def number(facts: Facts) -> int:
    assert facts.follows is not None
    return facts.follows.number


def test_older_members_are_waited_for() -> None:
    command = cmd.DemoteCluster(stable().term, REMOTE, "ann")
    assert needed_level(command) == 7
    assert refused(stable(), command) == "too_new"


def test_a_demoted_cluster_has_no_reign() -> None:
    """Nothing of it counts any more, and its term is not forgotten; people can still read of it."""
    before, facts = writable(), demoted()
    assert before.leader is not None
    assert facts.follows == Following(
        REMOTE, leader=before.leader.node, reason="led the cluster until it was demoted"
    )
    assert (facts.phase, facts.term) == (Phase.UNBORN, before.term)
    assert (facts.leader, facts.lease, facts.history, facts.sync.voters) == (None, None, (), ())
    assert facts.past == before.history
    assert facts.notes[-1].kind == "cluster.demoted"


def test_a_promotion_is_a_first_election_among_who_counts() -> None:
    """All of them have to seal, and the next term is above every one that there was."""
    facts = demoted()
    keys = tuple(member.key for member in facts.members.values() if member.incarnation)
    born = after(facts, cmd.PromoteCluster(number(facts), keys, "ann"))
    assert (born.follows, born.phase, born.history) == (None, Phase.UNBORN, ())
    assert (born.sync.voters, born.sync.r) == (tuple(sorted(keys)), len(keys))
    begun = after(born, cmd.Begin(born.term, N1, 103, "first"))
    assert (begun.phase, begun.term) == (Phase.ELECTING, facts.term + 1)


def test_what_is_refused() -> None:
    facts = demoted()
    keys = tuple(member.key for member in facts.members.values() if member.incarnation)
    assert refused(writable(), cmd.PromoteCluster(1, keys, "ann")) == "not_standby"
    assert refused(facts, cmd.PromoteCluster(number(facts) + 1, keys, "ann")) == "stale"
    assert refused(facts, cmd.PromoteCluster(number(facts), (), "ann")) == "invalid"
    stranger = (replace(keys[0], incarnation="other"),)
    assert refused(facts, cmd.PromoteCluster(number(facts), stranger, "ann")) == "invalid"
    assert refused(facts, cmd.LeadStandby(number(facts) + 1, N1, 205, "")) == "stale"
    assert refused(facts, cmd.LeadStandby(number(facts), NodeId("x"), 205, "")) == "unknown_node"
    assert refused(writable(), cmd.DemoteCluster(writable().term, Remote(()), "ann")) == "invalid"
    late = cmd.DemoteCluster(Term(writable().term - 1), REMOTE, "ann")
    assert refused(writable(), late) == "stale"
    electing = replace(writable(), phase=Phase.ELECTING)
    assert refused(electing, cmd.DemoteCluster(electing.term, REMOTE, "ann")) == "not_stable"
    work = cmd.AskWork("w", Verb.RESTART, (N2,), requested_by="ann")
    assert refused(facts, work) == "standby_cluster"


def test_another_leader_and_another_remote() -> None:
    facts = demoted()
    moved = after(facts, cmd.LeadStandby(number(facts), N2, 205, "n1 is silent"))
    assert moved.follows == Following(REMOTE, number=2, leader=N2, reason="n1 is silent")
    other = Remote((("near", 5433), ("nearer", 5433)), slot="b")
    turned = after(moved, cmd.DemoteCluster(moved.term, other, "ann"))
    assert turned.follows is not None
    assert (turned.follows.remote, turned.follows.leader, turned.past) == (other, N2, moved.past)


@pytest.mark.parametrize(
    "remote",
    [
        Remote(()),
        Remote((("a", 1),) * 10),
        Remote((("a,b", 5432),)),
        Remote((("a", 0),)),
        Remote((("a", 1),), sslmode="verify-full"),
        Remote((("a", 1),), slot="x y"),
    ],
)
def test_a_remote_that_nobody_can_follow(remote: Remote) -> None:
    assert unfit(remote)
    assert not unfit(Remote((("a", 5432), ("fd00::1", 5433)), slot="b_1", sslmode="require"))


def test_a_rescued_standby_cluster_goes_on_following() -> None:
    """Its one member is not elected: what it has is the remote's."""
    facts = demoted()
    found = rescued(facts, keep=N2, promises=Promises(incarnation="b2"), at_ms=5)
    assert (found.phase, set(found.members)) == (Phase.UNBORN, {N2})
    assert found.follows is not None
    assert (found.follows.leader, found.follows.remote) == (None, REMOTE)


def test_a_saved_ledger_of_a_standby_cluster_is_not_restored() -> None:
    """It may have been promoted since; what it wrote then would be given up for the remote's."""
    saved = Saved(facts=demoted(), index=9, raft_term=2, voters=(), saved="then", at_ms=5)
    with pytest.raises(OperatorError, match="standby cluster"):
        restored(saved, lost=frozenset())
