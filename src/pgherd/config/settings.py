"""The keys of one node's configuration, section by section, with default, unit, limit and reason.

Owns what exists: one model per section, one `Key` per field; attributes end in their unit
(`heartbeat_ms`), the key in the file does not (`heartbeat: 100ms`). The wording of errors is
`load`'s. Values are frozen; nothing here reads a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from pgherd.config.addresses import Address, as_endpoint
from pgherd.config.apikeys import Api
from pgherd.config.archive import Archive
from pgherd.config.bootstrap import Bootstrap
from pgherd.config.cloning import Clone
from pgherd.config.fencing import FenceChoice, WatchdogMode
from pgherd.config.fields import (
    BinDir,
    Bytes,
    Change,
    FilePath,
    Flag,
    Key,
    Millis,
    MillisOrAuto,
    NumSync,
    Parameter,
    ParameterName,
    Port,
    Seat,
    SeatRef,
    SecretRef,
    parse_seat,
)
from pgherd.config.hooks import Hooks
from pgherd.config.labels import Label, LabelName
from pgherd.config.probing import Probe
from pgherd.config.problems import Wrong
from pgherd.config.proxy import Proxy
from pgherd.config.section import Section
from pgherd.config.slots import Slots
from pgherd.config.standbycluster import StandbyCluster
from pgherd.config.telling import Log, MetricsPort
from pgherd.config.tls import PostgresTls, Tls
from pgherd.config.vip import Vip
from pgherd.model.facts import MAX_VOTERS, MAX_VOTERS_MOST, NUM_SYNC_MOST, Kind
from pgherd.model.ids import CLOSED_NAME, name_is_valid

LIVE, RELOAD, RESTART = Change.LIVE, Change.RELOAD, Change.RESTART


DELAY_MOST_MS = 2**31 - 1
"""The most that recovery_min_apply_delay takes."""


class Cluster(Section):
    """The cluster that this node belongs to."""

    name: Annotated[
        str,
        Key("Name of the cluster, the same on all its nodes."),
        Field(max_length=64, min_length=1),
    ] = "main"


class Tags(Section):
    """An operator's wishes about this node."""

    failover_priority: Annotated[
        int, Key("Among equals the highest becomes primary.", LIVE, least=0, most=1000)
    ] = 100
    nofailover: Annotated[Flag, Key("Never make this node the primary.", LIVE)] = False
    nosync: Annotated[Flag, Key("Never wait for this node's acknowledgement.", LIVE)] = False
    noloadbalance: Annotated[
        Flag, Key("As a replica, take no new sessions from the replica ports.", LIVE)
    ] = False
    clonefrom: Annotated[
        Flag, Key("As a replica, be copied by nodes that need a copy, not the primary.", LIVE)
    ] = False
    nostream: Annotated[
        Flag,
        Key(
            "As a replica, follow by the archive alone: no commit waits for this node, and it is"
            " never made primary."
        ),
    ] = False
    labels: Annotated[
        Mapping[LabelName, Label],
        Key("Words of your own: /replica?tag_rack=a1 asks for one.", LIVE),
    ] = Field(default_factory=dict)
    replicatefrom: Annotated[
        str | None,
        Key(
            "As a replica, stream from this member while it streams itself, not the primary.", LIVE
        ),
    ] = None
    delay_ms: Annotated[
        Millis,
        Key(
            "As a replica, replay nothing that is younger; such a node never leads, takes no new"
            " sessions from the replica ports, and no commit waits for it.",
            LIVE,
            unit="duration",
            least=0,
            most=DELAY_MOST_MS,
            why="PostgreSQL counts the delay in a whole number of milliseconds",
        ),
    ] = 0

    @field_validator("replicatefrom", mode="after")
    @classmethod
    def _named(cls, value: str | None) -> str | None:
        if value is not None and not name_is_valid(value):
            raise Wrong(f"{value!r} is not a node name", "write the name of another member")
        return value


