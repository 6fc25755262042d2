"""What one member knows when it decides, and plain questions about it. No decision here."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from pgherd.model import action as act
from pgherd.model.facts import Facts, Phase
from pgherd.model.ids import CLOSED_NAMES, Instant, Lsn, MemberKey, NodeId
from pgherd.model.observation import Observation, Server, ServerSeen
from pgherd.model.pgconfig import Running
from pgherd.model.policy import Policy
from pgherd.model.promises import Promises
from pgherd.model.remedy import Cause, Ladder


class ConfigSeen(msgspec.Struct, frozen=True):
    """The cluster's parameters as the server here has them, and how others run.

    parameters: what it was told or started with · others: what heard standbys and the leader run
    with of `pgconfig.MATCHED`; empty where that is not known.
    """

    parameters: dict[str, str] = {}
    others: dict[NodeId, Running] = {}


class Lender(msgspec.Struct, frozen=True):
    """A replica that can be copied as the leader can. preferred: its operator wants that."""

    node: NodeId
    host: str
    port: int
    preferred: bool = False


class SlotsSeen(msgspec.Struct, frozen=True):
    """What slots are weighed by: which other nodes are heard, and the room here; -1: not known.

    at: how far cascading replicas, which the leader does not serve, have replayed its WAL ·
    nostream: who said last that it never streams.
    """

    heard: frozenset[NodeId] = frozenset()
    at: dict[NodeId, Lsn] = {}
    disk_free_bytes: int = -1
    nostream: frozenset[NodeId] = frozenset()


class ArchiveUse(msgspec.Struct, frozen=True):
    """What the archive of WAL is to this node. can_fetch: its files can be had here · nostream: by
    its operator's wish it follows by them alone."""

    can_fetch: bool = False
    nostream: bool = False


class Self(msgspec.Struct, frozen=True):
    """What one member knows when it decides.

    leader_report: the leader's newest report if it is not silent · following_since: since when the
    server has had its present upstream · dead_end: the last attempt to follow or rewind failed for
    good, so that only a new copy helps · caught_up: the facts are at least those of the moment when
    this agent started, by a quorum read (a restarted agent must not act on what was agreed before),
    or when it first saw the timeline that strays · removed: the others know that this node is no
    member any more; the facts here are of before
    · has_lease: the lease of this node counts now, or the ledger knows no leases yet · amnesia: why
    what it promised is not known here, "" when it is · watchdog: why the watchdog device that this
    node requires would not guard it, "" when it would, or none is required · config, slots: see
    there · ladder: its present trouble, None where nobody keeps a record of remedies · lenders:
    replicas that can be copied now, the best first · archive: see there · peers: the newest
    reports of others that are not silent, for who cascades · may_go_over: it has streamed from the
    primary for long enough to go to its upstream.
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
    caught_up: bool = True
    removed: bool = False
    has_lease: bool = True
    amnesia: str = ""
    watchdog: str = ""
    config: ConfigSeen = ConfigSeen()
    ladder: Ladder | None = None
    lenders: tuple[Lender, ...] = ()
    slots: SlotsSeen = SlotsSeen()
    archive: ArchiveUse = ArchiveUse()
    peers: dict[NodeId, Observation] = {}
    may_go_over: bool = False

    @property
    def nostream(self) -> bool:
        """Whether it follows by the archive alone."""
        return self.archive.nostream


Answer = tuple[str, act.Action | None]
"""A sentence for people, and what to do, if anything."""


class MemberRule(msgspec.Struct, frozen=True):
    """One row of the member decider's table. decide: None when the row does not apply."""

    number: int
    sentence: str
    decide: Callable[[Self], tuple[str, act.Action | None] | None]


def my_key(s: Self) -> MemberKey:
    return MemberKey(s.me, s.promises.incarnation)


def leads(s: Self) -> bool:
    """Whether the ledger names this node, with this data directory, as leader of the term."""
    leader = s.facts.leader
    if leader is None or leader.node != s.me or leader.incarnation != s.promises.incarnation:
        return False
    return s.facts.phase in (Phase.ESTABLISHING, Phase.STABLE)


def follows(s: Self) -> bool:
    """Whether the ledger names another leader for the current term."""
    named = s.facts.phase in (Phase.ESTABLISHING, Phase.STABLE)
    return named and s.facts.leader is not None and not leads(s)


def follows_already(s: Self) -> bool:
    """Whether the present upstream is the leader, under this term's and this copy's token.

    Or who feeds it in the leader's place (`upstreams`), which is the same to the protocol; or the
    leader's archive, for who follows by that alone.
    """
    server, leader = s.server, s.facts.leader
    if s.nostream:
        return server.fetches and not server.upstream_term and has_adopted(s)
    named = leader is not None and server.upstream == leader.node
    own = server.upstream_incarnation == s.promises.incarnation
    return named and server.upstream_term == s.facts.term and own


def has_adopted(s: Self) -> bool:
    """Whether the leader of this term is the one that it follows, by its own word."""
    leader, promises = s.facts.leader, s.promises
    named = leader is not None and promises.adopted_leader == leader.node
    return named and promises.adopted == s.facts.term and promises.frozen is None


def elects(s: Self) -> bool:
    return s.facts.phase is Phase.ELECTING


def starts_for_ever(s: Self) -> bool:
    """Whether the server has been starting for longer than any start may take."""
    long = s.now - s.server.since >= s.policy.start_timeout_ms
    return s.server.state is Server.STARTING and long


def closed(s: Self) -> bool:
    return s.server.names == CLOSED_NAMES


def is_gone(s: Self) -> bool:
    """Whether its leader has removed the WAL that it needs, by its server's log."""
    return s.ladder is not None and s.ladder.said.cause is Cause.GONE


def is_refused(s: Self) -> bool:
    """Whether its leader does not let it in, by its server's log."""
    return s.ladder is not None and s.ladder.said.cause is Cause.REFUSED
