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
- Who takes one that follows a replica or a proxy hears every member say that it has not got it;
  or has heard no word of it, itself or through others, for longer than it may have it. Two
  majorities share a node, whose word binds both. It first says that it is about to take it, and
  does when all that live have heard so: who has heard it does not begin. A word that is on its way
  for longer than `SAID_MS` can break this; the probe is there for it.

Owns the table and its sentences. Leaves taking and leaving to `daemon.vips`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping

import msgspec

from pgherd.ledger.leases import reigns
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

BEGIN_MS = 1500
"""So long an agent needs after its start until it has heard of the others, server and proxy."""

SAID_MS = 300
"""That an address is about to be taken has left this node by then."""

QUEUE_MS = 500
"""After a stall what is read first has waited as long as the stall: it is that much older."""

OVERTAKEN_MS = 500
"""The ledger says what others have promised a moment later, or does not reach this node."""

TELLING_MS = 1000
"""A primary's address waits so long for the word of an owner that lives: it is leaving."""


class Look(msgspec.Struct, frozen=True):
    """What one node sees of itself and of the others.

    takes_part: known to the ledger, which is known here, and not about to stop · caught_up: the
    ledger is known as of this start · voters: who votes in consensus · lease_until: by this node's
    clock, None without a lease · overtaken_ms: for how long others have promised a term that the
    ledger here does not know · detect_ms: `failover.detect` · began_at: when this agent did ·
    awake_since, stalled_ms: the same, or when it went on after it had stood still, and for how long
    it had · owned, taking: addresses that are on this node, and that it is about to take, since
    when.
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
    began_at: Instant
    awake_since: Instant
    stalled_ms: int = 0
    overtaken_ms: int = 0
    owned: frozenset[str] = frozenset()
    taking: Mapping[str, Instant] = {}

    @property
    def hearing_ms(self) -> int:
        """For how long the word of a majority counts."""
        return HEARING_DETECTS * self.detect_ms

    @property
    def gone_ms(self) -> int:
        """After so much silence a node has no address that follows a replica or a proxy."""
        return self.hearing_ms + SLACK_MS


class Verdict(msgspec.Struct, frozen=True):
    """What a rule says: until when the address may be here, if at all.

    until: None: it must not be here · stays: whatever is, is left as it is.
    """

    rule: int
    reason: str
    until: Instant | None = None
    stays: bool = False

    @property
    def soon(self) -> bool:
        """Whether it may be here in a moment: who takes it asks the network meanwhile."""
        return self.rule in (SETTLING, ASKING)


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
            return (
                Verdict(*STARTING, stays=True) if begins(look, vip) else Verdict(rule.number, why)
            )
    heard_at = heard_by_majority(look)
    until = heard_at + look.hearing_ms if heard_at is not None else look.now
    leads = vip.follow is Follow.PRIMARY and look.facts.phase is Phase.STABLE
    if leads and look.lease_until is not None:
        until = min(until, look.lease_until - KERNEL_MS)
    number, sentence = HERE[vip.follow]
    return Verdict(number, sentence, until=Instant(until))


def begins(look: Look, vip: Vip) -> bool:
    """Whether an earlier agent's address is here, and this one knows too little to judge it."""
    return vip.address in look.owned and look.now - look.began_at < BEGIN_MS


# --- for every address --------------------------------------------------------------------------


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
    if told is None or ago is None:
        return -1
    waited = look.stalled_ms if told.at < look.awake_since + QUEUE_MS else 0
    return told.at - ago - waited


# --- for one that follows the primary -----------------------------------------------------------


def leads_not(look: Look, vip: Vip) -> str | None:
    """Until another leads, an election leaves it where it is: nobody takes it meanwhile."""
    facts = look.facts
    if facts.leader != look.me:
        return f"{facts.leader.node if facts.leader is not None else 'nobody'} leads"
    if reigns(facts) or vip.address in look.owned:
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
    lease = look.facts.lease
    if look.facts.phase is not Phase.STABLE or lease is None or lease.asked is None:
        return None  # an election bounds it, or no renewal yet; and an older program knows none
    if look.lease_until is not None and look.now < look.lease_until - KERNEL_MS:
        return None
    return "the lease runs out"


def is_settling(look: Look, vip: Vip) -> str | None:
    facts = look.facts
    if vip.address in look.owned:
        return None
    if facts.phase is not Phase.STABLE:
        return f"epoch {facts.term} is {facts.phase.value}"
    waits = facts.lease is not None and facts.lease.asked is None
    return "its lease was not renewed yet" if waits else None


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
    own = look.reports.get(look.me.node)
    if own is not None and own.report.noloadbalance:
        return "noloadbalance is set here"
    return None if replicates(look.facts, look.server) else "PostgreSQL is no healthy replica here"


def another_has_it(look: Look, vip: Vip) -> str | None:
    """Two that have it hear of each other: one stays, the first in the order of all."""
    mine, own = vip.address in look.owned, place(vip, look.me.node)
    for node, heard in sorted(look.reports.items()):
        told = told_of(heard.report, vip)
        if node == look.me.node or told is None or look.now - heard.at >= look.hearing_ms:
            continue
        first = place(vip, node) < own
        if told.owned and not mine:
            return f"{node} has it"
        if told.owned and first and is_fit(look, node, vip):
            return f"{node} has it too, and comes first"
        if told.taking and not mine and (first or vip.address not in look.taking):
            return f"{node} is about to take it"
    return None