class Node(Section):
    """This node."""

    name: Annotated[str, Key("Name of this node, unique in the cluster; its id everywhere.")]
    address: Annotated[
        Annotated[Address, BeforeValidator(as_endpoint)],
        Key(
            "Address for all channels, or a map: {listen, advertise, raft, api, postgresql, proxy}."
        ),
    ]
    zone: Annotated[str, Key("Failure domain; synchronous copies prefer another zone.", LIVE)] = ""
    tags: Tags = Tags()
    witness: Annotated[Flag, Key("Only vote: no PostgreSQL on this node.")] = False

    @field_validator("name", mode="after")
    @classmethod
    def _named(cls, value: str) -> str:
        if value == CLOSED_NAME:
            raise Wrong(f"{value} is a name that pgherd keeps for itself", "choose another")
        if not name_is_valid(value):
            raise Wrong(
                f"{value!r} is not a node name",
                "a small letter, then small letters, digits or '-', at most 32 characters",
            )
        return value


class Raft(Section):
    """Consensus between the nodes."""

    port: Annotated[Port, Key("Port of the peer channel.")] = 8300
    data_dir: Annotated[
        FilePath, Key("Directory of the consensus store and this node's promises.")
    ] = Path("/var/lib/pgherd/raft")
    members: Annotated[
        tuple[SeatRef, ...],
        Key("First members as name=host:port. Read once, when the cluster is made or recovered."),
    ] = ()
    max_voters: Annotated[
        int,
        Key(
            "Most members that vote, best an odd number; the others hold data and stand by. Read"
            " once, when the cluster is made; later: pgherd raft max-voters N.",
            least=1,
            most=MAX_VOTERS_MOST,
            why="five survive the loss of two; more votes make every decision slower",
        ),
    ] = MAX_VOTERS
    voter_timeout_ms: Annotated[
        Millis,
        Key(
            "Silence of a voter after which a member that stands by votes in its place.",
            LIVE,
            unit="duration",
            least=5000,
            why="shorter moves votes about while a node merely restarts",
        ),
    ] = 300_000
    heartbeat_ms: Annotated[
        Millis,
        Key(
            "How often the Raft leader is heard.",
            unit="duration",
            least=20,
            why="shorter ticks cost more CPU than the failover they save",
        ),
    ] = 100
    election_timeout_ms: Annotated[
        Millis,
        Key(
            "Silence after which a new Raft leader is elected, once to twice this long.",
            unit="duration",
            least=300,
            why="a busy disk or scheduler is silent for longer and would cause elections",
        ),
    ] = 1000
    tls: Annotated[
        Tls | None, Key("Mutual TLS of the peer channel; null on loopback only.", RELOAD)
    ] = None


class Superuser(Section):
    """The PostgreSQL superuser that pgherd works as."""

    username: Annotated[str, Key("Role name.")] = "postgres"
    password: Annotated[
        SecretRef | None,
        Key("Password: file:/path or env:NAME; null: the local socket's own check.", RELOAD),
    ] = None


class ReplicationRole(Section):
    """The PostgreSQL role that replicas stream as."""

    username: Annotated[str, Key("Role name.")] = "pgherd_replication"
    password: Annotated[SecretRef | None, Key("Password: file:/path or env:NAME.", RELOAD)] = None


class RewindRole(Section):
    """The PostgreSQL role that pg_rewind reads a new primary as."""

    username: Annotated[str, Key("Role name.")] = "pgherd_rewind"
    password: Annotated[SecretRef | None, Key("Password: file:/path or env:NAME.", RELOAD)] = None


