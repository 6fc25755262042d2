"""The member decider: what this node should do to itself next.

Run by every agent on the facts as committed here, its own observation and its own durable promises.
One action at a time; an action is complete in itself and safe to do twice. The rows are grouped by
what the ledger says of this node: no cluster yet, an election, leader, follower.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from pgherd.ledger.lineage import contains, fork_of
from pgherd.model import action as act
from pgherd.model.facts import Facts, Kind, Member, Phase
from pgherd.model.ids import CLOSED_NAME, Instant, MemberKey, NodeId, Term, slot_name
from pgherd.model.observation import Observation, Server, ServerSeen
from pgherd.model.policy import Policy
from pgherd.model.promises import Promises


class Self(msgspec.Struct, frozen=True):
    """What one member knows when it decides.

    leader_report: the leader's newest report if it is not silent · following_since: since when the
    server has had its present upstream · dead_end: the last attempt to follow or rewind failed for
    good, so that only a new copy helps.
    """

    me: NodeId
    facts: Facts
    server: ServerSeen
    promises: Promises
    policy: Policy
    now: Instant
    leader_report: Observation | None = None
    following_since: Instant = Instant(0)
    dead_end: bool = False


class MemberRule(msgspec.Struct, frozen=True):
    """One row of the member decider's table. decide: None when the row does not apply."""

    number: int
    sentence: str
    decide: Callable[[Self], tuple[str, act.Action | None] | None]


Answer = tuple[str, act.Action | None]


def my_key(s: Self) -> MemberKey:
    return MemberKey(s.me, s.promises.incarnation)


def leads(s: Self) -> bool:
    """Whether the ledger names this node, with this data directory, as leader of the term."""
    return s.facts.leader == my_key(s) and s.facts.phase in (Phase.ESTABLISHING, Phase.STABLE)


def follows(s: Self) -> bool:
    """Whether the ledger names another leader for the current term."""
    named = s.facts.phase in (Phase.ESTABLISHING, Phase.STABLE)
    return named and s.facts.leader is not None and not leads(s)


def elects(s: Self) -> bool:
    return s.facts.phase is Phase.ELECTING


def closed(s: Self) -> bool:
    return s.server.names == f'"{CLOSED_NAME}"'


def names_text(facts: Facts) -> str:
    """What synchronous_standby_names must be on the leader of a stable term.

    Without a synchronous set mode strict stays closed: it blocks instead of promising less.
    """
    sync = facts.sync
    if sync.names_k == 0:
        return f'"{CLOSED_NAME}"' if facts.mode == "strict" else ""
    listed = ", ".join(f'"{key.token(facts.term)}"' for key in sync.names)
    return f"ANY {sync.names_k} ({listed})"


# --- nothing to run here -------------------------------------------------------------------------


def not_mine(s: Self) -> Answer | None:
    member = s.facts.members.get(s.me)
    if member is None:
        return "this node is no member yet", None
    if member.kind is Kind.WITNESS:
        return "a witness votes and runs no server", None
    return None


def unusable(s: Self) -> Answer | None:
    if s.server.state is Server.UNUSABLE:
        return s.server.problem or "the data directory must not be started", None
    return None


def other_cluster(s: Self) -> Answer | None:
    server = s.server
    if s.facts.system_id and server.system_id and server.system_id != s.facts.system_id:
        return (
            f"the data directory belongs to system identifier {server.system_id}, the cluster is "
            f"{s.facts.system_id}: it is left untouched; move it away to let this node be rebuilt",
            None,
        )
    return None


def later_promise(s: Self) -> Answer | None:
    if s.promises.promise > s.facts.term:
        return f"promised term {s.promises.promise}; the ledger here is at {s.facts.term}", None
    return None


def hung(s: Self) -> Answer | None:
    if s.server.state is Server.HUNG and s.facts.phase is not Phase.STABLE:
        return "the server takes no connection", act.StopServer("it takes no connection")
    if s.server.state is Server.HUNG and not leads(s):
        return "the server takes no connection", act.StopServer("it takes no connection")
    if s.server.state is Server.STARTING:
        return "the server is starting", None
    return None


# --- before the first term -----------------------------------------------------------------------


def found(s: Self) -> Answer | None:
    if s.facts.system_id or s.facts.founder != s.me or s.server.state is not Server.NONE:
        return None
    return "this node makes the cluster", act.InitDb()


def wait_for_birth(s: Self) -> Answer | None:
    if s.facts.phase is not Phase.UNBORN:
        return None
    return f"waits for {s.facts.founder or 'the founder'} to make the cluster", None


# --- an election ---------------------------------------------------------------------------------


def mine_to_drain(s: Self) -> bool:
    return s.facts.handover is not None and s.facts.leader == my_key(s)


