"""The keys of `failover.probe`: how a node finds out that its own PostgreSQL is ill.

What they lead to is worked out in `detection`.
"""

from __future__ import annotations

from typing import Annotated

from pgherd.config.fields import Change, Key, Millis
from pgherd.config.section import Section

TIMEOUT_MS_LEAST = 200


class Probe(Section):
    """How this node's PostgreSQL is asked whether it works."""

    interval_ms: Annotated[
        Millis,
        Key(
            "Pause between two probes.",
            Change.RESTART,
            unit="duration",
            least=100,
            why="every probe is a new connection",
        ),
    ] = 1000
    timeout_ms: Annotated[
        Millis,
        Key(
            "Deadline of one probe, connection included.",
            Change.RESTART,
            unit="duration",
            least=TIMEOUT_MS_LEAST,
            why="a healthy server under load takes this long to fork a backend",
        ),
    ] = 1000
    failures: Annotated[
        int,
        Key(
            "Failed probes in a row before the server is called hung.",
            Change.RESTART,
            least=1,
            most=100,
        ),
    ] = 2
    write_stall_ms: Annotated[
        Millis,
        Key(
            "How long no WAL may become durable while sessions wait for it, before the server is"
            " called hung.",
            Change.RESTART,
            unit="duration",
            least=2000,
            why="a busy disk may take so long for one flush",
        ),
    ] = 5000
