"""When a watchdog device resets the machine of a primary that writes alone: before others may lead.

Owns the arithmetic. The device counts whole seconds from its last keepalive; a keepalive is allowed
only as long as that ends before the lease is over for all others.
"""

from __future__ import annotations

from pgherd.model.demotion import room_ms
from pgherd.model.ids import Instant
from pgherd.model.lease import held_ms, renew_ms

RENEWAL_LATE_MS = 500
"""Between a holder's wish and its renewal: the next report, and a commit of consensus."""


def timeout_s(ttl_ms: int) -> int:
    """What the device is set to: three fifths of a lease in whole seconds."""
    return ttl_ms * 3 // 5000


def alive_until(deadline: Instant, *, ttl_ms: int, timeout_s: int) -> Instant:
    """The last instant at which a keepalive may be written. deadline: of the lease at its holder.

    A device that starts to count there resets the machine just before others may lead.
    """
    return Instant(deadline + room_ms(ttl_ms) - timeout_s * 1000)


def fits(ttl_ms: int, timeout_s: int) -> bool:
    """Whether a device that counts so long is kept alive by every renewal that comes in time."""
    last_ms = held_ms(ttl_ms) + room_ms(ttl_ms) - timeout_s * 1000
    return timeout_s > 0 and last_ms >= renew_ms(ttl_ms) + RENEWAL_LATE_MS
