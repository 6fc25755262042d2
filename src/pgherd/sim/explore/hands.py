"""The hands of the exploration: each action of the member decider, one durable step at a time.

Theory of operation. After every step the decider is asked again, so an act that was cut short by a
crash or by a later term goes on as the product's would, or not at all. Only what cannot be seen
from outside (a rewind, a copy, a barrier under way) is kept in `Node.doing`, and dies with the
process. `STEPS` is a table so that a mistake can be planted in an entry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pgherd.ledger.lineage import attributed
from pgherd.model import action as act
from pgherd.model.facts import Facts
from pgherd.model.ids import Position, Term
from pgherd.model.observation import Server
from pgherd.sim.explore.server import started, stopped
from pgherd.sim.explore.values import (
    CLOSED,
    Names,
    Node,
    Upstream,
    as_position,
    fork,
    index_of,
    last_checkpoint,
    position,
    timeline,
    with_epoch,
    with_timeline,
)


class Scene(NamedTuple):
    """What a step may look at. leader: the node that the action names, as it is now."""

    me: int
    facts: Facts
    leader: Node | None


Done = tuple[str, Node] | None
"""What happened; None while it has to wait."""


def saved(node: Node, **changes: Any) -> Node:
    """Promises made durable before they count."""
    return node._replace(**changes)


def position_of(node: Node, facts: Facts) -> Position:
    """Where the WAL ends, by the epoch records in it and by whom it adopted."""
    return attributed(facts.history, Term(node.adopted), as_position(position(node.wal)))


def pos_of(node: Node, facts: Facts) -> tuple[int, int]:
    """The same as plain numbers."""
    found = position_of(node, facts)
    return found.epoch, found.lsn


def promised(node: Node, term: int, elector: str | None) -> Node | None:
    """The promise of a term to one elector; None when promised otherwise."""
    who = int(elector[1:]) - 1 if elector else -1
    if node.promise > term or (node.promise == term and node.elector not in (-1, who)):
        return None
    return saved(node, promise=term, elector=who, frozen=None)


def start_standby(node: Node, a: act.StartStandby, scene: Scene) -> Done:
    return "starts without upstream", started(node)


def seal(node: Node, a: act.Seal, scene: Scene) -> Done:
    if node.promise < a.term or node.elector < 0:
        done = promised(node, a.term, a.elector)
        return (f"promises term {a.term} to {a.elector}", done) if done else None
    end = pos_of(node, scene.facts)
    still = node._replace(upstream=None, receiver=None)
    return f"stops receiving, is sealed at {end[0]}:{end[1]}", saved(still, frozen=end)


def fast_forward(node: Node, a: act.FastForward, scene: Scene) -> Done:
    """The seal is taken back durably; what comes then is the holder's, and rule 36 seals anew."""
    if node.promise != a.term or node.frozen is None:
        return None
    up = Upstream(index_of(a.holder)[0], 0, node.copy)
    open_ = saved(node, frozen=None, adopted=max(node.adopted, int(a.adopted)))
    return f"unseals, to take from {a.holder.node}", open_._replace(upstream=up)


def lend(node: Node, a: act.Lend, scene: Scene) -> Done:
    if node.promise != a.term or node.frozen is None:
        return None
    return f"lends {a.to} what it lacks", node._replace(lent=int(a.to[1:]) - 1)


def lending_ended(node: Node) -> Node:
    """Before the WAL grows again nobody takes it on loan any more."""
    return node._replace(lent=-1, senders=tuple(s for s in node.senders if s.term))


def close_gate(node: Node, a: act.CloseGate, scene: Scene) -> Done:
    """Closed names, a commit seen to wait, sessions and walsenders ended; only then the promise."""
    if node.names != CLOSED:
        return "closes its names", node._replace(names=CLOSED, generation=0, settled=0)
    if node.cp.k == 0:
        return None
    done = promised(node._replace(waiting=(), senders=()), a.term, a.elector)
    return (
        (f"ends sessions and walsenders, promises term {a.term} to {a.elector}", done)
        if done
        else None
    )


def drain_and_stop(node: Node, a: act.DrainAndStop, scene: Scene) -> Done:
    if node.promise < a.term:
        done = promised(node, a.term, a.elector)
        return (f"promises term {a.term} to {a.elector}", done) if done else None
    if node.names != CLOSED:
        shut = node._replace(names=CLOSED, generation=0, settled=0, waiting=())
        return "closes its names and ends sessions", shut
    to = index_of(a.candidate)
    if not any((s.to, s.copy) == to and s.flush >= len(node.wal) for s in node.senders):
        return None
    end = pos_of(node, scene.facts)
    return f"stops, drained to {end[0]}:{end[1]}", saved(stopped(node), frozen=end)


