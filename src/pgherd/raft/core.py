"""What a node knows, and the changes of role that every part of the machine may cause.

Owns the fields of a node and the reset that goes with each change of role. Leaves what a role
does with a message to follower.py, election.py and leader.py, and the outside to node.py.
Numbers in brackets are the decisions of RAFT.md 4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from pgherd.raft import progress as flow
from pgherd.raft.confchange import progress_of
from pgherd.raft.log import RaftLog
from pgherd.raft.readindex import ReadQueue
from pgherd.raft.roles import Cause, change_of
from pgherd.raft.types import (
    PERSISTENT_REPLIES,
    Config,
    Hard,
    Msg,
    MsgType,
    Progress,
    Role,
    Storage,
)

LogSink = Callable[[str, str], None]

CARRY_OTHER_TERM = frozenset({"Vote", "VoteResp", "PreVote", "PreVoteResp"})
"""Their sender says which term is meant; all other messages carry the sender's own (1)."""


class Core:
    """The state of one node. Only the modules of this room touch it."""

    def __init__(self, config: Config, storage: Storage, log: LogSink | None) -> None:
        hard, conf = storage.initial_state()
        self.config = config
        self.id = config.id
        self._sink = log
        self.log = RaftLog(storage, commit=hard.commit, applied=config.applied)
        self.conf = conf
        self.progress: dict[int, Progress] = {}
        self.take_progress(progress_of(conf, last_index=self.log.last_index()))

        self.term = hard.term
        self.vote = hard.vote
        self._hard = hard
        self.lead = 0
        self.role: Role = "follower"
        self.votes: dict[int, bool] = {}
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.election_timeout = config.election_tick
        self.pending_conf = 0
        self.transfer_target = 0
        self.uncommitted_bytes = 0
        self.reads = ReadQueue()

        self.messages: list[Msg] = []
        self.replies: list[Msg] = []
        self.read_states: list[tuple[int, bytes]] = []
        self._reset(hard.term)

    # -- what others ask -------------------------------------------------------------------------

    def hard(self) -> Hard:
        """What must be durable; one value while nothing of it changes, since many ask."""
        known, commit = self._hard, self.log.commit
        if known.term != self.term or known.vote != self.vote or known.commit != commit:
            known = self._hard = Hard(self.term, self.vote, commit)
        return known

    def peers(self) -> list[int]:
        """Everyone with progress except this node, ascending as the mapping is."""
        own = self.id
        return [node for node in self.progress if node != own]

    def can_stand(self) -> bool:
        """Whether this node may campaign (6)."""
        own = self.progress.get(self.id)
        return (
            self.role != "leader"
            and own is not None
            and not own.learner
            and self.log.unstable.snapshot is None
            and not self.log.has_unapplied_conf()
        )

    # -- what others cause -----------------------------------------------------------------------

    def say(self, level: str, text: str) -> None:
        """Tell the log, when there is one."""
        if self._sink is not None:
            self._sink(level, f"{self.id} at term {self.term}: {text}")

    def send(self, kind: MsgType, to: int, *, term: int | None = None, **fields: Any) -> None:
        """Queue a message; what promises something durable waits for it to be so (24)."""
        assert (term is not None) == (kind in CARRY_OTHER_TERM), f"{kind} with term {term}"
        assert to != self.id or kind in PERSISTENT_REPLIES, f"{kind} to oneself"
        own = self.term if term is None else term
        message = Msg(type=kind, frm=self.id, to=to, term=own, **fields)
        (self.replies if kind in PERSISTENT_REPLIES else self.messages).append(message)

    def pass_on(self, message: Msg) -> None:
        """Send a local request to the leader as a message, whoever asked staying its sender."""
        frm = message.frm or self.id
        self.messages.append(replace(message, frm=frm, to=self.lead, term=self.term))

    def update(self, node: int, **fields: Any) -> Progress:
        """Change single fields of a node's progress."""
        self.progress[node] = replace(self.progress[node], **fields)
        return self.progress[node]

    def heard(self, node: int) -> Progress:
        """Note that a node answers, for the quorum check."""
        known = self.progress[node]
        return known if known.active else self.update(node, active=True)

    def take_progress(self, progress: dict[int, Progress]) -> None:
        """Use a mapping that confchange.py made; it knows nothing of our window. Ids ascend."""
        limit = self.config.max_inflight
        self.progress = {
            node: one if one.inflight_max == limit else replace(one, inflight_max=limit)
            for node, one in progress.items()
        }

    def become_follower(self, term: int, lead: int, cause: Cause) -> None:
        """Follow, or wait for someone to follow (lead 0)."""
        self._change_role("follower", cause)
        self._reset(term)
        self.lead = lead

    def become_precandidate(self, cause: Cause) -> None:
        """Ask whether an election would be won; term and vote stay as they are (5)."""
        self._change_role("precandidate", cause)
        self.votes = {}
        self.lead = 0

    def become_candidate(self, cause: Cause) -> None:
        """Stand for the next term, with the own vote."""
        self._change_role("candidate", cause)
        self._reset(self.term + 1)
        self.vote = self.id

    def become_leader(self) -> None:
        """Lead the own term (10)."""
        self._change_role("leader", "majority")
        self._reset(self.term)
        self.lead = self.id
        own = flow.become_replicate(self.progress[self.id])
        self.progress[self.id] = replace(own, active=True)
        self.pending_conf = self.log.last_index()

    def _change_role(self, target: Role, cause: Cause) -> None:
        """Be what the table of roles says; AssertionError on a change that it does not have."""
        change = change_of(self.role, target, cause)
        self.role = target
        self.say("INFO", f"{change.source} -> {target}: {change.sentence}")

    def _reset(self, term: int) -> None:
        """What every change to follower, candidate or leader forgets (5)."""
        if term != self.term:
            assert term > self.term, f"term would go back from {self.term} to {term}"
            self.term = term
            self.vote = 0
        self.lead = 0
        self.votes = {}
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        tick = self.config.election_tick
        self.election_timeout = tick + self.config.rng(0, tick)
        self.transfer_target = 0
        self.pending_conf = 0
        self.uncommitted_bytes = 0
        self.reads = ReadQueue()
        self._reset_progress()

    def _reset_progress(self) -> None:
        last = self.log.last_index()
        limit = self.config.max_inflight
        for node, known in self.progress.items():
            fresh = flow.start(last, learner=known.learner, inflight_max=limit)
            self.progress[node] = replace(fresh, match=last) if node == self.id else fresh
