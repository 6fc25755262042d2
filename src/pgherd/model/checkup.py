"""What a check-up looks at: the facts of one node as it gathered them itself, and the findings.

Owns the shapes, which travel from node to node. A value that could not be had is None, and
`problems` says why, by the name of its part: a check that misses it is unknown, never well. What
the facts mean is `plan.doctor`'s; how they are had is `observe.doctor`'s.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from pgherd.model.facts import Facts, Kind
from pgherd.model.ids import NodeId
from pgherd.model.observation import Observation
from pgherd.model.vitals import Memory

HERD = ""
"""In place of a node's name: the finding is of all of them together."""


class Status(StrEnum):
    """How a check ended. The three in the middle are red, by what waits if nothing is done."""

    OK = "ok"
    CRITICAL = "critical"
    WARNING = "warning"
    ADVICE = "advice"
    UNKNOWN = "unknown"

    @property
    def is_red(self) -> bool:
        """Whether a fault was found."""
        return self in (Status.CRITICAL, Status.WARNING, Status.ADVICE)


class Finding(msgspec.Struct, frozen=True):
    """One check on one node. fix: the command or change that mends it, "" where nothing is red."""

    check: str
    node: str
    status: Status
    text: str
    fix: str = ""


class Machine(msgspec.Struct, frozen=True):
    """The machine below a node, as its kernel tells it.

    io_full, memory_full: percent of the last minute in which all work waited for disks, or for
    memory · dirty_bytes: how much unwritten data the kernel collects before writers wait.
    """

    clock_source: str | None = None
    clock_synchronised: bool | None = None
    cores: int | None = None
    load: float | None = None
    overcommit: int | None = None
    swappiness: int | None = None
    huge_pages: int | None = None
    transparent_huge_pages: str | None = None
    zone_reclaim: int | None = None
    dirty_bytes: int | None = None
    core_pattern: str | None = None
    io_full: float | None = None
    memory_full: float | None = None
    tasks: int | None = None
    tasks_max: int | None = None
    memory: Memory | None = None
    has_systemd: bool | None = None


class Process(msgspec.Struct, frozen=True):
    """A process of ours and its limits; -1 = none. core_bytes: the largest core that it writes."""

    name: str
    pid: int
    files_open: int | None = None
    files_max: int | None = None
    tasks_max: int | None = None
    core_bytes: int | None = None
    oom_score_adj: int | None = None
    by_systemd: bool | None = None


class Place(msgspec.Struct, frozen=True):
    """A directory of ours and the file system below it.

    name: data, wal or raft · kind, options: of its mount · fsync_ms: the slowest of some small
    writes that were made durable there, None where none were made.
    """

    name: str
    path: str
    device: int = 0
    kind: str = ""
    options: tuple[str, ...] = ()
    free_bytes: int | None = None
    size_bytes: int | None = None
    inodes_free: int | None = None
    inodes: int | None = None
    fsync_ms: float | None = None
    problem: str = ""


class FileSeen(msgspec.Struct, frozen=True):
    """A file or directory that others should not read. mode: its permission bits · is_roots: it
    belongs to root, and not to who runs the node.
    """

    name: str
    path: str
    mode: int | None = None
    problem: str = ""
    is_roots: bool = False


class CertificateSeen(msgspec.Struct, frozen=True):
    """A certificate of this node. seconds_left: None where it cannot be read (`problem`)."""

    name: str
    path: str
    seconds_left: float | None = None
    problem: str = ""


class Reached(StrEnum):
    """How a try to connect ended. SILENT: nothing came back, as behind a firewall."""

    OK = "ok"
    REFUSED = "refused"
    SILENT = "silent"
    UNRESOLVED = "unresolved"
    FAILED = "failed"


class Way(msgspec.Struct, frozen=True):
    """A try to connect to a port of a member: raft, api, postgresql, proxy, proxy-replica."""

    node: str
    channel: str
    host: str
    port: int
    outcome: Reached
    took_ms: float = -1.0
    problem: str = ""


class ClockSeen(msgspec.Struct, frozen=True):
    """Another node's wall clock against this one's. error_ms: half of the round trip."""

    node: str
    ahead_ms: float = 0.0
    error_ms: float = 0.0
    problem: str = ""


class LoginSeen(msgspec.Struct, frozen=True):
    """A login for replication at a member's server from here; problem: "" where it worked."""

    node: str
    problem: str = ""


class Slot(msgspec.Struct, frozen=True):
    """A replication slot. kept_bytes: WAL that is there because of it · xmin_age: in transactions.

    lost: PostgreSQL has removed WAL that it needs.
    """

    name: str
    active: bool = False
    lost: bool = False
    kept_bytes: int = 0
    xmin_age: int = 0