def election_of_another(s: Self) -> Answer | None:
    if elects(s) and s.promises.promise == s.facts.term:
        promised = s.promises.promise_elector
        if promised is not None and promised != s.facts.elector:
            return f"promised term {s.facts.term} to {promised}", None
    return None


def hand_over(s: Self) -> Answer | None:
    facts = s.facts
    if not elects(s) or not mine_to_drain(s) or is_frozen(s):
        return None
    if s.server.state is not Server.PRIMARY or facts.handover is None or facts.elector is None:
        return None
    candidate = facts.members[facts.handover.candidate].key
    limit = s.policy.hold_timeout_ms // 2
    action = act.DrainAndStop(
        term=facts.term, elector=facts.elector, candidate=candidate, limit_ms=limit
    )
    return f"hands over to {candidate.node}", action


def is_frozen(s: Self) -> bool:
    frozen = s.promises.frozen
    return frozen is not None and frozen.term == s.facts.term == s.promises.promise


def wait_for_drain(s: Self) -> Answer | None:
    handover = s.facts.handover
    if not elects(s) or handover is None or handover.drained is not None or mine_to_drain(s):
        return None
    return "waits until the primary has drained", None


def close(s: Self) -> Answer | None:
    if not elects(s) or s.server.state is not Server.PRIMARY or s.facts.elector is None:
        return None
    if s.facts.leader != my_key(s):
        return "a primary that the ledger does not know", act.StopServer("not the leader")
    if s.promises.promise == s.facts.term and closed(s):
        return "closed; waits for the election", None
    return "closes its gate", act.CloseGate(term=s.facts.term, elector=s.facts.elector)


def start_to_seal(s: Self) -> Answer | None:
    if not elects(s) or s.server.state is not Server.STOPPED:
        return None
    if s.promises.dirty_rewind:
        return "half rewound: counts for nothing in this election", None
    return "starts without upstream, to know its position", act.StartStandby()


def seal(s: Self) -> Answer | None:
    if not elects(s) or s.server.state is not Server.STANDBY or s.facts.elector is None:
        return None
    if is_frozen(s):
        return "sealed; waits for the election", None
    return "seals", act.Seal(term=s.facts.term, elector=s.facts.elector)


def wait_for_election(s: Self) -> Answer | None:
    return ("waits for the election", None) if elects(s) else None


# --- the leader ----------------------------------------------------------------------------------


def lead_start(s: Self) -> Answer | None:
    if not leads(s) or s.server.state is not Server.STOPPED:
        return None
    return "starts without upstream; the next term decides", act.StartStandby()


def lead_promote(s: Self) -> Answer | None:
    if not leads(s) or s.server.state is not Server.STANDBY:
        return None
    reign, frozen = s.facts.history[-1], s.promises.frozen
    if s.facts.phase is Phase.STABLE:
        return "a leader whose server restarted: the next term decides", None
    if frozen is None or frozen.position != reign.start or frozen.term != s.facts.term:
        return f"elected at {reign.start}, but is not sealed there: the next term decides", None
    return "becomes primary", act.Promote(term=s.facts.term, expected=reign.start)


def lead_record(s: Self) -> Answer | None:
    server = s.server
    if not leads(s) or server.state is not Server.PRIMARY:
        return None
    recorded = server.position is not None and server.position.epoch == s.facts.term
    if recorded and server.epoch_record_end:
        return None
    return f"writes the epoch record of term {s.facts.term}", act.KeepLeading(s.facts.term)


def lead_slots(s: Self) -> Answer | None:
    if not leads(s) or s.server.state is not Server.PRIMARY:
        return None
    others = tuple(
        node for node, m in sorted(s.facts.members.items()) if m.kind is Kind.DATA and node != s.me
    )
    if {slot_name(node) for node in others} == set(s.server.slots):
        return None
    return "keeps one slot per member", act.KeepSlots(others)


def lead_behind(s: Self) -> Answer | None:
    """After a restart an agent may know an older set than its server uses: never go back."""
    if not leads(s) or s.server.state is not Server.PRIMARY:
        return None
    if s.server.names_generation <= s.facts.sync.generation:
        return None
    return "its server uses a newer synchronous set than the ledger known here", None


def lead_open(s: Self) -> Answer | None:
    if not leads(s) or s.facts.phase is not Phase.STABLE or s.server.state is not Server.PRIMARY:
        return None
    sync = s.facts.sync
    right = s.server.names == names_text(s.facts) and s.server.names_generation == sync.generation
    if right or switches_on(s):
        return None
    action = act.SetNames(term=s.facts.term, generation=sync.generation, names=names_text(s.facts))
    return "uses the synchronous set of the ledger", action


