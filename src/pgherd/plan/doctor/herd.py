"""Checks of all members together: quorum, copies, who could take over, what differs.

What an election needs is not judged here: `HerdFacts` carries the deciders' own words.
"""

from __future__ import annotations

from pgherd.model.checkup import HerdFacts, Status
from pgherd.model.facts import Kind, Mode
from pgherd.model.ids import NodeId
from pgherd.model.synctuning import forgets
from pgherd.plan.doctor.table import Table, Verdict, ill, judged, listed, need, size, well

TABLE = Table()
CRITICAL, WARNING, ADVICE = Status.CRITICAL, Status.WARNING, Status.ADVICE

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
TOKEN_WARN_MS = 7 * DAY_MS
FORGOTTEN_MS = HOUR_MS
FLAPS = 3


@TABLE.herd(
    "herd.quorum",
    CRITICAL,
    means="nothing can be decided: no failover, no change, and writes wait once leases end",
    fix="start the missing daemons; if they are lost for good: docs/operate/votes.md, pgherd raft"
    " recover",
)
def quorum(h: HerdFacts) -> Verdict:
    alive = [n for n in h.voters if n in h.reports]
    return judged(not h.has_quorum, f"{len(alive)} of {len(h.voters)} voters are heard")


@TABLE.herd(
    "herd.primary",
    CRITICAL,
    means="no commit is acknowledged now",
    fix="pgherd explain; pgherd status",
)
def primary(h: HerdFacts) -> Verdict | None:
    if h.facts.follows is not None:
        return None
    if h.primary is None:
        return ill(f"nobody leads: epoch {h.facts.term} is {h.facts.phase.value}")
    word = "and acknowledges commits" if h.can_write else "and acknowledges no commit now"
    return judged(not h.can_write, f"{h.primary} leads {word}")


@TABLE.herd(
    "herd.split_brain",
    CRITICAL,
    means="two servers may take writes; what one of them has will be lost",
    fix="stop the one that the ledger does not name: pgherd stop-postgres NODE; pgherd status",
)
def split_brain(h: HerdFacts) -> Verdict:
    return ill("; ".join(h.noticed)) if h.noticed else well("nobody contradicts the ledger")


@TABLE.herd(
    "herd.nodes_answer",
    WARNING,
    means="nothing that this check-up says is known of these nodes",
    fix="pgherd doctor, on that node itself: it works without the daemon too",
)
def nodes_answer(h: HerdFacts) -> Verdict:
    bad = [f"{node}: {why}" for node, why in sorted(h.missing.items())]
    return ill("; ".join(bad)) if bad else well(f"{len(h.nodes)} nodes answered")


@TABLE.herd(
    "herd.members_well",
    WARNING,
    means="one fault more may be one too many",
    fix="pgherd explain NODE, for each that is named",
)
def members_well(h: HerdFacts) -> Verdict:
    bad = [f"{node} is {h.states.get(node, 'unknown')}" for node in h.unwell]
    return ill("; ".join(bad)) if bad else well(f"{len(h.facts.members)} members are well")


