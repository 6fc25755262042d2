"""Rules 65-66: what a member does, or leaves undone, for an operator.

In a pause nothing that is broken is repaired: what a rule would do is shown and waits. What keeps
commits safe goes on (promises, sealing, closing, ending a server that must not write).
"""

from __future__ import annotations

from pgherd.model import action as act
from pgherd.model.facts import Phase
from pgherd.model.observation import Server
from pgherd.plan.own import Self, follows

HELD = (act.Rewind, act.Rebuild, act.StartStandby)
"""What repairs a member."""
HUNG = 15
"""So does the rule that ends a server which takes no connection."""


def held_back(s: Self, planned: act.Planned) -> str:
    """Why a member does not do in a pause what another rule plans; "" when it does.

    An election goes to its end, with whoever it needs, and who has handed over comes back.
    """
    pause, action = s.facts.upkeep.pause, planned.action
    if pause is None or s.facts.phase is not Phase.STABLE or action is None:
        return ""
    if not isinstance(action, HELD) and planned.rule != HUNG:
        return ""
    if isinstance(action, act.StartStandby) and has_handed_over(s):
        return ""
    return f"{pause.sentence}: {planned.reason}, but not now"


def has_handed_over(s: Self) -> bool:
    """Whether it was stopped in order as the primary that it was, and another leads since."""
    server = s.server
    stopped = server.state is Server.STOPPED and server.was_primary and server.clean
    return stopped and follows(s)
