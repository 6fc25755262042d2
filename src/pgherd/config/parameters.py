"""Which PostgreSQL parameters belong to pgherd, and why an operator's value for them is refused.

Owns the table of names with a reason each. Leaves computing their values to `postgres`, which
writes them. Every other parameter belongs to the operator.
"""

from __future__ import annotations

_SAFETY = "no acknowledged commit is safe without pgherd's own value"
_SIZE = "pgherd derives it from the size of the cluster"
_PLACE = "it follows from another key"

OWNED: dict[str, str] = {
    "archive_cleanup_command": _SAFETY,
    "archive_mode": "pgherd keeps it on, because changing it later needs a restart",
    "cluster_name": _PLACE,
    "config_file": _PLACE,
    "data_directory": _PLACE,
    "external_pid_file": _PLACE,
    "fsync": _SAFETY,
    "full_page_writes": _SAFETY,
    "hba_file": "write lines under postgresql.hba",
    "hot_standby": _SAFETY,
    "hot_standby_feedback": _SIZE,
    "ident_file": _PLACE,
    "listen_addresses": "set node.address",
    "max_replication_slots": _SIZE,
    "max_slot_wal_keep_size": _SIZE,
    "max_standby_archive_delay": _SAFETY,
    "max_standby_streaming_delay": _SAFETY,
    "max_wal_senders": _SIZE,
    "port": "set postgresql.port",
    "primary_conninfo": _SAFETY,
    "primary_slot_name": _SAFETY,
    "promote_trigger_file": _SAFETY,
    "recovery_end_command": _SAFETY,
    "recovery_min_apply_delay": "delayed replicas are not available in this version",
    "recovery_target": _SAFETY,
    "recovery_target_action": _SAFETY,
    "recovery_target_inclusive": _SAFETY,
    "recovery_target_lsn": _SAFETY,
    "recovery_target_name": _SAFETY,
    "recovery_target_time": _SAFETY,
    "recovery_target_timeline": _SAFETY,
    "recovery_target_xid": _SAFETY,
    "restart_after_crash": _SAFETY,
    "restore_command": _SAFETY,
    "superuser_reserved_connections": "pgherd needs its own connections when all others are used",
    "synchronous_commit": "replication.mode says what an acknowledgement promises",
    "synchronous_standby_names": "set replication.mode and replication.num_sync",
    "unix_socket_directories": "set postgresql.socket_dir",
    "wal_keep_size": _SIZE,
    "wal_level": _SAFETY,
    "wal_log_hints": _SAFETY,
    "wal_receiver_status_interval": _SAFETY,
    "wal_receiver_timeout": _SAFETY,
    "wal_retrieve_retry_interval": _SAFETY,
    "wal_sender_timeout": _SAFETY,
}
"""name -> why pgherd sets it itself."""
