"""Proves the safety properties of Raft on random schedules, from seeds that reproduce a failure.

Messages are lost, doubled and reordered; nodes crash with only what was stored, also in the middle
of a Ready; logs are compacted; membership and leadership change. After every step: at most one
leader per term, logs that agree where they meet, leaders that have every committed entry, state
machines that applied the same, and reads that see what was agreed on before they were asked.
At the end all trouble stops, and the nodes must agree again (progress).
PGHERD_RAFT_SEEDS sets how many schedules are run.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest
from tests.unit.raft.network import Network

from pgherd.raft import core as core_module
from pgherd.raft import leader, membership, reads, replicate
from pgherd.raft.conformance import ConfState, Entry, Msg, ProposalDropped, RaftNode
from pgherd.raft.log import RaftLog
from pgherd.raft.types import Hard

SEEDS = int(os.environ.get("PGHERD_RAFT_SEEDS", "300"))
STEPS = 1500
MESSAGES_MAX = 60
NODES = 5
QUIET_BEATS_MAX = 400
PLANTED_SEEDS_MAX = 3000


class Checker:
    """Everything that was ever true of a run, and what must stay true."""

    def __init__(self) -> None:
        self.leaders: dict[int, int] = {}
        self.committed: dict[int, Entry] = {}
        self.before: dict[tuple[int, int], tuple[int, bytes, str]] = {}
        self.hard: dict[int, Hard] = {}

    def check_leaders(self, network: Network) -> None:
        """Election safety."""
        for node, member in network.members.items():
            if member.is_up and member.node.role == "leader":
                self._check_leader(node, member.node)

    def check_stored(self, network: Network, node: int) -> None:
        """Log matching, and what must never go back in storage."""
        self._check_log(network, node)
        self._check_hard(node, network.members[node].storage.hard)

    def _check_leader(self, node: int, raft: RaftNode) -> None:
        known = self.leaders.setdefault(raft.term, node)
        assert known == node, f"term {raft.term} has leaders {known} and {node}"

    def _check_log(self, network: Network, node: int) -> None:
        storage = network.members[node].storage
        previous = storage.base.term
        for entry in storage.log:
            mark = (previous, entry.data, entry.type)
            known = self.before.setdefault((entry.term, entry.index), mark)
            assert known == mark, f"logs differ at or before {entry.term}/{entry.index}"
            assert entry.term >= previous, "terms go back within a log"
            previous = entry.term

    def _check_hard(self, node: int, hard: Hard) -> None:
        known = self.hard.get(node, Hard(0, 0, 0))
        assert hard.term >= known.term, "a stored term went back"
        assert hard.commit >= known.commit, "a stored commit index went back"
        assert hard.term > known.term or known.vote in (0, hard.vote), "a vote was changed"
        self.hard[node] = hard

    def note_applied(self, node: int, entries: tuple[Entry, ...]) -> None:
        """An entry that anyone applies is agreed on for ever."""
        for entry in entries:
            known = self.committed.setdefault(entry.index, entry)
            assert known == entry, f"node {node} applied another entry at {entry.index}"

    def note_elected(self, network: Network, node: int) -> None:
        """Leader completeness: what was committed in earlier terms is in its log."""
        member = network.members[node]
        for index, entry in self.committed.items():
            if entry.term < member.node.term and index > member.storage.base.index:
                assert index <= member.storage.last_index(), f"leader {node} lacks entry {index}"
                assert member.storage.term(index) == entry.term, f"leader {node}: other {index}"


class Run:
    """One schedule."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.network = Network(self.random.randrange)
        self.config = {
            "pre_vote": self.random.random() < 0.7,
            "check_quorum": self.random.random() < 0.7,
            "step_down_on_removal": self.random.random() < 0.7,
            "election_tick": 5,
            "max_inflight": self.random.choice([1, 2, 256]),
            "max_size_per_msg": self.random.choice([0, 60, None]),
            "max_committed_size_per_ready": self.random.choice([20, None]),
        }
        voters = tuple(range(1, self.random.choice([1, 3, 3, 3, 4, 5]) + 1))
        for node in range(1, NODES + 1):
            conf = ConfState(voters=voters) if node in voters else None
            self.network.add(node, conf, **self.config)
        self.checker = Checker()
        self.loss = self.random.choice([0.0, 0.02, 0.15])
        self.proposed = 0
        self.reads: dict[bytes, int] = {}

    def play(self) -> None:
        actions: list[tuple[Callable[[int], None], int]] = [
            (self.tick, 30),
            (self.handle_ready, 40),
            (self.deliver, 60),
            (self.propose, 8),
            (self.read, 4),
            (self.crash_or_restart, 2),
            (self.compact, 2),
            (self.change, 2),
            (self.transfer, 1),
            (self.report, 2),
            (self.cut_or_heal, 1),
        ]
        names = [one for one, _ in actions]
        weights = [weight for _, weight in actions]
        for _ in range(STEPS):
            act = self.random.choices(names, weights)[0]
            act(self.random.randint(1, NODES))
            self.checker.check_leaders(self.network)

    def settle(self) -> None:
        """No more trouble: everyone gets what was agreed on, and new proposals are taken."""
        network = self.network
        network.heal()
        self.loss = 0.0
        for node, member in network.members.items():
            if not member.is_up:
                network.restart(node)
            elif member.pending is not None:
                self._finish(node)
        for _ in range(QUIET_BEATS_MAX):
            for node, member in network.members.items():
                self.tick(node)
                for peer, progress in member.node.status().progress.items():
                    if progress.state == "snapshot" and self.random.random() < 0.1:
                        member.node.report_snapshot(peer, False)  # as a transport does
            self._drain()
            if self._is_settled():
                return
            if self.random.random() < 0.1:
                self.propose(self.network.leader() or 1)
        raise AssertionError("the nodes do not agree again")

    def _is_settled(self) -> bool:
        leader = self.network.leader()
        if not leader or not self.checker.committed:
            return False
        status = self.network.node(leader).status()
        conf = status.conf
        nodes = {*conf.voters, *conf.learners}
        last = max(self.checker.committed)
        reached = all(self.network.members[node].applied.index >= last for node in nodes)
        return reached and not conf.voters_outgoing and status.applied == status.commit

    def _drain(self) -> None:
        for _ in range(10_000):
            busy = False
            for node, member in self.network.members.items():
                if member.node.has_ready():
                    self._begin(node)
                    self._finish(node)
                    busy = True
            while self.network.under_way:
                self.network.deliver(self.network.under_way.pop(0))
                busy = True
            self.checker.check_leaders(self.network)
            if not busy:
                return
        raise AssertionError("the nodes do not come to rest")

    # -- actions -----------------------------------------------------------------------------------

    def tick(self, node: int) -> None:
        member = self.network.members[node]
        if member.is_up:
            for _ in range(self.random.choice([1, 1, 3])):
                member.node.tick()

    def handle_ready(self, node: int) -> None:
        """Begin one, or finish the one that is under way; what comes in between is stepped."""
        busy = [
            one
            for one, member in self.network.members.items()
            if member.is_up and (member.pending is not None or member.node.has_ready())
        ]
        if not busy:
            return
        node = self.random.choice(busy)
        member = self.network.members[node]
        if member.pending is not None:
            self._finish(node)
        else:
            self._begin(node)
            if self.random.random() < 0.7:
                self._finish(node)

    def _begin(self, node: int) -> None:
        ready = self.network.begin(node)
        self.checker.check_stored(self.network, node)
        if ready.soft is not None and ready.soft[1] == "leader":
            self.checker.note_elected(self.network, node)

    def _finish(self, node: int) -> None:
        ready = self.network.finish(node)
        self.checker.note_applied(node, ready.committed)
        for index, context in ready.read_states:
            assert index >= self.reads[context], "a read would miss what was agreed on"

    def deliver(self, node: int) -> None:
        under_way = self.network.under_way
        if not under_way:
            return
        place = self.random.randrange(len(under_way))
        if self.random.random() < 0.6:
            place = 0
        message = under_way[place]
        if self.random.random() < self.loss or len(under_way) > MESSAGES_MAX:
            under_way.pop(place)
            return
        if self.random.random() > 0.05:
            under_way.pop(place)
        self._deliver(message)

    def _deliver(self, message: Msg) -> None:
        if (message.frm, message.to) not in self.network.cut_links:
            self.network.deliver(message)

    def _a_leader(self, node: int) -> int:
        """One of those who think that they lead, most often; sometimes anyone."""
        leaders = [
            one
            for one, member in self.network.members.items()
            if member.is_up and member.node.role == "leader"
        ]
        return self.random.choice(leaders) if leaders and self.random.random() < 0.9 else node

    def propose(self, node: int) -> None:
        member = self.network.members[self._a_leader(node)]
        if not member.is_up:
            return
        try:
            member.node.propose(b"p%d" % self.proposed)
            self.proposed += 1
        except ProposalDropped:
            pass  # not the leader, or on its way out: the caller would ask another

    def read(self, node: int) -> None:
        member = self.network.members[self._a_leader(node)]
        if member.is_up:
            context = b"r%d" % len(self.reads)
            self.reads[context] = max(self.checker.committed, default=0)
            member.node.read_index(context)

    def crash_or_restart(self, node: int) -> None:
        member = self.network.members[node]
        if not member.is_up:
            self.network.restart(node)
            return
        if member.node.has_ready() and member.pending is None and self.random.random() < 0.5:
            member.node.ready()  # taken, and lost before anything was stored
        self.network.crash(node)

    def compact(self, node: int) -> None:
        member = self.network.members[node]
        is_free = member.is_up and member.pending is None
        if is_free and member.applied.index > member.storage.base.index:
            self.network.compact(node)

    def change(self, node: int) -> None:
        member = self.network.members[self._a_leader(node)]
        if not member.is_up or member.node.role != "leader":
            return
        count = self.random.choice([0, 1, 1, 1, 2, 3])
        kinds = [self.random.choice("vvlr") for _ in range(count)]
        ops = [(kind, self.random.randint(1, NODES)) for kind in kinds]
        voters = {*member.node.status().conf.voters}
        leaving = {to for kind, to in ops if kind != "v"}
        if count and not voters - leaving:
            return
        if member.node.id not in voters - leaving and (len(voters) < 3 or count > 1):
            return  # see the scenario two-to-one.txt: lead from a voter that stays
        try:
            member.node.propose_conf_change(ops)
        except ProposalDropped:
            pass  # a transfer is on its way

    def transfer(self, node: int) -> None:
        member = self.network.members[self._a_leader(node)]
        if member.is_up:
            member.node.transfer_leader(self.random.randint(1, NODES))

    def report(self, node: int) -> None:
        """Transports say, rightly or not, that something got lost."""
        member = self.network.members[node]
        if member.is_up:
            peer = self.random.randint(1, NODES)
            member.node.report_unreachable(peer)
            member.node.report_snapshot(peer, self.random.random() < 0.5)

    def cut_or_heal(self, node: int) -> None:
        if self.network.cut_links:
            self.network.heal()
        else:
            self.network.isolate(node)