class Postgresql(Section):
    """The PostgreSQL server of this node; without this section it is a proxy node."""

    bin_dir: Annotated[BinDir, Key("Directory of the binaries; auto: the newest major found.")] = (
        "auto"
    )
    data_dir: Annotated[FilePath, Key("Data directory; made when it does not exist.")] = Path(
        "/var/lib/pgherd/postgresql"
    )
    port: Annotated[Port, Key("Port of PostgreSQL itself; clients use the proxy's.")] = 5442
    user: Annotated[
        str, Key("System user that runs PostgreSQL when pgherd is started as root.")
    ] = "postgres"
    database: Annotated[str, Key("Database of pgherd's own connections.")] = "postgres"
    socket_dir: Annotated[
        FilePath | None, Key("Directory of the Unix socket; null: `run` beside data_dir.")
    ] = None
    ballast_bytes: Annotated[
        Bytes,
        Key(
            "Size of a file beside data_dir, on the disk of the WAL, that is deleted when a full"
            " disk keeps PostgreSQL from starting, and made again when there is room. 0B: none.",
            unit="size",
            least=0,
            why="it is room that is kept back",
        ),
    ] = 64 << 20
    parameters: Annotated[
        Mapping[ParameterName, Parameter], Key("PostgreSQL parameters of your own.", RELOAD)
    ] = Field(default_factory=dict)
    hba: Annotated[
        tuple[str, ...], Key("Lines of pg_hba.conf for your clients, after pgherd's own.", RELOAD)
    ] = ()
    tls: Annotated[
        PostgresTls | None,
        Key("Have the server offer TLS with these files: {ca, cert, key, required}.", RELOAD),
    ] = None
    superuser: Superuser = Superuser()
    replication: ReplicationRole = ReplicationRole()
    rewind: RewindRole = RewindRole()
    bootstrap: Bootstrap = Bootstrap()
    clone: Clone = Clone()

    @property
    def has_tls(self) -> bool:
        """Whether clients that ask for TLS get it."""
        return self.tls is not None or self.parameters.get("ssl") in ("on", "true", "yes", "1")

    def socket_directory(self) -> Path:
        """The directory of the Unix socket."""
        return self.socket_dir or self.data_dir.parent / "run"


class Failover(Section):
    """When another node becomes primary without being asked to."""

    enabled: Annotated[Flag, Key("Fail over automatically.", LIVE)] = True
    detect_ms: Annotated[
        Millis,
        Key(
            "Silence of a node after which two others call it lost.",
            LIVE,
            unit="duration",
            least=1000,
            why="stalls of up to 1s must never cause a failover",
        ),
    ] = 1500
    lease_ttl_ms: Annotated[
        MillisOrAuto,
        Key(
            "Time after which a primary that consensus does not hear holds no lease any more: one"
            " without synchronous replicas then lets writes wait, and mode async elects another."
            " auto: 5s in mode async, else 10s. In force from the next lease on.",
            LIVE,
            unit="duration",
            least=5000,
            why="a lease has to outlast the election of a Raft leader",
        ),
    ] = "auto"
    max_lag_bytes: Annotated[
        Bytes,
        Key(
            "Most WAL of the old primary, as far as consensus knew of it, that a failover in mode"
            " async may give up; what it wrote after the last renewal of its lease comes on top.",
            LIVE,
            unit="size",
            least=1 << 16,
            why="less than a few pages of WAL would refuse nearly every failover",
        ),
    ] = 16 << 20
    start_timeout_ms: Annotated[
        Millis,
        Key(
            "Time that a starting or recovering PostgreSQL may take.",
            LIVE,
            unit="duration",
            least=5000,
            why="crash recovery replays WAL since the last checkpoint",
        ),
    ] = 300_000
    on_postgres_crash: Annotated[
        Literal["auto", "failover"],
        Key(
            "auto: fail over when a sealed replica is complete, else restart in place;"
            " failover: never restart in place.",
            LIVE,
        ),
    ] = "auto"
    minimum_interval_ms: Annotated[
        Millis,
        Key(
            "Least time between two failovers on suspicion of the same node.",
            LIVE,
            unit="duration",
            least=5000,
            why="shorter lets a flapping network move the primary back and forth",
        ),
    ] = 30_000
    min_free_disk_bytes: Annotated[
        Bytes,
        Key(
            "A node with less room for data or WAL is not made primary while another can be, nor in"
            " place of one that has as little.",
            LIVE,
            unit="size",
            least=0,
            why="0B looks at no disk",
        ),
    ] = 64 << 20
    disk_full_within_ms: Annotated[
        Millis,
        Key(
            "A primary whose disk is full within this time, at the speed of the last minutes and"
            " with less than a fifth of it left, or that has less than min_free_disk, hands over to"
            " a member with far more room.",
            LIVE,
            unit="duration",
            least=0,
            why="0s looks at the room only",
        ),
    ] = 900_000
    fence: Annotated[
        FenceChoice,
        Key(
            "What a winner runs, by its own file, before it promotes if the old primary is not"
            " sealed."
            " auto: nothing, as an acknowledged commit is safe without it; off: nothing, said"
            " aloud; or a map {command, deadline, required}.",
            LIVE,
        ),
    ] = "auto"
    watchdog: Annotated[
        WatchdogMode,
        Key(
            "A device that resets this machine when it hangs while its server writes alone."
            " automatic: used where it works, else said; required: without it this node does not"
            " lead.",
        ),
    ] = "off"
    watchdog_device: Annotated[FilePath, Key("The device of failover.watchdog.")] = Path(
        "/dev/watchdog"
    )
    probe: Probe = Probe()