class Database(msgspec.Struct, frozen=True):
    """The node's PostgreSQL as it answered. settings: of pg_settings, in its own units.

    Ages are in transactions, `_s` in seconds, the oldest of each · hba_trust: rules that let
    somebody in from elsewhere without a check · expiring: seconds until pgherd's own roles may not
    log in any more, by role · archive_failed: the file of WAL that was not archived last.
    """

    settings: dict[str, str] = {}
    is_standby: bool = False
    version_num: int = 0
    pending: tuple[str, ...] = ()
    file_errors: tuple[str, ...] = ()
    hba_errors: tuple[str, ...] = ()
    hba_trust: tuple[str, ...] = ()
    unsynced: tuple[str, ...] = ()
    weak_roles: tuple[str, ...] = ()
    expiring: dict[str, int] = {}
    collations: tuple[str, ...] = ()
    slots: tuple[Slot, ...] = ()
    archive_failed: str = ""
    xid_age: int = 0
    mxid_age: int = 0
    transaction_s: int = 0
    prepared_s: int = 0
    idle_in_transaction_s: int = 0
    blocked_s: int = 0
    connections: int = 0
    checksum_failures: int = 0
    conflicts: int = 0
    checkpoints_timed: int = 0
    checkpoints_requested: int = 0
    wal_bytes: int = 0


class Told(msgspec.Struct, frozen=True):
    """What the node's configuration says, as far as checks look at it.

    file_problem: why the file would be refused if it were read now · changed: keys of which the
    file says something else than what is in force.
    """

    address: str = ""
    api_host: str = ""
    api_tls: bool = False
    api_guarded: bool = False
    rate_limit: int = 0
    protect_reads: bool = True
    postgres_tls: bool = False
    failover_enabled: bool = True
    detect_ms: int = 0
    lease_ttl_ms: int = 0
    max_lag_bytes: int = 0
    min_free_bytes: int = 0
    watchdog: str = "off"
    log_level: str = "info"
    heartbeat_ms: int = 100
    engine: str = "auto"
    has_listeners: bool = False
    slot_budget: str = ""
    file_problem: str = ""
    changed: tuple[str, ...] = ()


class Agent(msgspec.Struct, frozen=True):
    """What only the running daemon knows. dropped: lines that were lost to a slow disk.

    engine: who carries the bytes of new sessions · watchdog: why it is not in use though it is
    wanted · hosts: the address of each member · api_tokens: how many the ledger keeps.
    """

    uptime_s: int = 0
    oom_kills: int = 0
    dropped: int = 0
    engine: str = ""
    proxy_healthy: bool | None = None
    watchdog: str = ""
    amnesia: str = ""
    hosts: dict[NodeId, str] = {}
    api_tokens: int = 0


class NodeFacts(msgspec.Struct, frozen=True):
    """One node, by itself. quick: what takes time was left out · agent: None: it does not run ·
    report: its own newest one.
    """

    node: NodeId
    kind: Kind
    version: str
    level: int = 0
    quick: bool = False
    told: Told | None = None
    machine: Machine | None = None
    processes: tuple[Process, ...] | None = None
    places: tuple[Place, ...] | None = None
    files: tuple[FileSeen, ...] | None = None
    certificates: tuple[CertificateSeen, ...] | None = None
    ways: tuple[Way, ...] | None = None
    clocks: tuple[ClockSeen, ...] | None = None
    logins: tuple[LoginSeen, ...] | None = None
    database: Database | None = None
    agent: Agent | None = None
    report: Observation | None = None
    problems: dict[str, str] = {}


class HerdFacts(msgspec.Struct, frozen=True):
    """The herd as the node that was asked knows it.

    reports: the fresh ones · nodes: who answered, missing: why others did not · lag_ms, lag_bytes:
    of replicas that are known to be behind or not · unfit: of each data member but the primary, why
    it would not be elected now, "" where it would · without_primary: what would follow if the
    primary were lost, in a sentence, and whether anybody would lead then.
    """

    facts: Facts
    reports: dict[NodeId, Observation]
    nodes: dict[NodeId, NodeFacts]
    missing: dict[NodeId, str]
    unix_ms: int
    has_quorum: bool
    can_write: bool
    primary: NodeId | None
    voters: tuple[NodeId, ...]
    states: dict[NodeId, str]
    unwell: tuple[NodeId, ...]
    lag_bytes: dict[NodeId, int | None]
    unfit: dict[NodeId, str]
    without_primary: str
    has_successor: bool
    degraded: bool
    noticed: tuple[str, ...]
    max_lag_bytes: int
