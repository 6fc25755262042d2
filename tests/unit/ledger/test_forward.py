"""A grant to catch up: the elector's, for its election only, and nobody's own."""

from __future__ import annotations

import msgspec
from test_apply import K2, K3, after, begin, elect, refused, stable

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL, needed_level
from pgherd.model.facts import Facts, FastForward
from pgherd.model.ids import Lsn, MemberKey, NodeId, Position, Term

TARGET = Position(Term(1), Lsn(1100))


def upgraded() -> Facts:
    """A stable term of members that all understand the newest commands."""
    return msgspec.structs.replace(stable(), level=LEVEL)


def grant(
    candidate: MemberKey = K3, holder: MemberKey = K2, *, term: int = 2, by: str = ""
) -> cmd.FastForward:
    elector = NodeId(by) if by else begin(1).elector
    return cmd.FastForward(Term(term), elector, candidate, holder, TARGET, 310, "n3 catches up")


def test_it_holds_for_one_election_and_is_written_down() -> None:
    """A later grant replaces it; the election, or the next term, ends it."""
    facts = after(upgraded(), begin(1), grant())
    assert facts.forward == FastForward(K3, K2, TARGET)
    assert "candidate.catches-up" in {note.kind for note in facts.notes}
    assert after(facts, grant(K2, K3)).forward == FastForward(K2, K3, TARGET)
    assert after(facts, elect(2, K3)).forward is None
    assert after(facts, begin(2)).forward is None


def test_nobody_else_grants_it() -> None:
    """Not of another term, not by another elector, not in a stable term, not to a stranger."""
    electing = after(upgraded(), begin(1))
    assert refused(upgraded(), grant(term=1)) == "stale"
    assert refused(electing, grant(term=1)) == "stale"
    assert refused(electing, grant(by="n9")) == "stale"
    assert refused(electing, grant(K2, K2)) == "invalid"
    assert refused(electing, grant(MemberKey(K3.node, "gone"))) == "unknown_node"
    assert refused(after(stable(), begin(1)), grant()) == "too_new"
    assert needed_level(grant()) == 3
