"""The live parameters of a server: what they are with an upstream, and whether they took effect.

A live parameter counts only after it was read back from the server, with the file that set it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import LiteralString

from pgherd.postgres import conf
from pgherd.postgres import settings as parameters
from pgherd.postgres.session import Session

VERIFY_POLL_S = 0.003
VERIFY_TIMEOUT_S = 2.0
SETTINGS_SQL: LiteralString = """
SELECT name, setting, source, coalesce(sourcefile, ''), context
FROM pg_settings WHERE name = ANY($1)
"""


def parameters_of(names: str, conninfo: str | None, slot: str | None) -> dict[str, str]:
    """The live parameters of a server with this upstream; without one it is told to drain."""
    quiet = {} if conninfo else parameters.sealed()
    return {"synchronous_standby_names": names, **quiet, **upstream(conninfo, slot)}


def upstream(conninfo: str | None, slot: str | None) -> dict[str, str]:
    """From whom it streams, and through which slot."""
    return {"primary_conninfo": conninfo or "", "primary_slot_name": slot or ""}


def wrong(row: tuple[str, str, str, str, str], wanted: dict[str, str]) -> str:
    """What is wrong with one row of pg_settings; "" when it is ours.

    Of what no running server can change its value alone counts: one that we took over was started
    without our files and our command line.
    """
    name, setting, source, file, context = row
    fixed = context == "postmaster"
    if not fixed and source == "configuration file" and Path(file).name != conf.CONF:
        return f"{name} is set in {Path(file).name}"
    if not fixed and source not in ("configuration file", "command line"):
        return f"{name} comes from {source}"
    value = wanted[name]
    has_unit = value[:1].isdigit() and not value.isdigit()
    return "" if has_unit or setting == value else f"{name} is {setting!r}, not {value!r}"


async def verified(acting: Session, wanted: dict[str, str], *, alert: str = "") -> str:
    """Read the live parameters back until they are as wanted; else say what is wrong.

    alert: a word in what is wrong for which waiting longer is no use.
    """
    names = sorted(parameters.RELOADABLE & set(wanted))
    deadline = asyncio.get_running_loop().time() + VERIFY_TIMEOUT_S
    while True:
        rows = await acting.rows(SETTINGS_SQL, [names])
        found = [text for text in (wrong(row, wanted) for row in rows) if text]
        late = asyncio.get_running_loop().time() > deadline
        if not found or late or (alert and any(alert in text for text in found)):
            return "; ".join(found)
        await asyncio.sleep(VERIFY_POLL_S)
