"""Cases of the rules for what operators have in hand, for the tests of both deciders' tables."""

from __future__ import annotations

from typing import Any

from plan_values import NOW, facts, look, myself, replace, report, standby, sync

from pgherd.ledger import commands as cmd
from pgherd.model import action as act
from pgherd.model.facts import Facts
from pgherd.model.ids import NodeId
from pgherd.model.observation import Server
from pgherd.model.upkeep import Pause, Stopped, Upkeep, Verb, Work, WorkState

N1, N2 = NodeId("n1"), NodeId("n2")


def working(verb: Verb, whose: NodeId = N2, **fields: Any) -> Facts:
    """Somebody asked for this to be done with one node."""
    work = Work("w1", verb, (whose,), requested_by="ann", asked_at_ms=1, **fields)
    return facts(level=5, upkeep=Upkeep(works=(work,)))


def in_hand(verb: Verb, mark: str, node: NodeId = N2) -> Facts:
    """The node's turn has come."""
    return working(verb, node, node=node, mark=mark, state=WorkState.RUNNING, stepped_at_ms=NOW)


OVER = facts(level=5, upkeep=Upkeep(pause=Pause("p1", "ann", "", since_ms=1, until_ms=NOW)))
PAUSED = facts(level=5, upkeep=Upkeep(pause=Pause("p1", "ann", "", since_ms=1)))
STOPPED = facts(level=5, upkeep=Upkeep(stopped={N2: Stopped("ann", since_ms=1)}))
OUT = replace(in_hand(Verb.REINIT, "leaves"), sync=sync(3))
COPIES = replace(in_hand(Verb.REINIT, "a2"), sync=sync(3))
HERD_UPKEEP: tuple[tuple[str, int, object, Any], ...] = (
    ("a pause is over", 104, cmd.Resume, look(OVER)),
    ("a restart is asked for", 1101, cmd.TakeInHand, look(working(Verb.RESTART))),
    ("a copy has left the sync set", 1102, cmd.TakeInHand, look(OUT)),
    (
        "another server streams",
        1103,
        cmd.CrossOff,
        look(in_hand(Verb.RESTART, "100"), report(2, standby(pid=101))),
    ),
    ("nobody took over", 1104, cmd.EndWork, look(in_hand(Verb.RESTART, "moves", N1))),
)
MEMBER_UPKEEP: tuple[tuple[str, int, type[act.Action] | None, Any], ...] = (
    ("stopped by hand", 65, act.StopServer, myself(STOPPED, standby(), me=2)),
    (
        "dead in a pause",
        66,
        None,
        myself(PAUSED, replace(standby(), state=Server.STOPPED, upstream=None), me=2),
    ),
    (
        "restarted by hand",
        78,
        act.StopServer,
        myself(in_hand(Verb.RESTART, "100"), standby(pid=100), me=2),
    ),
    ("reloaded by hand", 79, act.Reload, myself(in_hand(Verb.RELOAD, "1"), standby(), me=2)),
    ("copied anew by hand", 81, act.Rebuild, myself(COPIES, standby(), me=2)),
)
