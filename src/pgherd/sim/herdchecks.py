"""Invariants of a herd that hold at single moments: I12, I14 to I16, I22 and I23 of PROTOCOL.md 10.

Each is evaluated where it could break, on the truth: durable promises and the WAL that is there,
not what anybody reported of them. Those of WAL, promises and the sync set are in `checks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.model.facts import Facts, Mode, Phase
from pgherd.model.ids import MemberKey, NodeId, Position
from pgherd.model.promises import Promises
from pgherd.raft.types import ConfState
from pgherd.sim.names import Names
from pgherd.sim.wal import Record

SEALED_MODES = (Mode.QUORUM, Mode.STRICT)
"""Those in which an election needs seals and nothing else."""

if TYPE_CHECKING:
    from pgherd.sim.commits import Commits
    from pgherd.sim.postgres import Server
    from pgherd.sim.world import World


class HerdChecks:
    """The invariants of one run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.evaluated: dict[str, int] = {}
        self._taken: dict[MemberKey, Promises] = {}
        """What members had promised whose seals a person has undone since, by a promotion."""

    def must(self, name: str, holds: bool, text: str) -> None:
        """Count an evaluation, and fail when it does not hold."""
        self.evaluated[name] = self.evaluated.get(name, 0) + 1
        if not holds:
            self.world.checks.fail(name, text)

    # -- elections and the sync set --------------------------------------------------------------

    def on_facts(self, old: Facts, new: Facts) -> None:
        """The ledger went on, by one command or a few."""
        if old.term != new.term or old.sync.generation == new.sync.generation:
            self._on_elected(old, new)
            return
        if old.phase is new.phase is Phase.STABLE:
            self._on_set_changed(old, new)

    def _on_elected(self, old: Facts, new: Facts) -> None:
        """I14: an election counts who is sealed above its floor, and nobody else (F3)."""
        elected = old.phase is Phase.ELECTING and new.phase is Phase.ESTABLISHING
        if not elected or old.term != new.term or not old.history or old.mode not in SEALED_MODES:
            return
        if new.leader == old.leader and not new.history[-1].promoted:
            return  # alive and closed, it has everything
        if new.history[-1].gave_up:
            return  # by an operator's word: what that may lose is judged by `giving`
        sync = old.sync
        counted = [key for key in sync.voters if self._is_sealed(key, old)]
        leader = old.leader is not None and self._is_sealed(old.leader, old)
        enough = leader or (bool(sync.voters) and len(counted) >= sync.r)
        who = ", ".join(str(key) for key in counted)
        text = f"{new.leader} was elected, {sync.r} of {sync.voters} had to be sealed, but: {who}"
        self.must("I14", enough, text)

    def _is_sealed(self, key: MemberKey, facts: Facts) -> bool:
        """Whether a member may be counted in the election of a term, by what is on its disk."""
        promises = self._promises(key)
        taken = self._taken.get(key)
        if taken is not None and taken.promise == promises.promise == facts.term:
            promises = taken  # it was sealed when it was counted: an election may be on its way
        frozen = promises.frozen
        if frozen is None and self.world.loans.has(facts.term, key):
            promised = promises.promise, promises.promise_elector
            return (
                promised == (facts.term, facts.elector) and promises.incarnation == key.incarnation
            )
        if frozen is None or promises.incarnation != key.incarnation or promises.dirty_rewind:
            return False
        promised = promises.promise, promises.promise_elector
        floor = promises.floor
        above = floor is None or frozen.position >= floor.position
        return promised == (facts.term, facts.elector) and frozen.term == facts.term and above

    def on_promises(self, node: NodeId, old: Promises, new: Promises) -> None:
        """A server that somebody promoted is disowned, sealed or not."""
        disowned = new.dirty_rewind and not old.dirty_rewind
        if disowned and old.frozen is not None and self.world.server(node).by_hand:
            self._taken[MemberKey(node, old.incarnation)] = old

    def _on_set_changed(self, old: Facts, new: Facts) -> None:
        """I22: who enters the set in a stable term follows its leader and is above its floor.

        It may lack what was acknowledged before: V + x wants R + 1 seals, which (Q) takes care of.
        """
        before = {*old.sync.voters, *old.sync.names}
        for key in {*new.sync.voters, *new.sync.names} - before:
            promises, directory = self._promises(key), self.world.server(key.node).dir
            if directory is None or directory.incarnation != key.incarnation:
                continue  # lost since
            position, floor = directory.position(directory.flushed), promises.floor
            same = promises.incarnation == key.incarnation and promises.adopted == new.term
            above = floor is None or position >= floor.position
            text = f"{key} is in the set with WAL up to {position} and {promises}"
            self.must("I22", same and above, f"{text}; the term is {new.term}")

    def _promises(self, key: MemberKey) -> Promises:
        return self.world.promises(key.node)

    def on_conf(self, change: tuple[ConfState, ConfState], node: NodeId) -> None:
        """I23: any majority of the old voters meets any majority of the new ones."""
        old, new = (set(conf.voters) for conf in change)
        needed = len(old) // 2 + 1 + len(new) // 2 + 1
        text = f"{node}: majorities of {sorted(old)} and {sorted(new)} need not meet"
        self.must("I23", needed > len(old | new), text)

    # -- one server ------------------------------------------------------------------------------

    def on_start(self, server: Server) -> None:
        """I15: a directory in which a rewind was begun and not finished is not started."""
        half = server.dir is not None and server.dir.half_rewound
        self.must("I15", not half, f"{server.node} is started although half rewound")

    def on_promoted(self, server: Server) -> None:
        """I12: a sealed server does not begin to write, but for the term that it is sealed for."""
        promises = self.world.promises(server.node)
        free = promises.promise <= promises.adopted
        self.must("I12", free, f"{server.node} is promoted below its promise, {promises}")

    def on_names(self, server: Commits, names: Names) -> None:
        """I16: an agent opens its gate as leader of a stable term that it knows, and then only."""
        agent = self.world.nodes[server.node].agent
        if agent is None or names.closed:
            return
        facts, promise = agent.replica.facts, agent.promises.promise
        leads = facts.is_leader(server.node) and facts.phase is Phase.STABLE
        same = names.term == facts.term and promise <= facts.term
        text = f"{server.node} opens for term {names.term}, promised {promise}, knows {facts.term}"
        self.must("I16", leads and same, f"{text} {facts.phase.value}, led by {facts.leader}")

    def on_ack(self, server: Commits, record: Record) -> None:
        """I14: who is below its floor is no holder of an acknowledged commit."""
        facts = self.world.facts()
        if facts is None or not facts.is_leader(server.node) or record.epoch != facts.term:
            return
        for stream in server.streams:
            if not stream.counts or stream.flush_lsn < record.end:
                continue
            floor = self.world.promises(stream.key.node).floor
            below = floor is not None and floor.position > Position(record.epoch, record.end)
            text = f"{stream.key} is counted for {record} below its floor {floor}"
            self.must("I14", not below, text)