def switches_on(s: Self) -> bool:
    """Whether the server must go from no synchronous set to one, which needs the probe."""
    sync = s.facts.sync
    return sync.names_k > 0 and any(use.k == 0 for use in sync.in_use)


def lead_settle(s: Self) -> Answer | None:
    if not leads(s) or s.facts.phase is not Phase.STABLE or s.server.state is not Server.PRIMARY:
        return None
    sync = s.facts.sync
    half_done = set(sync.names) != set(sync.voters) or sync.names_k != sync.k
    if not half_done or not sync.in_use or s.server.settled >= sync.generation:
        return None
    action = act.Settle(
        term=s.facts.term,
        generation=sync.generation,
        names=names_text(s.facts),
        members=sync.names,
        k=sync.names_k,
        from_empty=switches_on(s),
    )
    return "makes sure that no walsender uses an older set", action


def lead_checkpoint(s: Self) -> Answer | None:
    if not leads(s) or s.server.state is not Server.PRIMARY or s.facts.phase is not Phase.STABLE:
        return None
    wish = s.facts.switchover
    if wish is not None and s.server.checkpointed_for != wish.id:
        return "checkpoints before the switchover", act.Checkpoint(s.facts.term, wish.id)
    if s.server.checkpointed_term < s.facts.term:
        return "checkpoints after its promotion", act.Checkpoint(s.facts.term)
    return None


def lead_steady(s: Self) -> Answer | None:
    return (f"leads term {s.facts.term}", None) if leads(s) else None


# --- a follower ----------------------------------------------------------------------------------


def follow_demote(s: Self) -> Answer | None:
    if not follows(s) or s.server.state is not Server.PRIMARY:
        return None
    who = s.facts.leader.node if s.facts.leader is not None else "another node"
    return f"{who} leads term {s.facts.term}", act.StopServer(f"{who} leads now")


def leader_member(s: Self) -> Member | None:
    """The leader's record, once it says how its PostgreSQL is reached."""
    member = s.facts.member(s.facts.leader) if s.facts.leader is not None else None
    return member if member is not None and member.address.postgres_port else None


def copy(s: Self) -> act.Action | None:
    member, leader = leader_member(s), s.facts.leader
    if member is None or leader is None or leader.node == s.me:
        return None
    host, port = member.address.postgres()
    return act.Rebuild(term=s.facts.term, leader=leader, host=host, port=port)


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
    return "copies the leader" if empty else "copies the leader anew", copy(s)


def follow_start(s: Self) -> Answer | None:
    if not follows(s) or s.server.state is not Server.STOPPED:
        return None
    return "starts without upstream, to know its position", act.StartStandby()


def follow_stop_old(s: Self) -> Answer | None:
    """Before a change of leader the old stream ends, so that the position is final."""
    if not follows(s) or s.server.state is not Server.STANDBY or s.facts.elector is None:
        return None
    if s.server.upstream_term == s.facts.term or not s.server.upstream_term:
        return None
    if same_server_leads(s):
        return None
    return "leaves its old upstream", act.Seal(term=s.facts.term, elector=s.facts.elector)


def same_server_leads(s: Self) -> bool:
    """Whether the present upstream kept its server and leads on: nothing can have diverged."""
    leader = s.facts.leader
    return (
        leader is not None and s.server.upstream == leader.node and not s.facts.history[-1].promoted
    )


def follow(s: Self) -> Answer | None:
    """On the leader's history: stream from it under the term's token."""
    server, member, leader = s.server, leader_member(s), s.facts.leader
    if not follows(s) or server.state is not Server.STANDBY or member is None or leader is None:
        return None
    if server.upstream == leader.node and server.upstream_term == s.facts.term:
        return None
    host, port = member.address.postgres()
    action = act.Follow(term=s.facts.term, leader=leader, host=host, port=port)
    if same_server_leads(s):
        return f"follows {leader.node} in term {s.facts.term}", action
    if server.position is None or not server.drained:
        return "waits until its position is final", None
    if contains(s.facts.history, server.position):
        return f"follows {leader.node}", action
    return None


def rejoin(s: Self) -> Answer | None:
    """Off the leader's history: rewind where it is known how, copy where it is not."""
    server, member, leader = s.server, leader_member(s), s.facts.leader
    if not follows(s) or server.state is not Server.STANDBY or member is None or leader is None:
        return None
    if server.upstream == leader.node and server.upstream_term == s.facts.term:
        return None
    if server.position is None:
        return "waits until its position is known", None
    if s.facts.phase is not Phase.STABLE or s.leader_report is None:
        return f"is at {server.position}, off the leader's history; waits for the leader", None
    if s.leader_report.server.checkpointed_term < s.facts.term:
        return "waits for the leader's checkpoint", None
    fork = fork_of(s.facts.history, server.position)
    if fork is None or server.timeline == s.facts.history[-1].timeline:
        return f"is at {server.position}, whose fork is not known: copies the leader", copy(s)
    host, port = member.address.postgres()
    action = act.Rewind(
        term=s.facts.term,
        leader=leader,
        host=host,
        port=port,
        floor=server.position,
        fork_lsn=fork,
    )
    return f"is at {server.position}, off the leader's history: rewinds", action


