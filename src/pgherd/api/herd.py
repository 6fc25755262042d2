"""The port through which the API speaks to an agent, and the values that pass through it.

Owns the `Herd` protocol, which `daemon` implements, and the errors that it may raise. Leaves the
public form of all this to `schema`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import ClassVar, Protocol

import msgspec

from pgherd.api.nodeport import NodePort
from pgherd.ledger.commands import AnyCommand, BeginDrill, Outcome
from pgherd.model.activity import Transaction
from pgherd.model.credentials import Which
from pgherd.model.errors import PgherdError
from pgherd.model.facts import Address, Facts, Kind, Tags
from pgherd.model.ids import Instant, NodeId, RaftId
from pgherd.model.observation import Heard
from pgherd.model.pgconfig import ConfigAsked, ConfigChecked
from pgherd.model.probed import Probed
from pgherd.model.standbycluster import Remote, RemoteSeen
from pgherd.plan.splitbrain import Noticed
from pgherd.plan.trail import Trail
from pgherd.route.poolreport import PoolCounters
from pgherd.telemetry.journal import Journal


class RaftRole(StrEnum):
    """What a node is in consensus."""

    LEADER = "leader"
    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEARNER = "learner"
    REMOVED = "removed"
    AMNESIA = "amnesia"


class RaftSeen(msgspec.Struct, frozen=True):
    """Consensus as this node sees it now. term: the Raft term, never a reign's.

    leader: None while none is known; a leader that lost touch with a quorum knows none either.
    amnesia: of a node that lost its Raft store: why, and what its return waits for.
    """

    role: RaftRole
    term: int
    leader: NodeId | None
    commit: int
    applied: int
    voters: tuple[RaftId, ...] = ()
    learners: tuple[RaftId, ...] = ()
    amnesia: str = ""


class ProxySeen(msgspec.Struct, frozen=True):
    """What the proxy of this node reports. sessions: listener label -> backend -> open now.

    held: clients that wait · moved: sessions that went on at another server, so far ·
    backends: nodes that it may route to now, by route (`primary`, `replica`) ·
    engine: who carries the bytes of its new sessions · queries: answered, by route and kind ·
    routed: with route: auto, where queries went, and what they are ·
    hold_counts, held_ms: waits that ended, by class, and their time together · pools: of
    pool: transaction; None where nobody has used one.
    """

    healthy: bool
    sessions: dict[str, dict[str, int]] = {}
    held: int = 0
    moved: int = 0
    opened: dict[str, dict[str, int]] = {}
    errors: dict[str, int] = {}
    bytes_from_clients: int = 0
    bytes_from_servers: int = 0
    backends: dict[str, tuple[NodeId, ...]] = {}
    engine: str = ""
    queries: dict[str, dict[str, int]] = {}
    routed: dict[str, dict[str, int]] = {}
    hold_counts: tuple[int, ...] = ()
    held_ms: int = 0
    pools: PoolCounters | None = None


class NoQuorum(PgherdError):
    """Consensus has no leader that can commit: nothing was changed, or it is not known."""

    exit_code: ClassVar[int] = 4


class TimedOut(PgherdError):
    """The answer did not come in time; what was asked for may still happen."""

    exit_code: ClassVar[int] = 5


class JoinRefused(PgherdError):
    """This node may not join. code: a word for programs."""

    exit_code: ClassVar[int] = 3

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.code = code


class JoinRequest(msgspec.Struct, frozen=True):
    """A node asks to become a member.

    csr: PEM; of it only the key is used · major: of its PostgreSQL, 0 where it has none ·
    level: of the ledger that its program understands · system_id: of the data directory that it has
    and keeps, "" where it wants a copy · tls: whether its PostgreSQL can speak TLS.
    """

    token_id: str
    secret: str
    node: NodeId
    kind: Kind
    address: Address
    csr: str
    tags: Tags = Tags()
    major: int = 0
    level: int = 1
    system_id: str = ""
    tls: bool = True


class SharedToken(msgspec.Struct, frozen=True):
    """An API token as configuration keeps it: by its hash."""

    name: str
    role: str
    sha256: str


class Shared(msgspec.Struct, frozen=True):
    """What every data member's configuration has in common, secrets included.

    ca_key: PEM of the authority's private key, so that no single node is needed for the next join
    · admin_token: the one that `init` made, so that the command line works on every data member ·
    primary_pool: what this member's own primary port does; one that does not say is an old one ·
    postgres_tls: members talk to each other's PostgreSQL by TLS only · proxy_tls: this member's
    proxy offers TLS ·
    archive: the keys of that section, as they are written.
    """

    superuser: str = ""
    superuser_password: str = ""
    replication: str = ""
    replication_password: str = ""
    rewind: str = ""
    rewind_password: str = ""
    database: str = "postgres"
    hba: tuple[str, ...] = ()
    parameters: dict[str, str] = {}
    tokens: tuple[SharedToken, ...] = ()
    ca_key: str = ""
    admin_token: str = ""
    primary_pool: str = "none"
    postgres_tls: bool = False
    proxy_tls: bool = False
    archive: dict[str, str] = {}

    def for_witness(self) -> Shared:
        """What a node without PostgreSQL needs: nothing secret."""
        return Shared(tokens=self.tokens, primary_pool=self.primary_pool, proxy_tls=self.proxy_tls)


class Seat(msgspec.Struct, frozen=True):
    """A member as a newcomer must know it to take part in consensus."""

    node: NodeId
    raft_id: RaftId
    address: Address
    voter: bool = True


class Admission(msgspec.Struct, frozen=True):
    """What a joined node knows of the cluster before its first contact; not secret.

    Written by `pgherd join` as `joined.json` into raft.data_dir: an agent that finds it there does
    not found a cluster but waits, under this Raft id, for the Raft leader of these members.
    """

    cluster: str
    node: NodeId
    raft_id: RaftId
    members: tuple[Seat, ...]
    system_id: str = ""
    major: int = 0


class JoinAnswer(msgspec.Struct, frozen=True):
    """The answer to a node that was admitted: its certificate, its seat, what all share."""

    certificate: str
    ca: str
    admission: Admission
    shared: Shared


class EventSource(Protocol):
    """What this node knows of events, and of those that others alone know of."""

    journal: Journal

    async def gather(self) -> None:
        """Have in the journal what the other nodes told since they were asked last."""
        ...

    def following(self) -> AbstractContextManager[None]:
        """Somebody follows: what other nodes tell gets into the journal before long."""
        ...


class Herd(Protocol):
    """The agent, as the API sees it. Nothing here waits except what is `async`."""

    node: NodeId
    own: NodePort
    """What any node can be asked about itself."""

    def facts(self) -> Facts:
        """The facts as applied on this node."""
        ...

    def reports(self) -> dict[NodeId, Heard]:
        """The newest report of each node, this one's included."""
        ...

    def noticed(self) -> tuple[Noticed, ...]:
        """What fresh reports say against the ledger, and since when: split brain."""
        ...

    def now(self) -> Instant:
        """The clock of `Heard.at`."""
        ...

    def trail(self) -> Trail:
        """When the primary's WAL was where, as this node heard it."""
        ...

    def raft(self) -> RaftSeen:
        """Consensus as this node sees it."""
        ...

    def explain(self) -> tuple[str, str]:
        """The newest sentence of the member decider and, on the Raft leader, the herd decider."""
        ...

    def proxy(self) -> ProxySeen | None:
        """What the proxy reports; None while there is none."""
        ...

    def events(self) -> EventSource:
        """The events that this node knows of."""
        ...

    async def submit(self, command: AnyCommand, *, timeout_s: float) -> Outcome:
        """Put a command through consensus, wherever its leader is. Raises NoQuorum, TimedOut."""
        ...

    async def consistent(self, *, timeout_s: float) -> bool:
        """Wait until the applied facts include all that was committed before this call."""
        ...

    async def transfer(self, to: NodeId, *, timeout_s: float) -> None:
        """Hand Raft leadership to a voter and wait for it. Raises NoQuorum, TimedOut."""
        ...

    async def check_config(self, asked: ConfigAsked) -> ConfigChecked:
        """Have the primary's server look at parameters. Raises PostgresError, PeerError."""
        ...

    async def rotate(self, which: Which, *, secret: str, overlap_ms: int, author: str) -> Outcome:
        """Begin a change of a password. Raises OperatorError, NoQuorum, TimedOut."""
        ...

    async def long_transactions(self, node: NodeId, seconds: int) -> tuple[Transaction, ...]:
        """What has been open for longer than that there. Raises PostgresError, PeerError."""
        ...

    async def probes(self, node: NodeId, limit: int) -> tuple[Probed, ...]:
        """The newest probes of its server, by its own agent. Raises PostgresError, PeerError."""
        ...

    async def ask_remote(self, node: NodeId, remote: Remote) -> tuple[RemoteSeen, ...]:
        """Have that node ask a remote primary who it is. Raises PostgresError, PeerError."""
        ...

    def drill_via(self) -> str:
        """Where probe writes of a drill go, `proxy` or `servers`. Raises OperatorError."""
        ...

    def begin_drill(self, begun: BeginDrill, obstacle: Callable[[], str]) -> None:
        """Measure the drill that the ledger has taken; its end is told to the ledger. obstacle:
        what has come in its way by the time of the stroke, "" for nothing."""
        ...

    async def join(self, request: JoinRequest) -> JoinAnswer:
        """Admit a node. Raises JoinRefused, NoQuorum, TimedOut."""
        ...

    async def sign(self, node: NodeId, csr: str, days: int) -> tuple[str, str]:
        """A member's new certificate, and the authority's. Raises OperatorError, PeerError."""
        ...