def play(seed: int) -> Run:
    run = Run(seed)
    run.play()
    return run


@pytest.mark.parametrize("first", range(0, SEEDS, 10))
def test_random_schedules_are_safe_and_end_in_agreement(first: int) -> None:
    """Ten seeds per test; the failing one is in the message."""
    for seed in range(first, min(first + 10, SEEDS)):
        try:
            play(seed).settle()
        except Exception as failure:
            raise AssertionError(f"seed {seed}: {failure}") from failure


# -- planted faults: the checker must see them -----------------------------------------------------


def _vote_for_anyone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RaftLog, "is_as_new", lambda self, *, index, term: True)


def _commit_by_counting_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def count(core: core_module.Core) -> bool:
        index = replicate.committed_index(
            core.conf, {node: peer.match for node, peer in core.progress.items()}
        )
        if index is None or index <= core.log.commit:
            return False
        core.log.commit_to(index)
        return True

    for module in (leader, membership, replicate):
        monkeypatch.setattr(module, "count", count)


def _forget_votes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_module.Core, "hard", lambda self: Hard(self.term, 0, self.log.commit))


def _cut_on_every_append(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(
        self: RaftLog, entries: tuple[Entry, ...], *, prev: int, prev_term: int, commit: int
    ) -> int | None:
        if not self.matches(prev, prev_term):
            return None
        self.append(entries)
        self.commit_to(min(commit, prev + len(entries)))
        return prev + len(entries)

    monkeypatch.setattr(RaftLog, "append_from_leader", careless)


def _beat_with_the_own_commit_index(monkeypatch: pytest.MonkeyPatch) -> None:
    def beat(core: core_module.Core) -> None:
        for node in core.peers():
            core.send("Heartbeat", node, commit=core.log.commit)

    monkeypatch.setattr(leader, "heartbeat_all", beat)


def _read_without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(core: core_module.Core, read: reads.Read) -> None:
        reads._answer(core, read._replace(at=core.log.commit))

    monkeypatch.setattr(reads, "ask", answer)


FAULTS = [
    _vote_for_anyone,
    _commit_by_counting_alone,
    _forget_votes,
    _cut_on_every_append,
    _beat_with_the_own_commit_index,
    _read_without_asking,
]


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__.strip("_"))
def test_planted_faults_are_found(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checker that sees nothing would prove nothing."""
    plant(monkeypatch)
    for seed in range(PLANTED_SEEDS_MAX):
        try:
            play(seed)
        except AssertionError:
            return
    raise AssertionError(f"{PLANTED_SEEDS_MAX} schedules did not show it")
