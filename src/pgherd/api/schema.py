"""The public contract: the JSON that the API takes and gives. Names here are promises.

Owns shapes only. Leaves what the values mean to `views`. Times are ISO 8601 in UTC, units stand
last in names, `epoch` is the number of a reign (the ledger's term).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AliasChoices, Field

from pgherd.api.configschema import PendingRestart
from pgherd.api.probeschema import ProbeResult
from pgherd.api.repairschema import Remedy
from pgherd.api.shape import Model, NodeName
from pgherd.api.standbyschema import Follows
from pgherd.api.upkeepschema import Maintenance, Pause
from pgherd.api.vipschema import Vip
from pgherd.model.facts import MAX_VOTERS_MOST

LOST_MAX = 16
FailoverState = Literal["normal", "detecting", "sealing", "promoting", "recovering", "switchover"]
ClusterHealth = Literal["operational", "degraded", "down"]
Suffrage = Literal["voter", "witness", "learner", "non-voter", "none"]
NodeRole = Literal["primary", "standby_leader", "replica", "witness", "proxy"]


class Failure(Model):
    """Every error looks like this."""

    status: Literal["error"] = "error"
    code: str
    message: str
    details: dict[str, Any] = Field(default_factory=dict)
    hint: str = ""


class Health(Model):
    """This daemon. lease_seconds_left: of the primary, by its own clock; null on other nodes."""

    status: Literal["ok", "degraded"]
    uptime_seconds: int
    version: str
    node: NodeName
    role: str
    lease_seconds_left: float | None = None


class Check(Model):
    """A health check for load balancers: the status code is the answer, this says why.

    vip_owner: the node that has the address that follows the primary, or the first of all.
    """

    status: Literal["ok", "degraded", "split_brain", "no_backends"]
    node: NodeName
    role: str
    state: str
    split_brain: bool
    vip_owner: NodeName | None
    proxy_healthy: bool | None
    proxy_engine: str | None
    has_quorum: bool
    timeline: int
    lsn: str | None
    lag_bytes: int | None
    epoch: int
    version: str


class Synchronous(Model):
    """What an acknowledged commit promises now. num_sync: copies beyond the primary's own.

    mode_wanted: asked for in mode async, and in force once a standby has everything.
    """

    mode: str
    mode_wanted: str | None
    voters: list[NodeName]
    num_sync: int
    wanted: int
    degraded: bool


class Lease(Model):
    """What bounds how long a primary that consensus does not hear may count on being one.

    seconds_left: by the holder's own report, null while it is not heard · is_sole: nobody else may
    still count on an earlier lease.
    """

    holder: NodeName
    state: Literal["held", "lost", "expired", "unknown"]
    seconds_left: float | None
    ttl_seconds: float
    is_sole: bool


class ClusterStatus(Model):
    """The herd in one look. as_of: index in consensus up to which this node has applied.

    split_brain: whether a node contradicts the ledger; `problems` says which, and what to do ·
    problems: what is wrong now · warnings: what is not wrong, but will not survive the next loss,
    and what nodes warn of themselves.
    """

    cluster_name: str
    status: ClusterHealth
    primary_node_id: NodeName | None
    node_count: int
    healthy_nodes: int
    has_quorum: bool
    raft_leader: NodeName | None
    raft_voters: list[NodeName]
    epoch: int
    phase: str
    failover_state: FailoverState
    auto_failover_enabled: bool
    paused: bool
    pause: Pause | None
    synchronous: Synchronous
    lease: Lease | None
    vips: list[Vip]
    follows: Follows | None
    split_brain: bool
    system_id: str
    problems: list[str]
    warnings: list[str]
    last_topology_change: str | None
    timestamp: str
    as_of: int


class ClusterHealthAnswer(Model):
    """Whether writes are possible, in short. mismatches: of PostgreSQL's programs on the nodes."""

    cluster_status: ClusterHealth
    healthy_nodes: int
    total_nodes: int
    primary_node_id: NodeName | None
    has_quorum: bool
    replication_lag_bytes: int | None
    replication_lag_ms: int | None = None
    as_of: int
    mismatches: list[str] = Field(default_factory=list)


