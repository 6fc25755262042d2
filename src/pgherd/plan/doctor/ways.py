"""Checks of the ways between nodes: ports from each to each, clocks, logins for replication.

A refusal says that nothing listens; silence says that something between the machines drops packets.
"""

from __future__ import annotations

from pgherd.model.checkup import HerdFacts, Reached, Status, Way
from pgherd.model.vitals import RTT_MS_MAX
from pgherd.plan.doctor.secrecy import is_local
from pgherd.plan.doctor.table import Patient, Table, Verdict, ill, judged, listed, need, well

TABLE = Table()
CRITICAL, WARNING, ADVICE = Status.CRITICAL, Status.WARNING, Status.ADVICE

GONE = (
    "see whether its machine runs and has its network; then as for single ports: nft list ruleset"
)
SKEW_MOST_MS = 1000.0
CLOCK_TRUST_MS = 500.0


def channel(p: Patient, *names: str) -> Verdict | None:
    """Whether every member is reached by these; silence is the firewall's row too."""
    ways = [one for one in p.part(p.node.ways, "ways") if one.channel in names]
    if not ways:
        return None
    bad = [f"{one.node}: {said(one)}" for one in ways if one.outcome is not Reached.OK]
    return ill("; ".join(bad)) if bad else well(f"{len(ways)} ports answer")


def said(way: Way) -> str:
    return f"{way.host} port {way.port} ({way.channel}) {way.outcome.value}: {way.problem}"


@TABLE.check(
    "port.raft",
    CRITICAL,
    means="these two nodes cannot vote together, and each may take the other for lost",
    fix="start the other daemon, or let raft.port (8300) pass: nft list ruleset, on both",
)
def raft(p: Patient) -> Verdict | None:
    return channel(p, "raft")


@TABLE.check(
    "port.api",
    WARNING,
    means="commands and health checks that arrive at this node cannot go on to the other",
    fix="start the other daemon, or let api.port (8008) pass, on both",
)
def api(p: Patient) -> Verdict | None:
    return channel(p, "api")


@TABLE.check(
    "port.postgresql",
    CRITICAL,
    means="this node cannot stream from the other, nor be rewound or copied from it, after a"
    " failover",
    fix="start it (pgherd start-postgres), or let postgresql.port (5442) pass, on both",
)
def postgresql(p: Patient) -> Verdict | None:
    return channel(p, "postgresql")


@TABLE.check(
    "port.proxy",
    WARNING,
    means="clients that are led to that node's listener get no answer",
    fix="see its proxy (pgherd logs NODE), or let the ports of proxy.listeners pass",
)
def proxy(p: Patient) -> Verdict | None:
    return channel(p, "proxy", "proxy-replica")


@TABLE.check(
    "net.firewall",
    CRITICAL,
    means="packets are dropped, not refused: connections hang, and failures are noticed late",
    fix="nft list ruleset, and the network's own rules: accept, or reject with a reset",
)
def firewall(p: Patient) -> Verdict | None:
    """Where nothing at all comes back, the machine itself may be gone: that comes first."""
    ways = p.part(p.node.ways, "ways")
    silent = [one for one in ways if one.outcome is Reached.SILENT]
    if not ways:
        return None
    if not silent:
        return well("every port answers somehow")
    heard = {one.node for one in ways if one.outcome in (Reached.OK, Reached.REFUSED)}
    dumb = sorted({one.node for one in silent} - heard)
    ports = [f"{one.node} port {one.port}" for one in silent if one.node in heard]
    said = [f"no answer from {listed(ports)}"] if ports else []
    said += [f"{node} answers at no port: it is off, cut off, or cut out" for node in dumb]
    return ill("; ".join(said), "" if ports else GONE)


@TABLE.check(
    "net.names",
    CRITICAL,
    means="a member's address is a name that cannot be looked up here: the member is not reached",
    fix="put the names into /etc/hosts of every node, or use addresses in node.address",
)
def names(p: Patient) -> Verdict | None:
    ways = p.part(p.node.ways, "ways")
    bad = sorted({one.host for one in ways if one.outcome is Reached.UNRESOLVED})
    if not ways:
        return None
    return ill(f"not found: {listed(bad)}") if bad else well("all addresses are understood")


@TABLE.check(
    "net.latency",
    WARNING,
    means="every commit and every decision waits for it",
    fix="ping and mtr between the two; tags.nosync on the one that is far away",
)
def latency(p: Patient) -> Verdict | None:
    raft_ways = [w for w in p.part(p.node.ways, "ways") if w.channel == "raft" and w.took_ms >= 0]
    if not raft_ways:
        return None
    slow = [f"{w.node}: {w.took_ms:.0f} ms" for w in raft_ways if w.took_ms > RTT_MS_MAX]
    worst = max(w.took_ms for w in raft_ways)
    return ill("; ".join(slow)) if slow else well(f"at most {worst:.1f} ms")


@TABLE.check(
    "clock.skew",
    WARNING,
    means="histories, logs and schedules of two nodes cannot be laid side by side, and certificates"
    " or tokens are good on one and not on the other",
    fix="chronyc tracking, or timedatectl, on both; then chronyc makestep",
)
def skew(p: Patient) -> Verdict | None:
    found = p.part(p.node.clocks, "clocks")
    if not found:
        return None
    apart = [
        f"{one.node}: {abs(one.ahead_ms) / 1000:.1f} s {'ahead' if one.ahead_ms > 0 else 'behind'}"
        for one in found
        if not one.problem and abs(one.ahead_ms) - one.error_ms > SKEW_MOST_MS
    ]
    if apart:
        return ill("; ".join(apart))
    vague = [
        f"{one.node}: {one.problem or f'its answer took {2 * one.error_ms:.0f} ms'}"
        for one in found
        if one.problem or one.error_ms > CLOCK_TRUST_MS
    ]
    need(None if vague else found, "; ".join(vague))
    return well(f"at most {max(abs(one.ahead_ms) for one in found):.0f} ms apart")


@TABLE.check(
    "login.replication",
    CRITICAL,
    means="this node cannot follow that one once it is the primary: after the next failover a copy"
    " is missing",
    fix="see what PostgreSQL there says (pgherd logs NODE --postgres); pgherd config hba show;"
    " pgherd passwords rotate replication",
    slow=True,
    server=True,
)
def replication(p: Patient) -> Verdict | None:
    found = p.part(p.node.logins, "logins")
    if not found:
        return None
    bad = [f"{one.node}: {one.problem}" for one in found if one.problem]
    text = f"it logs in at {listed(one.node for one in found)}"
    return ill("; ".join(bad)) if bad else well(text)


@TABLE.herd(
    "net.address",
    CRITICAL,
    means="other machines that are told this address reach themselves",
    fix="node.address: an address of its machine's network, in that node's file; then restart its"
    " daemon",
)
def address(h: HerdFacts) -> Verdict | None:
    """By the ledger, for who is not reached cannot be asked, and by each node's own file, for such
    a one hears nothing of what the ledger says of it."""
    hosts = {m.node: m.address.host for _, m in sorted(h.facts.members.items())}
    own = {n: one.told.address for n, one in h.nodes.items() if one.told is not None}
    hosts |= {node: host for node, host in own.items() if node in hosts and host}
    alone = [f"{node}: {host}" for node, host in hosts.items() if is_local(host)]
    if len(hosts) < 2:
        return None
    is_ill = 0 < len(alone) < len(hosts)
    text = (
        "addresses are of one network"
        if not is_ill
        else f"of its own machine only: {listed(alone)}"
    )
    return judged(is_ill, text)
