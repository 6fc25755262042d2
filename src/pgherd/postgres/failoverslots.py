"""Logical slots that PostgreSQL itself copies to standbys, from 17 on (its docs, "Replication Slot
Synchronization"): the parameters that this takes, and whom such a slot waits for.

Pure. That a subscriber is never ahead of who may be elected rests on `synchronized_standby_slots`
being the slots of the sync set.
"""

from __future__ import annotations

import re

from pgherd.model.ids import parse_token, slot_name
from pgherd.model.slots import SYNCED_FROM_MAJOR

STANDBY_SLOTS = "synchronized_standby_slots"
TOKEN = re.compile(r'"([^"]+)"')
FEEDBACK = {"hot_standby_feedback": "on"}
COPIES = {"sync_replication_slots": "on"}
"""Told together with an upstream: its worker, started without one, looks again after 10 s only. An
operator's own values win over both."""


def can_sync(major: int, wal_level: str) -> bool:
    """Whether a server of this major copies logical slots to its standbys."""
    return major >= SYNCED_FROM_MAJOR and wal_level == "logical"


def fitted(values: dict[str, str], major: int) -> dict[str, str]:
    """Parameters with what copied slots need; without, where a server does not know them."""
    if can_sync(major, values.get("wal_level", "")):
        copies = COPIES if values.get("primary_conninfo") else {}
        return {**FEEDBACK, **copies, **values}
    return {name: value for name, value in values.items() if name != STANDBY_SLOTS}


def waited_for(names: str) -> str:
    """The slots of those whom synchronous_standby_names lists."""
    keys = [found[0] for text in TOKEN.findall(names) if (found := parse_token(text)) is not None]
    return ", ".join(slot_name(key.node) for key in keys)
