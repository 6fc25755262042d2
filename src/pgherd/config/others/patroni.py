"""Patroni's YAML file, and its dynamic configuration, which stands under `bootstrap.dcs` there."""

from __future__ import annotations

from pgherd.config.others import SAME, Product

BUILT_IN = "nothing: consensus is built in, see raft"
CONNECTION = "postgresql.tls: members encrypt, and check certificate and host name"
OTHER_CONNECTION = "nothing: members connect with passwords, encrypted by postgresql.tls"
NAMES = "nothing: the binaries of postgresql.bin_dir have their usual names"
ONE_FOR_ALL = "postgresql.parameters or pgherd config set: one value for every role"
HBA_FOR_ALL = "postgresql.hba or pgherd config hba edit: the same lines for every role"
IDENT = "pgherd config ident edit"
STANDBY: dict[str, str] = {
    "host": "standby_cluster.hosts: [host:port]",
    "port": "standby_cluster.hosts: [host:port]",
    "primary_slot_name": "standby_cluster.primary_slot_name",
    "create_replica_methods": "postgresql.clone.command",
    "restore_command": "nothing: a standby leader streams",
    "archive_cleanup_command": "nothing: a standby leader streams",
    "recovery_min_apply_delay": "node.tags.delay",
}

DYNAMIC: dict[str, str] = {
    "loop_wait": "failover.detect (there is no loop to pace)",
    "ttl": "failover.detect; how long a primary may go on alone is failover.lease_ttl",
    "retry_timeout": "failover.detect",
    "primary_race_backoff": "nothing: candidates do not race, the furthest one is elected",
    "maximum_lag_on_failover": "failover.max_lag, in mode async; otherwise nothing is lost",
    "maximum_lag_on_syncnode": "pgherd sync set --max-lag 64MB",
    "max_timelines_history": "nothing: the ledger keeps what is needed; pgherd history",
    "primary_start_timeout": "failover.start_timeout",
    "master_start_timeout": "failover.start_timeout",
    "primary_stop_timeout": "nothing: an old primary is closed before another one opens",
    "master_stop_timeout": "nothing: an old primary is closed before another one opens",
    "synchronous_mode": "replication.mode: quorum",
    "synchronous_mode_strict": "replication.mode: strict",
    "synchronous_node_count": "replication.num_sync",
    "failsafe_mode": "nothing: it is always so; a primary goes on while its lease holds",
    "check_timeline": "nothing: a timeline of no known term is never followed",
    "pause": "pgherd pause",
    "postgresql.use_pg_rewind": "nothing: an old primary is always rewound when it can be",
    "postgresql.use_slots": "nothing: every replica has its slot",
    "postgresql.recovery_conf": "nothing: pgherd writes what a standby follows",
    "postgresql.parameters": SAME,
    "postgresql.parameters_primary": ONE_FOR_ALL,
    "postgresql.parameters_replica": ONE_FOR_ALL,
    "postgresql.parameters_standby_leader": ONE_FOR_ALL,
    "postgresql.pg_hba": "postgresql.hba",
    "postgresql.pg_hba_primary": HBA_FOR_ALL,
    "postgresql.pg_hba_replica": HBA_FOR_ALL,
    "postgresql.pg_hba_standby_leader": HBA_FOR_ALL,
    "postgresql.pg_ident": IDENT,
    "postgresql.pg_ident_primary": IDENT,
    "postgresql.pg_ident_replica": IDENT,
    "postgresql.pg_ident_standby_leader": IDENT,
    "postgresql.pg_ctl_timeout": "failover.start_timeout",
    "postgresql.rewind": "nothing: pg_rewind needs no options here",
    "postgresql.basebackup": "postgresql.clone.max_rate, or postgresql.clone.command",
    "postgresql.remove_data_directory_on_rewind_failure": (
        "nothing: a directory that cannot be used is set aside and kept, then copied anew"
    ),
    "postgresql.remove_data_directory_on_diverged_timelines": (
        "nothing: a directory that cannot be used is set aside and kept, then copied anew"
    ),
    "postgresql.use_unix_socket": "nothing: pgherd's own sessions always use the Unix socket",
    "postgresql.use_unix_socket_repl": "nothing: replicas come by TCP from other machines",
    "member_slots_ttl": "replication.slots.keep_max and replication.slots.min_free_disk",
    "slots": "pgherd slots create",
    "ignore_slots": "replication.slots.ignore, by name",
}

SSL_KEYS = (
    "sslmode",
    "sslkey",
    "sslpassword",
    "sslcert",
    "sslrootcert",
    "sslcrl",
    "sslcrldir",
    "sslnegotiation",
)
OTHER_KEYS = ("gssencmode", "channel_binding")
ROLES = {
    "superuser": "postgresql.superuser",
    "replication": "postgresql.replication",
    "rewind": "postgresql.rewind",
}

