"""What must never be seen in a herd, and what it means when it is: split brain.

The protocol does not rest on this: no election counts such a server (`look.sealed`), no session
is led to one, and its own agent stops it (rules 13, 34, 51, 73). This is the look of every node at
what all have reported, so that a person hears of it at once, wherever they ask. Pure; owns the
sentences.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pgherd.model.facts import Facts, Phase
from pgherd.model.ids import CLOSED_NAME, Instant, NodeId, Term
from pgherd.model.observation import Observation, Server

DEPOSED_MS = 5000
"""For so long an old primary that is back may need to stop; nobody is led to it meanwhile."""

ANEW = "nothing to do: it is stopped and copied anew, its data directory is kept beside the new one"


class Contradiction(msgspec.Struct, frozen=True):
    """One node that contradicts the ledger. what: a word, stable; text, hint: for people.

    patience_ms: how long this may be so before it is one.
    """

    node: NodeId
    what: str
    text: str
    hint: str
    patience_ms: int = 0


class Noticed(msgspec.Struct, frozen=True):
    """A contradiction, and since when this node has seen it, by its wall clock."""

    about: Contradiction
    since_unix_ms: int

    def sentence(self, since: str | None) -> str:
        """What is wrong, since when, and what to do."""
        when = f" (since {since})" if since else ""
        return f"split brain: {self.about.text}{when}; {self.about.hint}"


def contradictions(
    facts: Facts, reports: Mapping[NodeId, Observation], *, applied: int
) -> tuple[Contradiction, ...]:
    """All that fresh reports say against the ledger as of the index `applied`.

    A report that was made with a newer ledger than ours is not judged by ours.
    """
    found = []
    for node, report in sorted(reports.items()):
        member = facts.members.get(node)
        if member is None or not facts.system_id:
            continue
        one = other_system(facts, report)
        if one is None and report.server.state is Server.PRIMARY:
            one = by_hand(report) or ungranted(facts, report, applied=applied)
            one = one or deposed(facts, report, reports)
        if one is not None:
            found.append(one)
    return tuple(found)


def other_system(facts: Facts, report: Observation) -> Contradiction | None:
    node, server = report.node, report.server
    if not server.system_id or server.system_id == facts.system_id:
        return None
    return Contradiction(
        node,
        "other_system",
        f"the data directory of {node} belongs to system identifier {server.system_id}, this "
        f"cluster is {facts.system_id}",
        f"move postgresql.data_dir of {node} away: it then copies the primary by itself",
    )


def by_hand(report: Observation) -> Contradiction | None:
    node = report.node
    if report.promises.adopted_leader == node:
        return None
    text = f"the server of {node} is out of recovery, and pgherd has not promoted it"
    return Contradiction(node, "promoted_by_hand", text, ANEW)


def ungranted(facts: Facts, report: Observation, *, applied: int) -> Contradiction | None:
    node, position = report.node, report.server.position
    claimed = max(report.promises.adopted, position.epoch if position is not None else Term(0))
    reign = {reign.term: reign for reign in facts.history}.get(claimed)
    granted = reign is not None and reign.leader.node == node
    oldest = facts.history[0].term if facts.history else 0
    if granted or claimed < oldest or report.applied_index > applied:
        return None
    text = f"{node} is primary of epoch {claimed}, which the ledger has not granted to it"
    return Contradiction(
        node, "ungranted_term", text, f"stop its server, then look at: pgherd explain {node}"
    )


def deposed(
    facts: Facts, report: Observation, reports: Mapping[NodeId, Observation]
) -> Contradiction | None:
    """Its own reign is over; at once where its gate is open beside the leader's."""
    node, leader = report.node, facts.leader
    if facts.phase not in (Phase.STABLE, Phase.ESTABLISHING) or leader is None:
        return None
    if leader.node == node:
        return None
    other = reports.get(leader.node)
    both = is_open(report) and other is not None and is_open(other)
    text = f"{node} is out of recovery although {leader.node} leads epoch {facts.term}"
    return Contradiction(
        node,
        "deposed",
        f"{text}: more than one server acknowledges writes" if both else text,
        f"nothing to do: it stops by itself; if it does not: pgherd explain on {node}",
        patience_ms=0 if both else DEPOSED_MS,
    )


def is_open(report: Observation) -> bool:
    """Whether a server would acknowledge writes: a primary whose gate is not closed."""
    return report.server.state is Server.PRIMARY and CLOSED_NAME not in report.server.names


class Notebook:
    """What has been seen since when. `look` says what is new and what is over."""

    def __init__(self) -> None:
        self._since: dict[tuple[NodeId, str], tuple[Instant, int]] = {}
        self.noticed: tuple[Noticed, ...] = ()

    @property
    def is_blank(self) -> bool:
        """Whether nothing is written down, not even what does not count yet."""
        return not self._since

    @property
    def nodes(self) -> frozenset[NodeId]:
        """The nodes that nobody may be led to."""
        return frozenset(one.about.node for one in self.noticed)

    def look(
        self, found: tuple[Contradiction, ...], *, now: Instant, unix_ms: int
    ) -> tuple[tuple[Noticed, ...], tuple[Noticed, ...]]:
        """Take down what is there now; return what has begun to count, and what has ended."""
        keys = {(one.node, one.what): one for one in found}
        self._since = {key: self._since.get(key, (now, unix_ms)) for key in keys}
        before = {(one.about.node, one.about.what): one for one in self.noticed}
        self.noticed = tuple(
            Noticed(one, self._since[key][1])
            for key, one in keys.items()
            if now - self._since[key][0] >= one.patience_ms
        )
        after = {(one.about.node, one.about.what) for one in self.noticed}
        begun = tuple(o for o in self.noticed if (o.about.node, o.about.what) not in before)
        return begun, tuple(one for key, one in before.items() if key not in after)
