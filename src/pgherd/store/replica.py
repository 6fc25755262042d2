"""One replica of the ledger: consensus core, state machine and durable log joined, without I/O.

Owns the order in which a round's parts happen; the daemon and the simulator drive it, each with its
own threads, clock and network. A round is

    ready = replica.begin()            # what to store and send
    replica.early(ready)               # messages that need not wait for the disk
    store.save(**replica.durable(ready))   # on the writer thread
    done = replica.finish(ready)       # late messages, applied commands, answered reads

Between begin and finish `step` and `tick` may be called; a second begin may not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from pgherd.ledger.commands import Outcome, Proposal
from pgherd.ledger.machine import Ledger
from pgherd.model.errors import OperatorError
from pgherd.model.facts import Facts
from pgherd.model.ids import Instant, NodeId, RaftId
from pgherd.model.promises import Promises
from pgherd.raft.confchange import decode_conf_change
from pgherd.raft.node import RaftNode
from pgherd.raft.types import (
    PERSISTENT_REPLIES,
    Config,
    ConfState,
    Entry,
    Hard,
    Msg,
    Ready,
    Snapshot,
    Status,
    StepPeerNotFound,
)
from pgherd.store.base import Identity, Store

BIRTH_INDEX = 1
BIRTH_TERM = 1
LOG_ENTRIES_MAX = 1000
LOG_ENTRIES_KEPT = 500
CAUGHT_UP_ENTRIES = 100
MESSAGE_BYTES_MAX = 512 * 1024
INFLIGHT_MAX = 64
COMMITTED_BYTES_MAX = 1024 * 1024
PROPOSAL_BYTES_MAX = 256 * 1024
UNCOMMITTED_BYTES_MAX = 16 * 1024 * 1024
"""What a leader holds without a quorum; more is dropped as if it did not lead."""


class ProposalTooLarge(OperatorError):
    """A command that would not fit into the log."""

    def __init__(self, size: int) -> None:
        super().__init__(
            f"this command takes {size} bytes of the log, the limit is {PROPOSAL_BYTES_MAX}",
            "send less at once: shorter texts, fewer settings",
        )


class Applied(msgspec.Struct, frozen=True):
    """A command that took effect, or was refused, at an index."""

    index: int
    proposal: Proposal
    outcome: Outcome


class Round(msgspec.Struct, frozen=True):
    """What a finished round leaves to do."""

    messages: tuple[Msg, ...]
    applied: tuple[Applied, ...]
    reads: tuple[tuple[int, bytes], ...]
    restored: bool


def birth_snapshot(facts: Facts) -> Snapshot:
    """The state that every founding member starts from: same facts, same voters, same bytes."""
    voters = tuple(sorted(member.raft_id for member in facts.members.values() if member.voter))
    data = Ledger(facts).snapshot()
    return Snapshot(index=BIRTH_INDEX, term=BIRTH_TERM, conf=ConfState(voters=voters), data=data)


def give_birth(
    store: Store, facts: Facts, identity: Identity, promises: Promises | None = None
) -> None:
    """Write the birth snapshot, the identity and first promises into a new store, or nothing."""
    store.save(
        hard=Hard(BIRTH_TERM, 0, BIRTH_INDEX),
        snapshot=birth_snapshot(facts),
        identity=identity,
        promises=promises,
    )
    store.remember()


class Replica:
    """Consensus and ledger of one node."""

    def __init__(
        self,
        store: Store,
        *,
        raft_id: RaftId,
        cluster: str,
        election_tick: int,
        heartbeat_tick: int,
        rng: Callable[[int, int], int],
        log: Callable[[str, str], None] | None = None,
    ) -> None:
        self.store = store
        self.ledger = Ledger(Facts(cluster=cluster))
        snapshot = store.snapshot()
        if snapshot.index:
            self.ledger.restore(snapshot.data)
        self._answered_at: dict[RaftId, Instant] = {}
        self._wait_all = False
        self._members_changed = False
        self.node = RaftNode(
            Config(
                id=raft_id,
                rng=rng,
                election_tick=election_tick,
                heartbeat_tick=heartbeat_tick,
                pre_vote=True,
                check_quorum=True,
                step_down_on_removal=True,
                max_size_per_msg=MESSAGE_BYTES_MAX,
                max_inflight=INFLIGHT_MAX,
                max_committed_size_per_ready=COMMITTED_BYTES_MAX,
                max_uncommitted_size=UNCOMMITTED_BYTES_MAX,
                applied=snapshot.index,
            ),
            store,
            log,
        )

    @property
    def facts(self) -> Facts:
        return self.ledger.facts

    @property
    def leads(self) -> bool:
        return self.node.role == "leader"

    @property
    def ready_term(self) -> int:
        """The Raft term in which this node leads and has applied an entry of its own; 0: none."""
        node = self.node
        if not self.leads or not node.applied:
            return 0
        return node.term if self.store.term(node.applied) == node.term else 0

    def status(self) -> Status:
        return self.node.status()

    def leader_node(self) -> NodeId | None:
        """The Raft leader's node name, if one is known and heard."""
        lead = self.node.led_by
        for node, member in self.facts.members.items():
            if member.raft_id == lead:
                return node
        return None

    def is_led(self) -> bool:
        """Whether this node takes part in consensus under a leader that it hears."""
        conf = self.node.conf
        return self.node.led_by != 0 and self.node.id in (*conf.voters, *conf.learners)

    def caught_up(self) -> tuple[RaftId, ...]:
        """On the leader: members whose log is within reach of its own."""
        status = self.node.status()
        last = self.store.last_index()
        near = [
            RaftId(raft_id)
            for raft_id, progress in status.progress.items()
            if progress.match > 0
            and progress.match + CAUGHT_UP_ENTRIES >= last
            and progress.state == "replicate"
        ]
        return tuple(near)

    def unanswered_ms(self, now: Instant, *, since: Instant) -> dict[RaftId, int]:
        """On the leader since `since`: for how long each member has not answered in consensus.

        Asked often: an answer is noticed when it is not older than an election timeout.
        """
        progress = self.node.status().progress
        for raft_id, peer in progress.items():
            if peer.active or raft_id == self.node.id:
                self._answered_at[RaftId(raft_id)] = now
        return {
            RaftId(one): now - max(since, self._answered_at.get(RaftId(one), since))
            for one in progress
        }

    def step(self, message: Msg) -> None:
        """Take a message; a reply from a node that was removed is dropped."""
        try:
            self.node.step(message)
        except StepPeerNotFound:
            return

    def propose(self, proposal: Proposal) -> None:
        """Append a command; raises ProposalDropped unless this node is the Raft leader."""
        self.node.propose(self.encode(proposal))

    def encode(self, proposal: Proposal) -> bytes:
        """The bytes of its log entry. Raises ProposalTooLarge, CommandTooNew."""
        data = self.ledger.encode(proposal)
        if len(data) > PROPOSAL_BYTES_MAX:
            raise ProposalTooLarge(len(data))
        return data

    def change_membership(self, verb: str, raft_id: RaftId) -> None:
        """Propose one single-server change: `learner`, `voter` or `remove`."""
        letter = {"learner": "l", "voter": "v", "remove": "r"}[verb]
        self.node.propose_conf_change([(letter, raft_id)])

    def begin(self) -> Ready | None:
        """The next round, if there is anything to do."""
        if not self.node.has_ready():
            return None
        ready = self.node.ready()
        stored, _ = self.store.initial_state()
        hard = ready.hard
        self._wait_all = hard is not None and (hard.term, hard.vote) != (stored.term, stored.vote)
        return ready

    def early(self, ready: Ready) -> tuple[Msg, ...]:
        """Messages that may leave before the save: none when the vote or term changed."""
        return tuple(m for m in ready.messages if not self._waits(m))

    def _waits(self, message: Msg) -> bool:
        return self._wait_all or message.type in PERSISTENT_REPLIES

    def durable(self, ready: Ready) -> dict[str, Any]:
        """What must be on disk before `finish`, as the arguments of Store.save."""
        return {"hard": ready.hard, "entries": ready.entries, "snapshot": ready.snapshot}

    def needs_disk(self, ready: Ready) -> bool:
        """Whether a round must wait for an fsync; a moved commit index alone need not."""
        return bool(ready.must_sync or ready.entries or ready.snapshot)

    def finish(self, ready: Ready) -> Round:
        """After the save: apply, answer, and release what had to wait for the disk."""
        self.store.remember()
        if ready.snapshot is not None:
            self.ledger.restore(ready.snapshot.data)
        applied = [done for entry in ready.committed if (done := self._apply(entry))]
        self.node.advance(ready)
        late = tuple(m for m in ready.messages if self._waits(m))
        return Round(
            messages=late,
            applied=tuple(applied),
            reads=ready.read_states,
            restored=ready.snapshot is not None,
        )

    def _apply(self, entry: Entry) -> Applied | None:
        if entry.type != "normal":
            ops, transition = decode_conf_change(entry)
            self.node.apply_conf_change(ops, transition)
            self._members_changed = True
            return None
        result = self.ledger.apply(entry.data, index=entry.index)
        return Applied(entry.index, result[0], result[1]) if result else None

    def image_due(self) -> tuple[int, ConfState, bytes] | None:
        """A snapshot to keep, as arguments of Store.make_snapshot.

        Due when the log has grown long, and after a change of members: a newcomer refuses a
        snapshot that does not know it yet.
        """
        applied = self.node.applied
        grown = applied - self.store.snapshot().index
        if grown < LOG_ENTRIES_MAX and not (self._members_changed and grown):
            return None
        self._members_changed = False
        return applied, self.node.status().conf, self.ledger.snapshot()

    def compact_to(self, index: int) -> int:
        """How far the log may be cut after a snapshot at index."""
        return max(self.store.first_index() - 1, index - LOG_ENTRIES_KEPT)
