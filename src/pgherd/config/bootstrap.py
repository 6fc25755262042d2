"""Where the first node's data comes from: a new database, or a command of the operator's.

Owns the values of `postgresql.bootstrap`; what is done with them is `postgres.bootstrap`'s.
"""

from __future__ import annotations

from typing import Annotated

from pgherd.config.fields import Key, Millis, Program
from pgherd.config.section import Section


class Bootstrap(Section):
    """How the first node of a new cluster gets its data; the others copy it."""

    command: Annotated[
        Program,
        Key(
            "Program and first arguments, run as PostgreSQL's user; the empty directory that it"
            " fills follows, and stands in PGDATA. Where it leaves a recovery.signal, recovery is"
            " run to its target. []: initdb."
        ),
    ] = ()
    timeout_ms: Annotated[
        Millis,
        Key(
            "Time after which it is killed and has failed; as much again for a recovery.",
            unit="duration",
            least=1000,
            why="a program on a busy node takes this long to start",
        ),
    ] = 24 * 3_600_000
