"""The scopes: small herds, what may happen to them, and how often.

A scope begins with a cluster that the production ledger made by its own commands.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import apply_command
from pgherd.ledger.syncset import seal_count
from pgherd.model.facts import Address, Facts, Kind, Member, Mode
from pgherd.model.ids import Lsn, NodeId, Position, RaftId, Term, Timeline
from pgherd.model.observation import Server
from pgherd.sim.explore.sight import SYSTEM_ID
from pgherd.sim.explore.values import Names, Node, Sender, Upstream, key_of, node_name


class Scope(msgspec.Struct, frozen=True):
    """A bounded world. data: data members · voters: how many of them are in V at first, and k.

    terms, generations: the last that may begin · writes, crashes (of a server), falls (of a host),
    wipes (of a data directory), electors (another one takes over), restores (of the ledger as of
    the beginning), failovers and switchovers (that an operator asks for): how many at most ·
    flights: whether a proposal takes time · elector: who it is first; data: the witness, if any.
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
    wipes: int = 0
    electors: int = 0
    restores: int = 0
    failovers: int = 0
    switchovers: int = 0
    flights: bool = False
    unstreamed: int = 0
    share: int = 1

    @property
    def limits(self) -> tuple[int, ...]:
        """In the order of `State.spent`."""
        return (
            self.crashes,
            self.falls,
            self.wipes,
            self.electors,
            self.restores,
            self.failovers,
            self.switchovers,
        )


EVENTS = ("crash", "fall", "wipe", "elector", "restore", "failover", "switchover")


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
        )
        for at, kind in enumerate(kinds)
    }
    facts = Facts(
        cluster="small",
        members=members,
        next_raft_id=RaftId(len(members) + 1),
        mode=Mode.STRICT if scope.strict else Mode.QUORUM,
        num_sync=scope.num_sync,
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
    yield cmd.Establish(
        term=Term(1), timeline=Timeline(1), epoch_record_end=Lsn(2), names=voters
    )


def after(facts: Facts, many: Iterable[cmd.AnyCommand]) -> Facts:
    """Facts after commands that must all be taken."""
    for one in many:
        facts, outcome = apply_command(facts, one, at_ms=0)
        assert isinstance(outcome, cmd.Done), (one, outcome)
    return facts


def first_nodes(scope: Scope, seen: int) -> list[Node]:
    """Its servers: all stream, and hold the first epoch record."""
    wal = (0, 1000)
    members = tuple((at, 1) for at in range(1, 1 + scope.voters))
    names = Names(scope.k if members else 0, members, 1, 1)
    streaming = range(1, scope.data - scope.unstreamed)
    senders = tuple(Sender(at, 1, 1, names, len(wal), len(wal)) for at in streaming)
    primary = Node(Server.PRIMARY, wal, seen, promise=1, adopted=1, checked=1)
    primary = primary._replace(
        elector=0, senders=senders, names=names, cp=names, generation=1, settled=1
    )
    nodes = [primary]
    for at in range(1, scope.data):
        if at in streaming:
            link = Upstream(0, 1, 1)
            nodes.append(
                Node(
                    Server.STANDBY,
                    wal,
                    seen,
                    promise=1,
                    adopted=1,
                    upstream=link,
                    receiver=link,
                )
            )
        else:
            nodes.append(Node(Server.STOPPED, wal, seen, promise=1, adopted=1))
    return nodes


def first_elector(scope: Scope) -> int:
    """The witness, or else the last data member."""
    return scope.data if scope.witness else scope.data - 1


def node_id(at: int) -> NodeId:
    return node_name(at)


__all__ = ["SCOPES", "Scope", "first_elector", "first_facts", "first_nodes", "seal_count"]

SCOPES: dict[str, Scope] = {
    "failover": Scope(
        "three data nodes, two writes, two elections, no change of the set",
        terms=3,
        writes=2,
        crashes=1,
        share=4,
    ),
}
