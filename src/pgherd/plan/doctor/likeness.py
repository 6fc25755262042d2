"""Checks of what should be the same on all members: versions, extensions, parameters."""

from __future__ import annotations

from collections.abc import Mapping

from pgherd.ledger.pgconfig import find, newest
from pgherd.model.checkup import HerdFacts, Status
from pgherd.model.ids import NodeId
from pgherd.model.pgconfig import MATCHED
from pgherd.model.programs import version_text
from pgherd.plan.doctor.table import Table, Verdict, ill, judged, listed, well

TABLE = Table()
CRITICAL, WARNING, ADVICE = Status.CRITICAL, Status.WARNING, Status.ADVICE

ALIKE = (
    *("wal_level", "shared_buffers", "max_wal_size", "work_mem", "TimeZone", "lc_messages"),
    *("shared_preload_libraries", "wal_log_hints", "data_checksums", "server_encoding"),
    *("max_slot_wal_keep_size", "statement_timeout", "track_commit_timestamp"),
)
"""What an application feels, or a promotion, when it differs between two members."""


@TABLE.herd(
    "herd.versions",
    WARNING,
    means="new features wait for all, and a mixture of versions is for the time of an upgrade",
    fix="install the newer pgherd, on the nodes that are behind; docs/operate/upgrade.md",
)
def versions(h: HerdFacts) -> Verdict:
    found = {n: one.version for n, one in sorted(h.nodes.items())}
    return judged(len(set(found.values())) > 1, told_each(found))


@TABLE.herd(
    "herd.level",
    WARNING,
    means="a program is older than what the ledger's commands need; it cannot take part for long",
    fix="install the newer pgherd, on the nodes that are behind; docs/operate/upgrade.md",
)
def level(h: HerdFacts) -> Verdict:
    newest = max((m.level for m in h.facts.members.values()), default=h.facts.level)
    behind = sorted(m.node for m in h.facts.members.values() if m.level < newest)
    text = f"levels below {newest}: {listed(behind)}" if behind else f"all are at level {newest}"
    return judged(bool(behind), text)


@TABLE.herd(
    "herd.postgres_versions",
    WARNING,
    means="servers with different bugs; a replica of an older minor may not understand newer WAL",
    fix="pgherd upgrade minor, once all have the newest packages",
)
def postgres_versions(h: HerdFacts) -> Verdict | None:
    found = {
        n: version_text(one.database.version_num)
        for n, one in sorted(h.nodes.items())
        if one.database is not None and one.database.version_num
    }
    if not found:
        return None
    return judged(len(set(found.values())) > 1, told_each(found))


@TABLE.herd(
    "herd.postgres_outdated",
    WARNING,
    means="a newer minor version is installed and does not run: its fixes wait for a restart",
    fix="pgherd upgrade minor",
)
def outdated(h: HerdFacts) -> Verdict:
    found = sorted(n for n, r in h.reports.items() if r.server.programs.is_outdated)
    text = f"restart for it: {listed(found)}" if found else "every server runs what is installed"
    return judged(bool(found), text)


@TABLE.herd(
    "herd.libraries",
    CRITICAL,
    means="as the primary this node could not serve what applications use, or would not start",
    fix="install the packages of these extensions on the nodes that are named",
)
def libraries(h: HerdFacts) -> Verdict:
    bad = [
        f"{node} lacks {listed(lacks)}"
        for node, r in sorted(h.reports.items())
        if (lacks := (*r.server.programs.no_library, *r.server.programs.no_extension))
    ]
    return ill("; ".join(bad)) if bad else well("every member has the primary's extensions")


@TABLE.herd(
    "herd.matched_parameters",
    CRITICAL,
    means="a standby with less than its primary pauses replay, or does not start",
    fix="pgherd config set NAME=VALUE, for all members; then pgherd restart --pending",
)
def matched(h: HerdFacts) -> Verdict | None:
    leader = h.nodes[h.primary].database if h.primary in h.nodes else None
    if leader is None:
        return None
    bad = [
        f"{node}: {name} {one.database.settings[name]} < {leader.settings[name]}"
        for node, one in sorted(h.nodes.items())
        if one.database is not None
        for name in MATCHED
        if name in one.database.settings
        and int(one.database.settings[name]) < int(leader.settings.get(name, "0"))
    ]
    return ill("; ".join(bad)) if bad else well("every standby has what the primary needs")


@TABLE.herd(
    "herd.parameters_differ",
    ADVICE,
    means="after a failover applications meet another server than before",
    fix="pgherd config set NAME=VALUE, for all; or take it out of that node's own file",
)
def parameters(h: HerdFacts) -> Verdict | None:
    known = {n: one.database for n, one in h.nodes.items() if one.database is not None}
    if len(known) < 2:
        return None
    bad = []
    for name in ALIKE:
        values = {n: one.settings[name] for n, one in sorted(known.items()) if name in one.settings}
        if len(set(values.values())) > 1:
            bad.append(f"{name}: {told_each(values)}")
    return ill("; ".join(bad)) if bad else well("what matters is the same on all members")


@TABLE.herd(
    "herd.config_failed",
    WARNING,
    means="parameters that somebody wanted are not in force: a server did not come up with them",
    fix="pgherd config history says why; then set what is right, or: pgherd config rollback N, to"
    " have what is in force now as your own",
)
def config_failed(h: HerdFacts) -> Verdict:
    """Told until somebody asks for another version; what a server remembers longer is past."""
    now = newest(h.facts).version
    bad = [
        f"{node}: version {now}, {failed.why}"
        for node, r in sorted(h.reports.items())
        if (failed := r.server.config_failed) is not None and failed.version == now
    ]
    before = find(h.facts, now - 1)
    if before is not None and before.failed_on is not None:
        bad.append(f"{before.failed_on}: version {before.version} (taken back), {before.failed}")
    return ill("; ".join(bad)) if bad else well("all parameters are taken")


def told_each(values: Mapping[NodeId, str]) -> str:
    """Who has what, in one line."""
    return ", ".join(f"{node} {value}" for node, value in values.items())
