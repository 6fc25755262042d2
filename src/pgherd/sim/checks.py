"""The invariants of PROTOCOL.md 10, each under its name, evaluated where they could break.

Owns the record of what was acknowledged, promised and agreed on. Sees everything, which no agent
does: the identity of WAL records, the names that each walsender really uses, all ledgers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pgherd.ledger.commands import Outcome
from pgherd.model.facts import Facts, Phase
from pgherd.model.ids import MemberKey, NodeId, Term
from pgherd.model.promises import Promises
from pgherd.raft.types import ConfState
from pgherd.sim.giving import forgive, must_be_cut_off
from pgherd.sim.names import Names
from pgherd.sim.wal import Record
from pgherd.store.replica import Replica

if TYPE_CHECKING:
    from pgherd.sim.commits import Commits
    from pgherd.sim.postgres import Server
    from pgherd.sim.world import World


class Violation(Exception):
    """An invariant does not hold."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text


class ConfChange(NamedTuple):
    """One change of the Raft configuration, as a replica applied it."""

    at: int
    old: ConfState
    new: ConfState
    max_voters: int


class Checks:
    """All invariants of one run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.acks: dict[int, Record] = {}
        self.tip: Record | None = None
        self.raft_leaders: dict[int, NodeId] = {}
        self.facts_at: dict[int, Facts] = {}
        self.outcomes: dict[int, Outcome] = {}
        self.newest: Facts | None = None
        self.newest_index = 0
        self.conf_index = 0
        self.leaders: dict[Term, MemberKey] = {}
        self.established: dict[Term, int] = {}
        self.by_epoch: dict[tuple[Term, int], Record] = {}
        self.given_up: dict[Term, int] = {}
        self.ordered: set[tuple[Term, MemberKey]] = set()
        self.failovers = 0
        self.evaluated = 0

    def fail(self, name: str, text: str) -> None:
        raise Violation(name, text)

    # -- consensus and ledger --------------------------------------------------------------------

    def on_raft_leader(self, node: NodeId, term: int) -> None:
        """I1: one Raft leader per Raft term."""
        if self.raft_leaders.setdefault(term, node) != node:
            self.fail("I1", f"{node} and {self.raft_leaders[term]} lead Raft term {term}")

    def on_applied(self, node: NodeId, index: int, outcome: Outcome) -> None:
        """I4: the same outcome at the same index."""
        if self.outcomes.setdefault(index, outcome) != outcome:
            self.fail("I4", f"{node} got {outcome} at {index}, others {self.outcomes[index]}")

    def on_facts(self, node: NodeId, replica: Replica) -> None:
        """I4, I11 on the store, and everything that follows from new facts."""
        index, facts = replica.node.applied, replica.facts
        # finish() has advanced: applied is the index of these facts.
        known = self.facts_at.setdefault(index, facts)
        if known is not facts and known != facts:
            self.fail("I4", f"{node} has other facts at index {index}")
        if index <= self.newest_index:
            return
        old, self.newest, self.newest_index = self.newest, facts, index
        if old is not None and facts.term < old.term:
            self.fail("I11", f"the ledger's term went back from {old.term} to {facts.term}")
        self.world.fences.note(facts)
        if old is not None:
            self.world.herd.on_facts(old, facts)
        self.world.loans.on_facts(facts)
        self._learn(facts)
        self.check_coverage()
        self.check_inequality()

    def _learn(self, facts: Facts) -> None:
        for reign in facts.history[-3:]:
            if self.leaders.setdefault(reign.term, reign.leader) != reign.leader:
                self.fail("I11", f"two leaders of term {reign.term}")
            forgive(self, reign)
            if reign.established and reign.term not in self.established:
                self.established[reign.term] = self.world.clock.ms
                self.failovers += len(self.established) > 1
                self.world.log(reign.leader.node, f"term {reign.term} is established")
                self.world.losses.on_established(reign)

    def on_conf(self, node: NodeId, change: ConfChange) -> None:
        """V1: who loses its vote but stays leaves enough others."""
        voters = change.new.voters
        demoted = set(change.old.voters) & set(change.new.learners)
        self.evaluated += 1
        self.world.herd.on_conf((change.old, change.new), node)
        if demoted and len(voters) < change.max_voters:
            text = f"{sorted(demoted)} lost the vote at {change.at}, only {voters} are left"
            self.fail("V1", f"{text} of {change.max_voters}")
        if change.at > self.conf_index:
            self.conf_index = change.at
            promoted = set(voters) - set(change.old.voters)
            self.world.stats.votes_moved += bool(promoted) and len(voters) > change.max_voters
            self.world.log(node, f"voters {voters} learners {change.new.learners}")

    # -- promises --------------------------------------------------------------------------------

    def on_promises(self, node: NodeId, old: Promises, new: Promises) -> None:
        """I11: promise and adopted never go back; no two electors for one promise."""
        if new.promise < old.promise or new.adopted < old.adopted:
            self.fail("I11", f"{node} went back from {old} to {new}")
        again = new.promise == old.promise and old.promise_elector is not None
        if again and new.promise_elector != old.promise_elector:
            self.fail("I11", f"{node} promised {new.promise} twice")
        if new.adopted > new.promise:
            self.fail("I11", f"{node} adopted {new.adopted} above its promise {new.promise}")

    def on_promises_read(self, node: NodeId, told: Promises, durable: Promises) -> None:
        """I13: after a crash the durable promises are at least what was told."""
        if durable.promise < told.promise or durable.adopted < told.adopted:
            self.fail("I13", f"{node} told {told} and has {durable} after its crash")
        if told.floor is not None and durable.floor is None and durable == told:
            self.fail("I13", f"{node} lost its floor")

    # -- WAL -------------------------------------------------------------------------------------

    def on_append(self, node: NodeId, record: Record) -> None:
        """I18 on a primary: epochs never fall, and an epoch has one writer."""
        directory = self.world.server(node).dir
        assert directory is not None
        if len(directory.wal) > 1 and record.epoch < directory.wal[-2].epoch:
            self.fail("I18", f"{node} writes epoch {record.epoch} after a later one")
        if record.kind == "epoch":
            leader = self.leaders.get(record.epoch)
            if leader is None or leader.node != node:
                self.fail("I11", f"{node} writes epoch {record.epoch}, which {leader} leads")
            self.world.on_event(node, record)

    def on_receive(self, server: Server) -> None:
        """I12: what is sealed does not grow, and on loan only as far as the ledger granted."""
        promises = self.world.promises(server.node)
        frozen = promises.frozen
        self.world.loans.on_receive(server)
        if frozen is not None and frozen.term == promises.promise > promises.adopted:
            self.fail("I12", f"{server.node} received WAL although sealed at {frozen}")

    def on_join(self, down: Server, up: Server) -> None:
        """I18: who streams continues its own log."""
        assert down.dir is not None
        assert up.dir is not None
        last = down.dir.wal[-1]
        if up.dir.wal[last.depth] is not last:
            text = f"{down.node} ends with {last}, {up.node} has {up.dir.wal[last.depth]} there"
            self.fail("I18", text)

    def on_promoted(self, server: Server) -> None:
        """I7: what was acknowledged before is in the winner's WAL; I11: it is the winner."""
        leader = self.newest.leader if self.newest else None
        assert server.dir is not None
        self.world.herd.on_promoted(server)
        must_be_cut_off(self.world, server)
        self.evaluated += 1
        if self.tip is not None and leader is not None and leader.node == server.node:
            self._must_hold(server, self.tip, "was promoted")

    def _must_hold(self, server: Server, record: Record, what: str) -> None:
        assert server.dir is not None
        if not server.dir.holds(record) and not self.world.losses.allows(server):
            there = server.dir.wal[record.depth] if record.depth < server.dir.flushed else None
            text = f"{server.node} {what} without {record}, which was acknowledged; has {there}"
            self.fail("I7", text)

    # -- acknowledgements ------------------------------------------------------------------------

    def on_ack(self, server: Commits, record: Record, *, names: Names, k: int) -> None:
        """I8, I9, I19, I20: what may be acknowledged, at the moment at which it is."""
        if record.data in self.acks:
            self.fail("I20", f"row {record.data} is acknowledged twice")
        self.acks[record.data] = record
        self.evaluated += 1
        if names.term not in self.established:
            self.fail("I9", f"{server.node} acknowledged in term {names.term} before STABLE")
        self.world.herd.on_ack(server, record)
        if not self.world.losses.late(server, record, names.term):
            self._newer_tip(server, record)
        if names.empty:
            self._must_be_alone(server)
            self.world.leases.on_ack_alone(server.node)
        self.check_coverage()

    def _newer_tip(self, server: Commits, record: Record) -> None:
        tip, mine = self.tip, server.dir
        assert mine is not None
        if tip is None or mine.holds(tip):
            if tip is None or record.depth > tip.depth:
                self.tip = record
            return
        # An old primary acknowledges late: the winners must have it all the same.
        holder = self._latest_primary()
        if holder is None or holder.dir is None or not holder.dir.holds(record):
            where = holder.node if holder else "nobody"
            self.fail("I8", f"{server.node} acknowledged {record} alone; {where} leads")

    def _latest_primary(self) -> Server | None:
        for term in sorted(self.leaders, reverse=True):
            server = self.world.server(self.leaders[term].node)
            if server.dir is not None and self.tip is not None and server.dir.holds(self.tip):
                return server
        return None

    def _must_be_alone(self, server: Commits) -> None:
        """I19: without names only what the ledger recorded as alone may acknowledge."""
        facts = self.newest
        if facts is not None and facts.sync.kd and facts.is_leader(server.node):
            self.fail("I19", f"{server.node} acknowledged alone; the ledger has voters")

    # -- the sync set ----------------------------------------------------------------------------

    def on_sender_names(self, server: Commits) -> None:
        """A process of the server reads its names anew."""
        facts = self.newest
        if facts is not None and facts.leader is not None and facts.leader.node == server.node:
            self.check_inequality()

    def check_inequality(self) -> None:
        """I10: (Q) and kd, with the names that walsenders of the leader really use."""
        facts = self.newest
        if facts is None or facts.leader is None or facts.phase is Phase.ESTABLISHING:
            return
        server, sync = self.world.server(facts.leader.node), facts.sync
        if not sync.voters or server.dir is None or not server.primary:
            return
        everyone, weakest = set(sync.voters), 10**6
        for key, k in used_sets(server, facts.term):
            everyone |= set(key)
            weakest = min(weakest, k)
        if weakest == 10**6:
            return
        self.evaluated += 1
        used = f"in use: {[n.text for n in in_use(server)]}; the ledger: {sync}"
        if sync.kd > weakest:
            self.fail("I10", f"kd {sync.kd} is above k {weakest} {used}")
        if len(everyone) > sync.r + weakest - 1:
            self.fail("I10", f"(Q) |V u S| = {len(everyone)} > {sync.r} + {weakest} - 1 {used}")

    def check_coverage(self) -> None:
        """I10: every set that an elector may seal has a holder of all that was acknowledged."""
        facts, tip = self.newest, self.tip
        if facts is None or tip is None or not facts.sync.voters:
            return
        lacking = [key for key in facts.sync.voters if self._could_mislead(key, tip)]
        self.evaluated += 1
        if len(lacking) >= facts.sync.r:
            who = ", ".join(str(key) for key in lacking)
            self.fail("I10", f"{facts.sync.r} of {who} can be sealed, none of which has {tip}")

    def _could_mislead(self, key: MemberKey, tip: Record) -> bool:
        """Whether a voter could be counted in an election and lacks what was acknowledged."""
        directory, promises = self.world.server(key.node).dir, self.world.promises(key.node)
        if directory is None or directory.incarnation != key.incarnation:
            return False
        if promises.dirty_rewind or directory.holds(tip):
            return False
        floor = promises.floor
        return floor is None or directory.position(directory.flushed) >= floor.position

    # -- the end ---------------------------------------------------------------------------------

    def final(self) -> None:
        """I20: acknowledged rows are there, nothing else is, nothing twice; I18 on all logs."""
        facts = self.newest
        assert facts is not None
        assert facts.leader is not None
        server = self.world.server(facts.leader.node)
        assert server.dir is not None
        rows = [r.data for r in server.dir.wal[: server.dir.flushed] if r.kind == "tx"]
        if len(set(rows)) != len(rows):
            self.fail("I20", "a row is there twice")
        there = set(rows)
        lost = [row for row in self.acks if row not in there]
        if lost:
            self.fail("I20", f"{len(lost)} acknowledged rows are lost: {lost[:5]}")
        if any(row > self.world.rows for row in rows):
            self.fail("I20", "a row that nobody wrote")
        problem = self.world.registers.problem(rows)
        self.world.herd.must("I21", not problem, problem)
        self._logs_agree(server)

    def _logs_agree(self, leader: Server) -> None:
        assert leader.dir is not None
        assert self.newest is not None
        for node in self.newest.members:
            directory = self.world.server(node).dir
            if directory is None:
                continue
            for record in directory.wal[: len(leader.dir.wal)]:
                if leader.dir.wal[record.depth] is not record:
                    self.fail("I18", f"{node} has {record} where the leader has another record")


def in_use(server: Server) -> list[Names]:
    """The names under which a process of this server may acknowledge now."""
    found = [s.names for s in server.streams if s.counts and not s.names.empty]
    return [*found, server.checkpointer_names] if server.checkpointer_names.empty else found


def used_sets(server: Server, term: Term) -> list[tuple[list[MemberKey], int]]:
    """The same as sets of members of a term, and their k."""
    return [([key for key, at in n.tokens if at == term], n.k) for n in in_use(server)]
