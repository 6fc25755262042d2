"""Checks of pgherd's own processes on one node."""

from __future__ import annotations

from pgherd.model.checkup import Status
from pgherd.plan.doctor.table import Patient, Table, Verdict, ill, judged, need, well

TABLE = Table()
CRITICAL, WARNING, ADVICE = Status.CRITICAL, Status.WARNING, Status.ADVICE

YOUNG_S = 600


@TABLE.check(
    "agent.running",
    CRITICAL,
    means="this node takes no part: it does not vote, report, or become primary",
    fix="systemctl start pgherd, or: pgherd start --config FILE; why it ended is in its log",
)
def running(p: Patient) -> Verdict:
    if p.node.agent is None:
        return ill(p.node.problems.get("agent") or "the daemon does not run")
    return well(f"version {p.node.version}, for {p.node.agent.uptime_s} s")


@TABLE.check(
    "agent.young",
    ADVICE,
    means="the daemon was started lately: if nobody did that, it died",
    fix="pgherd logs {node}, and journalctl -u pgherd: why it began anew",
)
def young(p: Patient) -> Verdict:
    found = p.agent.uptime_s
    return judged(found < YOUNG_S, f"the daemon has run for {found} s")


@TABLE.check(
    "agent.amnesia",
    CRITICAL,
    means="this node lost its consensus store: it has no vote until it is re-admitted",
    fix="see what it waits for: pgherd raft state, on {node}; pgherd status",
)
def amnesia(p: Patient) -> Verdict:
    found = p.agent.amnesia
    return judged(bool(found), found or "it knows what it promised")


@TABLE.check(
    "agent.dropped",
    WARNING,
    means="what happened cannot be read later: the disk of logs or journal is too slow or full, or"
    " log.syslog or log.journal takes no more",
    fix="make room where log.file and raft.data_dir are, or start what takes the lines; log.level:"
    " info",
)
def dropped(p: Patient) -> Verdict:
    found = p.agent.dropped
    return judged(found > 0, f"{found} lines of log and journal were lost")


@TABLE.check(
    "agent.log_level",
    ADVICE,
    means="the log grows fast, and takes time from the agent",
    fix="pgherd log-level info {node}",
)
def log_level(p: Patient) -> Verdict:
    found = p.told.log_level
    return judged(found == "debug", f"log.level is {found}")


@TABLE.check(
    "proxy.healthy",
    CRITICAL,
    means="clients that connect to this node get no answer",
    fix="pgherd logs {node}; the supervisor starts it again: see why it ends",
)
def proxy(p: Patient) -> Verdict | None:
    if not p.told.has_listeners:
        return None
    found = need(p.agent.proxy_healthy, "the proxy was not asked")
    return judged(not found, "the proxy serves" if found else "the proxy does not answer its agent")


@TABLE.check(
    "proxy.engine",
    ADVICE,
    means="bytes of sessions pass through Python: more processor time, fewer sessions per node",
    fix="install gcc and Python's headers, then its source distribution anew",
)
def engine(p: Patient) -> Verdict | None:
    if not p.told.has_listeners or p.told.engine == "uvloop":
        return None
    found = need(p.agent.engine or None, "the proxy has not told who carries bytes")
    return judged(found == "uvloop", f"proxy.engine is {p.told.engine}, and {found} carries bytes")


@TABLE.check(
    "watchdog.lacking",
    WARNING,
    means="a machine that hangs while its server writes alone is not reset",
    fix="modprobe softdog, let the daemon open failover.watchdog_device; or failover.watchdog: off",
    server=True,
)
def watchdog(p: Patient) -> Verdict | None:
    if p.told.watchdog == "off":
        return None
    found = p.agent.watchdog
    return judged(bool(found), found or "the watchdog is in use when it is needed")


@TABLE.check(
    "vip.problem",
    CRITICAL,
    means="this node cannot have the address that clients use, or somebody else answers for it",
    fix="do what it says; then: pgherd explain {node}, GET /api/v1/vip",
)
def vip(p: Patient) -> Verdict | None:
    report = p.report
    bad = [f"{one.address}: {one.problem}" for one in report.vips if one.problem]
    bad += [f"{v.address} is claimed by {v.claimed_by}" for v in report.vips if v.claimed_by]
    if not report.vips:
        return None
    return ill("; ".join(bad)) if bad else well(f"{len(report.vips)} addresses could be here")
