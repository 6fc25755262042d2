"""A standby cluster's commands: who leads it, its promotion, and a writable one's demotion.

Owns what is refused. While a cluster follows it has no reign: no history, no leader, no lease, no
sync set. So its promotion is a first election (F0), under a term above all that there were, in
which every copy that counts has to seal; and nothing that is said of reigns is said of timelines
that a remote cluster opened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger.outcome import Result, note, refuse
from pgherd.model.facts import Facts, Kind, Phase, SyncState
from pgherd.model.ids import NodeId, listed
from pgherd.model.standbycluster import HOSTS_MAX, SSLMODES, Following, Remote

PAST_MAX = 100
replace = msgspec.structs.replace


def lead(facts: Facts, c: cmd.LeadStandby, at_ms: int) -> Result:
    follows, member = facts.follows, facts.members.get(c.node)
    if follows is None or follows.number != c.number:
        return refuse(facts, "stale", "what this cluster follows has changed since")
    if member is None or member.kind is not Kind.DATA:
        return refuse(facts, "unknown_node", f"{c.node} is no data member")
    at_rest = SyncState(generation=facts.sync.generation)
    facts = changed(replace(facts, sync=at_rest), follows.remote, c.node, c.reason)
    text = f"{c.node} is standby leader: {c.reason}"
    return note(facts, at_ms=at_ms, kind="standby-leader.named", text=text, rule=c.rule), cmd.Done()


def changed(facts: Facts, remote: Remote, leader: NodeId | None, reason: str) -> Facts:
    """The next thing that this cluster follows, or the next one who does it."""
    number = facts.follows.number + 1 if facts.follows is not None else 1
    return replace(facts, follows=Following(remote, number=number, leader=leader, reason=reason))


def promote(facts: Facts, c: cmd.PromoteCluster, at_ms: int) -> Result:
    """Term and promises stay as they are; rule 103 begins the next term."""
    follows = facts.follows
    if follows is None:
        return refuse(facts, "not_standby", "this is no standby cluster: it is writable already")
    if follows.number != c.number:
        return refuse(facts, "stale", "what this cluster follows has changed since")
    unknown = [key for key in c.voters if facts.member(key) is None]
    if not facts.system_id or not c.voters or unknown:
        return refuse(facts, "invalid", f"nobody to elect, or not known: {listed(unknown)}")
    voters = tuple(sorted(set(c.voters)))
    text = f"the cluster is promoted, asked for by {c.requested_by}; {listed(voters)} count"
    text += f", {', '.join(c.left_out)} not" if c.left_out else ""
    text += f"; it followed {follows.remote}" + (", forced" if c.forced else "")
    facts = replace(
        facts,
        follows=None,
        sync=SyncState(voters=voters, r=len(voters), generation=facts.sync.generation),
    )
    return note(facts, at_ms=at_ms, kind="cluster.promoted", text=text), cmd.Done()


def demote(facts: Facts, c: cmd.DemoteCluster, at_ms: int) -> Result:
    """What led becomes standby leader: it has everything that was acknowledged here."""
    if why := unfit(c.remote):
        return refuse(facts, "invalid", why)
    if facts.term != c.term:
        return refuse(facts, "stale", f"the term is {facts.term}, not {c.term}")
    if facts.follows is not None:
        facts = changed(facts, c.remote, facts.follows.leader, f"asked for by {c.requested_by}")
        text = f"follows {c.remote} from now on, asked for by {c.requested_by}"
        return note(facts, at_ms=at_ms, kind="cluster.follows", text=text), cmd.Done()
    if facts.phase is not Phase.STABLE or facts.leader is None:
        return refuse(facts, "not_stable", f"term {facts.term} is {facts.phase.value}")
    if facts.switchover is not None:
        return refuse(facts, "busy", "a switchover is under way")
    node = facts.leader.node
    facts = replace(
        changed(facts, c.remote, node, "led the cluster until it was demoted"),
        phase=Phase.UNBORN,
        elector=None,
        leader=None,
        lease=None,
        history=(),
        past=(*facts.past, *facts.history)[-PAST_MAX:],
        sync=SyncState(generation=facts.sync.generation),
        mode_wanted=None,
        forced=None,
        given_up=None,
        forward=None,
        unsealed=(),
    )
    text = f"the cluster is demoted to follow {c.remote}, asked for by {c.requested_by}; "
    text += f"{node} led term {facts.term} and is standby leader"
    return note(facts, at_ms=at_ms, kind="cluster.demoted", text=text), cmd.Done()


def unfit(remote: Remote) -> str:
    """Why nobody can follow such a remote; "" when one can."""
    if not 1 <= len(remote.hosts) <= HOSTS_MAX:
        return f"name 1 to {HOSTS_MAX} hosts of the remote primary"
    if any(not host or "," in host or not 0 < port < 65_536 for host, port in remote.hosts):
        return "a host is written as host:port"
    if remote.sslmode not in SSLMODES:
        return f"sslmode is one of {', '.join(SSLMODES)}"
    if remote.slot and not remote.slot.replace("_", "a").isalnum():
        return f"{remote.slot!r} is not the name of a slot"
    return ""


HANDLERS: dict[type, Callable[[Facts, Any, int], Result]] = {
    cmd.LeadStandby: lead,
    cmd.PromoteCluster: promote,
    cmd.DemoteCluster: demote,
}
