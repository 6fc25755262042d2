"""Rules 62-63: the two members of a fast-forward that the ledger has granted (PROTOCOL.md F4)."""

from __future__ import annotations

from pgherd.model import action as act
from pgherd.model.facts import FastForward
from pgherd.model.ids import forward_slot
from pgherd.model.observation import Server
from pgherd.plan.own import Answer, MemberRule, Self, elects, my_key
from pgherd.plan.sealing import is_frozen

STALL_MS = 1500
"""Nothing has come for so long: the holder is gone, or its WAL is."""


def granted(s: Self) -> FastForward | None:
    """The grant of this election, if this member runs and is sealed for the elector's term."""
    promised = s.promises.promise_elector == s.facts.elector
    if not elects(s) or not promised or not is_frozen(s) or s.server.state is not Server.STANDBY:
        return None
    return s.facts.forward


def catch_up(s: Self) -> Answer | None:
    grant, frozen, elector = granted(s), s.promises.frozen, s.facts.elector
    if grant is None or frozen is None or elector is None or grant.candidate != my_key(s):
        return None
    holder = s.facts.member(grant.holder)
    if frozen.position >= grant.target or holder is None or not holder.address.postgres_port:
        return None
    reigns = {reign.term: reign.leader.node for reign in s.facts.history}
    leader = reigns.get(grant.target.epoch)
    if leader is None:
        return None
    host, port = holder.address.postgres()
    action = act.FastForward(
        term=s.facts.term,
        elector=elector,
        holder=grant.holder,
        host=host,
        port=port,
        target=grant.target,
        adopted=grant.target.epoch,
        adopted_leader=leader,
        stall_ms=STALL_MS,
    )
    return f"catches up from {grant.holder.node} to {grant.target}", action


def lend(s: Self) -> Answer | None:
    grant = granted(s)
    if grant is None or grant.holder != my_key(s):
        return None
    if forward_slot(grant.candidate.node) in s.server.slots:
        return None
    action = act.Lend(term=s.facts.term, to=grant.candidate.node)
    return f"lends {grant.candidate.node} what it lacks", action


RULES: tuple[MemberRule, ...] = (
    MemberRule(62, "A sealed candidate takes what it lacks from the holder it is given.", catch_up),
    MemberRule(63, "A sealed holder has a slot for the candidate that takes from it.", lend),
)
