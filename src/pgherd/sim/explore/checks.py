"""The invariants of PROTOCOL.md 10 that a state, an acknowledgement or a step of a node can break.

Each answers with its number and a sentence, "" where it holds. Sees everything, as no agent does.
"""

from __future__ import annotations

from collections.abc import Sequence

from pgherd.ledger.rescue import TERMS_SKIPPED
from pgherd.ledger.syncset import uses
from pgherd.model.facts import Facts, Phase
from pgherd.model.observation import Server
from pgherd.sim.explore.server import Ack
from pgherd.sim.explore.values import EPOCH, Names, Node, epoch, held, index_of, position


def leader_holds(facts: Facts, nodes: Sequence[Node], acked: int) -> str:
    """I7, I20: who was elected has everything that was acknowledged, before and since."""
    if facts.leader is None or facts.phase not in (Phase.ESTABLISHING, Phase.STABLE):
        return ""
    at, copy = index_of(facts.leader)
    node = nodes[at]
    if node.real != copy or node.server is Server.NONE or not acked & ~held(node.wal):
        return ""
    number = "I20" if facts.phase is Phase.STABLE else "I7"
    text = f"n{at + 1} leads term {facts.term} with {node.wal}"
    return f"{number} {text}, without an acknowledged row ({bin(acked)})"


def set_covers(facts: Facts, nodes: Sequence[Node], acked: int) -> str:
    """I10: every set that an elector may seal has a holder of all that was acknowledged."""
    voters = facts.sync.voters
    if not acked or not voters:
        return ""
    lacking = [key for key in voters if could_mislead(nodes, index_of(key), acked)]
    if len(lacking) < facts.sync.r:
        return ""
    who = ", ".join(str(key) for key in lacking)
    return f"I10 {facts.sync.r} of {who} can be sealed, none of which has all of {bin(acked)}"


def could_mislead(nodes: Sequence[Node], key: tuple[int, int], acked: int) -> bool:
    """Whether a voter could be counted in an election and lacks what was acknowledged."""
    node = nodes[key[0]]
    if node.server is Server.NONE or node.copy != key[1] or node.dirty:
        return False
    if not acked & ~held(node.wal):
        return False
    return node.floor is None or position(node.wal) >= node.floor[:2]


def inequality(facts: Facts, leader: Node) -> str:
    """I10: (Q) and kd, with the names that processes of the leader really use."""
    sync, reign = facts.sync, facts.reign()
    if facts.phase is Phase.ESTABLISHING or not sync.voters or reign is None:
        return ""
    if leader.server is not Server.PRIMARY or facts.leader is None:
        return ""
    if leader.copy != index_of(facts.leader)[1]:
        return ""
    found = in_use(leader)
    if not found:
        return ""
    weakest = min(names.k for names in found)
    if sync.kd > weakest:
        return f"I10 kd {sync.kd} is above {weakest}, which is in use: {found}"
    everyone = {index_of(key) for key in sync.voters}
    for names in found:
        everyone |= {one for one in names.members if can_count(leader, names, one, reign.term)}
    if len(everyone) > sync.r + weakest - 1:
        return f"I10 (Q) {len(everyone)} > {sync.r} + {weakest} - 1; in use: {found}"
    return ""


def in_use(node: Node) -> list[Names]:
    """The names under which a process of this server may acknowledge now."""
    found = [s.names for s in node.senders if s.names.k > 0 and s.names.counts(s)]
    return [*found, node.cp] if node.cp.k == 0 else found


def can_count(node: Node, names: Names, one: tuple[int, int], term: int) -> bool:
    """Whether a member can be matched: by this reign's token, or by an older one that is there."""
    there = any((s.to, s.copy, s.term) == (*one, names.term) for s in node.senders)
    return names.term == term or there


def acknowledged(facts: Facts, nodes: Sequence[Node], me: int, ack: Ack) -> str:
    """I8, I9, I14, I19, I22: what may be acknowledged, at the moment at which it is."""
    names = ack.names
    return (
        too_early(facts, nodes[me], me, ack)
        or alone(facts, me, ack)
        or not_allowed(facts, names)
        or miscounted(nodes, me, ack)
        or without_the_winner(facts, nodes, me, ack)
    )