class Tags(Model):
    """An operator's wishes about a node."""

    failover_priority: int
    nofailover: bool
    nosync: bool
    noloadbalance: bool = False
    clonefrom: bool = False
    nostream: bool = False
    labels: dict[str, str] = Field(default_factory=dict)
    replicatefrom: NodeName | None = None
    delay_ms: int = 0


class Node(Model):
    """One member. role is what the ledger gives it, state is what its agent and its primary see.

    state_reason: of a replica that is stuck, diverged or rebuilding · lag_bytes, lag_ms: of the
    primary's WAL, what it has not replayed, and for how long at least the primary has had that ·
    remedies: what was done about it lately · upstream: from whom a replica streams, or is to ·
    upstream_reason: why that is not whom its tag replicatefrom names · postgresql_version: of the
    server that runs; postgresql_version_on_disk: what its next start would run.
    """

    node_id: NodeName
    name: NodeName
    host: str
    postgresql_port: int
    api_port: int
    role: NodeRole
    state: str
    is_healthy: bool
    is_primary: bool
    is_sync: bool
    is_voter: bool
    timeline: int
    lsn: str | None
    epoch: int | None
    lag_bytes: int | None
    lag_ms: int | None = None
    zone: str
    tags: Tags
    maintenance: Maintenance | None
    stopped_by: str | None
    postgresql_version: str | None
    postgresql_version_on_disk: str | None = None
    version: str
    uptime_seconds: int
    last_seen: str | None
    doing: str
    progress_percent: int | None
    state_reason: str = ""
    upstream: NodeName | None = None
    upstream_reason: str = ""
    remedies: list[Remedy] = Field(default_factory=list)
    problem: str
    pending_restart: dict[str, PendingRestart] | None


class Nodes(Model):
    """All members."""

    nodes: list[Node]
    as_of: int


class Channel(Model):
    """One port of a node, tried by the daemon that answers."""

    channel: str
    address: str
    is_reachable: bool
    problem: str


class NodeHealth(Model):
    """Whether a node can be reached from the one that answers, and how its server has been.

    probes: the newest first, as its own agent tells them · probes_problem: why it told none.
    """

    node: NodeName
    tried_from: NodeName
    is_reachable: bool
    channels: list[Channel]
    probes: list[ProbeResult] = Field(default_factory=list)
    probes_problem: str = ""


class CandidateRequest(Model):
    """Whom to make primary; nobody named: the best candidate."""

    candidate: NodeName | None = Field(
        default=None, max_length=64, validation_alias=AliasChoices("candidate", "to")
    )


class SwitchoverRequest(CandidateRequest):
    """scheduled_at: when it is due, a time in ISO 8601 with its zone, or how long from now."""

    scheduled_at: str | None = Field(default=None, max_length=64)


class PromoteRequest(Model):
    """force: by a failover, without the old primary's help and also while it is healthy."""

    force: bool = False


class FailoverRequest(CandidateRequest):
    """force: also while the primary is healthy.

    lost: members that an election waits for and that are given up for lost, with what only they
    held; needs force · accept_data_loss_bytes: the most that may be lost of what is known.
    """

    force: bool = False
    lost: list[str] = Field(default_factory=list, max_length=LOST_MAX)
    accept_data_loss_bytes: int | None = Field(default=None, ge=0)


class FailoverPlan(Model):
    """What a failover waits for, and what it would lose without that.

    loss_bytes: WAL that the old primary was known to have written and nobody sealed has; more may
    have been written after it was last heard. command: what to type to go on.
    """

    needed: bool
    waits_for: str
    missing: list[NodeName]
    lost: list[NodeName]
    not_given_up: list[NodeName] = Field(default_factory=list)
    kept_up_to: str | None = None
    loss_bytes: int | None = None
    heard_seconds_ago: int | None = None
    command: str = ""


class Changed(Model):
    """What became of a switchover or failover. due_at: of one that is scheduled."""

    status: Literal["done", "accepted", "scheduled"]
    id: str
    old_primary: NodeName | None
    new_primary: NodeName | None
    epoch: int
    reason: str = ""
    duration_ms: int | None = None
    due_at: str | None = None