def follow_floor(s: Self) -> Answer | None:
    floor, position = s.promises.floor, s.server.position
    if not follows(s) or floor is None or position is None or position < floor.position:
        return None
    return "has regained what it had before the rewind", act.ClearFloor(s.facts.term)


def follow_stuck(s: Self) -> Answer | None:
    """Its upstream is there and it does not stream for long: its WAL there is gone."""
    server = s.server
    if not follows(s) or server.state is not Server.STANDBY or server.receiver is not None:
        return None
    leader = s.leader_report
    if leader is None or leader.server.state is not Server.PRIMARY:
        return None
    if s.now - s.following_since < s.policy.stuck_after_ms or s.facts.phase is not Phase.STABLE:
        return None
    return "does not stream although the leader is there: copies it", copy(s)


def follow_steady(s: Self) -> Answer | None:
    if not follows(s) or s.facts.leader is None:
        return None
    return f"follows {s.facts.leader.node} in term {s.facts.term}", None


RULES: tuple[MemberRule, ...] = (
    MemberRule(11, "A node that is no data member runs no server.", not_mine),
    MemberRule(12, "A data directory that must not be started is left alone.", unusable),
    MemberRule(13, "Another cluster's data directory is left alone.", other_cluster),
    MemberRule(14, "A member acts for no term below its promise.", later_promise),
    MemberRule(15, "A hung server is stopped, unless its own term has to end first.", hung),
    MemberRule(21, "The founder makes the first data directory.", found),
    MemberRule(22, "Before the first term everybody waits.", wait_for_birth),
    MemberRule(31, "A term is promised to one elector only.", election_of_another),
    MemberRule(32, "In a switchover the old leader drains and stops.", hand_over),
    MemberRule(33, "In a switchover the others keep streaming until it has.", wait_for_drain),
    MemberRule(34, "A live leader closes its gate during an election.", close),
    MemberRule(
        35, "A stopped server starts without upstream, so that it can be sealed.", start_to_seal
    ),
    MemberRule(36, "A standby seals: it promises, stops receiving and freezes its position.", seal),
    MemberRule(
        37, "Without data or while starting, a member waits for the election.", wait_for_election
    ),
    MemberRule(41, "A leader whose server has died starts it as a standby.", lead_start),
    MemberRule(42, "The winner promotes from its sealed position.", lead_promote),
    MemberRule(43, "A leader writes the epoch record of its term.", lead_record),
    MemberRule(44, "A leader keeps one slot per data member.", lead_slots),
    MemberRule(
        49, "A leader that knows an older set than its server uses waits.", lead_behind
    ),
    MemberRule(45, "The leader of a stable term uses the ledger's synchronous set.", lead_open),
    MemberRule(46, "A half-done change of the set gets its barriers.", lead_settle),
    MemberRule(
        47, "A leader checkpoints after promotion and before a switchover.", lead_checkpoint
    ),
    MemberRule(48, "A leader with nothing to do leads.", lead_steady),
    MemberRule(51, "A primary that is not the leader stops.", follow_demote),
    MemberRule(52, "A member without usable data copies the leader.", follow_copy),
    MemberRule(53, "A stopped follower starts without upstream first.", follow_start),
    MemberRule(54, "A follower of an older leader stops receiving first.", follow_stop_old),
    MemberRule(55, "A member on the leader's history follows it.", follow),
    MemberRule(56, "A member off the leader's history is rewound, or copied.", rejoin),
    MemberRule(57, "A floor that is regained is forgotten.", follow_floor),
    MemberRule(58, "A follower that cannot stream for long is copied anew.", follow_stuck),
    MemberRule(59, "A follower with nothing to do follows.", follow_steady),
)


def decide(s: Self) -> act.Planned:
    """What this node should do now. Pure: the same look, the same plan."""
    for rule in RULES:
        answer = rule.decide(s)
        if answer is not None:
            return act.Planned(rule=rule.number, reason=answer[0], action=answer[1])
    return act.Planned(rule=99, reason="nothing to do", action=None)


def term_of(action: act.Action) -> Term | None:
    """The term an action belongs to; None for actions that belong to none."""
    return getattr(action, "term", None)
