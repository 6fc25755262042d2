"""Rules 51-59 and 61: what a member does under another leader (PROTOCOL.md F7)."""

from __future__ import annotations

from pgherd.ledger.lineage import contains, fork_of, strange
from pgherd.model import action as act
from pgherd.model.facts import Member, Mode, Phase
from pgherd.model.ids import Lsn, NodeId
from pgherd.model.observation import Server
from pgherd.plan import cascade, cloning, configuring, delayed, rotating, slotkeeping
from pgherd.plan.own import (
    Answer,
    MemberRule,
    Self,
    follows,
    follows_already,
    has_adopted,
    is_gone,
    is_refused,
    my_key,
    starts_for_ever,
)

GONE_MS = 5_000
"""Patience with a leader that says that it has not got the WAL any more."""


def follow_demote(s: Self) -> Answer | None:
    if not follows(s) or s.server.state is not Server.PRIMARY:
        return None
    who = s.facts.leader.node if s.facts.leader is not None else "another node"
    return f"{who} leads term {s.facts.term}", act.StopServer(f"{who} leads now")


def leader_member(s: Self) -> Member | None:
    """The leader's record, once it says how its PostgreSQL is reached."""
    member = s.facts.member(s.facts.leader) if s.facts.leader is not None else None
    return member if member is not None and member.address.postgres_port else None


def copy(s: Self, *, source: NodeId | None = None) -> act.Action | None:
    """A new copy: of the node that is named, else of whom is best asked now."""
    member, leader = leader_member(s), s.facts.leader
    if member is None or leader is None or leader.node == s.me:
        return None
    host, port = member.address.postgres()
    lender = cloning.lender(s, source)
    if lender is not None:
        host, port = lender.host, lender.port
    return act.Rebuild(
        term=s.facts.term,
        leader=leader,
        host=host,
        port=port,
        source=lender.node if lender is not None else leader.node,
        system_id=s.facts.system_id,
        by_command=source is None and s.ladder is not None and not s.ladder.commanded,
    )


def rewind(s: Self, fork: Lsn) -> act.Action | None:
    """Back to where the leader's history was left; what is there now is the floor."""
    member, leader, position = leader_member(s), s.facts.leader, s.server.position
    if member is None or leader is None or position is None:
        return None
    host, port = member.address.postgres()
    return act.Rewind(
        term=s.facts.term, leader=leader, host=host, port=port, floor=position, fork_lsn=fork
    )


def follow_copy(s: Self) -> Answer | None:
    """No data, or data that cannot be brought back: a new copy, once the leader is there."""
    if not follows(s):
        return None
    empty = s.server.state is Server.NONE
    broken = s.promises.dirty_rewind or s.dead_end
    if not empty and not broken:
        return None
    if s.facts.phase is not Phase.STABLE or s.leader_report is None:
        return "waits for a leader to copy from", None
    if s.dead_end and is_counted(s):
        return "is copied anew once it has left the synchronous set", None
    return "copies the leader" if empty else "copies the leader anew", copy(s)


def follow_start(s: Self) -> Answer | None:
    if not follows(s) or s.server.state is not Server.STOPPED:
        return None
    if delayed.of_this_reign(s) and (late_ms := delayed.delay_ms(s)):
        return "starts without upstream, as late as it was", act.StartStandby(delay_ms=late_ms)
    return "starts without upstream, to know its position", act.StartStandby()


def follow_stop_old(s: Self) -> Answer | None:
    """Before a change of leader the old stream ends, so that the position is final."""
    if not follows(s) or s.server.state is not Server.STANDBY or s.facts.elector is None:
        return None
    late = delayed.keeps(s)
    seal = act.Seal(term=s.facts.term, elector=s.facts.elector, keeps_delay=late)
    if late and delayed.is_cut(s) and not delayed.may_follow(s):
        all_of_it = act.Seal(term=s.facts.term, elector=s.facts.elector)
        return "replays all that it has, to know where that ends", all_of_it
    if s.server.borrows:
        return "ends what it took in the election", seal
    if s.server.fetches and not s.server.upstream_term and not follows_already(s):
        return "takes nothing more from the archive", seal
    if s.server.upstream_term == s.facts.term or not s.server.upstream_term:
        return None
    if same_server_leads(s):
        return None
    return "leaves its old upstream", seal


def same_server_leads(s: Self) -> bool:
    """Whether the present upstream kept its server and leads on: nothing can have diverged.

    Its server must not have been promoted since we took it for our upstream.
    """
    leader = s.facts.leader
    since = [reign for reign in s.facts.history if reign.term > s.server.upstream_term]
    kept = not any(reign.promoted for reign in since)
    return leader is not None and s.server.upstream == leader.node and kept


def leaves_stream(s: Self) -> bool:
    """Whether it streams from the leader of this term, and is to follow by its archive."""
    return s.nostream and s.server.upstream_term == s.facts.term and has_adopted(s)


def is_strange(s: Self) -> bool:
    """Whether it was promoted, or followed who was, in a reign that the ledger does not know."""
    position = s.server.position
    adopted, begins = s.promises.adopted, s.server.timeline_begins
    return position is not None and strange(s.facts.history, adopted, position, begins)


