"""Rules 1001-1031: whether an address that moves belongs on this node now, and until when. Pure.

Theory of operation. Every node asks for itself, from the ledger and from what it has heard, and
nothing is agreed on: an address is a way in, and what commits promise never rests on it. What keeps
two nodes from having one at a time is time, and a look at the network (`act.vip`):

- Who has one has it until an instant, which only moves on while a majority of the voters has lately
  heard this node, by their own word (`Observation.heard_ms`). The kernel takes it away then,
  whatever became of the agent.
- Who takes one that follows the primary is the leader of a stable term with a lease. Its
  predecessor leaves when its server ends, through which it bids its clients farewell, and at the
  latest when it hears of another leader, or for a moment of a later term, from anybody; cut off it
  leaves in time; and one that hangs still answers the probe, for as long as it has the address.
- Who takes one that follows a replica or a proxy has heard, itself or through others, no word of
  its last owner for longer than that owner may have it. Two majorities share a node, whose word
  binds both; a word that is longer than `SLACK_MS` on its way can break this, not the probe.

Owns the table and its sentences. Leaves taking and leaving to `daemon.vips`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping

import msgspec

from pgherd.model.facts import Facts, Phase
from pgherd.model.ids import Instant, MemberKey, NodeId, RaftId
from pgherd.model.observation import Heard, Observation, Server, ServerSeen
from pgherd.model.vip import Follow, Vip, VipSeen

HEARING_DETECTS = 2
"""An owner leaves after so many `failover.detect` without a majority that hears it."""

KERNEL_MS = 1000
"""The kernel counts the lifetime of an address in whole seconds, rounded up."""

SLACK_MS = KERNEL_MS + 1000
"""Beyond that the next one waits: words take time too."""

OVERTAKEN_MS = 500
"""The ledger says what others have promised a moment later, or does not reach this node."""

TELLING_MS = 1000
"""A primary's address waits so long for the word of an owner that lives: it is leaving."""


class Look(msgspec.Struct, frozen=True):
    """What one node sees of itself and of the others.

    takes_part: known to the ledger, which is known here, and not about to stop · caught_up: the
    ledger is known as of this start · voters: who votes in consensus · lease_until: by this node's
    clock, None without a lease · overtaken_ms: for how long others have promised a term that the
    ledger here does not know · detect_ms: `failover.detect` · owned: addresses that are on this
    node.
    """

    me: MemberKey
    facts: Facts
    server: ServerSeen
    reports: Mapping[NodeId, Heard]
    voters: tuple[RaftId, ...]
    lease_until: Instant | None
    detect_ms: int
    proxy_healthy: bool
    takes_part: bool
    caught_up: bool
    now: Instant
    overtaken_ms: int = 0
    owned: frozenset[str] = frozenset()

    @property
    def hearing_ms(self) -> int:
        """For how long the word of a majority counts."""
        return HEARING_DETECTS * self.detect_ms


class Verdict(msgspec.Struct, frozen=True):
    """What a rule says: until when the address may be here, if at all.

    until: None: it must not be here · stays: whatever is, is left as it is.
    """

    rule: int
    reason: str
    until: Instant | None = None
    stays: bool = False


class VipRule(msgspec.Struct, frozen=True):
    """One row: number, sentence, and why the address must not be here; None: it does not apply."""

    number: int
    sentence: str
    forbids: Callable[[Look, Vip], str | None]


def decide(look: Look, vip: Vip) -> Verdict:
    """Whether this address belongs on this node now."""
    if not look.caught_up:
        return Verdict(*STARTING, stays=True)
    for rule in RULES[vip.follow]:
        why = rule.forbids(look, vip)
        if why is not None:
            return Verdict(rule.number, why)
    heard_at = heard_by_majority(look)
    until = heard_at + look.hearing_ms if heard_at is not None else look.now
    leads = vip.follow is Follow.PRIMARY and look.facts.phase is Phase.STABLE
    if leads and look.lease_until is not None:
        until = min(until, look.lease_until - KERNEL_MS)
    number, sentence = HERE[vip.follow]
    return Verdict(number, sentence, until=Instant(until))


# --- for every address -----------------------------------------------------------------------


