"""Names that this version does not have: other systems' keys, and ours that come later.

Owns the tables from a key to what to write instead. Leaves finding unknown keys to `load`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pgherd.config.fields import LATER
from pgherd.config.source import Path

FOREIGN: dict[str, str] = {
    "auto_failover": "failover.enabled",
    "bootstrap": "settings stand in this file: failover, replication, postgresql.parameters",
    "bootstrap.dcs": "settings stand in this file: failover, replication, postgresql.parameters",
    "bootstrap.dcs.postgresql": "postgresql.parameters",
    "bootstrap.dcs.synchronous_mode": "replication.mode",
    "bootstrap.initdb": "nothing: checksums are on, the encoding is UTF8",
    "bootstrap.pg_hba": "postgresql.hba",
    "bootstrap.users": "pgherd init --database NAME --user NAME",
    "cluster.id": "cluster.name",
    "cluster.node_id": "node.name",
    "cluster_name": "cluster.name",
    "conninfo": "node.address, postgresql.port and postgresql.superuser",
    "consul": "nothing: consensus is built in, see raft",
    "data_directory": "postgresql.data_dir",
    "etcd": "nothing: consensus is built in, see raft",
    "etcd3": "nothing: consensus is built in, see raft",
    "exhibitor": "nothing: consensus is built in, see raft",
    "kubernetes": "nothing: consensus is built in, see raft",
    "name": "node.name",
    "namespace": "cluster.name",
    "node.host": "node.address",
    "node.id": "node.name",
    "node.priority": "node.tags.failover_priority",
    "node_id": "node.name",
    "node_name": "node.name",
    "pg_bindir": "postgresql.bin_dir",
    "postgres": "postgresql",
    "postgresql.authentication": "postgresql.superuser and postgresql.replication",
    "postgresql.authentication.replication": "postgresql.replication",
    "postgresql.authentication.rewind": "postgresql.rewind",
    "postgresql.authentication.superuser": "postgresql.superuser",
    "postgresql.connect_address": "node.address with postgresql.port",
    "postgresql.create_replica_methods": "nothing: replicas are made with pg_basebackup",
    "postgresql.listen": "node.address with postgresql.port",
    "postgresql.pg_hba": "postgresql.hba",
    "postgresql.pgpass": "postgresql.superuser.password: file:/path",
    "postgresql.use_pg_rewind": "nothing: an old primary is always rewound when it can be",
    "postgresql.use_slots": "nothing: every replica has its slot",
    "priority": "node.tags.failover_priority",
    "proxy.backends": "nothing: the cluster knows its servers",
    "proxy.host": "node.address.proxy.listen",
    "proxy.listen": "node.address.proxy.listen with proxy.listeners",
    "proxy.port": "proxy.listeners: [{port: ..., route: primary}]",
    "proxy.primary_port": "proxy.listeners: [{port: ..., route: primary}]",
    "proxy.read_port": "proxy.listeners: [{port: ..., route: replica}]",
    "proxy.replica_port": "proxy.listeners: [{port: ..., route: replica}]",
    "proxy.write_port": "proxy.listeners: [{port: ..., route: primary}]",
    "replication.synchronous_commit": "pgherd sync set --synchronous-commit remote_apply",
    "raft.bind_addr": "node.address.raft.listen with raft.port",
    "raft.bind_address": "node.address.raft.listen with raft.port",
    "raft.bind_port": "raft.port",
    "raft.bootstrap": "pgherd init on the first node",
    "raft.partner_addrs": "raft.members: [n1=10.0.1.1:8300]",
    "raft.peers": "raft.members: [n1=10.0.1.1:8300]",
    "raft.self_addr": "node.address with raft.port",
    "reconnect_attempts": "failover.detect",
    "replication_user": "postgresql.replication.username",
    "slots": "pgherd slots create",
    "restapi": "api",
    "restapi.authentication": "api.tokens",
    "restapi.cafile": "api.tls.ca",
    "restapi.certfile": "api.tls.cert",
    "restapi.connect_address": "node.address.api.advertise with api.port",
    "restapi.keyfile": "api.tls.key",
    "restapi.listen": "api.bind with api.port",
    "scope": "cluster.name",
    "superuser": "postgresql.superuser",
    "vip_manager": "vip: [{address: 10.0.1.100/24, interface: eth0, follow: primary}]",
    "zookeeper": "nothing: consensus is built in, see raft",
}
"""key of another system -> what takes its place; empty: not available in this version."""

ANYWHERE: dict[str, str] = {
    "bind_address": "node.address.<channel>.listen",
    "check_timeout": "failover.probe.timeout",
    "dcs": "this file: failover, replication, postgresql.parameters",
    "ignore_slots": "replication.slots.ignore, by name",
    "loop_wait": "failover.detect (there is no loop to pace)",
    "master_start_timeout": "failover.start_timeout",
    "maximum_lag_on_failover": "failover.max_lag, in mode async; otherwise nothing is lost",
    "maximum_lag_on_syncnode": "pgherd sync set --max-lag 64MB",
    "member_slots_ttl": "replication.slots.keep_max and .min_free_disk",
    "pg_hba": "postgresql.hba",
    "primary_start_timeout": "failover.start_timeout",
    "primary_stop_timeout": "nothing: an old primary is closed before another one opens",
    "retry_timeout": "failover.detect",
    "synchronous_mode": "replication.mode: quorum",
    "synchronous_mode_strict": "replication.mode: strict",
    "synchronous_node_count": "replication.num_sync",
    "ttl": "failover.detect",
}
"""key of another system, wherever it stands -> what takes its place."""

COMES_LATER: dict[str, str] = {
    "api.allow": "restrict access with the host's firewall",
    "api.protect_reads": "",
    "api.rate_limit": "",
    "api.tls.ca": "clients log in with tokens",
    "backup": "keep the backup tool that you have",
    "hooks": "",
    "limits": "set MemoryMax in the service's unit",
    "log.report_interval": "",
    "log.syslog": "the service manager takes standard error",
    "metrics": "scrape /metrics on the API's port",
    "node.tags.clonefrom": "",
    "node.tags.nostream": "",
    "node.tags.replicatefrom": "",
    "postgresql.initdb": "databases are UTF8 with the locale C.UTF-8, or C where that is missing",
    "store": "the built-in store is used: remove the section",
}
"""key of ours that a later version has -> what to do until then."""


def explain(path: Path, value: object) -> Iterator[tuple[Path, str, str]]:
    """Say about an unknown key what it is, as (path, message, hint); nothing when unheard of."""
    key = _plain(path)
    deeper = list(_explain_within(path, value))
    if key in COMES_LATER:
        hint = COMES_LATER[key]
        yield (
            path,
            LATER,
            f"{hint}; remove it" if hint and "remove" not in hint else hint or "remove it",
        )
    elif deeper:
        yield from deeper
    elif key in FOREIGN or path[-1] in ANYWHERE:
        place = FOREIGN[key] if key in FOREIGN else ANYWHERE[str(path[-1])]
        if place:
            yield path, "is another system's name", f"here it is {place}"
        else:
            yield path, LATER, "remove it"


def _explain_within(path: Path, value: object) -> Iterator[tuple[Path, str, str]]:
    if not isinstance(value, Mapping):
        return
    inner: Mapping[str, Any] = value
    for name, held in inner.items():
        yield from explain((*path, name), held)


def _plain(path: Path) -> str:
    return ".".join(str(step) for step in path if not isinstance(step, int))
