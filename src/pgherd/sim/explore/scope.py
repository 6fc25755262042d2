"""The scopes: small herds, what may happen to them, and how often.

A scope begins with a cluster that the production ledger made by its own commands.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import apply_command
from pgherd.ledger.levels import LEVEL
from pgherd.model.facts import Address, Facts, Kind, Member, Mode, Tags
from pgherd.model.ids import Lsn, Position, RaftId, Term, Timeline
from pgherd.model.observation import Server
from pgherd.sim.explore.sight import SYSTEM_ID
from pgherd.sim.explore.values import (
    CLOSED,
    NEWEST,
    Names,
    Node,
    Sender,
    Upstream,
    key_of,
    node_name,
    with_epoch,
    with_timeline,
    with_write,
)


class Scope(msgspec.Struct, frozen=True):
    """A bounded world: what it begins with, and how much of what may happen in it.

    data: data members · voters, k, num_sync: the sync set at first, and how many are wanted ·
    unstreamed: how many of the last standbys are stopped · reign: 2 when n2 has taken over from n1,
    which has rows that nobody else ever got · unknown: n2 was promoted, all died before its epoch
    record, and a ledger of before is restored · terms, generations: the last that may begin ·
    writes, crashes (of a server), falls (of a host), agents (that die alone), wipes (of a data
    directory), electors (another one takes over), restores (of the ledger as of the beginning),
    failovers and switchovers (asked for): how many at most · barred: how many of the last standbys
    may not lead · mortal: who may suffer them · flights: whether a proposal takes time · slow:
    whether standbys, too, learn of the ledger late · share: of the states that all scopes may visit
    together.
    """

    about: str
    data: int = 3
    witness: bool = False
    voters: int = 2
    k: int = 1
    num_sync: int = 0
    strict: bool = False
    terms: int = 2
    generations: int = 1
    writes: int = 1
    crashes: int = 0
    falls: int = 0
    agents: int = 0
    wipes: int = 0
    electors: int = 0
    restores: int = 0
    failovers: int = 0
    switchovers: int = 0
    flights: bool = False
    slow: bool = False
    mortal: tuple[int, ...] = (0, 1, 2, 3, 4)
    unstreamed: int = 0
    reign: int = 1
    barred: int = 0
    unknown: bool = False
    share: int = 1

    @property
    def limits(self) -> tuple[int, ...]:
        """In the order of `State.spent`."""
        return (
            self.crashes,
            self.falls,
            self.agents,
            self.wipes,
            self.electors,
            self.restores,
            self.failovers,
            self.switchovers,
        )


EVENTS = ("crash", "fall", "agent", "wipe", "elector", "restore", "failover", "switchover")


def first_facts(scope: Scope) -> Facts:
    """A cluster in its first stable term, led by n1."""
    kinds = [Kind.DATA] * scope.data + [Kind.WITNESS] * scope.witness
    members = {
        node_name(at): Member(
            node=node_name(at),
            raft_id=RaftId(at + 1),
            kind=kind,
            address=Address(host=node_name(at), raft_port=1, postgres_port=2),
            store=f"s{at + 1}",
            tags=Tags(nofailover=scope.data - scope.barred <= at < scope.data),
        )
        for at, kind in enumerate(kinds)
    }
    facts = Facts(
        cluster="small",
        members=members,
        next_raft_id=RaftId(len(members) + 1),
        mode=Mode.STRICT if scope.strict else Mode.QUORUM,
        num_sync=scope.num_sync,
        level=LEVEL if scope.barred else 1,
    )
    return after(facts, commands(scope))


def commands(scope: Scope) -> Iterable[cmd.AnyCommand]:
    """From nothing to that cluster."""
    first, elector, start = node_name(0), node_name(0), Position(Term(0), Lsn(1))
    yield cmd.ChooseFounder(first)
    yield cmd.Born(node=first, incarnation="c1", system_id=SYSTEM_ID, major=15)
    yield cmd.Begin(expected=Term(0), elector=elector, rule=0, reason="")
    for at in range(1, scope.data):
        yield cmd.RegisterIncarnation(node_name(at), "c1")
    voters = tuple(key_of(at, 1) for at in range(1, 1 + scope.voters))
    yield cmd.Elect(
        term=Term(1),
        elector=elector,
        winner=key_of(0, 1),
        start=start,
        promoted=True,
        voters=voters,
        k=scope.k,
        rule=0,
        reason="",
    )
    yield cmd.Establish(term=Term(1), timeline=Timeline(1), epoch_record_end=Lsn(2), names=voters)
    if scope.reign == 2:
        yield from second_reign(scope)


def second_reign(scope: Scope) -> Iterable[cmd.AnyCommand]:
    """n2 takes over from n1 at the first epoch record; n3 has its epoch record."""
    elector = node_name(scope.data - 1)
    yield cmd.Begin(expected=Term(1), elector=elector, rule=0, reason="")
    yield cmd.Elect(
        term=Term(2),
        elector=elector,
        winner=key_of(1, 1),
        start=Position(Term(1), Lsn(2)),
        promoted=True,
        voters=(key_of(0, 1), key_of(2, 1)),
        k=1,
        rule=0,
        reason="",
    )
    names = (key_of(2, 1),)
    yield cmd.Establish(term=Term(2), timeline=Timeline(2), epoch_record_end=Lsn(4), names=names)


def after(facts: Facts, many: Iterable[cmd.AnyCommand]) -> Facts:
    """Facts after commands that must all be taken."""
    for one in many:
        facts, outcome = apply_command(facts, one, at_ms=0)
        assert isinstance(outcome, cmd.Done), (one, outcome)
    return facts


def first_nodes(scope: Scope, seen: int) -> list[Node]:
    """Its servers: those that stream hold the first epoch record, the others are stopped."""
    if scope.reign == 2:
        return second_nodes(scope, seen)
    if scope.unknown:
        return unknown_nodes(scope, seen)
    wal = (0, 1000)
    members = tuple((at, 1) for at in range(1, 1 + scope.voters))
    names = Names(scope.k if members else 0, members, 1, 1)
    streaming = range(1, scope.data - scope.unstreamed)
    primary = Node(Server.PRIMARY, wal, seen, promise=1, elector=0, adopted=1, checked=1)
    primary = primary._replace(
        senders=tuple(Sender(at, 1, 1, names, len(wal), len(wal)) for at in streaming),
        names=names,
        cp=names if names.k == 0 else CLOSED,
        generation=1,
        settled=1,
    )
    link = Upstream(0, 1, 1)
    standby = Node(Server.STANDBY, wal, seen if scope.slow else NEWEST, promise=1, adopted=1)
    stopped = standby._replace(server=Server.STOPPED)
    standby = standby._replace(upstream=link, receiver=link)
    others = [standby if at in streaming else stopped for at in range(1, scope.data)]
    return [primary, *others]


def second_nodes(scope: Scope, seen: int) -> list[Node]:
    """n1 is stopped with rows that n2 never got; n3 streams from n2."""
    wal = with_epoch(with_timeline((0, 1000), 2), 2)
    prompt = seen if scope.slow else NEWEST
    names = Names(1, ((2, 1),), 2, 2)
    link = Upstream(1, 2, 1)
    old = Node(Server.STOPPED, (0, 1000, 1101, 1102, 1103, 1104), prompt, promise=1, adopted=1)
    primary = Node(Server.PRIMARY, wal, seen, promise=2, elector=2, adopted=2, checked=2)
    primary = primary._replace(
        senders=(Sender(2, 1, 2, names, len(wal), len(wal)),),
        names=names,
        generation=2,
        settled=2,
    )
    follower = Node(Server.STANDBY, wal, prompt, promise=2, elector=2, adopted=2)
    return [old, primary, follower._replace(upstream=link, receiver=link)]


def unknown_nodes(scope: Scope, seen: int) -> list[Node]:
    """n1 has a row that nobody got, n2 its promotion, the last one what n2 wrote after that."""
    prompt = seen if scope.slow else NEWEST
    promoted = with_timeline((0, 1000), 2)
    stopped = Node(Server.STOPPED, (0, 1000), prompt, promise=1, adopted=1)
    after = stopped._replace(wal=promoted, promise=2, elector=2, adopted=2)
    nodes = [stopped._replace(wal=with_write((0, 1000), 101)), after]
    return [*nodes, after._replace(wal=with_write(promoted, 102))][: scope.data]


def first_elector(scope: Scope) -> int:
    """The witness, or else the last data member."""
    return scope.data if scope.witness else scope.data - 1