def stands_apart(look: Look, vip: Vip) -> str | None:
    if look.takes_part and look.facts.members.get(look.me.node) is not None:
        return None
    return f"{look.me.node} takes no part in the cluster now"


def is_alone(look: Look, vip: Vip) -> str | None:
    heard_at = heard_by_majority(look)
    if heard_at is not None and look.now < heard_at + look.hearing_ms:
        return None
    return f"no majority of the voters has heard {look.me.node} for {look.hearing_ms / 1000:g} s"


def heard_by_majority(look: Look) -> Instant | None:
    """When most voters, this node among them, had last heard this node; None: never.

    Of each it is the instant that its newest report leads back to, by our clock.
    """
    votes = {
        member.raft_id: node
        for node, member in look.facts.members.items()
        if member.raft_id in look.voters
    }
    heard = sorted((heard_at(look, node) for node in votes.values()), reverse=True)
    needed = len(look.voters) // 2 + 1
    at = heard[needed - 1] if len(heard) >= needed else None
    return Instant(at) if at is not None and at >= 0 else None


def heard_at(look: Look, node: NodeId) -> int:
    """When a node had last heard this one, as far as is known here; -1: never."""
    if node == look.me.node:
        return look.now
    told = look.reports.get(node)
    ago = told.report.heard_ms.get(look.me.node) if told is not None else None
    return told.at - ago if told is not None and ago is not None else -1


# --- for one that follows the primary -----------------------------------------------------------


def leads_not(look: Look, vip: Vip) -> str | None:
    """Until another leads, an election leaves it where it is: nobody takes it meanwhile."""
    facts = look.facts
    if facts.leader != look.me:
        return f"{facts.leader.node if facts.leader is not None else 'nobody'} leads"
    if facts.phase is Phase.STABLE or vip.address in look.owned:
        return None
    return f"epoch {facts.term} is {facts.phase.value}"


def was_overtaken(look: Look, vip: Vip) -> str | None:
    if look.overtaken_ms < OVERTAKEN_MS:
        return None
    return "others have promised a later epoch, of which the ledger says nothing here"


def is_overtaken(facts: Facts, reports: Mapping[NodeId, Heard]) -> bool:
    """Whether a member has promised a term that these facts do not know."""
    return any(
        heard.report.promises.promise > facts.term
        for node, heard in reports.items()
        if node in facts.members
    )


def is_no_primary(look: Look, vip: Vip) -> str | None:
    """One that hangs may still serve the sessions that it has."""
    state = look.server.state
    hangs = state is Server.HUNG and vip.address in look.owned
    return None if state is Server.PRIMARY or hangs else f"PostgreSQL is {state.value} here"


def lease_is_over(look: Look, vip: Vip) -> str | None:
    if look.facts.phase is not Phase.STABLE or look.facts.lease is None:
        return None  # an election bounds it; and an older program knows no leases
    if look.lease_until is not None and look.now < look.lease_until - KERNEL_MS:
        return None
    return "the lease runs out"


def owner_lives(look: Look, vip: Vip) -> str | None:
    if vip.address in look.owned:
        return None
    for owner in owners(look, vip):
        if quiet_ms(look, owner) < TELLING_MS:
            return f"{owner} still has it"
    return None


# --- for one that follows a replica or a proxy --------------------------------------------------


def is_unfit(look: Look, vip: Vip) -> str | None:
    if vip.follow is Follow.PROXY:
        return None if look.proxy_healthy else "the proxy is not well here"
    return None if replicates(look.facts, look.server) else "PostgreSQL is no healthy replica here"


def another_has_it(look: Look, vip: Vip) -> str | None:
    """Two that have it hear of each other: one stays, the first in the order of all."""
    mine = vip.address in look.owned
    for owner in owners(look, vip):
        quiet = quiet_ms(look, owner)
        if mine:
            stays = quiet < look.hearing_ms and is_fit(look, owner, vip)
            if stays and place(vip, owner) < place(vip, look.me.node):
                return f"{owner} has it too, and comes first"
        elif quiet < look.hearing_ms + SLACK_MS:
            return f"{owner} has it" if quiet < look.hearing_ms else f"{owner} may still have it"
    return None


