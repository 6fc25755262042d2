"""Checks of one node's PostgreSQL: settings that durability and failover stand on; slots."""

from __future__ import annotations

from pgherd.model.checkup import Status
from pgherd.plan.doctor.machine import setting
from pgherd.plan.doctor.secrecy import is_local
from pgherd.plan.doctor.table import Patient, Table, Verdict, ill, judged, listed, size, well

TABLE = Table()
CRITICAL, WARNING, ADVICE = Status.CRITICAL, Status.WARNING, Status.ADVICE

KEPT_MOST_BYTES = 5 << 30
XMIN_AGE_MOST = 20_000_000
STARTED = "pgherd restart {node}; whatever its files say, it then has the right value"
"""Of parameters that belong to pgherd: only a server that somebody else started can differ."""
HALF_SECURE = ("off", "local")


def is_on(p: Patient, name: str) -> Verdict:
    """Whether a switch is on."""
    value = setting(p, name)
    return judged(value != "on", f"{name} is {value}")


@TABLE.check(
    "pg.running",
    CRITICAL,
    means="this node serves nobody and is no copy",
    fix="pgherd explain {node}; pgherd logs {node} --postgres; pgherd start-postgres {node}",
    server=True,
)
def running(p: Patient) -> Verdict:
    report = p.node.report
    if report is None:
        return well(f"it answers, version {p.database.version_num}")
    state = report.server.state.value
    text = f"it is {state}{f': {report.server.problem}' if report.server.problem else ''}"
    return judged(state not in ("primary", "standby") or not report.server.healthy, text)


@TABLE.check(
    "pg.fsync",
    CRITICAL,
    means="a crash of the machine destroys the database",
    fix=STARTED,
    server=True,
)
def fsync(p: Patient) -> Verdict:
    return is_on(p, "fsync")


@TABLE.check(
    "pg.full_page_writes",
    CRITICAL,
    means="a crash of the machine leaves pages half written, and nothing to mend them with",
    fix=STARTED,
    server=True,
)
def full_page_writes(p: Patient) -> Verdict:
    return is_on(p, "full_page_writes")


@TABLE.check(
    "pg.checksums",
    WARNING,
    means="a disk that returns wrong data is believed, and copied to everybody",
    fix="pgherd stop-postgres {node}; pg_checksums --enable -D DATA; pgherd start-postgres {node}",
    server=True,
)
def checksums(p: Patient) -> Verdict:
    return is_on(p, "data_checksums")


@TABLE.check(
    "pg.checksum_failures",
    CRITICAL,
    means="a page of a table is not what was written: the disk or memory of this node is bad",
    fix="make it a replica (pgherd switchover), copy it anew (pgherd reinit {node}), test its disk",
    server=True,
)
def checksum_failures(p: Patient) -> Verdict:
    return judged(p.database.checksum_failures > 0, f"{p.database.checksum_failures} bad pages")


@TABLE.check(
    "pg.wal_log_hints",
    WARNING,
    means="an old primary cannot be rewound after a failover, and is copied whole",
    fix=STARTED,
    server=True,
)
def wal_log_hints(p: Patient) -> Verdict:
    hints, sums = setting(p, "wal_log_hints"), setting(p, "data_checksums")
    is_ill = "on" not in (hints, sums)
    return judged(is_ill, f"wal_log_hints is {hints}, data_checksums {sums}: one of them is needed")


@TABLE.check(
    "pg.wal_level",
    CRITICAL,
    means="no standby can follow this server",
    fix=STARTED,
    server=True,
)
def wal_level(p: Patient) -> Verdict:
    value = setting(p, "wal_level")
    return judged(value == "minimal", f"wal_level is {value}")


@TABLE.check(
    "pg.hot_standby",
    WARNING,
    means="as a replica this server takes no session, not even the agent's",
    fix=STARTED,
    server=True,
)
def hot_standby(p: Patient) -> Verdict:
    return is_on(p, "hot_standby")


