"""Rule 64 and plain questions: servers that die again and again, and that come up slowly.

The first death is answered at once. After that each start waits longer, so that a cluster is not
kept busy with terms that end as soon as they begin, and others get the time to lead. Where nobody
else may lead the server is tried for ever, but rarely: it has what nobody else has.
"""

from __future__ import annotations

from pgherd.model.observation import Recovery, Server, ServerSeen
from pgherd.model.policy import Policy
from pgherd.plan.own import Answer, MemberRule, Self

PAUSES_MS = (0, 0, 1000, 2000, 4000)
"""Before a start, by how many deaths in a row came before it."""

PAUSE_MS_MAX = 60_000
DEATHS_MAX = len(PAUSES_MS)
"""After so many in a row nobody waits for this server any more who can do without."""


def pause_ms(crashes: int) -> int:
    """How long a server stays down after so many deaths in a row."""
    return PAUSES_MS[crashes] if crashes < DEATHS_MAX else PAUSE_MS_MAX


def start_later(s: Self) -> Answer | None:
    server = s.server
    if server.state is not Server.STOPPED or s.dead_end or s.promises.dirty_rewind:
        return None
    pause = pause_ms(server.crashes)
    if s.now - server.since >= pause:
        return None
    seconds = pause // 1000
    return f"died {server.crashes} times in a row: is started {seconds} s after the last", None


def comes_up_in_time(server: ServerSeen, policy: Policy, *, waited_ms: int) -> bool:
    """Whether it is worth waiting for a server that is down or starts, up to start_timeout."""
    left = policy.start_timeout_ms - waited_ms
    recovery = server.recovery
    too_long = recovery is not None and recovery.left_ms > left
    return left > 0 and server.crashes < DEATHS_MAX and not too_long


def progress(recovery: Recovery | None) -> str:
    """How far a server is that comes up, for people; "" where that is not known."""
    if recovery is None:
        return ""
    left = f"{recovery.left_bytes >> 20} of {recovery.total_bytes >> 20} MB of WAL are left"
    if recovery.left_ms < 0:
        return left
    return f"{left}, about {-(-recovery.left_ms // 1000)} s"


RULES: tuple[MemberRule, ...] = (
    MemberRule(
        64, "A server that dies again and again is started after pauses that grow.", start_later
    ),
)
