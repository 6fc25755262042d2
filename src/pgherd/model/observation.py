"""What one node saw of itself and of its peers: soft state, sent in reports, never in the log."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from pgherd.model.archive import ArchiveSeen
from pgherd.model.branch import Fork
from pgherd.model.ids import Instant, Lsn, MemberKey, NodeId, Position, RaftId, Term, Timeline
from pgherd.model.lease import Ask
from pgherd.model.pgconfig import ConfigFailed, Pending, Running
from pgherd.model.programs import Programs
from pgherd.model.promises import Promises
from pgherd.model.remedy import Repairs
from pgherd.model.slots import SlotSeen
from pgherd.model.standbycluster import SourceSeen
from pgherd.model.vip import VipSeen


class Server(StrEnum):
    """The state of one PostgreSQL server as its own agent sees it.

    NONE: no data directory · UNUSABLE: a directory that must not be started (another cluster, half
    rewound, wrong owner; see `problem`) · STOPPED: a directory, no process · STARTING: a process
    that takes no connection yet · HUNG: a process that should take connections and does not.
    """

    NONE = "none"
    UNUSABLE = "unusable"
    STOPPED = "stopped"
    STARTING = "starting"
    STANDBY = "standby"
    PRIMARY = "primary"
    HUNG = "hung"


class Receiver(msgspec.Struct, frozen=True):
    """A running walreceiver: to whom, under which token, how far."""

    upstream: NodeId | None
    term: Term
    status: str
    flush_lsn: Lsn


class Sender(msgspec.Struct, frozen=True):
    """One walsender of a primary, as pg_stat_replication shows it."""

    member: MemberKey
    term: Term
    state: str
    flush_lsn: Lsn
    replay_lsn: Lsn
    pid: int = 0


class Recovery(msgspec.Struct, frozen=True):
    """How far a server that comes up has replayed its own WAL.

    total_bytes: from its redo point to the end of its WAL on disk · left_ms: at the speed seen so
    far; -1 while none was seen.
    """

    total_bytes: int
    left_bytes: int
    left_ms: int = -1


class Disk(msgspec.Struct, frozen=True):
    """A file system below a server, named for what lies there: data (with the WAL), or wal.

    free_bytes: for an ordinary user · full_in_ms: at the speed of the last minutes, -1: never.
    """

    mount: str
    free_bytes: int
    size_bytes: int
    full_in_ms: int = -1


class ServerSeen(msgspec.Struct, frozen=True):
    """One look at the local server.

    position: epoch and LSN: replayed end on a standby, flushed end on a primary; None when it
    cannot be known without a start · drained: no receiver is left and replay is parked at the end
    of the local WAL, so `position` is final · upstream, upstream_term: what primary_conninfo names
    now, and under which incarnation of ours · borrows: it names a holder in an election instead,
    for a fast-forward · names: the effective synchronous_standby_names ·
    settled: the newest sync generation whose barrier is complete · epoch_record_end: on a primary,
    the end of the epoch record it wrote, with its term in position.epoch · checkpointed: the term
    since whose promotion a checkpoint is done, or the switchover id it was done for · since: when
    this state began · stray: of a standby, the first timeline in its WAL that no term opened ·
    timeline_begins: of a server whose adopted reign the ledger does not know, where its last
    timeline begins; else 0 · crashes: how often in a row it died by itself soon after its
    start · recovery: while it replays WAL and takes no session yet, as far as that is known ·
    writes_hang: hung in nothing but that no WAL becomes durable · was_primary: of a stopped server,
    whether it ran as a primary last · paused: replay is, by somebody or for want of a parameter ·
    config: the version of the cluster's parameters that it was started with or told ·
    config_failed: one that it did not come up with · roles: as of which changes of passwords a
    primary has its roles · logins: of which the secrets are known to its agent · former_login: it
    names an upstream under the role of a former password · matched: what it runs with of
    `pgconfig.MATCHED` · demanded: how much of those its WAL demands, while replay is paused ·
    pending: what waits for a restart · reloaded: the last work that it was
    reloaded for · starved: it could not start for want of room, and there is a ballast to give ·
    replication_slots: all of them, the first SLOTS_TOLD_MAX by name · slot_budget_bytes: what one
    may hold back at most, -1: any amount · commit: the synchronous_commit that it was told, "" = as
    its parameters say · fed_at: host and port that it streams from where that is not the leader's
    server · delay_ms: it replays nothing that is younger · delays: it waits for that just now ·
    received: of one with a delay and without an upstream, where what it has received ends ·
    source: whom it streams from in a standby cluster, as far as it was asked ·
    started_unix_ms: of a running one, when its postmaster began · version_num: its
    server_version_num, 0 before it was asked ·
    programs: what of PostgreSQL runs and is installed · fetches: a standby that asks the archive
    for WAL.
    """

    state: Server = Server.NONE
    system_id: str = ""
    major: int = 0
    timeline: Timeline = Timeline(0)
    position: Position | None = None
    drained: bool = False
    receiver: Receiver | None = None
    upstream: NodeId | None = None
    upstream_term: Term = Term(0)
    upstream_incarnation: str = ""
    borrows: bool = False
    senders: tuple[Sender, ...] = ()
    names: str = ""
    settings_problem: str = ""
    names_generation: int = 0
    settled: int = 0
    epoch_record_end: Lsn = Lsn(0)
    checkpointed_term: Term = Term(0)
    checkpointed_for: str = ""
    insert_lsn: Lsn = Lsn(0)
    oldest_wal_lsn: Lsn = Lsn(0)
    timeline_begins: Lsn = Lsn(0)
    pid: int = 0
    clean: bool = False
    was_primary: bool = False
    healthy: bool = True
    probe_failures: int = 0
    slots: tuple[str, ...] = ()
    slots_in_use: tuple[str, ...] = ()
    problem: str = ""
    since: Instant = Instant(0)
    stray: Fork | None = None
    crashes: int = 0
    recovery: Recovery | None = None
    writes_hang: bool = False
    paused: bool = False
    config: int = 0
    config_failed: ConfigFailed | None = None
    matched: Running = ()
    demanded: Running = ()
    pending: tuple[Pending, ...] = ()
    reloaded: str = ""
    roles: str = ""
    logins: str = ""
    former_login: bool = False
    starved: bool = False
    replication_slots: tuple[SlotSeen, ...] = ()
    slot_budget_bytes: int = -1
    commit: str = ""
    fetches: bool = False
    started_unix_ms: int = 0
    version_num: int = 0
    source: SourceSeen | None = None
    fed_at: str = ""
    delay_ms: int = 0
    delays: bool = False
    received: Position | None = None
    programs: Programs = Programs()

    @property
    def wal_end(self) -> Lsn:
        """As far as its WAL is known to reach; 0 where nothing is."""
        return max(self.insert_lsn, self.position.lsn if self.position is not None else Lsn(0))


class Observation(msgspec.Struct, frozen=True):
    """A node's report: its server, its promises, and when it last heard each peer (ages in ms).

    `sequence` orders reports of one process; they are idempotent.
    missing_ms: on a leader, for how long each member of the sync set has not streamed.
    doing: the action in progress and its progress in percent (-1 unknown), for people.
    store_incarnation, store_sequence: which Raft store, and how many transactions it has.
    ask: a leader's wish that its lease be renewed, as of this report · lease_left_ms: what is left
    to it of the one that it has; None where it holds none · disk_free_bytes: for an ordinary user,
    where data and WAL lie; -1 unknown · fencing: an elected winner that has its
    fencing command to run before it promotes · warnings: what people should know of this node
    though it works · ineligible: why it must not lead, by its own configuration · vips: the
    addresses that move, as it has them · quiet: the switchover for which its proxies hold their
    clients, once no transaction that they could hold runs any more · noloadbalance: its operator
    wants no new reads here · clonefrom: its operator wants that it is copied rather than the
    leader · repairs: its trouble as a follower, and what is done about it
    · disks: what `disk_free_bytes` is the least of, in full · lagging_ms: on a leader, for how
    long each member of the sync set has been further behind than the limit that was asked for ·
    archive: of WAL, as this node has it · nostream: as a replica it follows by that alone ·
    labels: words that its operator gave this node, for load balancers and people.
    """

    node: NodeId
    raft_id: RaftId
    sequence: int
    server: ServerSeen
    promises: Promises
    heard_ms: dict[NodeId, int] = {}
    missing_ms: dict[str, int] = {}
    applied_index: int = 0
    proxy_healthy: bool = False
    doing: str = ""
    progress_percent: int = -1
    alarms: tuple[str, ...] = ()
    version: str = ""
    witness: bool = False
    uptime_seconds: int = 0
    disk_free_bytes: int = -1
    store_incarnation: str = ""
    store_sequence: int = 0
    ask: Ask | None = None
    lease_left_ms: int | None = None
    fencing: bool = False
    warnings: tuple[str, ...] = ()
    ineligible: str = ""
    vips: tuple[VipSeen, ...] = ()
    quiet: str = ""
    noloadbalance: bool = False
    clonefrom: bool = False
    repairs: Repairs = Repairs()
    disks: tuple[Disk, ...] = ()
    lagging_ms: dict[str, int] = {}
    archive: ArchiveSeen = ArchiveSeen()
    nostream: bool = False
    labels: dict[str, str] = {}


class Heard(msgspec.Struct, frozen=True):
    """A peer's newest report with the local time of its arrival."""

    report: Observation
    at: Instant


