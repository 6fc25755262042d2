"""Which parameters a server runs with: what replication and safety stand on, and who decides.

Pure. Three layers: defaults that an operator may change, the operator's own, and those that pgherd
owns (the operator's value loses, and is told so). `conf` writes the result, `server` applies it.
"""

from __future__ import annotations

import re

import msgspec

from pgherd.model.errors import OperatorError
from pgherd.model.ids import CLOSED_NAMES as CLOSED_NAMES
from pgherd.model.pgconfig import MATCHED, Access
from pgherd.model.slots import SYNCED_FROM_MAJOR
from pgherd.postgres import failoverslots
from pgherd.postgres.conninfo import write as write_pairs
from pgherd.postgres.failoverslots import STANDBY_SLOTS

APPLICATION_NAME = "pgherd-agent"
HBA_FILE = "pgherd_hba.conf"
IDENT_FILE = "pgherd_ident.conf"
CONNECT_TIMEOUT_S = 3
KEEPALIVE_IDLE_S = 5
KEEPALIVE_INTERVAL_S = 2
KEEPALIVE_COUNT = 3
TCP_USER_TIMEOUT_MS = 10_000
ARCHIVE_RETRY_MS = 5_000
"""wal_retrieve_retry_interval of who follows by the archive alone: each look starts a program."""
FETCHING_RETRY_MS = 1_000
SEALED_RETRY_MS = 10
"""wal_retrieve_retry_interval while a standby is sealed: how soon local WAL is looked at again."""

COMMIT = "synchronous_commit"
"""Told with the names: what is weaker than the set promises counts only while the gate is open."""

DELAY = "recovery_min_apply_delay"
"""Told to a follower of a stable term only; a sealed one replays all that it has."""

PURGED_FROM_AUTO_CONF = frozenset(
    {
        "primary_conninfo",
        "primary_slot_name",
        "restore_command",
        "recovery_target",
        "recovery_target_action",
        "recovery_target_inclusive",
        "recovery_target_lsn",
        "recovery_target_name",
        "recovery_target_time",
        "recovery_target_timeline",
        "recovery_target_xid",
        "synchronous_standby_names",
        "synchronous_commit",
        "restart_after_crash",
        "wal_level",
        "hot_standby",
        "wal_log_hints",
        "fsync",
        "full_page_writes",
        "recovery_min_apply_delay",
        "max_standby_archive_delay",
        "max_standby_streaming_delay",
        "wal_retrieve_retry_interval",
        "wal_sender_timeout",
        "wal_receiver_timeout",
        STANDBY_SLOTS,
    }
)
"""ALTER SYSTEM settings that would take a safety setting out of pgherd's hands (PROTOCOL.md 3)."""

CHOICES = {
    "wal_level": ("replica", "logical"),
    "synchronous_commit": ("on", "remote_apply"),
}
"""Owned parameters of which the operator may choose among safe values; the first is the default."""

AT_LEAST = ("max_wal_senders", "max_replication_slots")
"""Owned parameters that an operator may raise."""

REFUSED = frozenset(
    {"data_directory", "config_file", "external_pid_file", "include", "include_dir"}
    | {"include_if_exists", "log_directory", "log_filename", "promote_trigger_file"}
)
RELOADABLE = frozenset(
    {"synchronous_standby_names", "primary_conninfo", "primary_slot_name", "restore_command"}
    | {"max_standby_archive_delay", "max_standby_streaming_delay", "recovery_min_apply_delay"}
    | {"wal_retrieve_retry_interval", STANDBY_SLOTS}
)
"""What a running server is told by reload; never on the command line, which would win for good."""

ON_COMMAND_LINE = (
    *("wal_level", "hot_standby", "wal_log_hints", "restart_after_crash", "fsync"),
    *("full_page_writes", "recovery_target"),
    *("recovery_target_lsn", "recovery_target_name", "recovery_target_time"),
    *("recovery_target_xid", "recovery_target_timeline", "archive_mode", "max_wal_senders"),
    *("max_replication_slots", "listen_addresses", "port", "unix_socket_directories"),
    *("hba_file", "ident_file", "logging_collector", "log_destination"),
)
"""What needs no reload and is also passed as `-c`: no file can change it."""

MATCHED_DEFAULTS = {
    "max_connections": "100",
    "max_worker_processes": "8",
    "max_prepared_transactions": "0",
    "max_locks_per_transaction": "64",
}
"""PostgreSQL's own values of what a standby must match, where nobody sets them."""

PARAMETER_NAME = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?")


class OtherLogin(msgspec.Struct, frozen=True):
    """A role that may log in beside those that are used, while a password is changed."""

    role: str
    password: str
    replication: bool


