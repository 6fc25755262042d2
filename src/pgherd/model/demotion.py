"""How a primary that may not write any longer is brought to rest, and by when at the latest.

Owns the arithmetic between two instants: the end of a lease for its holder, and the earliest end of
it for all others, both by the holder's clock. Who closes the server has that much time: first its
agent, in steps that get harder, then the warden, who takes an agent for hung that is not done.
"""

from __future__ import annotations

import msgspec

from pgherd.model.lease import DRIFT_PERCENT, expiry_ms, held_ms

NOTICE_MS = 50
"""An agent that is well is awake so soon after the deadline."""

HOLD_MS = 300
"""For closed names, and the proof that a commit waits."""

FAST_MS = 50
IMMEDIATE_MS = 50
KILL_MS = 50
"""Every process has its signal then; what hangs in the kernel does nothing more."""

AGENT_MS = NOTICE_MS + HOLD_MS + FAST_MS + IMMEDIATE_MS + KILL_MS
WARDEN_MS = AGENT_MS
"""The warden begins when the agent must be done."""

LAST_MS = WARDEN_MS + NOTICE_MS + KILL_MS


class Step(msgspec.Struct, frozen=True):
    """One step of the agent's: what it does, and for how long at most."""

    name: str
    limit_ms: int


STEPS = (Step("fast", FAST_MS), Step("immediate", IMMEDIATE_MS), Step("kill", KILL_MS))
"""After closed names did not count in time."""


def room_ms(ttl_ms: int) -> int:
    """The least time between a holder's deadline and the end of its lease for everybody else.

    Others count from later and for longer; a clock that runs ahead of the holder's as far as clock
    assumption CA allows makes that shorter.
    """
    others_ms = expiry_ms(ttl_ms) * (100 - DRIFT_PERCENT) // 100
    return others_ms - held_ms(ttl_ms)


def latest_ms(ttl_ms: int) -> int:
    """When after its last renewal was asked for a primary that writes alone has stopped."""
    return held_ms(ttl_ms) + LAST_MS