class HistoryEntry(Model):
    """One reign. lsn: where its history leaves its predecessor's.

    old_primary: of the last reign before it that was established, null of the first.
    lost_bytes: in mode async, how much of its predecessor's WAL as last told this reign began
    without; what was written after that comes on top. null: nothing acknowledged was given up.
    gave_up: whom an operator gave up for lost, with acknowledged writes that only they held.
    """

    epoch: int
    timeline: int | None
    lsn: str
    primary: NodeName
    old_primary: NodeName | None
    kind: str
    promoted: bool
    rule: int
    reason: str
    lost_bytes: int | None
    gave_up: list[NodeName]
    established: bool
    began_at: str | None
    established_at: str | None
    duration_ms: int | None


class HistoryNote(Model):
    """One line of what was decided or refused."""

    at: str
    epoch: int
    kind: str
    text: str
    rule: int


class History(Model):
    """Every reign, and the newest notes."""

    reigns: list[HistoryEntry]
    notes: list[HistoryNote]


class RaftState(Model):
    """Consensus on this node. raft_term is not an epoch.

    ledger_level: what all members know · voters: who votes, max_voters at most.
    """

    node: NodeName
    state: str
    suffrage: Suffrage
    raft_term: int
    leader: NodeName | None
    voters: list[NodeName]
    max_voters: int
    commit_index: int
    applied_index: int
    has_quorum: bool
    ledger_level: int


class RaftPeer(Model):
    """A member of consensus. why: in words, why it votes or does not; level: of its program.

    witness: votes and holds no data · learner: votes once it has caught up · non-voter: holds what
    all hold and stands by, because enough others vote, or for good, being a proxy node.
    """

    node: NodeName
    raft_id: int
    address: str
    suffrage: Suffrage
    why: str
    kind: str
    is_leader: bool
    is_leaving: bool
    level: int
    last_seen: str | None


class RaftPeers(Model):
    """The members of consensus, of whom max_voters vote at most."""

    max_voters: int
    peers: list[RaftPeer]


class MaxVoters(Model):
    """How many members vote at most."""

    max_voters: int = Field(ge=1, le=MAX_VOTERS_MOST)


class TokenRequest(Model):
    """How long a join token is good for."""

    ttl_seconds: int = Field(default=3600, ge=60, le=7 * 86_400)


class TokenAnswer(Model):
    """A single-use join token; it is shown once and never kept."""

    id: str
    token: str
    expires_at: str


class NodeWanted(TokenRequest):
    """A node that is to join: its name and kind only fill in the command line."""

    name: NodeName | None = Field(
        default=None, max_length=64, validation_alias=AliasChoices("name", "node", "id")
    )
    address: str | None = Field(default=None, max_length=256)
    witness: bool = False
    proxy: bool = False


class NodeInvited(TokenAnswer):
    """A join token, and the command that uses it on the new machine."""

    command: str


class NodeUnwanted(Model):
    """Which member to remove."""

    node: NodeName = Field(
        max_length=64, validation_alias=AliasChoices("node", "name", "id", "node_id")
    )


class NodeRemoved(Model):
    """What became of a removal."""

    status: Literal["done", "accepted"]
    node: NodeName
    raft_id: int
    members: list[NodeName]


class LeadershipRequest(Model):
    """Who is to lead consensus; nobody named: a voter that is not the primary."""

    to: NodeName | None = Field(
        default=None, max_length=64, validation_alias=AliasChoices("to", "node", "candidate")
    )


class LeadershipMoved(Model):
    """Who led consensus before, and who leads it now."""

    status: Literal["done"] = "done"
    old_leader: NodeName | None
    new_leader: NodeName


class LedgerSaved(Model):
    """The ledger as a quorum confirmed it, without secrets. content: of the file to keep."""

    cluster: str
    epoch: int
    raft_index: int
    members: list[NodeName]
    saved: str
    content: str


class JoinBody(Model):
    """A node asks to become a member; the form of the port's JoinRequest."""

    token_id: str = Field(max_length=64)
    secret: str = Field(max_length=256)
    node: str = Field(max_length=64)
    kind: Literal["data", "witness", "proxy"] = "data"
    address: dict[str, str | int]
    tags: dict[str, str | int | bool] = Field(default_factory=dict)
    csr: str = Field(max_length=16_384)
    major: int = 0
    level: int = 1
    system_id: str = Field(default="", max_length=32)
    tls: bool = True