def silent_may_have_it(look: Look, vip: Vip) -> str | None:
    """Who is not heard here may have it as long as anybody hears it, and for a while after."""
    if vip.address in look.owned:
        return None
    for node in look.facts.members:
        heard = look.reports.get(node)
        speaks = heard is not None and look.now - heard.at < look.detect_ms
        if node != look.me.node and not speaks and quiet_ms(look, node) < look.gone_ms:
            return f"{node} is silent here and may have it"
    return None


def another_comes_first(look: Look, vip: Vip) -> str | None:
    if vip.address in look.owned or vip.address in look.taking:
        return None
    before = [node for node in look.reports if is_fit(look, node, vip)]
    first = min([*before, look.me.node], key=lambda node: place(vip, node))
    return None if first == look.me.node else f"{first} comes first"


def not_all_know(look: Look, vip: Vip) -> str | None:
    since = look.taking.get(vip.address)
    if since is None or vip.address in look.owned:
        return None
    for node in look.facts.members:
        if heard_at(look, node) < since + SAID_MS and quiet_ms(look, node) < look.gone_ms:
            return f"{node} has not heard yet that it is to be here"
    return None


def is_fit(look: Look, node: NodeId, vip: Vip) -> bool:
    """Whether another node could have an address, and take it, as it told lately."""
    heard = look.reports[node]
    if node not in look.facts.members or look.now - heard.at >= look.detect_ms:
        return False
    told = told_of(heard.report, vip)
    if told is None or told.problem or not hears_all(look, heard.report):
        return False
    if vip.follow is Follow.PROXY:
        return heard.report.proxy_healthy
    if heard.report.noloadbalance:
        return False
    return replicates(look.facts, heard.report.server)


def hears_all(look: Look, report: Observation) -> bool:
    """Whether a node hears every member that may live; else it takes nothing."""
    return all(
        report.heard_ms.get(node, look.gone_ms) < look.detect_ms
        or (node != look.me.node and quiet_ms(look, node) >= look.gone_ms)
        for node in look.facts.members
        if node != report.node
    )


def replicates(facts: Facts, server: ServerSeen) -> bool:
    """Whether a server is a healthy replica that streams from the leader of this term."""
    leader, receiver = facts.leader, server.receiver
    if facts.follows is not None:
        comes = receiver is not None and receiver.status == "streaming"
        return server.state is Server.STANDBY and server.healthy and comes
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
    """For how long nobody, as far as is known here, has heard a node; at most since we began."""
    ages = [look.now - look.awake_since]
    if (own := look.reports.get(node)) is not None:
        ages = [look.now - own.at]
    for other, heard in look.reports.items():
        ago = heard.report.heard_ms.get(node)
        if other not in (node, look.me.node) and ago is not None:
            ages.append(look.now - heard.at + ago)
    return min(ages)


def place(vip: Vip, node: NodeId) -> tuple[int, NodeId]:
    """A node's place in the order for an address: the same everywhere, another for each address."""
    return zlib.crc32(f"{vip.address} {node}".encode()), node


# --- the table ----------------------------------------------------------------------------------

STARTING = (1001, "An agent that has only just begun leaves what is here to the kernel.")
EVERY: tuple[VipRule, ...] = (
    VipRule(1002, "A node that takes no part in its cluster, or stops, has none.", stands_apart),
    VipRule(1003, "A node that no majority of the voters has lately heard has none.", is_alone),
)
SETTLING, ASKING = 1016, 1025
"""They forbid only for a moment."""

PRIMARY: tuple[VipRule, ...] = (
    VipRule(
        1011,
        "The leader of a term takes the primary's address, and has it until another leads.",
        leads_not,
    ),
    VipRule(1012, "A leader leaves it whom others have overtaken unheard.", was_overtaken),
    VipRule(1013, "It leaves when the server here is no primary any more.", is_no_primary),
    VipRule(1014, "It leaves before the lease is over.", lease_is_over),
    VipRule(1015, "It waits while another owner speaks, which is about to leave.", owner_lives),
    VipRule(
        SETTLING, "It is taken when the term is stable and its lease was renewed.", is_settling
    ),
)
SHARED: tuple[VipRule, ...] = (
    VipRule(1021, "Only who has a healthy replica, or proxy, has its address.", is_unfit),
    VipRule(1022, "It stays with its owner, or with who is about to take it.", another_has_it),
    VipRule(1023, "It waits until a silent member cannot have it any more.", silent_may_have_it),
    VipRule(1024, "Without an owner the first in its order takes it.", another_comes_first),
    VipRule(ASKING, "Who is about to take it does when all that live know so.", not_all_know),
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


def rows() -> Iterator[tuple[int, str, str]]:
    """The table for people: number, which addresses, sentence."""
    shared = f"{Follow.REPLICA.value}, {Follow.PROXY.value}"
    yield STARTING[0], "all", STARTING[1]
    for scope, table in (("all", EVERY), (Follow.PRIMARY.value, PRIMARY), (shared, SHARED)):
        for rule in table:
            yield rule.number, scope, rule.sentence
    for follow, (number, text) in HERE.items():
        yield number, follow.value, f"{text[0].upper()}{text[1:]}."