class ServerSettings(msgspec.Struct, frozen=True):
    """What the configuration says about one PostgreSQL server.

    members = data members of the cluster · hba, parameters = the operator's own lines and
    parameters, of this node's file · cluster, version = the cluster's parameters, which the node's
    file overrides but for those that a standby must match, and of which version they are, 0 before
    the server was seen to have them · access = who may log in, by the cluster · passfile = where
    the roles' passwords are written for libpq; outside of the data directory, so that no backup
    carries it · mark, beside, ended = as of which changes of passwords this is, who may log in
    beside, and who may not any more (`logins`) · slot_wal_max, wal_keep = sizes as PostgreSQL
    writes them · tls_from = the files that those of `tlsfiles` are copies of: certificate, key,
    authority; tls_required: members must use TLS with each other · bootstrap = the command that
    makes the first data directory; none: initdb does · archive_command = pgherd's own, "" where it
    is the operator's to set.
    """

    passfile: str
    members: int = 3
    listen: tuple[str, ...] = ("127.0.0.1",)
    hba: tuple[str, ...] = ()
    parameters: dict[str, str] = {}
    cluster: dict[str, str] = {}
    access: Access = Access()
    version: int = 0
    superuser: str = "postgres"
    superuser_password: str = ""
    database: str = "postgres"
    replication_role: str = "pgherd_replication"
    replication_password: str = ""
    rewind_role: str = "pgherd_rewind"
    rewind_password: str = ""
    mark: str = ""
    beside: tuple[OtherLogin, ...] = ()
    ended: tuple[str, ...] = ()
    tls_certificate: str = ""
    tls_key: str = ""
    tls_ca: str = ""
    tls_from: tuple[str, ...] = ()
    tls_required: bool = False
    sslmode: str = "prefer"
    wal_timeout_ms: int = 5_000
    wal_retry_ms: int = 200
    receiver_status_s: int = 1
    slot_wal_max: str = "10GB"
    wal_keep: str = "512MB"
    bootstrap: tuple[str, ...] = ()
    bootstrap_timeout_s: float = 86_400.0
    archive_command: str = ""

    @property
    def tls(self) -> bool:
        """Whether it offers TLS."""
        return bool(self.tls_certificate)


class Effective(msgspec.Struct, frozen=True):
    """Parameters ready to be written, and what the operator has to be told about them."""

    values: dict[str, str]
    overridden: tuple[str, ...] = ()


class Place(msgspec.Struct, frozen=True):
    """Where a server lives on this machine."""

    data_dir: str
    port: int
    socket_dir: str


def effective(
    settings: ServerSettings,
    place: Place,
    live: dict[str, str],
    demanded: dict[str, int],
    major: int = 0,
) -> Effective:
    """Join the layers.

    live = the reloadable parameters of this moment, which win over all · demanded = the least that
    a standby of this WAL needs (pg_control), below which PostgreSQL refuses to start ·
    major = of the server, which knows no parameter of a later one.
    """
    owned = derive(settings, place)
    values = {**defaults(settings), **owned}
    overridden: list[str] = []
    for written, value in operators(settings).items():
        name = check_parameter(written, value)
        if name not in owned and name not in RELOADABLE - set(values):
            values[name] = value
        elif value != (kept := _merge_owned(name, value, owned.get(name, ""))):
            overridden.append(f"{name} = {value!r} is ignored: pgherd sets it to {kept!r}")
        else:
            values[name] = kept
    for name, least in demanded.items():
        value = values.get(name) or MATCHED_DEFAULTS.get(name, "")
        if value.isdigit() and int(value) < least:
            values[name] = str(least)
            overridden.append(f"{name} = {value!r} waits: this WAL needs {least} of a standby")
    return Effective(failoverslots.fitted({**values, **live}, major), tuple(overridden))


def operators(settings: ServerSettings) -> dict[str, str]:
    """The operator's parameters: the cluster's, and this node's own in their place.

    What a standby must match is the cluster's to say: a node's own value counts where it says none.
    """
    local = {name.lower(): value for name, value in settings.parameters.items()}
    matched = {name: settings.cluster[name] for name in MATCHED if name in settings.cluster}
    return {**settings.cluster, **local, **matched}


def check_parameter(name: str, value: str) -> str:
    """A parameter's name in lower case; refuse what is not one or would move files away."""
    lowered = name.lower()
    if PARAMETER_NAME.fullmatch(lowered) is None or "\n" in value or "\0" in value:
        raise OperatorError(
            f"postgresql.parameters: {name!r} is not a parameter with a one-line value",
            "pgherd config validate",
        )
    if lowered in REFUSED:
        raise OperatorError(
            f"postgresql.parameters: {lowered} cannot be set under pgherd",
            f"remove {lowered} from postgresql.parameters",
        )
    return lowered