def promote(node: Node, a: act.Promote, scene: Scene) -> Done:
    if node.promise != a.term or node.frozen != (a.expected.epoch, a.expected.lsn):
        return None
    if node.upstream is not None or pos_of(node, scene.facts) != node.frozen:
        return None
    mine = saved(lending_ended(node), adopted=int(a.term))
    new = mine._replace(server=Server.PRIMARY, wal=with_timeline(node.wal, a.term))
    return f"is promoted in term {a.term}", new


def keep_leading(node: Node, a: act.KeepLeading, scene: Scene) -> Done:
    if node.promise > a.term:
        return None
    new = node._replace(wal=with_epoch(node.wal, a.term), checked=int(a.term))
    return f"writes the epoch record of term {a.term}, and checkpoints", new


def names_of(facts: Facts, generation: int) -> Names:
    """What the ledger has PostgreSQL use."""
    sync = facts.sync
    if sync.names_k == 0:
        closed = facts.mode == "strict"
        return CLOSED if closed else Names(0, (), int(facts.term), generation)
    members = tuple(index_of(key) for key in sync.names)
    return Names(sync.names_k, members, int(facts.term), generation)


def set_names(node: Node, a: act.SetNames, scene: Scene) -> Done:
    if node.promise > a.term:
        return None
    names = names_of(scene.facts, a.generation)
    settled = node.settled if scene.facts.sync.in_use else a.generation
    new = node._replace(names=names, generation=a.generation, settled=settled, doing=None)
    return f"sets its names: {text_of(names)}", new


def text_of(names: Names) -> str:
    """Names for people."""
    listed = ",".join(f"n{to + 1}.c{copy}@{names.term}" for to, copy in names.members)
    return "closed" if names.k < 0 else f"any {names.k} of {listed}" if names.k else "empty"


def settle(node: Node, a: act.Settle, scene: Scene) -> Done:
    """B1: no walsender is left that read older names. B2: k members hold all that was written."""
    if node.promise > a.term:
        return None
    names = names_of(scene.facts, a.generation)
    if a.from_empty and node.names not in (CLOSED, names):
        return "closes its names before the new ones", node._replace(
            names=CLOSED, generation=0, settled=0
        )
    if a.from_empty and node.names != names:
        waits = node.cp.k != 0
        return ("sees a commit wait, sets the names", node._replace(names=names)) if waits else None
    if node.doing is None or node.doing[:2] != ("barrier", a.generation):
        return renew_walsenders(node, names, a.generation)
    target = node.doing[2]
    assert isinstance(target, int)
    members = {index_of(key) for key in a.members}
    there = [s for s in node.senders if (s.to, s.copy) in members and s.term == a.term]
    if sum(s.flush >= target for s in there) < a.k:
        return None
    done = node._replace(settled=a.generation, generation=a.generation, doing=None)
    return f"the barrier of generation {a.generation} is complete", done


def renew_walsenders(node: Node, names: Names, generation: int) -> Done:
    """End one that read older names; when none is left, the barrier's target is known."""
    for at, sender in enumerate(node.senders):
        if sender.names != names:
            rest = (*node.senders[:at], *node.senders[at + 1 :])
            return f"ends its walsender to n{sender.to + 1}", node._replace(senders=rest)
    doing = ("barrier", generation, len(node.wal))
    return f"no older walsender is left; waits for {len(node.wal)}", node._replace(doing=doing)


def adopting(node: Node, term: int, **more: Any) -> Node:
    """A leader adopted: promised too, and no longer frozen."""
    if node.promise < term:
        more |= {"promise": term, "elector": -1}
    return saved(node, adopted=term, frozen=None, **more)


def follow(node: Node, a: act.Follow, scene: Scene) -> Done:
    if node.promise > a.term:
        return None
    up = Upstream(index_of(a.leader)[0], int(a.term), node.copy)
    alone = lending_ended(node)
    return f"adopts {a.leader.node} in term {a.term}", adopting(alone, a.term)._replace(upstream=up)


