"""What all commands of the ledger have in common; the commands are in `commands`."""

from __future__ import annotations

import msgspec


class Command(
    msgspec.Struct, frozen=True, tag=True, omit_defaults=True, forbid_unknown_fields=True
):
    """The base of all commands; never proposed itself.

    An older program reads what has defaults only, and refuses what it does not know (`levels`).
    """
