"""Rules 71-72, 76-77: what a primary without synchronous standbys needs, and does without it.

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


def open_alone(s: Self) -> bool:
    """Whether this server acknowledges alone, as far as it is this node's to end that.

    Before rule 16, for closing is right whatever the ledger has become since this start. Once that
    is known, an election closes the gate by itself, and another leader ends this server.
    """
    server = s.server
    if server.state is not Server.PRIMARY or server.names:
        return False
    return leads(s) or not s.caught_up


def would_open_alone(s: Self) -> bool:
    leads_now = leads(s) and s.facts.phase is Phase.STABLE
    return leads_now and not s.facts.sync.names_k and s.server.state is Server.PRIMARY


def hold_writes(s: Self) -> Answer | None:
    if s.has_lease or not open_alone(s):
        return None
    return "its lease ran out: it acknowledges nothing alone", act.HoldWrites()


def hold_unguarded(s: Self) -> Answer | None:
    if not s.watchdog or not open_alone(s):
        return None
    reason = f"it acknowledges nothing alone without the watchdog that it requires: {s.watchdog}"
    return reason, act.HoldWrites()


def stay_closed(s: Self) -> Answer | None:
    if s.has_lease or not would_open_alone(s):
        return None
    return "writes wait: without a synchronous standby they need a lease", None


def stay_unguarded(s: Self) -> Answer | None:
    if not s.watchdog or not would_open_alone(s):
        return None
    return f"writes wait: without a synchronous standby they need a watchdog: {s.watchdog}", None


NUMBERS = frozenset({71, 72})
"""The rows that wait for a lease."""

CLOSING: tuple[MemberRule, ...] = (
    MemberRule(71, "Who writes alone holds writes when its lease runs out.", hold_writes),
    MemberRule(
        76, "Who writes alone holds writes when the watchdog it requires fails.", hold_unguarded
    ),
)
RULES: tuple[MemberRule, ...] = (
    MemberRule(72, "Nobody opens alone without a lease.", stay_closed),
    MemberRule(77, "Nobody opens alone without the watchdog that it requires.", stay_unguarded),
)
