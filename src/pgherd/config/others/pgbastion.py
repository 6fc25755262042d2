"""pgbastion's YAML file."""

from __future__ import annotations

from pgherd.config.others import SAME, Product

HEALTH = "failover.probe"

KEYS: dict[str, str] = {
    "version": SAME,
    "node.name": SAME,
    "node.address": SAME,
    "cluster.peers": "raft.members: [n1=10.0.1.1:8300], or pgherd join",
    "raft.data_dir": SAME,
    "raft.bind_port": "raft.port",
    "raft.bootstrap": "pgherd init on the first node",
    "raft.log_level": "log.level: one for all",
    "raft.snapshot_retain": "nothing: one snapshot is kept, and the log after it",
    "raft.transport_timeout": "nothing: a silent connection is cut after four seconds",
    "raft.heartbeat_timeout": "raft.heartbeat",
    "raft.election_timeout": SAME,
    "raft.tls_enabled": "raft.tls: {ca, cert, key}; pgherd init makes them",
    "raft.tls_cert": "raft.tls.cert",
    "raft.tls_key": "raft.tls.key",
    "raft.tls_ca": "raft.tls.ca",
    "memberlist": "nothing: members stand in the ledger, there is no gossip",
    "memberlist.bind_port": "nothing: members stand in the ledger, there is no gossip",
    "proxy.primary_port": "proxy.listeners: [{port: ..., route: primary}]",
    "proxy.replica_port": "proxy.listeners: [{port: ..., route: replica}]",
    "proxy.drain_timeout": SAME,
    "proxy.connect_timeout": SAME,
    "proxy.pool": "proxy.listeners: pool",
    "proxy.pool.enabled": "proxy.listeners: pool: transaction, session or none",
    "proxy.pool.max_pool_size": "proxy.pools.size",
    "proxy.pool.min_idle_conns": "proxy.pools.min_size",
    "proxy.pool.idle_timeout": "proxy.pools.idle_timeout",
    "proxy.pool.max_conn_lifetime": "proxy.pools.lifetime",
    "proxy.pool.health_check_period": "nothing: the end of a server is seen when it comes",
    "proxy.pool.acquire_timeout": "proxy.pools.query_wait_timeout",
    "vip.address": "vip: [{address: 10.0.1.100/24, interface: eth0, follow: primary}]",
    "vip.interface": "vip: [{address: 10.0.1.100/24, interface: eth0, follow: primary}]",
    "vip.renew_interval": "nothing: the address is lent by the kernel for a time, and renewed",
    "postgresql.bin_dir": SAME,
    "postgresql.data_dir": SAME,
    "postgresql.port": SAME,
    "postgresql.superuser": "postgresql.superuser.username",
    "postgresql.replication_user": "postgresql.replication.username",
    "postgresql.connect_dsn": "postgresql.superuser, postgresql.port and postgresql.database",
    "postgresql.health_timeout": f"{HEALTH}.timeout",
    "postgresql.health_interval": f"{HEALTH}.interval",
    "postgresql.health_max_backoff": "nothing: a failed probe is followed by another at once",
    "postgresql.health_backoff_multiplier": (
        "nothing: a failed probe is followed by another at once"
    ),
    "failover.confirmation_period": "failover.detect",
    "failover.max_lag_threshold": "failover.max_lag, in mode async; otherwise nothing is lost",
    "failover.fencing_enabled": "failover.fence; an acknowledged commit is safe without it",
    "failover.quorum_loss_timeout": "failover.lease_ttl",
    "failover.split_brain_protection": "nothing: it cannot be switched off",
    "api.port": SAME,
    "api.bind_address": "api.bind",
    "api.auth_token": "api.tokens: [{name, role, sha256}]",
    "api.shutdown_timeout": "nothing: open requests have two seconds",
    "api.tls_cert": "api.tls.cert",
    "api.tls_key": "api.tls.key",
    "metrics.port": SAME,
    "log.level": SAME,
    "tracing": "nothing: requests carry W3C trace ids (traceparent), nothing is exported",
    **{
        f"tracing.{key}": "nothing: requests carry W3C trace ids, nothing is exported"
        for key in ("enabled", "exporter", "endpoint", "service_name", "sample_rate", "insecure")
    },
}

PRODUCT = Product("pgbastion", "pgbastion of 2026-02: its example and configuration", KEYS)