@TABLE.check(
    "pg.autovacuum",
    CRITICAL,
    means="tables grow without end, and transaction ids run out: then nothing can be written",
    fix="pgherd config set autovacuum=on track_counts=on",
    server=True,
)
def autovacuum(p: Patient) -> Verdict:
    off = [name for name in ("autovacuum", "track_counts") if setting(p, name) != "on"]
    return judged(bool(off), f"off: {listed(off)}" if off else "autovacuum is on")


@TABLE.check(
    "pg.synchronous_commit",
    CRITICAL,
    means="commits are acknowledged before any copy has them: a failover loses them",
    fix="pgherd sync set --synchronous-commit on; look for ALTER ROLE or DATABASE ... SET too",
    server=True,
)
def synchronous_commit(p: Patient) -> Verdict:
    value, others = setting(p, "synchronous_commit"), p.database.unsynced
    text = (
        f"synchronous_commit is {value}{f', and waits for nobody: {listed(others)}' * bool(others)}"
    )
    return judged(value in HALF_SECURE or bool(others), text)


@TABLE.check(
    "pg.read_only",
    WARNING,
    means="sessions cannot write though the server could: applications fail at once",
    fix="pgherd config set default_transaction_read_only=off",
    server=True,
)
def read_only(p: Patient) -> Verdict:
    value = setting(p, "default_transaction_read_only")
    return judged(value == "on", f"default_transaction_read_only is {value}")


@TABLE.check(
    "pg.pending_restart",
    WARNING,
    means="a setting was changed and has no effect; after an unplanned restart it suddenly has",
    fix="pgherd restart {node} --pending",
    server=True,
)
def pending(p: Patient) -> Verdict:
    found = p.database.pending
    text = f"waits for a restart: {listed(found)}" if found else "nothing waits for a restart"
    return judged(bool(found), text)


@TABLE.check(
    "pg.files",
    CRITICAL,
    means="PostgreSQL will not start again with this configuration",
    fix="mend the line that is named (ALTER SYSTEM RESET name, or postgresql.parameters)",
    server=True,
)
def files(p: Patient) -> Verdict:
    found = p.database.file_errors
    return judged(bool(found), listed(found) if found else "its files are understood")


@TABLE.check(
    "pg.reserved_connections",
    WARNING,
    means="when clients have taken all connections, neither a person nor the agent gets in",
    fix="pgherd config set superuser_reserved_connections=5",
    server=True,
)
def reserved(p: Patient) -> Verdict:
    value = int(setting(p, "superuser_reserved_connections"))
    return judged(value < 3, f"superuser_reserved_connections is {value}")


@TABLE.check(
    "pg.listen",
    CRITICAL,
    means="no other node reaches this server: nobody can stream from it after a failover",
    fix="see node.address in the file of {node}; then: pgherd restart {node}",
    server=True,
)
def listen(p: Patient) -> Verdict | None:
    own = p.agent.hosts.get(p.node.node)
    if own is None or len(p.agent.hosts) < 2:
        return None
    hosts = [one.strip() for one in setting(p, "listen_addresses").split(",") if one.strip()]
    alone = not hosts or (all(map(is_local, hosts)) and not is_local(own))
    return judged(alone, f"it listens on {listed(hosts) or 'nothing'}")


@TABLE.check(
    "pg.slot_budget",
    WARNING,
    means="a slot that nobody reads keeps WAL until the disk is full and the primary stops",
    fix="replication.slots.keep_max: 10GB in the file of {node}, then: pgherd reload {node}",
    server=True,
)
def slot_budget(p: Patient) -> Verdict:
    value = setting(p, "max_slot_wal_keep_size")
    return judged(value == "-1", f"max_slot_wal_keep_size is {value} MB")


