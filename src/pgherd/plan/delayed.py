"""How a delayed replica keeps its delay: what of the protocol it may leave out. No decision here.

To seal, a standby replays all that it has, for only then is its position known (PROTOCOL.md F2). A
delayed replica would be of no use afterwards, and nothing needs its position: it is in no
synchronous set, and nobody elects it unasked. So it promises and stops receiving like all others,
and leaves its replay as late as it is. What it needs to know before it follows another leader is
where the WAL that it has received ends. Where it does not, because it was started since, or where
that end is not on the new leader's history, it replays all of it after all and begins anew.
"""

from __future__ import annotations

from pgherd.ledger.lineage import contains
from pgherd.ledger.syncset import stands_for_data
from pgherd.model.facts import Facts
from pgherd.model.ids import NodeId
from pgherd.model.observation import Server
from pgherd.plan.own import Self


def is_named(facts: Facts, node: NodeId) -> bool:
    """Whether an operator forces this very node to lead: then it has to replay what it has."""
    wishes = (facts.forced, facts.given_up)
    return any(wish is not None and wish.candidate == node for wish in wishes)


def delay_ms(s: Self) -> int:
    """The delay that this member is to have; 0 where commits or elections count on it."""
    own = s.facts.members.get(s.me)
    counts = stands_for_data(s.facts, s.me) or is_named(s.facts, s.me)
    return 0 if own is None or counts else own.tags.delay_ms


def keeps(s: Self) -> bool:
    """Whether it has its delay now, and nothing speaks against that."""
    server = s.server
    return delay_ms(s) > 0 and server.state is Server.STANDBY and server.delay_ms > 0


def is_cut(s: Self) -> bool:
    """Whether it names nobody to receive from, and receives nothing."""
    return not s.server.upstream_term and s.server.receiver is None and not s.server.borrows


def has_promised(s: Self) -> bool:
    """Whether it has done for this election what it has to."""
    promised = s.promises.promise, s.promises.promise_elector
    return is_cut(s) and promised == (s.facts.term, s.facts.elector)


def of_this_reign(s: Self) -> bool:
    """Whether all that it has came from this term's leader, or from before, by its own promises.

    Its server may have ended since: then it goes on from where it is, wherever that may be.
    """
    leader, promises = s.facts.leader, s.promises
    adopted = promises.adopted, promises.adopted_leader
    whole = not promises.dirty_rewind and promises.floor is None and s.server.stray is None
    return leader is not None and whole and adopted == (s.facts.term, leader.node)


def may_follow(s: Self) -> bool:
    """Whether it can follow this term's leader without knowing where its replay would end."""
    received, history = s.server.received, s.facts.history
    if not keeps(s) or not is_cut(s):
        return False
    if of_this_reign(s):
        return True
    known = any(reign.term == s.promises.adopted for reign in history)
    return known and received is not None and contains(history, received)