class Asking(msgspec.Struct, frozen=True):
    """What a node with amnesia asks for: to take part again, with this store.

    raft_id: under which it took part before, as far as it still knows; 0 when it does not.
    """

    store: str
    raft_id: RaftId = RaftId(0)


class HerdView(msgspec.Struct, frozen=True):
    """What the herd decider looks at beside the facts: every report, with arrival times.

    me: the node that decides (its own report is in `reports` too) · since: when this node became
    Raft leader · phase_since: when it applied the current term and phase · names_since: when it
    applied the current sync generation · held_since: when it applied that clients are held ·
    raft_voters, raft_learners: the applied configuration · caught_up: Raft ids whose log is within
    reach of ours · unanswered_ms: for how long each member has not answered in consensus, which a
    node with a hung disk does not though it reports · leases_over: marks of leases whose time is
    over on this node's clock · asking: who has amnesia and asked lately to be re-admitted.
    """

    me: NodeId
    reports: dict[NodeId, Heard]
    since: Instant
    phase_since: Instant
    names_since: Instant
    held_since: Instant = Instant(0)
    unix_ms: int = 0
    raft_voters: tuple[RaftId, ...] = ()
    raft_learners: tuple[RaftId, ...] = ()
    caught_up: tuple[RaftId, ...] = ()
    unanswered_ms: dict[RaftId, int] = {}
    leases_over: tuple[tuple[int, int], ...] = ()
    asking: dict[NodeId, Asking] = {}
