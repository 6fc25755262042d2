"""What is looked at before nodes are worked on: the primary, standbys, lag, the sync set. Pure.

Shown to who asks (`api.prechecks`), and looked at again when what was scheduled is due.
"""

from __future__ import annotations

import msgspec

from pgherd.model.facts import Member, Phase
from pgherd.model.ids import NodeId
from pgherd.model.observation import Observation, Server
from pgherd.model.programs import version_text
from pgherd.model.upkeep import Verb, Work
from pgherd.plan import programs
from pgherd.plan.look import data_members, fresh, is_fed_otherwise, leader_report, streaming
from pgherd.plan.rule import Situation
from pgherd.plan.tending import counts_on

LAG_BYTES_MAX = 16 << 20
SPARES_PRIMARY = (Verb.STOP, Verb.REINIT, Verb.SWITCHOVER)
"""What is not done to who leads: it is stopped by force only, and has the lead already."""


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at, in words for people."""

    name: str
    ok: bool
    text: str


def rolling(s: Situation, nodes: list[NodeId]) -> list[Check]:
    """Whether these can be restarted one after the other while commits go on."""
    others = replicas(s)
    checks = [primary(s), standbys(s, others), lag(s, others)]
    return checks + [survives(s, node) for node in nodes if not s.facts.is_leader(node)]


def upgrade(s: Situation, nodes: list[NodeId]) -> list[Check]:
    """Whether these can be restarted one after the other with what is on their disks."""
    servers = {m.node: seen.server for m in data_members(s.facts) if (seen := fresh(s, m.node))}
    against = programs.not_before(s.facts, servers, nodes)
    found = [Check(f"programs of {one.node}", False, one.sentence) for one in against]
    for node in nodes:
        has = servers[node].programs if node in servers else None
        if has is not None and not any(one.node == node for one in against):
            text = f"{version_text(has.running)} runs, {version_text(has.on_disk)} is on disk"
            found.append(Check(f"programs of {node}", True, text))
    return [*found, *rolling(s, nodes)]


def without(s: Situation, node: NodeId) -> list[Check]:
    """Whether commits and elections can do without one node: what maintenance asks for."""
    others = [member for member in replicas(s) if member.node != node]
    return [primary(s), standbys(s, others), lag(s, others), survives(s, node)]


def cannot_begin(s: Situation, work: Work) -> tuple[str, bool]:
    """Why scheduled work must not begin now, "" when it may; and whether that may still pass."""
    pause = s.facts.upkeep.pause
    gone = [node for node in work.nodes if node not in s.facts.members]
    if pause is not None or gone:
        return pause.sentence if pause else f"{', '.join(gone)} is no member any more", False
    leads = [node for node in work.nodes if s.facts.is_leader(node)]
    if leads and (work.verb in SPARES_PRIMARY and not (work.verb is Verb.STOP and work.force)):
        return f"{leads[0]} is the primary", False
    return ("", False) if work.force else (bad(checks_of(s, work)), True)


def checks_of(s: Situation, work: Work) -> list[Check]:
    """What has to be well for work: its nodes are there, `cannot_begin` has seen to that."""
    if work.only_outdated:
        return upgrade(s, list(work.nodes))
    if work.verb is Verb.RESTART and work.rolling:
        return rolling(s, list(work.nodes))
    if work.verb in (Verb.RESTART, Verb.STOP, Verb.REINIT):
        return [survives(s, node) for node in work.nodes if not s.facts.is_leader(node)]
    return []  # a switchover is looked at by rule 601


def bad(checks: list[Check]) -> str:
    """What is not well; "" when all is."""
    return "; ".join(check.text for check in checks if not check.ok)


def replicas(s: Situation) -> list[Member]:
    """The data members that do not lead and were not stopped by hand."""
    found = data_members(s.facts)
    stopped = s.facts.upkeep.stopped
    return [m for m in found if not s.facts.is_leader(m.node) and m.node not in stopped]


def writable(s: Situation) -> Observation | None:
    """The primary's report, when it serves in a stable term."""
    report = leader_report(s) if s.facts.phase is Phase.STABLE else None
    if report is None or report.server.state is not Server.PRIMARY or not report.server.healthy:
        return None
    return report


def primary(s: Situation) -> Check:
    report = writable(s)
    ok = report is not None
    text = f"{report.node} takes writes" if report else f"epoch {s.facts.term} is not stable"
    return Check("primary", ok, text)


def streams(s: Situation, member: Member) -> bool:
    """Whether a standby is heard, and the primary sends to it, or its upstream does."""
    report = leader_report(s)
    if report is None or fresh(s, member.node) is None:
        return False
    return member.key in streaming(report, s.facts.term) or is_fed_otherwise(s, member)


def standbys(s: Situation, others: list[Member]) -> Check:
    """Nobody is missing before somebody more goes away; and somebody has to be left."""
    missing = [member.node for member in others if not streams(s, member)]
    text = f"{', '.join(missing)} does not stream" if missing else f"{len(others)} stream"
    return Check("standbys", not missing, text)


def lag(s: Situation, others: list[Member]) -> Check:
    """Nobody is far behind, or its turn would take long."""
    report = leader_report(s)
    senders = streaming(report, s.facts.term) if report is not None else {}
    others = [member for member in others if not member.tags.delay_ms]
    end = report.server.insert_lsn if report is not None else 0
    lags = {m.node: max(0, end - senders[m.key].replay_lsn) for m in others if m.key in senders}
    far = [f"{node} is {much} bytes behind" for node, much in lags.items() if much > LAG_BYTES_MAX]
    text = "; ".join(far) or f"at most {max(lags.values(), default=0)} bytes"
    return Check("lag", not far, text)


def survives(s: Situation, node: NodeId) -> Check:
    """Whether commits find enough copies while a node is away."""
    sync, members = s.facts.sync, s.facts.members
    others = [key for key in sync.voters if key.node != node and key.node in members]
    left = [key.node for key in others if streams(s, members[key.node])]
    name = f"sync set without {node}"
    needed = counts_on(s.facts, members[node].key)
    if not needed or len(left) >= sync.k:
        return Check(name, True, f"{sync.k} of {', '.join(left) or 'nobody'}")
    text = f"commits wait for {sync.k} of the rest, and {', '.join(left) or 'nobody'} would be left"
    return Check(name, False, text)