def too_early(facts: Facts, node: Node, me: int, ack: Ack) -> str:
    """I9: by names of a stable term, and of none before the one in which it was written."""
    term, who = ack.names.term, f"n{me + 1} acknowledges {ack.numbers}"
    forgotten = term < TERMS_SKIPPED < facts.term  # by a restored ledger
    if not forgotten and not any(r.established and r.term == term for r in facts.history):
        return f"I9 {who} in term {term} before it is stable"
    written = max(code // EPOCH for code in node.wal if code % EPOCH in ack.numbers)
    return f"I9 {who}, of epoch {written}, by names of term {term}" if written > term else ""


def alone(facts: Facts, me: int, ack: Ack) -> str:
    """I19: without names only what the ledger has recorded as alone may acknowledge."""
    leads = facts.leader is not None and index_of(facts.leader)[0] == me
    if ack.names.k == 0 and facts.sync.kd and leads:
        return f"I19 n{me + 1} acknowledges {ack.numbers} alone; the ledger has voters"
    return ""


def not_allowed(facts: Facts, names: Names) -> str:
    """I19: a set that the ledger of this reign has, had, or is to have."""
    reign, sync = facts.reign(), facts.sync
    if reign is None or reign.term != names.term or facts.phase is Phase.ESTABLISHING:
        return ""
    if facts.leader is None or (not sync.voters and names.k > 0):
        return ""  # a restored ledger forgot them; an empty set allows whoever is stronger
    allowed = [({index_of(key) for key in members}, k) for members, k in uses(sync)]
    if (set(names.members), names.k) in allowed:
        return ""
    return f"I19 acknowledged under {names}, the ledger allows {allowed}"


def miscounted(nodes: Sequence[Node], me: int, ack: Ack) -> str:
    """I14, I22: whose confirmation counts is above its floor, and of the copy that was admitted."""
    for to, copy in ack.counted:
        node = nodes[to]
        if node.copy == copy and node.real != copy:
            return f"I22 n{to + 1} is counted as c{copy}, which it is no more"
        if node.copy == copy and node.floor is not None and position(node.wal) < node.floor[:2]:
            return f"I14 n{to + 1} is counted below its floor {node.floor}"
    return ""


def without_the_winner(facts: Facts, nodes: Sequence[Node], me: int, ack: Ack) -> str:
    """I8: what an old primary acknowledges after an election is in the winner's WAL."""
    if facts.leader is None or facts.phase not in (Phase.ESTABLISHING, Phase.STABLE):
        return ""
    at, copy = index_of(facts.leader)
    mine = sum(1 << number for number in ack.numbers)
    lost = nodes[at].real != copy or nodes[at].server is Server.NONE
    if at == me or lost or not mine & ~held(nodes[at].wal):
        return ""
    return f"I8 n{me + 1} acknowledges {ack.numbers}; n{at + 1}, which leads, has {nodes[at].wal}"


def kept_word(me: int, old: Node, new: Node) -> str:
    """I11, I13, I18: promises and epochs do not go back, and a promise has one elector."""
    who = f"n{me + 1}"
    if new.promise < old.promise or new.adopted < old.adopted:
        told = f"told promise {old.promise}, adopted {old.adopted}"
        return f"I13 {who} {told}; has {new.promise}, {new.adopted}"
    if new.promise == old.promise and old.elector >= 0 and new.elector not in (old.elector, -1):
        return f"I11 {who} promised term {new.promise} to two electors"
    if new.adopted > new.promise:
        return f"I11 {who} adopted {new.adopted} above its promise {new.promise}"
    longer = len(new.wal) > len(old.wal) and new.wal[: len(old.wal)] == old.wal
    if longer and epoch(new.wal) < epoch(old.wal):
        return f"I18 {who} writes epoch {epoch(new.wal)} after {epoch(old.wal)}"
    return ""