KEYS: dict[str, str] = {
    "name": "node.name",
    "namespace": "cluster.name",
    "scope": "cluster.name",
    "thread_pool_size": "nothing: the number of threads is fixed",
    "thread_stack_size": "nothing: the number of threads is fixed",
    "log.type": "log.format: text or json",
    "log.level": SAME,
    "log.traceback_level": "nothing: a traceback stands below its line at every level",
    "log.format": "log.format: text or json (a line's fields are fixed)",
    "log.dateformat": "nothing: times are ISO 8601 in UTC",
    "log.static_fields": "nothing: every line names its node; add more where lines are shipped",
    "log.max_queue_size": "nothing: 4096 lines may wait; what is lost is counted",
    "log.dir": "log.file",
    "log.mode": "nothing: files are made with 0640",
    "log.file_num": "log.file_keep",
    "log.file_size": SAME,
    "log.loggers": "log.level: one for all",
    "log.deduplicate_heartbeat_logs": "nothing: what happens again and again is not told",
    "bootstrap": "settings stand in this file: failover, replication, postgresql.parameters",
    "bootstrap.dcs": "settings stand in this file: failover, replication, postgresql.parameters",
    "bootstrap.dcs.postgresql": "postgresql.parameters",
    "bootstrap.method": "postgresql.bootstrap.command",
    "bootstrap.initdb": "nothing: checksums are on, the encoding is UTF8",
    "bootstrap.pg_hba": "postgresql.hba",
    "bootstrap.users": "pgherd init --database NAME --user NAME",
    "bootstrap.post_bootstrap": "pgherd init --database NAME --user NAME, then SQL of your own",
    "bootstrap.post_init": "pgherd init --database NAME --user NAME, then SQL of your own",
    "raft.self_addr": "node.address with raft.port",
    "raft.bind_addr": "node.address.raft.listen with raft.port",
    "raft.partner_addrs": "raft.members: [n1=10.0.1.1:8300]",
    "raft.data_dir": SAME,
    "raft.password": "raft.tls: every node has its certificate",
    "raft.min_timeout": "raft.election_timeout",
    "raft.max_timeout": "raft.election_timeout: once to twice this long",
    "raft.connection_timeout": "nothing: a silent connection is cut after four seconds",
    "raft.append_entries_period": "raft.heartbeat",
    "raft.connection_retry_time": "nothing: at most a second",
    "raft.leader_fallback_timeout": "raft.election_timeout",
    "postgresql.authentication": "postgresql.superuser and postgresql.replication",
    **{f"postgresql.authentication.{role}": place for role, place in ROLES.items()},
    **{
        f"postgresql.authentication.{role}.{key}": f"{place}.{key}"
        for role, place in ROLES.items()
        for key in ("username", "password")
    },
    **{f"postgresql.authentication.{role}.{key}": CONNECTION for role in ROLES for key in SSL_KEYS},
    **{
        f"postgresql.authentication.{role}.{key}": OTHER_CONNECTION
        for role in ROLES
        for key in OTHER_KEYS
    },
    "postgresql.callbacks": "hooks",
    **{
        f"postgresql.callbacks.{key}": f"hooks.{key}"
        for key in ("on_reload", "on_restart", "on_role_change", "on_start", "on_stop")
    },
    "postgresql.pre_promote": "hooks.pre_promote",
    "postgresql.before_stop": "nothing: hooks.on_stop is told afterwards",
    "postgresql.connect_address": "node.address with postgresql.port",
    "postgresql.proxy_address": "proxy.listeners: the way in for clients is built in",
    "postgresql.listen": "node.address with postgresql.port",
    "postgresql.data_dir": SAME,
    "postgresql.config_dir": "nothing: the files stand in postgresql.data_dir",
    "postgresql.bin_dir": SAME,
    **{
        f"postgresql.bin_name.{key}": NAMES
        for key in (
            *("pg_ctl", "initdb", "pg_controldata", "pg_basebackup"),
            *("postgres", "pg_isready", "pg_rewind"),
        )
    },
    "postgresql.bin_name": NAMES,
    "postgresql.pgpass": "postgresql.superuser.password: file:/path",
    "postgresql.custom_conf": "nothing: its postgresql.conf is read before pgherd's own",
    "postgresql.create_replica_methods": (
        "postgresql.clone.command; else replicas are made with pg_basebackup"
    ),
    "postgresql.replica_method": "postgresql.clone.command",
    "restapi": "api",
    "restapi.thread_pool_size": "nothing: the API needs no threads",
    "restapi.connect_address": "node.address.api.advertise with api.port",
    "restapi.listen": "api.bind with api.port",
    "restapi.authentication": "api.tokens",
    "restapi.authentication.username": "api.tokens: name",
    "restapi.authentication.password": "api.tokens: sha256 of the token",
    "restapi.certfile": "api.tls.cert",
    "restapi.keyfile": "api.tls.key",
    "restapi.keyfile_password": "nothing: the key's file is readable by pgherd's user only",
    "restapi.cafile": "api.tls.ca",
    "restapi.ciphers": "nothing: TLS 1.2 and later with OpenSSL's own choice",
    "restapi.verify_client": "api.tls.ca",
    "restapi.allowlist": "api.allow",
    "restapi.allowlist_include_members": "api.allow",
    "restapi.http_extra_headers": "nothing: answers have no headers of yours",
    "restapi.https_extra_headers": "nothing: answers have no headers of yours",
    "restapi.request_queue_size": "nothing: 128 connections may wait",
    "restapi.server_tokens": "nothing: there is no Server header",
    "ctl": "nothing: the command line reads this file, or takes --api-url and a token",
    "ctl.insecure": "nothing: certificates are always checked",
    "ctl.cacert": "raft.tls.ca; elsewhere PGHERD_CA",
    "ctl.certfile": "PGHERD_CERT; pgherd pki issue makes one",
    "ctl.keyfile": "PGHERD_KEY; pgherd pki issue makes one",
    "ctl.keyfile_password": "nothing: the key's file is readable by its owner only",
    "ctl.authentication": "PGHERD_TOKEN",
    "ctl.authentication.username": "PGHERD_TOKEN",
    "ctl.authentication.password": "PGHERD_TOKEN",
    "watchdog": "failover.watchdog",
    "watchdog.mode": "failover.watchdog",
    "watchdog.device": "failover.watchdog_device",
    "watchdog.safety_margin": "nothing: it follows from failover.lease_ttl",
    "tags": "node.tags",
    "tags.clonefrom": "node.tags.clonefrom",
    "tags.noloadbalance": "node.tags.noloadbalance",
    "tags.replicatefrom": "node.tags.replicatefrom",
    "tags.nosync": "node.tags.nosync",
    "tags.sync_priority": "node.tags.nosync for never; else zones decide: node.zone",
    "tags.nofailover": "node.tags.nofailover",
    "tags.failover_priority": "node.tags.failover_priority",
    "tags.nostream": "node.tags.nostream",
    "standby_cluster": SAME,
    **{f"standby_cluster.{key}": place for key, place in STANDBY.items()},
    "vip_manager": "vip: [{address: 10.0.1.100/24, interface: eth0, follow: primary}]",
    **DYNAMIC,
    **{f"bootstrap.dcs.{key}": place for key, place in DYNAMIC.items() if place != SAME},
    "bootstrap.dcs.postgresql.parameters": "postgresql.parameters",
    "bootstrap.dcs.standby_cluster": "standby_cluster",
    **{f"bootstrap.dcs.standby_cluster.{key}": place for key, place in STANDBY.items()},
}
ETCD = (
    *("host", "hosts", "use_proxies", "url", "proxy", "srv", "srv_suffix", "protocol"),
    *("username", "password", "cacert", "cert", "key"),
)
SECTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "consul": (
        BUILT_IN,
        (
            *("host", "url", "port", "scheme", "token", "verify", "cacert", "cert", "key", "dc"),
            *("consistency", "checks", "register_service", "service_tags"),
            *("service_check_interval", "service_check_tls_server_name"),
        ),
    ),
    "etcd": (BUILT_IN, ETCD),
    "etcd3": (BUILT_IN, ETCD),
    "exhibitor": (BUILT_IN, ("hosts", "poll_interval", "port")),
    "zookeeper": (
        BUILT_IN,
        (
            *("hosts", "use_ssl", "cacert", "cert", "key", "key_password", "verify", "set_acls"),
            "auth_data",
        ),
    ),
    "kubernetes": (
        BUILT_IN,
        (
            *("bypass_api_service", "namespace", "labels", "scope_label", "bootstrap_labels"),
            *("role_label", "leader_label_value", "follower_label_value", "tmp_role_label"),
            *("standby_leader_label_value", "use_endpoints", "pod_ip", "ports", "cacert"),
            "retriable_http_codes",
        ),
    ),
    "citus": ("nothing: Citus is not supported", ("group", "database")),
    "slots": ("pgherd slots create", ("type", "database", "plugin", "cluster_type")),
    "ignore_slots": ("replication.slots.ignore, by name", ("name", "type", "database", "plugin")),
    "bootstrap.dcs.slots": ("pgherd slots create", ("type", "database", "plugin", "cluster_type")),
    "bootstrap.dcs.ignore_slots": (
        "replication.slots.ignore, by name",
        ("name", "type", "database", "plugin"),
    ),
}

PRODUCT = Product("Patroni", "Patroni 4.1.4: its documentation and validator", KEYS, SECTIONS)