@TABLE.check(
    "slots.inactive",
    WARNING,
    means="WAL piles up for a reader that does not come",
    fix="start its reader, or: pgherd slots drop NAME",
    server=True,
)
def inactive(p: Patient) -> Verdict | None:
    slots = p.database.slots
    found = [
        f"{one.name} keeps {size(one.kept_bytes)}"
        for one in slots
        if not one.active and not one.lost and one.kept_bytes > KEPT_MOST_BYTES
    ]
    if not slots:
        return None
    return ill("; ".join(found)) if found else well(f"{len(slots)} slots hold little back")


@TABLE.check(
    "slots.lost",
    WARNING,
    means="its reader cannot go on: a subscriber misses changes, a replica has to be copied anew",
    fix="pgherd slots drop NAME; make it anew and copy what followed it",
    server=True,
)
def lost(p: Patient) -> Verdict | None:
    slots = p.database.slots
    found = [one.name for one in slots if one.lost]
    if not slots:
        return None
    return ill(f"lost: {listed(found)}") if found else well("no slot is lost")


@TABLE.check(
    "slots.xmin",
    WARNING,
    means="vacuum removes nothing that is younger: tables grow, queries become slow",
    fix="start the slot's reader, or: pgherd slots drop NAME",
    server=True,
)
def xmin(p: Patient) -> Verdict | None:
    slots = p.database.slots
    found = [
        f"{one.name}: {one.xmin_age} transactions" for one in slots if one.xmin_age > XMIN_AGE_MOST
    ]
    if not slots:
        return None
    return ill("; ".join(found)) if found else well("no slot holds vacuum back")


@TABLE.check(
    "pg.archive",
    CRITICAL,
    means="WAL is not archived: no restore to a point in time, and pg_wal grows",
    fix="pgherd logs {node} --postgres; mend the command or the room of the archive",
    server=True,
)
def archive(p: Patient) -> Verdict | None:
    if p.node.report is not None:
        seen = p.node.report.archive
        if seen.failing:
            return ill(f"{seen.failing}; {seen.waiting} files wait")
        if seen.gap:
            return ill(f"the archive has a gap: {seen.gap} was given up")
    if setting(p, "archive_mode") == "off":
        return None
    failed = p.database.archive_failed
    return judged(bool(failed), f"{failed} was not archived" if failed else "WAL is archived")


@TABLE.check(
    "pg.collation",
    WARNING,
    means="the system sorts text in another way than when indexes were made: lookups miss rows",
    fix="REINDEX DATABASE name; then ALTER DATABASE name REFRESH COLLATION VERSION",
    server=True,
)
def collation(p: Patient) -> Verdict:
    found = p.database.collations
    text = f"another version of its collation: {listed(found)}" if found else "as they were made"
    return judged(bool(found), text)


@TABLE.check(
    "pg.log_lines",
    ADVICE,
    means="at night nothing says who waited for whom, or when a checkpoint was slow",
    fix="pgherd config set log_lock_waits=on log_checkpoints=on",
    server=True,
)
def log_lines(p: Patient) -> Verdict:
    off = [name for name in ("log_lock_waits", "log_checkpoints") if setting(p, name) != "on"]
    return judged(bool(off), f"off: {listed(off)}" if off else "waits and checkpoints are logged")


@TABLE.check(
    "pg.log_statements",
    ADVICE,
    means="passwords and customers' data stand in the log, and the log fills the disk",
    fix="pgherd config set log_statement=none log_min_duration_statement=1000",
    server=True,
)
def log_statements(p: Patient) -> Verdict:
    every = setting(p, "log_statement") == "all" or setting(p, "log_min_duration_statement") == "0"
    return judged(every, f"{'every statement is' if every else 'not every statement is'} logged")


@TABLE.check(
    "pg.idle_timeout",
    ADVICE,
    means="a client that forgot its transaction holds locks and vacuum back for ever",
    fix="pgherd config set idle_in_transaction_session_timeout=10min",
    server=True,
)
def idle_timeout(p: Patient) -> Verdict:
    value = setting(p, "idle_in_transaction_session_timeout")
    is_off = value.rstrip("dhminsu ") == "0"
    return judged(is_off, f"idle_in_transaction_session_timeout is {value}")