def derive(settings: ServerSettings, place: Place) -> dict[str, str]:
    """The parameters that pgherd owns, but for those that change while the server runs."""
    connections = str(2 * max(settings.members, 2) + 6)
    owned = {
        "port": str(place.port),
        "listen_addresses": ",".join(settings.listen),
        "unix_socket_directories": place.socket_dir,
        "hba_file": f"{place.data_dir}/{HBA_FILE}",
        "ident_file": f"{place.data_dir}/{IDENT_FILE}",
        "wal_level": "replica",
        "max_wal_senders": connections,
        "max_replication_slots": connections,
        "hot_standby": "on",
        "wal_log_hints": "on",
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "restart_after_crash": "off",
        "archive_mode": "on",
        "recovery_target": "",
        "recovery_target_lsn": "",
        "recovery_target_name": "",
        "recovery_target_time": "",
        "recovery_target_xid": "",
        "recovery_target_timeline": "latest",
        "wal_sender_timeout": str(settings.wal_timeout_ms),
        "wal_receiver_timeout": str(settings.wal_timeout_ms),
        "wal_receiver_status_interval": str(settings.receiver_status_s),
        "password_encryption": "scram-sha-256",
        "logging_collector": "off",
        "log_destination": "stderr",
    }
    if settings.archive_command:
        owned["archive_command"] = settings.archive_command
    return owned | _tls(settings)


def defaults(settings: ServerSettings) -> dict[str, str]:
    """Parameters that an operator may set otherwise."""
    return {
        "archive_command": "true",
        "wal_keep_size": settings.wal_keep,
        "max_slot_wal_keep_size": settings.slot_wal_max,
        "wal_retrieve_retry_interval": str(settings.wal_retry_ms),
        "max_standby_archive_delay": "30000",
        "max_standby_streaming_delay": "30000",
        "recovery_min_apply_delay": "0",
        "superuser_reserved_connections": "5",
        "tcp_keepalives_idle": str(KEEPALIVE_IDLE_S),
        "tcp_keepalives_interval": str(KEEPALIVE_INTERVAL_S),
        "tcp_keepalives_count": str(KEEPALIVE_COUNT),
        "tcp_user_timeout": str(TCP_USER_TIMEOUT_MS),
        "log_line_prefix": "%m [%p] %q%u@%d/%a ",
    }


def sealed() -> dict[str, str]:
    """What a sealed standby is told: no upstream, no waiting, look at local WAL often."""
    return {
        "primary_conninfo": "",
        "primary_slot_name": "",
        "restore_command": "",
        "max_standby_archive_delay": "0",
        "max_standby_streaming_delay": "0",
        "recovery_min_apply_delay": "0",
        "wal_retrieve_retry_interval": str(SEALED_RETRY_MS),
    }


def conninfo(
    settings: ServerSettings,
    *,
    host: str,
    port: int,
    application_name: str,
    role: str,
    database: str = "",
) -> str:
    """A libpq connection string to a peer; the password stays in the passfile."""
    pairs = {
        "host": host,
        "port": str(port),
        "user": role,
        "dbname": database,
        "application_name": application_name,
        "passfile": settings.passfile,
        "sslmode": settings.sslmode,
        "sslrootcert": settings.tls_ca,
        "connect_timeout": str(CONNECT_TIMEOUT_S),
        "keepalives_idle": str(KEEPALIVE_IDLE_S),
        "keepalives_interval": str(KEEPALIVE_INTERVAL_S),
        "keepalives_count": str(KEEPALIVE_COUNT),
        "tcp_user_timeout": str(TCP_USER_TIMEOUT_MS),
    }
    return write_pairs(pairs)


def upstream_conninfo(
    settings: ServerSettings, *, host: str, port: int, application_name: str, major: int = 0
) -> str:
    """primary_conninfo for a leader at host and port, under a member's token.

    major: of the server, which may ask there, in a database, for the logical slots that it copies.
    """
    return conninfo(
        settings,
        host=host,
        port=port,
        application_name=application_name,
        role=settings.replication_role,
        database=settings.database if major >= SYNCED_FROM_MAJOR else "",
    )


def _merge_owned(name: str, value: str, owned: str) -> str:
    """The value that an owned parameter gets when the operator also names it."""
    if value in CHOICES.get(name, ()):
        return value
    if name in AT_LEAST and value.isdigit() and int(value) > int(owned):
        return value
    return owned


def _tls(settings: ServerSettings) -> dict[str, str]:
    if not settings.tls:
        return {}
    files = {"ssl_cert_file": settings.tls_certificate, "ssl_key_file": settings.tls_key}
    ca = {"ssl_ca_file": settings.tls_ca} if settings.tls_ca else {}
    return {"ssl": "on", **files, **ca}