class Replication(Section):
    """What an acknowledged commit promises."""

    mode: Annotated[
        Literal["async", "quorum", "strict"],
        Key(
            "quorum: on two nodes, or the ledger says that one is left;"
            " strict: always on two nodes, or writes wait; async: on the primary alone, a failover"
            " may lose the newest commits. Read once, when the cluster is made; later:"
            " pgherd sync set --mode MODE.",
        ),
    ] = "quorum"
    num_sync: Annotated[
        NumSync,
        Key(
            "Replicas that must have a commit; auto: half of the data members.",
            LIVE,
            least=1,
            most=NUM_SYNC_MOST,
        ),
    ] = "auto"
    sync_timeout_ms: Annotated[
        Millis,
        Key(
            "Silence after which a replica leaves the synchronous set.",
            LIVE,
            unit="duration",
            least=1000,
            why="a shorter stall of a replica must not weaken what commits promise",
        ),
    ] = 3000
    slots: Slots = Slots()


class Settings(Section):
    """Everything that one node is told."""

    version: Annotated[Literal[1], Key("Version of this file's format.")]
    cluster: Cluster = Cluster()
    node: Node
    raft: Raft = Raft()
    postgresql: Postgresql = Postgresql()
    failover: Failover = Failover()
    replication: Replication = Replication()
    archive: Archive = Archive()
    standby_cluster: StandbyCluster = StandbyCluster()
    proxy: Proxy = Proxy()
    vip: Annotated[
        tuple[Vip, ...],
        Key("Addresses that are on one node at a time: {address, interface, follow}.", LIVE),
    ] = ()
    api: Api = Api()
    hooks: Hooks = Hooks()
    metrics: MetricsPort = MetricsPort()
    log: Log = Log()

    @property
    def kind(self) -> Kind:
        """What this node is: without a `postgresql` section it only leads clients to the others.

        A section that is there with nothing in it has its defaults.
        """
        if self.node.witness:
            return Kind.WITNESS
        return Kind.DATA if "postgresql" in self.model_fields_set else Kind.PROXY

    @property
    def has_server(self) -> bool:
        """Whether PostgreSQL runs on this node."""
        return self.kind is Kind.DATA

    def api_bind(self) -> str:
        """The address that the API listens on."""
        return self.api.bind or self.node.address.bound("api")

    def metrics_bind(self) -> str:
        """The address that metrics.port listens on."""
        return self.metrics.bind or self.api_bind()


def seats(texts: tuple[str, ...]) -> tuple[Seat, ...]:
    """Read `name=host:port` texts, as the command line gives them."""
    return tuple(parse_seat(text) for text in texts)
