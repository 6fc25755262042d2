"""What the cluster agreed on: the replicated facts that the ledger keeps and the deciders read.

Owns the shape of the facts. How they change is `ledger`'s; what to change next is `plan`'s.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from pgherd.model.credentials import Credentials
from pgherd.model.drill import Drill
from pgherd.model.ids import Lsn, MemberKey, NodeId, Position, RaftId, Term, Timeline
from pgherd.model.lease import Lease
from pgherd.model.pgconfig import ConfigVersion
from pgherd.model.rights import Rights
from pgherd.model.slots import KeptSlot
from pgherd.model.standbycluster import Following
from pgherd.model.synctuning import SyncTuning
from pgherd.model.upkeep import Upkeep


class Phase(StrEnum):
    """Where a term stands (PROTOCOL.md 2)."""

    UNBORN = "unborn"
    ELECTING = "electing"
    ESTABLISHING = "establishing"
    STABLE = "stable"


class Mode(StrEnum):
    """What an acknowledgement promises: `quorum` may degrade by the ledger, `strict` blocks.

    `async` promises the primary's own disk only, and bounds by its lease how long it may write on.
    """

    ASYNC = "async"
    QUORUM = "quorum"
    STRICT = "strict"


NUM_SYNC_MOST = 8
MAX_VOTERS = 5
MAX_VOTERS_MOST = 7
"""More voters make every commit slower and a majority larger, and only two more may fail."""


class Kind(StrEnum):
    """What a member does: holds data, only votes, or only leads clients to the others."""

    DATA = "data"
    WITNESS = "witness"
    PROXY = "proxy"

    @property
    def votes(self) -> bool:
        """Whether such a member may vote in consensus."""
        return self is not Kind.PROXY


class Address(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Where a node is reached, per channel, as `host` and `port` (advertised, not bound)."""

    host: str
    raft_port: int
    postgres_port: int = 0
    api_port: int = 0
    proxy_primary_port: int = 0
    proxy_replica_port: int = 0
    raft_host: str = ""
    postgres_host: str = ""
    api_host: str = ""
    proxy_host: str = ""

    def postgres(self) -> tuple[str, int]:
        """Host and port of PostgreSQL for peers."""
        return self.postgres_host or self.host, self.postgres_port

    def raft(self) -> tuple[str, int]:
        """Host and port of the peer channel."""
        return self.raft_host or self.host, self.raft_port

    def api(self) -> tuple[str, int]:
        """Host and port of the REST API."""
        return self.api_host or self.host, self.api_port

    def proxy(self, replica: bool = False) -> tuple[str, int]:
        """Host and port of the way in for clients."""
        port = self.proxy_replica_port if replica else self.proxy_primary_port
        return self.proxy_host or self.host, port