def follow(s: Self) -> Answer | None:
    """On the leader's history: stream from it under the term's token."""
    server, member, leader = s.server, leader_member(s), s.facts.leader
    if not follows(s) or server.state is not Server.STANDBY or member is None or leader is None:
        return None
    if follows_already(s):
        return None
    host, port = member.address.postgres()
    action = act.Follow(
        term=s.facts.term, leader=leader, host=host, port=port, by_archive=s.nostream
    )
    if leaves_stream(s):
        return f"follows {leader.node} by its archive alone", action
    if same_server_leads(s):
        return f"follows {leader.node} in term {s.facts.term}", action
    if delayed.may_follow(s):
        return f"follows {leader.node}, as late as before", action
    if server.position is None or not server.drained:
        return "waits until its position is final", None
    if contains(s.facts.history, server.position) and not is_strange(s):
        return f"follows {leader.node}", action
    return None


def rejoin(s: Self) -> Answer | None:
    """Off the leader's history: rewind where it is known how, copy where it is not."""
    server, member, leader = s.server, leader_member(s), s.facts.leader
    if not follows(s) or server.state is not Server.STANDBY or member is None or leader is None:
        return None
    if follows_already(s):
        return None
    if server.position is None:
        return "waits until its position is known", None
    if s.facts.phase is not Phase.STABLE or s.leader_report is None:
        return f"is at {server.position}, off the leader's history; waits for the leader", None
    if s.leader_report.server.checkpointed_term < s.facts.term:
        return "waits for the leader's checkpoint", None
    if is_strange(s):
        return f"is at {server.position} by a promotion of no known term: copies it", copy(s)
    fork = fork_of(s.facts.history, server.position)
    if fork is None or server.timeline == s.facts.history[-1].timeline:
        return f"is at {server.position}, whose fork is not known: copies the leader", copy(s)
    return f"is at {server.position}, off the leader's history: rewinds", rewind(s, fork)


def follow_floor(s: Self) -> Answer | None:
    floor, position = s.promises.floor, s.server.position
    if not follows(s) or floor is None or position is None or position < floor.position:
        return None
    return "has regained what it had before the rewind", act.ClearFloor(s.facts.term)


def follow_stuck(s: Self) -> Answer | None:
    """Its upstream is there and it gets nothing for long: its WAL there is gone.

    Whether it streams is for the leader to say: a receiver that is refused comes and goes.
    """
    leader = s.leader_report
    if not follows(s) or s.server.state is not Server.STANDBY or leader is None or s.nostream:
        return None
    if cascade.is_served(s) or leader.server.state is not Server.PRIMARY:
        return None
    if s.server.delays:
        return None  # it asks for no more until it has replayed what it has
    gone = is_gone(s) and not s.server.fetches
    patience_ms = GONE_MS if gone else s.policy.stuck_after_ms
    if s.now - s.following_since < patience_ms or s.facts.phase is not Phase.STABLE:
        return None
    if is_refused(s):
        return f"{leader.node} does not let it in, which no copy can change", None
    if is_counted(s):
        return "does not stream; is copied anew once it has left the synchronous set", None
    return "does not stream although the leader is there: copies it", copy(s)


def follow_endless_start(s: Self) -> Answer | None:
    """A start that never ends: the WAL that it would need is not there."""
    if not follows(s) or not starts_for_ever(s):
        return None
    if s.facts.phase is not Phase.STABLE or s.leader_report is None or is_counted(s):
        return "does not come up; waits for a leader to copy from", None
    return "does not come up: copies the leader", copy(s)


def is_counted(s: Self) -> bool:
    """Whether the ledger still counts on this directory; mode strict cannot let go of it."""
    return my_key(s) in s.facts.sync.voters and s.facts.mode is not Mode.STRICT


def follow_steady(s: Self) -> Answer | None:
    if not follows(s) or s.facts.leader is None:
        return None
    return f"follows {s.facts.leader.node} in term {s.facts.term}{cascade.told(s)}", None


RULES: tuple[MemberRule, ...] = (
    MemberRule(51, "A primary that is not the leader stops.", follow_demote),
    MemberRule(52, "A member without usable data copies the leader.", follow_copy),
    MemberRule(53, "A stopped follower starts without upstream first.", follow_start),
    MemberRule(54, "A follower of an older leader stops receiving first.", follow_stop_old),
    MemberRule(55, "A member on the leader's history follows it.", follow),
    MemberRule(56, "A member off the leader's history is rewound, or copied.", rejoin),
    rotating.FOLLOWS_ANEW,
    MemberRule(57, "A floor that is regained is forgotten.", follow_floor),
    MemberRule(58, "A follower that cannot stream for long is copied anew.", follow_stuck),
    MemberRule(61, "A follower that never comes up is copied anew.", follow_endless_start),
    configuring.TOO_LITTLE,
    configuring.TELLS_STANDBY,
    slotkeeping.FOLLOWS,
    MemberRule(59, "A follower with nothing to do follows.", follow_steady),
)
