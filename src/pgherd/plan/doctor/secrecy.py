"""Checks of what keeps strangers out: files, certificates, the API, who may log in."""

from __future__ import annotations

from pgherd.model.checkup import FileSeen, Status
from pgherd.plan.doctor.machine import setting
from pgherd.plan.doctor.table import Patient, Table, Verdict, ill, judged, listed, need, well

TABLE = Table()
CRITICAL, WARNING, ADVICE = Status.CRITICAL, Status.WARNING, Status.ADVICE

DAY_S = 86_400
CERTIFICATE_WARN_S = 30 * DAY_S
CERTIFICATE_LATE_S = 3 * DAY_S
ROLE_WARN_S = 14 * DAY_S
OTHERS = 0o077
OTHERS_OF_ROOTS = 0o027
"""As PostgreSQL has it for keys: what is root's may be read by a group, which is ours then."""
GROUP_READS = 0o027
"""PostgreSQL lets the group read a data directory (initdb -g), and no more."""
LOOPBACK = "127."
LOCAL = ("::1", "localhost")


@TABLE.check(
    "files.secrets",
    CRITICAL,
    means="other users of this machine can read a password or a private key",
    fix="chmod 600 the files that are named; then change what was readable (pgherd passwords"
    " rotate, pgherd pki renew)",
)
def secrets(p: Patient) -> Verdict | None:
    found = p.part(p.node.files, "files")
    kept = [one for one in found if one.name == "secret"]
    if not kept:
        return None
    wide = [f"{one.path} has mode {one.mode:04o}" for one in kept if is_wide(one)]
    if wide:
        return ill("; ".join(wide))
    unread = [f"{one.path}: {one.problem}" for one in kept if one.problem]
    need(None if unread else kept, "; ".join(unread))
    return well(f"{len(kept)} files with secrets are private")


@TABLE.check(
    "files.secrets_readable",
    CRITICAL,
    means="the next start, reload or renewed connection fails for want of a password or key",
    fix="put the file back, or name another in the configuration; then: pgherd reload {node}",
)
def secrets_there(p: Patient) -> Verdict | None:
    kept = [one for one in p.part(p.node.files, "files") if one.name == "secret"]
    if not kept:
        return None
    gone = [f"{one.path}: {one.problem}" for one in kept if one.problem]
    return ill("; ".join(gone)) if gone else well("all of them can be read")


@TABLE.check(
    "files.directories",
    WARNING,
    means="others on this machine can read table files or the consensus store; PostgreSQL refuses"
    " to start with a directory that they may write to",
    fix="chmod 700 the directories that are named",
)
def directories(p: Patient) -> Verdict:
    found = [one for one in p.part(p.node.files, "files") if one.name == "directory"]
    wide = [f"{one.path} has mode {one.mode:04o}" for one in found if (one.mode or 0) & GROUP_READS]
    unread = [f"{one.path}: {one.problem}" for one in found if one.problem]
    if wide:
        return ill("; ".join(wide))
    need(None if unread or not found else found, "; ".join(unread) or "there is none yet")
    return well("data and consensus are private")


@TABLE.check(
    "config.file",
    CRITICAL,
    means="this node does not come back after its next restart",
    fix="pgherd config validate, on {node}; mend what it names",
)
def config_file(p: Patient) -> Verdict:
    problem = p.told.file_problem
    return ill(f"it would be refused: {problem}") if problem else well("its file is valid")


@TABLE.check(
    "config.in_force",
    WARNING,
    means="the node works with other settings than its file says, until it is reloaded or restarts",
    fix="pgherd reload {node}; it says what needs a restart",
)
def in_force(p: Patient) -> Verdict:
    need(None if p.told.file_problem else p.told, "the file would be refused")
    need(p.node.agent, "the daemon does not run")
    changed = p.told.changed
    return judged(bool(changed), f"not in force: {listed(changed)}" if changed else "in force")


@TABLE.check(
    "certificate.use",
    CRITICAL,
    means="peers or clients refuse this node: its certificate cannot be read, has ended, or has"
    " another key",
    fix="pgherd pki renew, on {node}",
)
def certificate_use(p: Patient) -> Verdict | None:
    found = p.part(p.node.certificates, "certificates")
    bad = [
        f"{one.name} ({one.path}): {one.problem or 'has expired'}"
        for one in found
        if one.problem or (one.seconds_left is not None and one.seconds_left <= 0)
    ]
    if not found:
        return None
    return ill("; ".join(bad)) if bad else well(f"{len(found)} certificates are good")


