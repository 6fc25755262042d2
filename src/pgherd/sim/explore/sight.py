"""What deciders are shown: reports of nodes, and the product's answers to them.

Everything shown is built from a `Shown`, which is all that a remembered answer depends on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from pgherd.model import action as act
from pgherd.model.facts import Facts, Floor, Frozen, Phase
from pgherd.model.ids import (
    Instant,
    Lsn,
    MemberKey,
    NodeId,
    RaftId,
    Term,
    Timeline,
    forward_slot,
    slot_name,
)
from pgherd.model.observation import Heard, HerdView, Observation, Sender, Server, ServerSeen
from pgherd.model.policy import Policy
from pgherd.model.promises import Promises
from pgherd.plan import herd, member, slotkeeping
from pgherd.plan.own import Self
from pgherd.plan.rule import Decision
from pgherd.sim.explore.hands import pos_of
from pgherd.sim.explore.values import (
    EPOCH,
    Node,
    Pos,
    Upstream,
    as_position,
    branches,
    key_of,
    names_text,
    node_name,
    timeline,
)

SYSTEM_ID = "7300000000000000001"
LONG_MS = 1_000_000
NOW = Instant(10 * LONG_MS)
LAG_BYTES = 10**6
POLICY = Policy(minimum_interval_ms=0, lease_ttl_ms=0, admission_lag_bytes=LAG_BYTES)


class Shown(NamedTuple):
    """A node as its own agent reports it. senders: to, copy, term, flush; 0 is not caught up."""

    me: int
    server: Server
    position: Pos | None
    drained: bool
    timeline: int
    begins: int
    upstream: Upstream | None
    senders: tuple[tuple[int, int, int, int], ...]
    names: str
    generation: int
    settled: int
    record_end: int
    insert: int
    checked: int
    handed: bool
    promise: int
    elector: int
    adopted: int
    frozen: Pos | None
    floor: tuple[int, int, int] | None
    dirty: bool
    copy: int
    lent: int


def shown(me: int, node: Node, facts: Facts) -> Shown:
    """What a node with these facts reports."""
    runs = node.server in (Server.STANDBY, Server.PRIMARY)
    primary = node.server is Server.PRIMARY
    position = pos_of(node, facts) if runs else None
    record = EPOCH * position[0] if position else -1
    return Shown(
        me=me,
        server=node.server,
        position=position,
        drained=stands_still(node),
        timeline=timeline(node.wal) if runs else 0,
        begins=branches(node.wal)[-1][1] if runs else 0,
        upstream=node.upstream if runs else None,
        senders=tuple((s.to, s.copy, s.term, s.flush) for s in node.senders) if primary else (),
        names=names_text(node.names),
        generation=node.generation,
        settled=node.settled,
        record_end=node.wal.index(record) + 1 if primary and record in node.wal else 0,
        insert=len(node.wal) if runs else 0,
        checked=node.checked,
        handed=node.handed,
        promise=node.promise,
        elector=node.elector,
        adopted=node.adopted,
        frozen=node.frozen,
        floor=node.floor,
        dirty=node.dirty,
        copy=node.copy,
        lent=node.lent,
    )


def stands_still(node: Node) -> bool:
    """Whether a standby takes no WAL, and is not about to take some on loan."""
    return node.server is Server.STANDBY and node.receiver is None and not on_loan(node.upstream)


def on_loan(upstream: Upstream | None) -> bool:
    """Whether a member takes WAL from a holder in an election."""
    return upstream is not None and not upstream.term


def seen_server(s: Shown) -> ServerSeen:
    """The product's value of it."""
    senders = tuple(
        Sender(
            member=key_of(to, copy),
            term=Term(term),
            state="streaming" if flush else "catchup",
            flush_lsn=Lsn(flush),
            replay_lsn=Lsn(flush),
        )
        for to, copy, term, flush in s.senders
    )
    return ServerSeen(
        state=s.server,
        system_id=SYSTEM_ID if s.server is not Server.NONE else "",
        major=15,
        timeline=Timeline(s.timeline),
        timeline_begins=Lsn(s.begins),
        position=as_position(s.position) if s.position else None,
        drained=s.drained,
        upstream=node_name(s.upstream.node) if s.upstream and s.upstream.term else None,
        borrows=on_loan(s.upstream),
        upstream_term=Term(s.upstream.term if s.upstream else 0),
        upstream_incarnation=key_of(s.me, s.upstream.copy).incarnation if s.upstream else "",
        senders=senders,
        names=s.names,
        names_generation=s.generation,
        settled=s.settled,
        epoch_record_end=Lsn(s.record_end),
        checkpointed_term=Term(s.checked),
        checkpointed_for="wish" if s.handed else "",
        insert_lsn=Lsn(s.insert),
    )


