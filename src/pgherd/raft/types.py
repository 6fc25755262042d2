"""The nouns of the consensus core: messages, entries, configurations, what a Ready asks for.

Owns their shape and the exceptions. Holds no rule; `Msg`, `Entry`, `Snapshot` and `ConfState`
travel between nodes as msgpack and must stay readable by older nodes (fields have defaults).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, NamedTuple, Protocol

import msgspec

Role = Literal["follower", "precandidate", "candidate", "leader"]
EntryType = Literal["normal", "conf", "conf2"]
ProgressState = Literal["probe", "replicate", "snapshot"]
Transition = Literal["auto", "implicit", "explicit"]
ConfOp = tuple[str, int]
"""One change of membership: "v" voter, "l" learner, "r" remove, "u" update (nothing), and whom."""

MsgType = Literal[
    "App",
    "AppResp",
    "Vote",
    "VoteResp",
    "PreVote",
    "PreVoteResp",
    "Heartbeat",
    "HeartbeatResp",
    "Snap",
    "TimeoutNow",
    "TransferLeader",
    "ForgetLeader",
    "Prop",
    "ReadIndex",
    "ReadIndexResp",
    "Hup",
    "Beat",
    "CheckQuorum",
    "Unreachable",
    "SnapStatus",
]
LOCAL_TYPES = frozenset({"Hup", "Beat", "CheckQuorum", "Unreachable", "SnapStatus"})
"""Never accepted from the network."""
PERSISTENT_REPLIES = frozenset({"AppResp", "VoteResp", "PreVoteResp"})
"""Leave, or are stepped by oneself, only after what they promise is durable (decision 24)."""

INFLIGHT_UNLIMITED = 2**31 - 1


class Hard(NamedTuple):
    """What must be durable before a reply that depends on it leaves. 0 = none."""

    term: int
    vote: int
    commit: int


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One position of the log."""

    term: int = 0
    index: int = 0
    type: EntryType = "normal"
    data: bytes = b""


class ConfState(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who votes and who only listens; `voters_outgoing` is not empty while joint. Ids ascend."""

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    voters_outgoing: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()
    auto_leave: bool = False


class Snapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state after `index`, with the configuration in force there. Index 0 = no snapshot."""

    index: int = 0
    term: int = 0
    conf: ConfState = ConfState()
    data: bytes = b""


class Msg(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What nodes say to each other. Which fields mean what depends on `type` (RAFT.md 4)."""

    type: MsgType
    frm: int = 0
    to: int = 0
    term: int = 0
    log_term: int = 0
    index: int = 0
    entries: tuple[Entry, ...] = ()
    commit: int = 0
    vote: int = 0
    reject: bool = False
    reject_hint: int = 0
    snapshot: Snapshot | None = None
    context: bytes = b""

    responses: ClassVar[tuple[Msg, ...]] = ()
    """Always empty: it belongs to asynchronous storage writes, which this core does not do."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """How one node behaves. Ticks are counted by the caller; sizes are bytes of `entry_size`.

    rng(lo, hi) gives an integer in [lo, hi) and is the only source of chance.
    max_uncommitted_size limits the payload that a leader holds without a quorum; None = no limit.
    """

    id: int
    rng: Callable[[int, int], int]
    election_tick: int = 3
    heartbeat_tick: int = 1
    pre_vote: bool = False
    check_quorum: bool = False
    max_inflight: int = INFLIGHT_UNLIMITED
    max_size_per_msg: int | None = None
    max_committed_size_per_ready: int | None = None
    max_uncommitted_size: int | None = None
    step_down_on_removal: bool = False
    read_only: Literal["safe", "lease"] = "safe"
    disable_conf_change_validation: bool = False
    applied: int = 0

    def __post_init__(self) -> None:
        """Refuse what could not work, naming the field."""
        if self.id <= 0:
            raise ValueError("id must be above 0")
        if not 0 < self.heartbeat_tick < self.election_tick:
            raise ValueError("heartbeat_tick must be above 0 and below election_tick")
        if self.max_inflight <= 0:
            raise ValueError("max_inflight must be above 0")
        if self.read_only == "lease" and not self.check_quorum:
            raise ValueError('read_only="lease" needs check_quorum')


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What the leader knows of one node. A value: `progress.py` makes the next one.

    match = known stored there · next = the first index to send · sent_commit = the commit index it
    was told · flow_paused = wait for an answer before the next append · window = the last index of
    every unanswered append, ascending.
    """

    match: int = 0
    next: int = 1
    state: ProgressState = "probe"
    learner: bool = False
    pending_snapshot: int = 0
    active: bool = False
    sent_commit: int = 0
    flow_paused: bool = False
    window: tuple[int, ...] = ()
    inflight_max: int = INFLIGHT_UNLIMITED

    @property
    def paused(self) -> bool:
        """Whether appends must wait."""
        return self.flow_paused or self.state == "snapshot"

    @property
    def inflight(self) -> int:
        """How many appends are unanswered."""
        return len(self.window)

    @property
    def inflight_full(self) -> bool:
        """Whether no further append with entries may be sent."""
        return len(self.window) >= self.inflight_max


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller has to do now, in this order.

    Store snapshot, entries and hard durably (in one go; an fsync is needed if must_sync, and for a
    snapshot always), send messages, hand committed to the state machine (apply_conf_change for each
    configuration entry),
    answer read_states once applied reaches their index, then call advance. Messages whose type is
    not in PERSISTENT_REPLIES come first and may leave before the disk is done: heartbeats must not
    wait for it.
    """

    soft: tuple[int, Role] | None = None
    hard: Hard | None = None
    must_sync: bool = False
    entries: tuple[Entry, ...] = ()
    snapshot: Snapshot | None = None
    committed: tuple[Entry, ...] = ()
    messages: tuple[Msg, ...] = ()
    read_states: tuple[tuple[int, bytes], ...] = ()


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A node as it sees itself. progress: on a leader only, itself included."""

    id: int
    role: Role
    term: int
    vote: int
    lead: int
    commit: int
    applied: int
    conf: ConfState
    progress: dict[int, Progress]


class Storage(Protocol):
    """The durable log, read only. The caller writes it, as each Ready asks.

    first_index() - 1 is a known position (of the snapshot): term() answers there too. Positions
    below raise Compacted, positions beyond the end raise Unavailable.
    """

    def initial_state(self) -> tuple[Hard, ConfState]:
        """Hard state, and the configuration in force at Config.applied (or first_index() - 1)."""

    def first_index(self) -> int:
        """The first index whose entry is stored, or would be."""

    def last_index(self) -> int:
        """The last index stored; first_index() - 1 when there is none."""

    def term(self, index: int) -> int:
        """The term of the entry at index."""

    def snapshot(self) -> Snapshot:
        """The newest snapshot; index 0 when there is none."""

    def entries(self, lo: int, hi: int, max_bytes: int | None) -> list[Entry]:
        """Entries in [lo, hi), as many as fit into max_bytes, at least one."""


class ProposalDropped(Exception):
    """The proposal was not appended; ask the leader, or try again later."""


class StepLocalMsg(Exception):
    """A message of a local type came from the network."""


class StepPeerNotFound(Exception):
    """A reply came from a node that is not in the configuration."""


class Compacted(LookupError):
    """The position is below what the log still holds."""


class Unavailable(LookupError):
    """The position is beyond the end of the log."""


class ConfChangeError(ValueError):
    """A configuration change that must not be applied.

    code: no-voters too-many-voters simple-in-joint already-joint empty-joint not-joint
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code
