"""The cluster's configuration with which this server last came up, in its data directory.

Written when a start succeeded, so that a start which fails under newer ones knows what to go back
to, also by an agent that knows nothing yet. All functions block.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from pgherd.model.pgconfig import Access
from pgherd.postgres.conf import RAN
from pgherd.postgres.files import read_text, write_atomic
from pgherd.postgres.identity import PostgresUser


class Ran(msgspec.Struct, frozen=True):
    """What a version says, as this member had it. version: 0 before there was any."""

    version: int = 0
    parameters: dict[str, str] = {}
    access: Access = Access()


def read(data_dir: Path) -> Ran | None:
    """What it came up with; None where that is not written down or cannot be read."""
    try:
        return msgspec.json.decode(read_text(data_dir / RAN), type=Ran)
    except msgspec.MsgspecError:
        return None


def write(data_dir: Path, ran: Ran, *, user: PostgresUser | None) -> None:
    """Write it down, if it says something else."""
    if read(data_dir) != ran:
        write_atomic(data_dir / RAN, msgspec.json.encode(ran).decode() + "\n", user=user)
