"""Commands about kept slots and about how the sync set is tuned; `commands` lists them with all."""

from __future__ import annotations

from pgherd.ledger.command import Command
from pgherd.model.slots import SlotKind
from pgherd.model.synctuning import SyncTuning


class KeepSlot(Command, frozen=True, tag=True):
    """Have a slot on whoever is primary. The fields are those of KeptSlot."""

    name: str
    kind: SlotKind
    requested_by: str
    database: str = ""
    plugin: str = ""


class DropSlot(Command, frozen=True, tag=True):
    """A kept slot is to go, everywhere."""

    name: str
    requested_by: str


class ForgetSlot(Command, frozen=True, tag=True):
    """No member has a dropped slot any more. asked_at_ms: of the one that is meant."""

    name: str
    asked_at_ms: int
    rule: int


class TuneSync(Command, frozen=True, tag=True):
    """Ask for other limits of the sync set, or another wait of commits; whole."""

    tuning: SyncTuning
    requested_by: str
