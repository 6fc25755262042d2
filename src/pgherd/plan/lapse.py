"""Rules 19, 71-72: what a primary without standbys does when no lease allows it to write.

With voters the end of a lease stops no write: an acknowledgement needs theirs (PROTOCOL.md 8).
Without, the lease is what bounds how long a primary that nobody hears writes on alone; in mode
async another one is elected after that. Commits then wait, as in mode strict: sessions stay, and go
on when the lease is there again. An agent that knows neither lease nor mode (its Raft store is
lost, or has nothing in it yet) must take it that the lease is over and the mode is async.
"""

from __future__ import annotations

from pgherd.model import action as act
from pgherd.model.facts import Mode, Phase
from pgherd.model.observation import Server
from pgherd.plan.own import Answer, MemberRule, Self, leads


def knows_no_lease(s: Self) -> bool:
    """Whether neither lease nor mode are known here: amnesia, or a store without any term yet."""
    return bool(s.amnesia) or not s.facts.term


def hold_unknown(s: Self) -> Answer | None:
    """Names with standbys in them stay: those acknowledge under the term's own names, or do not.

    Empty ones mean async or degraded. In mode async another one is elected soon, and what is
    written until then is lost. One that takes no connection may have sessions that write.
    """
    if not knows_no_lease(s) or s.server.names:
        return None
    if s.server.state is Server.HUNG:
        return "may write alone and takes no connection", act.StopServer("it may write alone")
    if s.server.state is not Server.PRIMARY:
        return None
    return "knows of no lease: it acknowledges nothing alone", act.HoldWrites(or_stop=True)


def hold_writes(s: Self) -> Answer | None:
    """Before rule 16, for closing is right whatever the ledger has become since this start.

    Once that is known, an election closes the gate by itself, and another leader ends this server.
    One that takes no connection cannot be closed, and in mode async cannot be waited for either.
    """
    server, soon = s.server, s.facts.mode is Mode.ASYNC
    if s.has_lease or server.names or (s.caught_up and not leads(s)):
        return None
    if server.state is Server.HUNG and soon:
        return "its lease ran out and it takes no connection", act.StopServer("it may write alone")
    if server.state is not Server.PRIMARY:
        return None
    return "its lease ran out: it acknowledges nothing alone", act.HoldWrites(or_stop=soon)


def stay_closed(s: Self) -> Answer | None:
    if s.has_lease or not leads(s) or s.facts.phase is not Phase.STABLE:
        return None
    if s.facts.sync.names_k or s.server.state is not Server.PRIMARY:
        return None
    return "writes wait: without a synchronous standby they need a lease", None


NUMBERS = frozenset({71, 72})
"""The rows that wait for a lease."""

CLOSING: tuple[MemberRule, ...] = (
    MemberRule(
        19,
        "Who may write alone holds writes, or stops, while it knows of no lease: without its Raft"
        " store, or with an empty one.",
        hold_unknown,
    ),
    MemberRule(
        71,
        "Who writes alone holds writes when its lease runs out; in mode async a hung one stops.",
        hold_writes,
    ),
)
RULES: tuple[MemberRule, ...] = (
    MemberRule(72, "Nobody opens alone without a lease.", stay_closed),
)