def another_comes_first(look: Look, vip: Vip) -> str | None:
    if vip.address in look.owned:
        return None
    before = [node for node in fit(look, vip) if place(vip, node) < place(vip, look.me.node)]
    if not before:
        return None
    return f"{min(before, key=lambda node: place(vip, node))} comes first"


def fit(look: Look, vip: Vip) -> Iterator[NodeId]:
    """The other nodes that could have it, as they told lately."""
    for node in look.reports:
        speaks = node != look.me.node and quiet_ms(look, node) < look.detect_ms
        if speaks and is_fit(look, node, vip):
            yield node


def is_fit(look: Look, node: NodeId, vip: Vip) -> bool:
    """Whether a node's last report says that it could have an address."""
    if node not in look.facts.members:
        return False
    report = look.reports[node].report
    told = told_of(report, vip)
    if told is None or told.problem:
        return False
    if vip.follow is Follow.PROXY:
        return report.proxy_healthy
    return replicates(look.facts, report.server)


def replicates(facts: Facts, server: ServerSeen) -> bool:
    """Whether a server is a healthy replica that streams from the leader of this term."""
    leader, receiver = facts.leader, server.receiver
    return (
        server.state is Server.STANDBY
        and server.healthy
        and receiver is not None
        and receiver.status == "streaming"
        and receiver.term == facts.term
        and leader is not None
        and receiver.upstream == leader.node
    )


def owners(look: Look, vip: Vip) -> list[NodeId]:
    """The other nodes whose last word was that they have it, who lately spoke first."""
    found = []
    for node, heard in look.reports.items():
        told = told_of(heard.report, vip)
        if node != look.me.node and told is not None and told.owned:
            found.append(node)
    return sorted(found, key=lambda node: quiet_ms(look, node))


def told_of(report: Observation, vip: Vip) -> VipSeen | None:
    """What a node tells of an address."""
    return next((told for told in report.vips if told.address == vip.address), None)


def quiet_ms(look: Look, node: NodeId) -> int:
    """For how long nobody, as far as is known here, has heard a node."""
    ages = [look.now - heard.at for other, heard in look.reports.items() if other == node]
    for other, heard in look.reports.items():
        ago = heard.report.heard_ms.get(node)
        if other not in (node, look.me.node) and ago is not None:
            ages.append(look.now - heard.at + ago)
    return min(ages)


def place(vip: Vip, node: NodeId) -> tuple[int, NodeId]:
    """A node's place in the order for an address: the same everywhere, another for each address."""
    return zlib.crc32(f"{vip.address} {node}".encode()), node


# --- the table ----------------------------------------------------------------------------------

STARTING = (1001, "An agent that does not know the ledger yet takes nothing and keeps nothing on.")
EVERY: tuple[VipRule, ...] = (
    VipRule(1002, "A node that takes no part in its cluster, or stops, has none.", stands_apart),
    VipRule(1003, "A node that no majority of the voters has lately heard has none.", is_alone),
)
PRIMARY: tuple[VipRule, ...] = (
    VipRule(
        1011,
        "The leader of a stable term takes the primary's address, and has it until another leads.",
        leads_not,
    ),
    VipRule(1012, "A leader leaves it whom others have overtaken unheard.", was_overtaken),
    VipRule(1013, "It leaves when the server here is no primary any more.", is_no_primary),
    VipRule(1014, "It leaves before the lease is over.", lease_is_over),
    VipRule(1015, "It waits while another owner speaks, which is about to leave.", owner_lives),
)
SHARED: tuple[VipRule, ...] = (
    VipRule(1021, "Only who has a healthy replica, or proxy, has its address.", is_unfit),
    VipRule(1022, "It stays with its owner until that may not have it any more.", another_has_it),
    VipRule(1023, "Without an owner the first in its order takes it.", another_comes_first),
)
RULES: dict[Follow, tuple[VipRule, ...]] = {
    Follow.PRIMARY: (*EVERY, *PRIMARY),
    Follow.REPLICA: (*EVERY, *SHARED),
    Follow.PROXY: (*EVERY, *SHARED),
}
HERE: dict[Follow, tuple[int, str]] = {
    Follow.PRIMARY: (1031, "the primary is here"),
    Follow.REPLICA: (1032, "the replica that clients are led to is here"),
    Follow.PROXY: (1033, "the proxy that clients are led to is here"),
}