@TABLE.herd(
    "herd.voter_to_spare",
    WARNING,
    means="the next voter that fails ends the quorum",
    fix="start the voters that are missing, or add a member: pgherd add-node, or a witness",
)
def spare(h: HerdFacts) -> Verdict:
    alive = sum(node in h.reports for node in h.voters)
    text = f"{alive} of {len(h.voters)} voters are heard, {len(h.voters) // 2 + 1} are needed"
    return judged(alive - 1 < len(h.voters) // 2 + 1, text)


@TABLE.herd(
    "herd.even_voters",
    ADVICE,
    means="an even number survives no more losses than one less, and one more may be lost",
    fix="add a witness (pgherd add-node --witness), or: pgherd raft max-voters N",
)
def even(h: HerdFacts) -> Verdict:
    return judged(len(h.voters) % 2 == 0, f"{len(h.voters)} members vote")


@TABLE.herd(
    "herd.voters_zone",
    WARNING,
    means="the loss of that zone ends the quorum, and with it every failover",
    fix="move or add a voter (a witness will do) in a third zone; set node.zone on each",
)
def voters_zone(h: HerdFacts) -> Verdict | None:
    zones = [h.facts.members[n].tags.zone for n in h.voters if n in h.facts.members]
    if len(set(zones)) < 2 or not all(zones):
        return None
    most = max(set(zones), key=zones.count)
    text = f"{zones.count(most)} of {len(zones)} voters are in zone {most}"
    return judged(len(zones) - zones.count(most) < len(zones) // 2 + 1, text)


@TABLE.herd(
    "herd.copies_zone",
    WARNING,
    means="the loss of one zone may lose every copy of the newest commits",
    fix="add data members in other zones, or tags.nosync on those in the primary's",
)
def copies_zone(h: HerdFacts) -> Verdict | None:
    """A commit waits for any k of the voters: also for those of the primary's own zone alone."""
    members, sync = h.facts.members, h.facts.sync
    all_zones = {m.tags.zone for m in members.values() if m.kind is Kind.DATA}
    if len(all_zones) < 2 or "" in all_zones or h.primary not in members:
        return None
    home = members[h.primary].tags.zone
    near = [k.node for k in sync.voters if k.node in members and members[k.node].tags.zone == home]
    text = f"{h.primary} and {listed(near) or 'no other copy'} are in zone {home}"
    return judged(len(near) >= sync.k, f"{text}; a commit waits for {sync.k} of all copies")


@TABLE.herd(
    "herd.same_zone_unknown",
    ADVICE,
    means="copies cannot be kept apart: nobody said which members fail together",
    fix="set node.zone in every file, then: pgherd reload",
)
def zones_told(h: HerdFacts) -> Verdict | None:
    data = [m for m in h.facts.members.values() if m.kind is Kind.DATA]
    if len(data) < 2:
        return None
    silent = sorted(m.node for m in data if not m.tags.zone)
    return judged(bool(silent), f"no zone: {listed(silent)}" if silent else "every member has one")


@TABLE.herd(
    "herd.synchronous",
    CRITICAL,
    means="acknowledged commits are on one node alone: with it they are lost or wait",
    fix="pgherd explain NODE, for each replica that is not in: why it does not count",
)
def synchronous(h: HerdFacts) -> Verdict | None:
    facts = h.facts
    if facts.mode is Mode.ASYNC or facts.follows is not None:
        return None
    text = f"commits wait for {facts.sync.k} of {listed(k.node for k in facts.sync.voters) or '-'}"
    return judged(h.degraded or not facts.sync.voters, text)


@TABLE.herd(
    "herd.lag",
    WARNING,
    means="a switchover to it takes longer, and reads there are old",
    fix="pgherd explain NODE; look at its disk and processor, and at long queries there",
)
def lag(h: HerdFacts) -> Verdict | None:
    """A delayed replica is behind by its operator's will."""
    members = h.facts.members
    asked = {n: b for n, b in h.lag_bytes.items() if n in members and not members[n].tags.delay_ms}
    behind = {n: lag for n, lag in asked.items() if lag is not None}
    late = [f"{n} is {size(b)} behind" for n, b in behind.items() if b > h.max_lag_bytes]
    if not asked:
        return None
    if late:
        return ill("; ".join(late))
    unknown = sorted(asked.keys() - behind.keys())
    need(None if unknown else behind, f"not known of {listed(unknown)}")
    return well(f"at most {size(max(behind.values()))} behind")


@TABLE.herd(
    "herd.followers",
    WARNING,
    means="this replica receives or replays nothing, and becomes useless",
    fix="see what was tried: pgherd explain NODE; at last: pgherd reinit NODE",
)
def followers(h: HerdFacts) -> Verdict:
    bad = [f"{n}: {r.repairs.stuck}" for n, r in sorted(h.reports.items()) if r.repairs.stuck]
    bad += [f"{n}: replay is paused" for n, r in sorted(h.reports.items()) if r.server.paused]
    return ill("; ".join(bad)) if bad else well("nobody is stuck")


@TABLE.herd(
    "herd.failover_ready",
    CRITICAL,
    means="if the primary is lost now, nobody takes over: writes wait until it is back",
    fix="do what is said of each member; pgherd explain NODE --if-lost PRIMARY",
)
def ready(h: HerdFacts) -> Verdict | None:
    if h.primary is None or h.facts.follows is not None:
        return None
    why = "; ".join(f"{n}: {w}" for n, w in sorted(h.unfit.items()) if w)
    if not h.has_successor:
        return ill(f"{h.without_primary}{f' ({why})' if why else ''}")
    return well(f"{h.without_primary}; {prediction(h)}")


def prediction(h: HerdFacts) -> str:
    """How long writes would wait and what would be lost, by the settings and by what has been."""
    told = h.nodes[h.primary].told if h.primary in h.nodes else None
    took = [
        r.established_at_ms - r.began_at_ms
        for r in h.facts.history
        if r.promoted and r.began_at_ms and r.established_at_ms > r.began_at_ms
    ]
    elect_ms = max(took[-5:], default=1000)
    if told is None:
        wait = "how long is not known, as the primary did not answer"
    else:
        first = told.detect_ms if h.facts.mode is not Mode.ASYNC else told.lease_ttl_ms
        wait = (
            f"writes would wait for about {(first + elect_ms) / 1000:.1f} s"
            f" ({first / 1000:.1f} s to notice, {elect_ms / 1000:.1f} s to elect"
            f"{', as the last ones took' if took else ''})"
        )
    if h.facts.mode is Mode.ASYNC:
        behind = max((b for b in h.lag_bytes.values() if b is not None), default=0)
        most = size(told.max_lag_bytes) if told is not None else "failover.max_lag"
        return f"{wait}; up to {size(behind)} would be lost now, never more than {most} knowingly"
    if forgets(commit := h.facts.tuning.commit):
        return f"{wait}; with synchronous_commit = {commit} the newest commits would be lost"
    return f"{wait}; no acknowledged commit would be lost"


@TABLE.herd(
    "herd.failover_choice",
    WARNING,
    means="after one failover there is nobody left to take over again",
    fix="do what is said of each; or add a data member: pgherd add-node",
)
def choice(h: HerdFacts) -> Verdict | None:
    able = sorted(n for n, why in h.unfit.items() if not why)
    if h.primary is None or not h.unfit:
        return None
    why = "; ".join(f"{n}: {w}" for n, w in sorted(h.unfit.items()) if w)
    text = f"{listed(able) or 'nobody'} could take over{f' ({why})' if why else ''}"
    return judged(bool(why) and len(able) < 2, text)


@TABLE.herd(
    "herd.failover_enabled",
    CRITICAL,
    means="when the primary is lost, nothing happens until somebody does it by hand",
    fix="failover.enabled: true in the files of all nodes, then: pgherd reload",
)
def enabled(h: HerdFacts) -> Verdict:
    need([n for n, one in h.nodes.items() if one.told] or None, "no node told its settings")
    off = sorted(n for n, one in h.nodes.items() if one.told and not one.told.failover_enabled)
    return judged(bool(off), f"failover.enabled is false on {listed(off)}" if off else "it is on")


@TABLE.herd(
    "herd.paused",
    WARNING,
    means="nobody fails over and nothing is repaired by itself; a pause is easily forgotten",
    fix="pgherd resume",
)
def paused(h: HerdFacts) -> Verdict:
    pause = h.facts.upkeep.pause
    if pause is None:
        return well("it is not paused")
    since = (h.unix_ms - pause.since_ms) // 60_000
    return ill(f"{pause.sentence}, for {since} minutes")


@TABLE.herd(
    "herd.maintenance",
    ADVICE,
    means="commits, reads and elections do without this node; somebody may have forgotten it",
    fix="pgherd maintenance off NODE",
)
def maintenance(h: HerdFacts) -> Verdict:
    long = [
        f"{node} is {care.sentence}"
        for node, care in sorted(h.facts.upkeep.maintenance.items())
        if h.unix_ms - care.since_ms > FORGOTTEN_MS
    ]
    return ill("; ".join(long)) if long else well("nobody has been in maintenance for an hour")


@TABLE.herd(
    "herd.stopped",
    WARNING,
    means="a server stays down because somebody stopped it by hand",
    fix="pgherd start-postgres NODE",
)
def stopped(h: HerdFacts) -> Verdict:
    found = [f"{n} by {s.requested_by}" for n, s in sorted(h.facts.upkeep.stopped.items())]
    return judged(bool(found), f"stopped: {listed(found)}" if found else "no server is stopped")


@TABLE.herd(
    "herd.flapping",
    WARNING,
    means="the primary moves back and forth: every time clients are cut off",
    fix="pgherd history says why; then look at net.latency, disk.fsync_raft and cpu.load there",
)
def flapping(h: HerdFacts) -> Verdict:
    lately = [r for r in h.facts.history if r.promoted and h.unix_ms - r.began_at_ms < HOUR_MS]
    return judged(len(lately) >= FLAPS, f"{len(lately)} changes of primary in the last hour")


@TABLE.herd(
    "herd.tokens",
    WARNING,
    means="programs that show this token are refused from then on",
    fix="pgherd token create, give it to who uses the old one, then: pgherd token revoke NAME",
)
def tokens(h: HerdFacts) -> Verdict | None:
    ends = [one for one in h.facts.rights.tokens if one.ends_at_ms]
    soon = [
        f"{one.name} {'has ended' if one.is_over(h.unix_ms) else 'ends within a week'}"
        for one in ends
        if one.ends_at_ms - h.unix_ms < TOKEN_WARN_MS
    ]
    if not h.facts.rights.tokens:
        return None
    return ill("; ".join(soon)) if soon else well("no API token ends within a week")


@TABLE.herd(
    "herd.join_tokens",
    ADVICE,
    means="whoever has it can make a machine a member and gets the cluster's secrets",
    fix="let it be used or end (see GET /api/v1/audit for who made it); next time: --ttl 10m",
)
def join_tokens(h: HerdFacts) -> Verdict:
    now = h.unix_ms // 1000
    open_ones = [t.id for t in h.facts.tokens.values() if not t.used_by and t.expires_at_unix > now]
    text = f"{len(open_ones)} join tokens are open: {listed(open_ones)}"
    return judged(bool(open_ones), text if open_ones else "no join token is open")


@TABLE.herd(
    "herd.slots_budget",
    WARNING,
    means="a kept slot without a reader holds WAL on every member until a disk is full",
    fix="pgherd slots list; start its reader, or: pgherd slots drop NAME",
)
def slots(h: HerdFacts) -> Verdict | None:
    bad = [
        f"{slot.name} on {node}"
        for node, r in sorted(h.reports.items())
        if r.server.slot_budget_bytes < 0
        for slot in r.server.replication_slots
        if not slot.temporary
    ]
    if not any(r.server.replication_slots for r in h.reports.values()):
        return None
    return ill(f"without a budget: {listed(bad)}") if bad else well("every slot has a budget")


@TABLE.herd(
    "herd.switchover_waits",
    WARNING,
    means="a switchover that was asked for does not happen",
    fix="pgherd explain CANDIDATE; or take it back: pgherd switchover --cancel",
)
def waits(h: HerdFacts) -> Verdict:
    asked = h.facts.switchover
    since = (h.unix_ms - asked.requested_at_ms) // 1000 if asked is not None else 0
    text = f"asked for {since} s ago" if asked is not None else "none is under way"
    return judged(since > 60, text)


@TABLE.herd(
    "herd.vip_owner",
    CRITICAL,
    means="clients that use this address reach nobody, or two servers answer for it",
    fix="GET /api/v1/vip: what each node says; then the network's own rules",
)
def vip_owner(h: HerdFacts) -> Verdict | None:
    owners: dict[str, list[NodeId]] = {}
    for node, report in sorted(h.reports.items()):
        for one in report.vips:
            owners.setdefault(one.address, []).extend([node] * one.owned)
    bad = [
        f"{address}: {listed(nodes) if nodes else 'nobody'} has it"
        for address, nodes in owners.items()
        if len(nodes) != 1
    ]
    if not owners:
        return None
    return ill("; ".join(bad)) if bad else well(f"{len(owners)} addresses have one owner each")
