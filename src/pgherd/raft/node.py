"""One node of a consensus group, as seen by the code that drives it.

THEORY OF OPERATION

A node is a value machine. It is told things (`step` a message, `tick` the clock, `propose`, ...),
which change its state in memory and queue what must happen outside. The caller then takes a
`Ready`, does what it asks for, and says `advance`. Nothing else enters or leaves.

    step, tick, propose ...      ready()                       advance(rd)
    --------------------->  node ------> store, send, apply  ------------> node (own votes and acks,
                                                                           stored, applied)

A node is follower, precandidate, candidate or leader; roles.py is the table of what moves it from
one to another, core.py has one method per role, and docs/design/consensus.md the drawing.

Three promises make it safe, and each has one place:

1. *Durable before said.* Votes and acknowledgements (`PERSISTENT_REPLIES`) come last in a Ready,
   which the caller sends only after storing what the same Ready carries. A node's own vote and its
   own acknowledgement take the same way: they are stepped by `advance`, not counted at once.
2. *A vote needs a log as new as the voter's* (election.py), *and a leader commits by counting only
   entries of its own term* (replicate.count): so every leader has every committed entry.
3. *One change of configuration at a time* (membership.py), in force when applied.

Three rules keep it live and quiet: pre-vote (a node that was away disturbs nobody), check_quorum
(a leader without followers steps down) and the refusal to vote while a leader is heard of. They
need each other, and the answer to messages of older terms (election.py).

`ready` hands everything out once. Between `ready` and `advance` messages may be stepped, which is
how a slow disk does not stop the node; a second `ready` must wait for `advance`. A node that was
restarted is built anew from what is stored. An AssertionError means that a promise was broken
outside (lost storage, a forged message): stop, do not restart over it.

The numbered decisions in the other modules are those of RAFT.md 4, to which traces are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pgherd.raft import election, follower, leader, membership
from pgherd.raft.confchange import encode_conf_change
from pgherd.raft.core import Core, LogSink
from pgherd.raft.types import (
    LOCAL_TYPES,
    Config,
    ConfOp,
    ConfState,
    Entry,
    Msg,
    ProposalDropped,
    Ready,
    Role,
    Status,
    StepLocalMsg,
    StepPeerNotFound,
    Storage,
    Transition,
)

RESPONSES = frozenset({"AppResp", "VoteResp", "PreVoteResp", "HeartbeatResp", "ReadIndexResp"})


class _Handed(NamedTuple):
    """What a Ready handed out, for `advance` to conclude."""

    own_replies: tuple[Msg, ...]
    moves_term_or_vote: bool
    term: int
    last: tuple[int, int] | None
    snapshot_index: int
    committed: tuple[Entry, ...]


class RaftNode:
    """A node; starts as a follower without leader, from what storage holds."""

    def __init__(self, cfg: Config, storage: Storage, log: LogSink | None = None) -> None:
        self._core = Core(cfg, storage, log)
        self._soft_told = self._soft()
        self._hard_told = self._core.hard()
        self._handed: _Handed | None = None

    # -- what it is ------------------------------------------------------------------------------

    @property
    def id(self) -> int:
        """Its number in the group."""
        return self._core.id

    @property
    def lead(self) -> int:
        """The leader it knows of; 0 = none."""
        return self._core.lead

    @property
    def led_by(self) -> int:
        """The leader that it has heard within the longest election timeout; 0 = none.

        A voter that hears none forgets its leader when it stands for election. Whoever cannot
        stand, a learner or a removed node, keeps the last one in `lead` for ever.
        """
        core = self._core
        is_heard = core.election_elapsed < 2 * core.config.election_tick
        return core.lead if core.role == "leader" or is_heard else 0

    @property
    def role(self) -> Role:
        """What it is at the moment."""
        return self._core.role

    @property
    def term(self) -> int:
        """Its Raft term."""
        return self._core.term

    @property
    def conf(self) -> ConfState:
        """The configuration in force: the last one that was applied."""
        return self._core.conf

    @property
    def commit(self) -> int:
        """The last index that it knows to be agreed on."""
        return self._core.log.commit

    @property
    def applied(self) -> int:
        """The last index that the caller has applied."""
        return self._core.log.applied

    def status(self) -> Status:
        """All of it at once."""
        core = self._core
        return Status(
            id=core.id,
            role=core.role,
            term=core.term,
            vote=core.vote,
            lead=core.lead,
            commit=core.log.commit,
            applied=core.log.applied,
            conf=core.conf,
            progress=dict(sorted(core.progress.items())) if core.role == "leader" else {},
        )

    # -- what it is told -------------------------------------------------------------------------

    def step(self, msg: Msg) -> None:
        """Take a message from the network.

        Raises StepLocalMsg, StepPeerNotFound, or (for a proposal) ProposalDropped.
        """
        if msg.type in LOCAL_TYPES:
            raise StepLocalMsg(msg.type)
        if msg.type in RESPONSES and msg.frm not in self._core.progress:
            raise StepPeerNotFound(f"{msg.type} from {msg.frm}, which is no member")
        self._step(msg)

    def tick(self) -> None:
        """Count one tick of the clock: heartbeats, or the way to an election."""
        core = self._core
        if core.role == "leader":
            leader.tick(core)
            return
        core.election_elapsed += 1
        if core.election_elapsed >= core.election_timeout and core.can_stand():
            core.election_elapsed = 0
            election.campaign(core)

    def campaign(self) -> None:
        """Try to become leader now."""
        election.campaign(self._core)

    def propose(self, data: bytes) -> None:
        """Append data to the log; leader only. Raises ProposalDropped."""
        self._propose(Entry(data=data))

    def propose_conf_change(
        self, ops: Sequence[ConfOp], v1: bool = False, transition: Transition = "auto"
    ) -> None:
        """Propose a change of membership; it may end up as an empty entry (12).

        v1 writes the older form, which holds one op and no transition.
        """
        if v1 and (len(ops) != 1 or transition != "auto"):
            raise ValueError("a v1 change holds one op and no transition")
        data = encode_conf_change(ops, transition)
        self._propose(Entry(type="conf" if v1 else "conf2", data=data))

    def apply_conf_change(
        self, ops: Iterable[ConfOp], transition: Transition = "auto"
    ) -> ConfState:
        """Put a committed change in force, while applying its entry and before advance."""
        return membership.apply(self._core, list(ops), transition)

    def transfer_leader(self, to: int) -> None:
        """Hand leadership to a voter; on a follower the leader is asked to."""
        self._step(Msg(type="TransferLeader", frm=to))

    def forget_leader(self) -> None:
        """As a follower, be ready to vote for another leader, in the same term."""
        self._step(Msg(type="ForgetLeader"))

    def read_index(self, ctx: bytes) -> None:
        """Ask from which index on the state may be read; the answer is in Ready.read_states.

        It can be lost (no leader, change of leader): ask again, with the same or another ctx.
        """
        self._step(Msg(type="ReadIndex", context=ctx))

    def report_unreachable(self, id: int) -> None:
        """A message to a node was probably lost."""
        self._step(Msg(type="Unreachable", frm=id))

    def report_snapshot(self, id: int, ok: bool) -> None:
        """A snapshot to a node was delivered, or not."""
        self._step(Msg(type="SnapStatus", frm=id, reject=not ok))

    def set_randomized_election_timeout(self, ticks: int) -> None:
        """Wait this long for a leader, until the next change of role or term."""
        self._core.election_timeout = ticks

    # -- what it wants done ----------------------------------------------------------------------

    def has_ready(self) -> bool:
        """Whether a Ready would ask for anything."""
        core, unstable = self._core, self._core.log.unstable
        return bool(
            core.messages
            or core.replies
            or core.read_states
            or unstable.has_waiting_entries()
            or unstable.waiting_snapshot()
            or core.log.has_committed_waiting()
            or core.hard() != self._hard_told
            or self._soft() != self._soft_told
        )

    def ready(self) -> Ready:
        """Take what has to be done; everything is handed out once."""
        assert self._handed is None, "ready() before advance() of the last one"
        core = self._core
        entries = core.log.unstable.waiting_entries()
        snapshot = core.log.unstable.waiting_snapshot()
        soft, hard, told = self._soft(), core.hard(), self._hard_told
        moves_term_or_vote = hard[:2] != told[:2]
        committed = core.log.committed_waiting(core.config.max_committed_size_per_ready)
        replies_out = [reply for reply in core.replies if reply.to != core.id]
        ready = Ready(
            soft=soft if soft != self._soft_told else None,
            hard=hard if hard != told else None,
            must_sync=bool(entries) or moves_term_or_vote,
            entries=entries,
            snapshot=snapshot,
            committed=committed,
            messages=(*core.messages, *replies_out),
            read_states=tuple(core.read_states),
        )
        self._soft_told, self._hard_told = soft, hard
        self._hand_out(ready, moves_term_or_vote=moves_term_or_vote)
        return ready

    def urgent(self) -> tuple[Msg, ...]:
        """Messages that may leave at once while the disk is busy with a Ready or a snapshot.

        They promise nothing that is not durable: heartbeats and their answers, appends, reads.
        None while a new term or vote is not stored. With an idle disk take the next Ready instead.
        """
        handed, core = self._handed, self._core
        is_moving = handed is not None and handed.moves_term_or_vote
        if is_moving or core.hard()[:2] != self._hard_told[:2]:
            return ()
        messages, core.messages = core.messages, []
        return tuple(messages)

    def _hand_out(self, ready: Ready, *, moves_term_or_vote: bool) -> None:
        """Note what is on its way out, so that it is not handed out again."""
        core = self._core
        log, unstable = core.log, core.log.unstable
        self._handed = _Handed(
            own_replies=tuple([reply for reply in core.replies if reply.to == core.id]),
            moves_term_or_vote=moves_term_or_vote,
            term=core.term,
            last=(log.last_index(), log.last_term()) if unstable.entries else None,
            snapshot_index=ready.snapshot.index if ready.snapshot else 0,
            committed=ready.committed,
        )
        core.messages, core.replies, core.read_states = [], [], []
        unstable.hand_out()
        if ready.committed:
            log.handed_over = ready.committed[-1].index

    def advance(self, rd: Ready) -> None:
        """Say that a Ready is stored, sent and applied.

        In this order: the node's own votes and acknowledgements count, what was stored is known
        to be, what was handed over is applied.
        """
        handed, self._handed = self._handed, None
        assert handed is not None, "advance() without ready()"
        assert handed.committed == rd.committed, "advance() with another Ready"
        core = self._core
        for reply in handed.own_replies:
            self._step(reply)
        if handed.last is not None and handed.term == core.term:
            core.log.unstable.stored_to(*handed.last)
        if handed.snapshot_index:
            core.log.unstable.snapshot_stored(handed.snapshot_index)
            core.log.applied_to(handed.snapshot_index)
        if handed.committed:
            self._applied(handed.committed)

    # -- inside ----------------------------------------------------------------------------------

    def _soft(self) -> tuple[int, Role]:
        return self._core.lead, self._core.role

    def _propose(self, entry: Entry) -> None:
        if self._core.role != "leader":
            raise ProposalDropped(f"node {self.id} is {self.role} of {self.lead or 'no one'}")
        leader.propose(self._core, (entry,))

    def _step(self, msg: Msg) -> None:
        """The term first, then votes, which all roles treat alike, then the role."""
        core = self._core
        if not election.admit(core, msg):
            return
        if msg.type in ("Vote", "PreVote"):
            election.on_vote_request(core, msg)
        elif core.role == "leader":
            leader.handle(core, msg)
        elif core.role != "follower":
            election.handle(core, msg)
        elif msg.type == "TimeoutNow":
            election.campaign(core, transfer=True)
        else:
            follower.handle(core, msg)

    def _applied(self, committed: tuple[Entry, ...]) -> None:
        core = self._core
        core.log.applied_to(committed[-1].index)
        freed = leader.payload_bytes(committed)
        core.uncommitted_bytes = max(0, core.uncommitted_bytes - freed)
        leader.leave_if_due(core)
