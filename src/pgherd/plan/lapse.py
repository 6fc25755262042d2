"""Rules 71-72: what a primary without synchronous standbys does when its lease runs out.

With voters the end of a lease stops no write: an acknowledgement needs theirs (PROTOCOL.md 8).
Without, the lease is what bounds how long a primary that nobody hears writes on alone; in mode
async another one is elected after that. Commits then wait, as in mode strict: sessions stay, and go
on when the lease is there again. In both a server that cannot be closed in time is stopped, by its
agent or by the warden, so that one instant bounds what is written alone.
"""

from __future__ import annotations

from pgherd.model import action as act
from pgherd.model.facts import Phase
from pgherd.model.observation import Server
from pgherd.plan.own import Answer, MemberRule, Self, leads


def hold_writes(s: Self) -> Answer | None:
    """Before rule 16, for closing is right whatever the ledger has become since this start.

    Once that is known, an election closes the gate by itself, and another leader ends this server.
    """
    server = s.server
    if s.has_lease or server.state is not Server.PRIMARY or server.names:
        return None
    if s.caught_up and not leads(s):
        return None
    return "its lease ran out: it acknowledges nothing alone", act.HoldWrites()


def stay_closed(s: Self) -> Answer | None:
    if s.has_lease or not leads(s) or s.facts.phase is not Phase.STABLE:
        return None
    if s.facts.sync.names_k or s.server.state is not Server.PRIMARY:
        return None
    return "writes wait: without a synchronous standby they need a lease", None


NUMBERS = frozenset({71, 72})
"""The rows that wait for a lease."""

CLOSING: tuple[MemberRule, ...] = (
    MemberRule(71, "Who writes alone holds writes when its lease runs out.", hold_writes),
)
RULES: tuple[MemberRule, ...] = (
    MemberRule(72, "Nobody opens alone without a lease.", stay_closed),
)