def rewind(node: Node, a: act.Rewind, scene: Scene) -> Done:
    """Floor and marker are durable before the files are touched."""
    if node.promise > a.term:
        return None
    floor = (int(a.floor.epoch), int(a.floor.lsn), int(a.fork_lsn))
    floor = max(floor, node.floor) if node.floor else floor
    marked = saved(stopped(lending_ended(node)), frozen=None, floor=floor, dirty=True)
    doing = ("rewind", int(a.term), index_of(a.leader)[0], int(a.fork_lsn))
    return f"is to be rewound: floor {floor[0]}:{floor[1]}", marked._replace(doing=doing)


def rebuild(node: Node, a: act.Rebuild, scene: Scene) -> Done:
    """The copy is taken beside the old directory."""
    leader = scene.leader
    if node.promise > a.term or leader is None or leader.server is not Server.PRIMARY:
        return None
    if leader.copy != index_of(a.leader)[1]:
        return None
    doing = ("copy", int(a.term), leader.wal)
    return f"takes a copy of {a.leader.node}", node._replace(doing=doing)


def stop_server(node: Node, a: act.StopServer, scene: Scene) -> Done:
    return "stops its server", stopped(node)


def checkpoint(node: Node, a: act.Checkpoint, scene: Scene) -> Done:
    handed = node.handed or bool(a.switchover)
    return "checkpoints", node._replace(checked=int(a.term), handed=handed)


def clear_floor(node: Node, a: act.ClearFloor, scene: Scene) -> Done:
    return "forgets its floor", saved(node, floor=None)


STEPS: dict[type[act.Action], Callable[[Node, Any, Scene], Done]] = {
    act.StartStandby: start_standby,
    act.Seal: seal,
    act.FastForward: fast_forward,
    act.Lend: lend,
    act.CloseGate: close_gate,
    act.DrainAndStop: drain_and_stop,
    act.Promote: promote,
    act.KeepLeading: keep_leading,
    act.SetNames: set_names,
    act.Settle: settle,
    act.Follow: follow,
    act.Rewind: rewind,
    act.Rebuild: rebuild,
    act.StopServer: stop_server,
    act.Checkpoint: checkpoint,
    act.ClearFloor: clear_floor,
}


# -- acts that go on -----------------------------------------------------------------------------


def go_on(node: Node, scene: Scene) -> Done:
    """The next step of a rewind or a copy under way. None: it has to wait."""
    assert node.doing is not None
    what = node.doing[0]
    if what == "rewind":
        return rewind_files(node, scene)
    if what == "starting":
        return rewound(node, scene)
    return swap_in(node, scene)


def rewind_files(node: Node, scene: Scene) -> Done:
    assert node.doing is not None
    _, term, up, forked = node.doing
    leader = scene.leader
    assert isinstance(term, int)
    assert isinstance(up, int)
    if node.promise > term or leader is None or leader.server is not Server.PRIMARY:
        return "gives its rewind up", node._replace(doing=None)
    if timeline(node.wal) == timeline(leader.wal) or fork(node.wal, leader.wal) != forked:
        return "cannot be rewound", node._replace(doing=None, dead_end=True)
    kept = node.wal[: last_checkpoint(node.wal, fork(node.wal, leader.wal))]
    new = adopting(node._replace(wal=kept), term)._replace(
        server=Server.STARTING,
        upstream=Upstream(up, term, node.copy),
        doing=("starting", term, len(leader.wal)),
    )
    return f"is rewound to {len(kept)} records", new


def rewound(node: Node, scene: Scene) -> Done:
    assert node.doing is not None
    _, term, needs = node.doing
    assert isinstance(needs, int)
    if scene.facts.term != term:
        return "gives its start up", stopped(node)
    if len(node.wal) < needs:
        return None
    return "is up after its rewind", saved(node, dirty=False)._replace(
        server=Server.STANDBY, doing=None
    )


def swap_in(node: Node, scene: Scene) -> Done:
    """The copy takes the old directory's place, under a new incarnation."""
    assert node.doing is not None
    _, term, wal = node.doing
    assert isinstance(term, int)
    assert isinstance(wal, tuple)
    if node.promise > term or scene.facts.term != term:
        return "gives its copy up", node._replace(doing=None)
    new = adopting(stopped(node), term, floor=None, dirty=False, copy=new_copy(node))
    new = new._replace(wal=wal, real=node.real + 1, upstream=None, dead_end=False)
    return f"puts the copy in place as c{new.copy}", new


def new_copy(node: Node) -> int:
    """The incarnation of a new data directory."""
    return node.real + 1
