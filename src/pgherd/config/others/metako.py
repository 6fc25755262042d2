"""pg-metako's YAML file, in its present form and in the earlier one with a list of nodes."""

from __future__ import annotations

from pgherd.config.others import Product

ROLE = "nothing: who is primary is elected"
MEMBERS = "pgherd join on each node; raft.members for the first ones"
PAIR = "nothing: two nodes need a third vote, node.witness: true on a small machine"
MODE = {
    "heartbeat_interval": "raft.heartbeat",
    "communication_timeout": "failover.detect",
    "failover_timeout": "failover.detect",
    "min_consensus_nodes": "nothing: a majority of the voters, always",
    "local_node_preference": "proxy.prefer_zone with node.zone, and proxy.local_socket",
}
SERVER = {
    "name": "node.name",
    "host": "node.address",
    "port": "postgresql.port",
    "role": ROLE,
    "username": "postgresql.superuser.username",
    "password": "postgresql.superuser.password: file:/path",
    "database": "postgresql.database",
}

KEYS: dict[str, str] = {
    "identity": "node",
    "identity.node_name": "node.name",
    "identity.local_db_host": "node.address",
    "identity.local_db_port": "postgresql.port",
    "identity.api_host": "api.bind",
    "identity.api_port": "api.port",
    "local_db": "postgresql",
    **{f"local_db.{key}": place for key, place in SERVER.items()},
    "cluster_members": MEMBERS,
    "cluster_members.node_name": MEMBERS,
    "cluster_members.api_host": MEMBERS,
    "cluster_members.api_port": MEMBERS,
    "cluster_members.role": ROLE,
    "nodes": MEMBERS,
    **{f"nodes.{key}": MEMBERS if key in ("name", "host") else p for key, p in SERVER.items()},
    "coordination": "raft and failover",
    "coordination.cluster_mode": "raft and failover",
    **{f"coordination.cluster_mode.{key}": place for key, place in MODE.items()},
    **{f"coordination.{key}": place for key, place in MODE.items()},
    "coordination.pair_mode": PAIR,
    "coordination.pair_mode.enable": PAIR,
    "coordination.pair_mode.failover_delay": PAIR,
    "coordination.pair_mode.failure_threshold": PAIR,
    "coordination.enable_pair_mode": PAIR,
    "coordination.pair_failover_delay": PAIR,
    "coordination.pair_failure_threshold": PAIR,
    "health_check": "failover.probe",
    "health_check.interval": "failover.probe.interval",
    "health_check.timeout": "failover.probe.timeout",
    "health_check.failure_threshold": "failover.probe.failures",
    "load_balancer": "proxy",
    "load_balancer.algorithm": "proxy.balance",
    "load_balancer.read_timeout": "proxy.read_timeout",
    "load_balancer.write_timeout": "proxy.write_timeout",
    "security": "raft.tls and api.tls",
    "security.tls_enabled": "raft.tls and api.tls; pgherd init makes the certificates",
    "security.cert_file": "api.tls.cert",
    "security.key_file": "api.tls.key",
}

PRODUCT = Product("pg-metako", "pg-metako of 2025-08: its examples and configuration", KEYS)
