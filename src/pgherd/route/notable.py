"""Built-in functions of which pg_proc's word is not enough, or whose effect a client cannot undo.

Pure. PostgreSQL's volatility says whether a function's result may change within a statement, not
whether another server would give the same one: `txid_current()` is stable and writes,
`pg_stat_get_activity()` is stable and tells of one server only. Extensions' functions have no place
here: they are judged by their volatility.
"""

from __future__ import annotations

KEEPING = frozenset(
    [
        "nextval",
        "setval",
        "currval",
        "lastval",
        "txid_current",
        "pg_current_xact_id",
        "set_config",
        "setseed",
        "pg_export_snapshot",
        "pg_notify",
        "pg_logical_emit_message",
        "loread",
        "lowrite",
    ]
)
"""They write, or what they leave or look at is in the session of one server."""

KEEPING_PREFIXES = ("pg_advisory_", "pg_try_advisory_", "lo_")

LOCAL = frozenset(
    [
        "pg_backend_pid",
        "inet_server_addr",
        "inet_server_port",
        "inet_client_addr",
        "inet_client_port",
        "pg_postmaster_start_time",
        "pg_conf_load_time",
        "pg_config",
        "current_setting",
        "pg_show_all_settings",
        "pg_cursor",
        "pg_prepared_statement",
        "pg_listening_channels",
        "pg_get_replication_slots",
        "pg_tablespace_location",
        "pg_available_extensions",
        "pg_available_extension_versions",
        "pg_numa_available",
        "txid_current_if_assigned",
        "pg_current_xact_id_if_assigned",
        "txid_current_snapshot",
        "pg_current_snapshot",
    ]
)
"""Stable, but they tell of the server or the session that runs them."""

LOCAL_PREFIXES = ("pg_stat_get_", "pg_event_trigger_")

READING_ANYTHING = frozenset(
    [
        "table_to_xml",
        "table_to_xmlschema",
        "table_to_xml_and_xmlschema",
        "schema_to_xml",
        "schema_to_xmlschema",
        "schema_to_xml_and_xmlschema",
        "database_to_xml",
        "database_to_xmlschema",
        "database_to_xml_and_xmlschema",
    ]
)
"""Stable, but they read relations whose names nobody sees in the statement."""

SAMPLING = frozenset(("bernoulli", "system"))
"""The methods of TABLESAMPLE that PostgreSQL brings along."""


def keeps(function: str) -> bool:
    """Whether a function must never run on a replica in the place of the primary."""
    return function in KEEPING or function.startswith(KEEPING_PREFIXES)


def doubt(function: str) -> str:
    """Why a function is not one that any server would answer alike; "" for most."""
    if function in LOCAL or function.startswith(LOCAL_PREFIXES):
        return f"{function}() tells of the server that runs it"
    if function in READING_ANYTHING:
        return f"{function}() reads relations that the statement does not name"
    return ""
