"""Which PostgreSQL parameters belong to pgherd, and why an operator's value for them is refused.

Owns the table of names with a reason each, and the values that some may still have. Leaves
computing pgherd's values to `postgres`, which writes them. All others belong to the operator.
"""

from __future__ import annotations

_SAFETY = "no acknowledged commit is safe without pgherd's own value"
_LOG = "PostgreSQL writes to standard error, where the daemon takes it"
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
    "ident_file": _PLACE,
    "include": _PLACE,
    "include_dir": _PLACE,
    "include_if_exists": _PLACE,
    "listen_addresses": "set node.address",
    "log_destination": _LOG,
    "log_directory": _LOG,
    "log_filename": _LOG,
    "logging_collector": _LOG,
    "password_encryption": "passwords are kept as SCRAM verifiers",
    "port": "set postgresql.port",
    "primary_conninfo": _SAFETY,
    "primary_slot_name": _SAFETY,
    "promote_trigger_file": _SAFETY,
    "recovery_end_command": _SAFETY,
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
    "synchronous_standby_names": "set replication.mode and replication.num_sync",
    "unix_socket_directories": "set postgresql.socket_dir",
    "wal_log_hints": _SAFETY,
    "wal_receiver_status_interval": _SAFETY,
    "wal_receiver_timeout": _SAFETY,
    "wal_sender_timeout": _SAFETY,
}
"""name -> why pgherd sets it itself."""

CHOICES: dict[str, tuple[str, ...]] = {
    "recovery_min_apply_delay": ("0",),
    "synchronous_commit": ("on", "remote_apply"),
    "wal_level": ("replica", "logical"),
}
"""name -> the values that keep what pgherd promises; others are refused."""

INSTEAD: dict[str, str] = {
    "recovery_min_apply_delay": "write node.tags.delay on the node that is to be late, and remove"
    " it",
}
"""name -> what does what somebody may have wanted of such a parameter."""