class Tags(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An operator's wishes about one member.

    replicatefrom: whose server it streams from in place of the primary's, "" for the primary's ·
    delay_ms: it replays nothing that is younger; 0 = no delay.
    """

    failover_priority: int = 100
    nofailover: bool = False
    nosync: bool = False
    zone: str = ""
    replicatefrom: str = ""
    delay_ms: int = 0

    @property
    def may_lead(self) -> bool:
        """Whether it is made primary without being named: a delayed replica never is."""
        return not self.nofailover and not self.delay_ms


class Member(msgspec.Struct, frozen=True):
    """A node in the ledger. incarnation: of its data directory, "" until it has one.

    leaving: somebody asked to remove it; it counts for nothing new and goes step by step.
    level: of the ledger that its program understands (`ledger.levels`) · store: the incarnation of
    the Raft store that takes part under this Raft id, "" until it is known; another store under the
    same id has forgotten what it promised.
    """

    node: NodeId
    raft_id: RaftId
    kind: Kind
    address: Address
    incarnation: str = ""
    tags: Tags = Tags()
    voter: bool = True
    leaving: bool = False
    level: int = 1
    store: str = ""

    @property
    def key(self) -> MemberKey:
        return MemberKey(self.node, self.incarnation)


class SyncUse(msgspec.Struct, frozen=True):
    """A synchronous set that some walsender may still act on."""

    generation: int
    names: tuple[MemberKey, ...]
    k: int


class SyncState(msgspec.Struct, frozen=True):
    """The sync set of the current reign (PROTOCOL.md 2 and 4).

    voters = V, leader excluded · k = acknowledgements PostgreSQL must collect · kd = the weakest k
    under which anything may have been acknowledged · r = members of V an elector must seal ·
    names, names_k, generation = what PostgreSQL is told to use now · in_use = older configurations
    that walsenders may still act on, until the leader reports the generation settled.
    """

    voters: tuple[MemberKey, ...] = ()
    k: int = 0
    kd: int = 0
    r: int = 0
    names: tuple[MemberKey, ...] = ()
    names_k: int = 0
    generation: int = 0
    in_use: tuple[SyncUse, ...] = ()


class Reign(msgspec.Struct, frozen=True):
    """One term's leader, recorded at F5 and completed at F8.

    start = the winner's frozen position: the point where its history leaves its predecessor's.
    promoted = False when the leader kept its server (false alarm): no timeline was opened.
    lost_bytes = how much of its predecessor's WAL, as far as the ledger knew of it, this reign
    began without, by the policy of mode async; None where nothing acknowledged was given up.
    gave_up = whom an operator gave up for lost in its election, with what only they held.
    """

    term: Term
    leader: MemberKey
    start: Position
    promoted: bool
    rule: int
    reason: str
    timeline: Timeline = Timeline(0)
    established: bool = False
    began_at_ms: int = 0
    established_at_ms: int = 0
    lost_bytes: int | None = None
    gave_up: tuple[MemberKey, ...] = ()


class Switchover(msgspec.Struct, frozen=True):
    """A wish for a planned change of primary that the ledger keeps until it is done or undone.

    held: no transaction is to begin at the primary any more.
    """

    id: str
    candidate: NodeId | None
    requested_by: str
    requested_at_ms: int
    held: bool = False


class Handover(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A planned switchover in its ELECTING phase: the leader drains first, the others then seal.

    drained = the old leader's final position once it has stopped, None before.
    """

    switchover: str
    candidate: NodeId
    drained: Position | None = None


class Forced(msgspec.Struct, frozen=True):
    """An operator's order to fail over now."""

    id: str
    candidate: NodeId | None
    requested_by: str


class GivenUp(msgspec.Struct, frozen=True):
    """Whom an operator gave up for lost, with what only they held, in the present election.

    known_end: how far the old leader's WAL is known to reach, 0 where it is not · accept_bytes: the
    most of it that may be lost, None for any.
    """

    id: str
    lost: tuple[MemberKey, ...]
    candidate: NodeId | None
    requested_by: str
    known_end: Lsn
    accept_bytes: int | None = None


class FastForward(msgspec.Struct, frozen=True):
    """A grant of the present election: whom a candidate may take from what it lacks of a target.

    Both are sealed; the holder is at the target, and stays there.
    """

    candidate: MemberKey
    holder: MemberKey
    target: Position


class Facts(msgspec.Struct, frozen=True):
    """Everything the cluster agreed on, as of one applied index.

    mode_wanted: a mode with copies that was asked for in mode async; it comes into force together
    with the synchronous set · unsealed: who led and is not sealed since, from an election until its
    term is established · config: PostgreSQL's parameters for all members, the newest version last ·
    credentials: passwords that were changed while the cluster ran ·
    slots: what people want on whoever is primary · tuning: of the sync set · follows: this is a
    standby cluster, unborn until it is promoted · past: reigns of before it followed, for people ·
    rights: who may do what on the API, and what was asked for there · drills: the newest last.
    """

    cluster: str
    members: dict[NodeId, Member] = {}
    next_raft_id: RaftId = RaftId(1)
    phase: Phase = Phase.UNBORN
    term: Term = Term(0)
    elector: NodeId | None = None
    leader: MemberKey | None = None
    mode: Mode = Mode.QUORUM
    num_sync: int = 0
    max_voters: int = MAX_VOTERS
    sync: SyncState = SyncState()
    system_id: str = ""
    major: int = 0
    founder: NodeId | None = None
    history: tuple[Reign, ...] = ()
    switchover: Switchover | None = None
    handover: Handover | None = None
    forced: Forced | None = None
    reason: str = ""
    rule: int = 0
    began_at_ms: int = 0
    level: int = 1
    tokens: dict[str, JoinToken] = {}
    notes: tuple[Note, ...] = ()
    lease: Lease | None = None
    mode_wanted: Mode | None = None
    given_up: GivenUp | None = None
    unsealed: tuple[MemberKey, ...] = ()
    forward: FastForward | None = None
    config: tuple[ConfigVersion, ...] = ()
    upkeep: Upkeep = Upkeep()
    credentials: Credentials = {}
    slots: tuple[KeptSlot, ...] = ()
    tuning: SyncTuning = SyncTuning()
    follows: Following | None = None
    past: tuple[Reign, ...] = ()
    rights: Rights = Rights()
    drills: tuple[Drill, ...] = ()

    @property
    def paused(self) -> bool:
        """Whether nothing fails over and nothing is repaired by itself."""
        return self.upkeep.pause is not None

    @property
    def is_quiet(self) -> bool:
        """Whether no election goes on, nor is one to come by itself."""
        return self.phase is Phase.STABLE or self.follows is not None

    def member(self, key: MemberKey) -> Member | None:
        """The member of this name if it still has this incarnation."""
        found = self.members.get(key.node)
        return found if found is not None and found.incarnation == key.incarnation else None

    def was_removed(self, raft_id: RaftId) -> bool:
        """Whether a Raft id was given away here once and belongs to nobody any more."""
        given = 0 < raft_id < self.next_raft_id
        return given and all(m.raft_id != raft_id for m in self.members.values())

    def is_leader(self, node: NodeId) -> bool:
        """Whether the ledger names this node as the leader of the current term."""
        return self.leader is not None and self.leader.node == node

    def reign(self) -> Reign | None:
        """The newest reign of the history, whatever its term."""
        return self.history[-1] if self.history else None


class JoinToken(msgspec.Struct, frozen=True):
    """A single-use right to join: the secret's hash, when it ends, whether it was used."""

    id: str
    secret_sha256: str
    expires_at_unix: int
    used_by: NodeId | None = None


class Note(msgspec.Struct, frozen=True):
    """A line of history for people: what was decided or refused, and why."""

    at_ms: int
    term: Term
    kind: str
    text: str
    rule: int = 0


class Frozen(msgspec.Struct, frozen=True):
    """A sealed position: this member receives no WAL of a term below `term` any more."""

    term: Term
    position: Position


class Floor(msgspec.Struct, frozen=True):
    """A position that must be regained after a rewind before the member counts again."""

    position: Position
    fork_lsn: Lsn = Lsn(0)
