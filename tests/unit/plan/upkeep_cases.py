"""Cases of the rules for what operators have in hand, for the tests of both deciders' tables."""

from __future__ import annotations

from typing import Any

from plan_values import NOW, facts, look, myself, replace, report, standby, sync

from pgherd.ledger import commands as cmd
from pgherd.model import action as act
from pgherd.model.facts import Facts
from pgherd.model.ids import NodeId
from pgherd.model.observation import Server
from pgherd.model.programs import Programs
from pgherd.model.upkeep import Care, Pause, Stopped, Upkeep, Verb, Work, WorkState

N1, N2 = NodeId("n1"), NodeId("n2")
DAY_MS = 86_400_000


def working(verb: Verb, whose: NodeId = N2, **fields: Any) -> Facts:
    """Somebody asked for this to be done with one node."""
    work = Work("w1", verb, (whose,), requested_by="ann", asked_at_ms=1, **fields)
    return facts(level=6, upkeep=Upkeep(works=(work,)))


def in_hand(verb: Verb, mark: str, node: NodeId = N2) -> Facts:
    """The node's turn has come."""
    return working(verb, node, node=node, mark=mark, state=WorkState.RUNNING, stepped_at_ms=NOW)


OVER = facts(level=5, upkeep=Upkeep(pause=Pause("p1", "ann", "", since_ms=1, until_ms=NOW)))
PAUSED = facts(level=5, upkeep=Upkeep(pause=Pause("p1", "ann", "", since_ms=1)))
STOPPED = facts(level=5, upkeep=Upkeep(stopped={N2: Stopped("ann", since_ms=1)}))
RUNNING = WorkState.RUNNING
SHIFT = working(Verb.SWITCHOVER, not_before_ms=NOW)
SHIFT_PAUSED = replace(SHIFT, upkeep=replace(SHIFT.upkeep, pause=PAUSED.upkeep.pause))
RESTED = facts(level=6, upkeep=Upkeep(maintenance={N2: Care("ann", "", 1, until_ms=NOW)}))
RESTS = replace(working(Verb.MAINTENANCE, state=RUNNING), sync=sync(3))
OUT = replace(in_hand(Verb.REINIT, "leaves"), sync=sync(3))
COPIES = replace(in_hand(Verb.REINIT, "a2"), sync=sync(3))
LONG_AGO = replace(
    working(Verb.RESTART, state=WorkState.DONE, ended_at_ms=NOW - 2 * DAY_MS), level=7
)
NEW = Programs(running=150019, on_disk=150019, data_major=15)
UPGRADE = working(Verb.RESTART, only_outdated=True, rolling=True)
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
    ("a switchover is due", 1110, cmd.RequestSwitchover, look(SHIFT)),
    ("a switchover is due in a pause", 1111, cmd.EndWork, look(SHIFT_PAUSED)),
    ("a maintenance is over", 1112, cmd.EndMaintenance, look(RESTED)),
    ("no commit counts on it", 1113, cmd.EndWork, look(RESTS)),
    ("nothing pends", 1114, cmd.CrossOff, look(working(Verb.RESTART, only_pending=True))),
    (
        "nothing newer is installed",
        1106,
        cmd.CrossOff,
        look(UPGRADE, report(2, standby(programs=NEW))),
    ),
    ("a wish is lost", 1115, cmd.EndWork, look(working(Verb.SWITCHOVER, state=RUNNING))),
    ("it ended the day before yesterday", 1206, cmd.ForgetWork, look(LONG_AGO)),
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
