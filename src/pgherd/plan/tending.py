"""Rules 65, 66, 78, 79 and 81: what a member does, or leaves undone, for an operator.

In a pause nothing that is broken is repaired: what a rule would do is shown and waits. What keeps
commits safe goes on (promises, sealing, closing, ending a server that must not write).
"""

from __future__ import annotations

from pgherd.ledger import syncset
from pgherd.model import action as act
from pgherd.model.facts import Facts, Phase
from pgherd.model.ids import MemberKey
from pgherd.model.observation import Server
from pgherd.model.upkeep import Verb, Work
from pgherd.plan import cloning, following
from pgherd.plan.own import Answer, MemberRule, Self, follows, leads, my_key

HELD = (
    *(act.Rewind, act.Rebuild, act.StartStandby, act.RestartReceiver, act.Repoint),
    act.CopySource,
)
"""What repairs a member."""
HUNG = 15
"""So does the rule that ends a server which takes no connection."""


def held_back(s: Self, planned: act.Planned) -> str:
    """Why a member does not do in a pause what another rule plans; "" when it does.

    An election goes to its end, with whoever it needs, and who has handed over comes back.
    """
    pause, action = s.facts.upkeep.pause, planned.action
    if pause is None or not s.facts.is_quiet or action is None:
        return ""
    if not isinstance(action, HELD) and planned.rule != HUNG:
        return ""
    if isinstance(action, act.StartStandby) and has_handed_over(s):
        return ""
    if s.facts.upkeep.in_hand(s.me) is not None:
        return ""  # an operator asked for it
    return f"{pause.sentence}: {planned.reason}, but not now"


def has_handed_over(s: Self) -> bool:
    """Whether it was stopped in order as the primary that it was, and another leads since."""
    server = s.server
    stopped = server.state is Server.STOPPED and server.was_primary and server.clean
    return stopped and follows(s)


def stays_stopped(s: Self) -> Answer | None:
    """Kept by consensus, so it outlives agents; a primary's end begins a term (rule 202)."""
    order = s.facts.upkeep.stopped.get(s.me)
    if order is None or s.server.state in (Server.NONE, Server.UNUSABLE):
        return None
    why = f"stopped by {order.requested_by}"
    if s.server.state is Server.STOPPED:
        return f"{why}; pgherd start-postgres {s.me} starts it", None
    return why, act.StopServer(why)


def in_hand(s: Self, verb: Verb) -> Work | None:
    work = s.facts.upkeep.in_hand(s.me)
    stable = s.facts.phase is Phase.STABLE
    return work if work is not None and work.verb is verb and stable else None


def restart(s: Self) -> Answer | None:
    """The server that was taken in hand goes; the next one has another id. Not the primary's."""
    work = in_hand(s, Verb.RESTART)
    if work is None or leads(s) or work.mark != str(s.server.pid):
        return None
    if s.server.state not in (Server.STANDBY, Server.HUNG):
        return None
    why = f"restart asked for by {work.requested_by}"
    return why, act.StopServer(why)


def reload(s: Self) -> Answer | None:
    work = in_hand(s, Verb.RELOAD)
    if work is None or s.server.reloaded == work.id:
        return None
    if s.server.state not in (Server.STANDBY, Server.PRIMARY):
        return None
    return f"reload asked for by {work.requested_by}", act.Reload(work.id)


def counts_on(facts: Facts, key: MemberKey) -> bool:
    """Whether some commit may wait for this copy, or an election need it."""
    sync = facts.sync
    used = any(key in members for members, _ in syncset.uses(sync))
    return key == facts.leader or key in sync.voters or used


def copy_anew(s: Self) -> Answer | None:
    """The directory that was taken in hand is replaced once no commit counts on it."""
    work = in_hand(s, Verb.REINIT)
    if work is None or not follows(s) or work.mark != s.promises.incarnation:
        return None
    if s.leader_report is None or counts_on(s.facts, my_key(s)):
        return None
    why, leader = f"a new copy was asked for by {work.requested_by}", s.facts.leader
    source = leader.node if work.from_leader and leader is not None else work.source
    if source is not None and not s.facts.is_leader(source) and cloning.lender(s, source) is None:
        return f"{why}; waits until {source} streams and can be copied", None
    return why, following.copy(s, source=source)


RULES: tuple[MemberRule, ...] = (
    MemberRule(65, "A server that an operator stopped stays stopped.", stays_stopped),
    MemberRule(78, "A replica that an operator has restarted stops, and starts anew.", restart),
    MemberRule(79, "A server reads its files again when an operator asks.", reload),
    MemberRule(81, "A replica that an operator has copied anew is, where it may be.", copy_anew),
)