@TABLE.check(
    "certificate.expiry",
    WARNING,
    means="the certificate ends, and from then on nobody connects anew",
    fix="pgherd pki renew, on {node}",
)
def certificate_expiry(p: Patient) -> Verdict | None:
    left = {
        one.name: one.seconds_left
        for one in p.part(p.node.certificates, "certificates")
        if one.seconds_left is not None and one.seconds_left > 0
    }
    if not left:
        return None
    soon = [
        f"{name} ends in {seconds / DAY_S:.1f} days{' !' * (seconds < CERTIFICATE_LATE_S)}"
        for name, seconds in left.items()
        if seconds < CERTIFICATE_WARN_S
    ]
    least = min(left.values()) / DAY_S
    return ill("; ".join(soon)) if soon else well(f"the next one ends in {least:.0f} days")


@TABLE.check(
    "security.api_tls",
    WARNING,
    means="tokens of the API pass the network in clear",
    fix="set api.tls: {cert, key}, then restart the daemon of {node}",
)
def api_tls(p: Patient) -> Verdict | None:
    if is_local(p.told.api_host):
        return None
    return judged(not p.told.api_tls, f"api.tls is {'set' if p.told.api_tls else 'not set'}")


@TABLE.check(
    "security.api_guard",
    CRITICAL,
    means="anybody who reaches the API may fail over, change settings and read what is kept",
    fix="pgherd token create, or api.tokens in the file of {node}; then: pgherd reload {node}",
)
def api_guard(p: Patient) -> Verdict:
    guarded = p.told.api_guarded or p.agent.api_tokens > 0
    return judged(not guarded, f"the API {'asks for a token' if guarded else 'asks for nothing'}")


@TABLE.check(
    "security.rate_limit",
    ADVICE,
    means="a program gone wild can ask for any number of changes",
    fix="api.rate_limit: 100 in the file of {node}, then: pgherd reload {node}",
)
def rate_limit(p: Patient) -> Verdict:
    most = p.told.rate_limit
    return judged(not most, f"{most} changes a minute and address" if most else "no limit is set")


@TABLE.check(
    "security.reads",
    ADVICE,
    means="anybody who reaches the API sees nodes, addresses and events",
    fix="api.protect_reads: true in the file of {node}, then: pgherd reload {node}",
)
def reads(p: Patient) -> Verdict:
    kept = p.told.protect_reads
    return judged(not kept, f"reads {'need' if kept else 'do not need'} a token")


@TABLE.check(
    "security.postgres_tls",
    WARNING,
    means="passwords' proofs, queries and WAL pass the network in clear",
    fix="set postgresql.tls on all nodes; see docs/operate/security.md",
    server=True,
)
def postgres_tls(p: Patient) -> Verdict | None:
    if is_local(p.told.address):
        return None
    on = setting(p, "ssl") == "on"
    return judged(not on, f"PostgreSQL {'offers' if on else 'does not offer'} TLS")


@TABLE.check(
    "security.weak_passwords",
    WARNING,
    means="an md5 password is as good as known to whoever reads it, and PostgreSQL drops it soon",
    fix="set password_encryption = 'scram-sha-256', then ALTER ROLE ... PASSWORD anew for each",
    server=True,
)
def weak(p: Patient) -> Verdict:
    found = p.database.weak_roles
    text = f"md5 passwords: {listed(found)}" if found else "all passwords are SCRAM"
    return judged(bool(found), text)


@TABLE.check(
    "security.roles_expiring",
    CRITICAL,
    means="replication, rewinds or pgherd itself cannot log in any more from that moment on",
    fix="ALTER ROLE ... VALID UNTIL 'infinity'",
    server=True,
)
def expiring(p: Patient) -> Verdict:
    soon = [
        f"{role} {'has ended' if left <= 0 else f'ends in {left / DAY_S:.1f} days'}"
        for role, left in p.database.expiring.items()
        if left < ROLE_WARN_S
    ]
    return ill("; ".join(soon)) if soon else well("none of pgherd's roles ends soon")


@TABLE.check(
    "hba.trust",
    CRITICAL,
    means="anybody at those addresses is any role that the rule names, without a password",
    fix="replace trust by scram-sha-256: pgherd config hba edit, or postgresql.hba in the file",
    server=True,
)
def trust(p: Patient) -> Verdict:
    found = p.database.hba_trust
    text = f"without a check: {listed(found)}" if found else "every rule checks who comes"
    return judged(bool(found), text)


@TABLE.check(
    "hba.errors",
    CRITICAL,
    means="PostgreSQL keeps the rules it had, and with a broken file it does not start again",
    fix="pgherd config hba show, and postgresql.hba in the file of {node}: mend that line",
    server=True,
)
def hba_errors(p: Patient) -> Verdict:
    found = p.database.hba_errors
    return judged(bool(found), listed(found) if found else "all rules are understood")


def is_wide(file: FileSeen) -> bool:
    """Whether users who should not can read or change a file with a secret."""
    return bool((file.mode or 0) & (OTHERS_OF_ROOTS if file.is_roots else OTHERS))


def is_local(host: str) -> bool:
    """Whether only this machine reaches that address."""
    return host.startswith(LOOPBACK) or host in LOCAL