def seen_promises(s: Shown) -> Promises:
    """The product's value of the promises."""
    floor = s.floor
    return Promises(
        promise=Term(s.promise),
        promise_elector=node_name(s.elector) if s.elector >= 0 else None,
        adopted=Term(s.adopted),
        adopted_leader=node_name(s.me) if s.server is Server.PRIMARY else None,  # nobody else can
        frozen=Frozen(Term(s.promise), as_position(s.frozen)) if s.frozen else None,
        floor=Floor(as_position(floor[:2]), Lsn(floor[2])) if floor else None,
        dirty_rewind=s.dirty,
        incarnation=key_of(s.me, s.copy).incarnation,
    )


# -- a member ------------------------------------------------------------------------------------


def planned(s: Shown, facts: Facts, leader: Shown | None, *, dead_end: bool) -> act.Action | None:
    """What the member decider would have this node do."""
    me = node_name(s.me)
    own = Self(
        me=me,
        facts=facts,
        server=seen_server(s),
        promises=seen_promises(s),
        policy=POLICY,
        now=NOW,
        leader_report=report(leader, facts, silent=frozenset()) if leader is not None else None,
        following_since=NOW,
        dead_end=dead_end,
    )
    slots = tuple(slot_name(node) for node in slotkeeping.others(own))  # kept beside the story
    if s.server is not Server.PRIMARY and s.lent >= 0 and facts.phase is Phase.ELECTING:
        slots = (*slots, forward_slot(node_name(s.lent)))
    return member.decide(replace(own, server=replace(own.server, slots=slots))).action


# -- the herd ------------------------------------------------------------------------------------


def report(s: Shown, facts: Facts, *, silent: frozenset[NodeId]) -> Observation:
    """A node's report. Who is silent is so for everybody."""
    me = node_name(s.me)
    wanted = {*facts.sync.voters, *facts.sync.names}
    there = {
        key_of(to, copy) for to, copy, term, flush in s.senders if flush and term == facts.term
    }
    missing = {str(key): LONG_MS for key in wanted - there} if s.server is Server.PRIMARY else {}
    return Observation(
        node=me,
        raft_id=RaftId(s.me + 1),
        sequence=1,
        server=seen_server(s),
        promises=seen_promises(s),
        heard_ms={node: LONG_MS if node in silent else 0 for node in facts.members if node != me},
        missing_ms=missing,
    )


def decided(
    facts: Facts, elector: int, heard: Iterable[Shown], *, witness: int = -1, early: bool = False
) -> Decision:
    """What the herd decider says on this elector when it hears these nodes, and no others."""
    reports = tuple(heard)
    known = {node_name(s.me) for s in reports} | {node_name(witness)}
    silent = frozenset(node for node in facts.members if node not in known)
    observed = {node_name(s.me): report(s, facts, silent=silent) for s in reports}
    if witness >= 0:
        observed[node_name(witness)] = of_witness(witness, facts, silent)
    since = NOW if early else Instant(0)
    view = HerdView(
        me=node_name(elector),
        reports={node: Heard(one, NOW) for node, one in observed.items()},
        since=Instant(0),
        phase_since=since,
        names_since=since,
        raft_voters=tuple(m.raft_id for m in facts.members.values()),
    )
    return herd.decide(facts, view=view, policy=POLICY, now=NOW)


def of_witness(witness: int, facts: Facts, silent: frozenset[NodeId]) -> Observation:
    """A witness reports that it is there, and whom it hears."""
    return Observation(
        node=node_name(witness),
        raft_id=RaftId(witness + 1),
        sequence=1,
        server=ServerSeen(),
        promises=Promises(),
        heard_ms={node: LONG_MS if node in silent else 0 for node in facts.members},
        witness=True,
    )


def counted(heard: Iterable[Shown], facts: Facts) -> dict[MemberKey, Pos]:
    """F3 again, by its words alone: who is sealed for this term and may be counted."""
    found = {}
    for s in heard:
        sealed = s.frozen is not None and s.promise == facts.term
        if not sealed or s.dirty or s.frozen is None:
            continue
        if s.floor is not None and s.frozen < s.floor[:2]:
            continue
        if s.elector >= 0 and node_name(s.elector) == facts.elector:
            found[key_of(s.me, s.copy)] = s.frozen
    return found


def short_of_quorum(heard: Iterable[Shown], facts: Facts) -> str:
    """Why an election among these would break F3; "" when it would not."""
    reports = tuple(heard)
    sealed = counted(reports, facts)
    if facts.phase is not Phase.ELECTING or (facts.leader is not None and facts.leader in sealed):
        return ""
    for s in reports:
        if key_of(s.me, s.copy) == facts.leader and s.server is Server.PRIMARY:
            return ""
    voters = [key for key in facts.sync.voters if key in sealed]
    if facts.sync.voters and len(voters) >= facts.sync.r:
        return ""
    return f"I14 elected with {len(voters)} of {facts.sync.r} voters sealed and above their floors"
