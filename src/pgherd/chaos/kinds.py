"""The table of all kinds of faults, by name, and which of them a ground allows."""

from __future__ import annotations

from pgherd.chaos import diskfaults, filefaults, netfaults, processfaults, serverfaults
from pgherd.chaos.fault import Kind, Needs

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        *processfaults.KINDS,
        *netfaults.KINDS,
        *diskfaults.KINDS,
        *serverfaults.KINDS,
        *filefaults.KINDS,
    )
}


def allowed(*, apart: bool) -> list[Kind]:
    """All kinds, or those that need nothing of the ground."""
    return [kind for kind in KINDS.values() if apart or kind.needs is Needs.NOTHING]
