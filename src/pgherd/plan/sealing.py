"""Rules 31-37: what a member does in an election (PROTOCOL.md F2)."""

from __future__ import annotations

from pgherd.model import action as act
from pgherd.model.facts import Mode
from pgherd.model.observation import Server
from pgherd.plan import delayed
from pgherd.plan.own import Answer, MemberRule, Self, closed, elects, my_key


def mine_to_drain(s: Self) -> bool:
    return s.facts.handover is not None and s.facts.leader == my_key(s)


def election_of_another(s: Self) -> Answer | None:
    if elects(s) and s.promises.promise == s.facts.term:
        promised = s.promises.promise_elector
        if promised is not None and promised != s.facts.elector:
            return f"promised term {s.facts.term} to {promised}", None
    return None


def hand_over(s: Self) -> Answer | None:
    facts = s.facts
    if not elects(s) or not mine_to_drain(s) or is_frozen(s):
        return None
    if s.server.state is not Server.PRIMARY or facts.handover is None or facts.elector is None:
        return None
    candidate = facts.members[facts.handover.candidate].key
    limit = s.policy.hold_timeout_ms // 2
    action = act.DrainAndStop(
        term=facts.term,
        elector=facts.elector,
        candidate=candidate,
        limit_ms=limit,
        or_stop=facts.mode is Mode.ASYNC,
    )
    return f"hands over to {candidate.node}", action


def is_frozen(s: Self) -> bool:
    frozen = s.promises.frozen
    return frozen is not None and frozen.term == s.facts.term == s.promises.promise


def wait_for_drain(s: Self) -> Answer | None:
    handover = s.facts.handover
    if not elects(s) or handover is None or handover.drained is not None or mine_to_drain(s):
        return None
    return "waits until the primary has drained", None


def close(s: Self) -> Answer | None:
    if not elects(s) or s.server.state is not Server.PRIMARY or s.facts.elector is None:
        return None
    if s.facts.leader != my_key(s):
        return "a primary that the ledger does not know", act.StopServer("not the leader")
    promised = s.promises.promise, s.promises.promise_elector
    if promised == (s.facts.term, s.facts.elector) and closed(s):
        return "closed; waits for the election", None
    soon = s.facts.mode is Mode.ASYNC
    action = act.CloseGate(term=s.facts.term, elector=s.facts.elector, or_stop=soon)
    return "closes its gate", action


def start_to_seal(s: Self) -> Answer | None:
    if not elects(s) or s.server.state is not Server.STOPPED:
        return None
    if s.promises.dirty_rewind:
        return "half rewound, or promoted by hand: counts for nothing in this election", None
    return "starts without upstream, to know its position", act.StartStandby()


def seal(s: Self) -> Answer | None:
    if not elects(s) or s.server.state is not Server.STANDBY or s.facts.elector is None:
        return None
    if delayed.keeps(s):
        if delayed.has_promised(s):
            return "has promised; replays late, and counts for nothing in this election", None
        action = act.Seal(term=s.facts.term, elector=s.facts.elector, keeps_delay=True)
        return "promises, and receives nothing more", action
    if is_frozen(s) and not comes_back(s):
        return "sealed; waits for the election", None
    return "seals", act.Seal(term=s.facts.term, elector=s.facts.elector)


def comes_back(s: Self) -> bool:
    """Whether this is the old leader of a restart in place, which is to be elected itself.

    What it froze as it stopped is where its last checkpoint begins; to lead it needs the end.
    """
    handover, frozen, now = s.facts.handover, s.promises.frozen, s.server.position
    if handover is None or handover.candidate != s.me or not mine_to_drain(s):
        return False
    return frozen is not None and now is not None and s.server.drained and now > frozen.position


def wait_for_election(s: Self) -> Answer | None:
    return ("waits for the election", None) if elects(s) else None


RULES: tuple[MemberRule, ...] = (
    MemberRule(31, "A term is promised to one elector only.", election_of_another),
    MemberRule(32, "In a switchover the old leader drains and stops.", hand_over),
    MemberRule(33, "In a switchover the others keep streaming until it has.", wait_for_drain),
    MemberRule(34, "A live leader closes its gate during an election.", close),
    MemberRule(
        35, "A stopped server starts without upstream, so that it can be sealed.", start_to_seal
    ),
    MemberRule(36, "A standby seals: it promises, stops receiving and freezes its position.", seal),
    MemberRule(
        37, "Without data or while starting, a member waits for the election.", wait_for_election
    ),
)
