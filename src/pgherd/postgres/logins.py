"""With which roles and passwords a server and its tools log in at peers. Pure.

Owns what follows from a change of passwords for one server's settings: who is used for new
connections, who may log in beside, who may not any more.
"""

from __future__ import annotations

import msgspec

from pgherd.model.credentials import Credentials, Stage, Which, mark, role_of
from pgherd.postgres.settings import OtherLogin, ServerSettings


def needed(credentials: Credentials) -> set[str]:
    """The fingerprints of the secrets that a data member has to know."""
    found = set()
    for one in credentials.values():
        former = one.former if one.stage is not Stage.ENDED else ""
        found |= {one.fingerprint, former}
    return found - {""}


def overlaid(
    base: ServerSettings, credentials: Credentials, secrets: dict[str, str]
) -> ServerSettings:
    """The settings of a node's file with the passwords that were changed since.

    secrets: by fingerprint; all that are `needed`.
    """
    beside: list[OtherLogin] = []
    ended: list[str] = []
    changes: dict[str, str] = {}
    for which, one in sorted(credentials.items()):
        new = secrets[one.fingerprint]
        if which is Which.SUPERUSER:
            changes["superuser_password"] = new
            continue
        name, file = of_file(base, which)
        old = secrets[one.former] if one.former and one.stage is not Stage.ENDED else file
        pair = [(role_of(name, one.generation), new), (role_of(name, one.generation - 1), old)]
        if one.stage is Stage.MADE:
            pair.reverse()
        (role, password), (other, its) = pair
        changes |= {f"{which.value}_role": role, f"{which.value}_password": password}
        if one.stage is Stage.ENDED:
            ended.append(other)
        else:
            beside.append(OtherLogin(other, its, replication=which is Which.REPLICATION))
    return msgspec.structs.replace(
        base, mark=mark(credentials), beside=tuple(beside), ended=tuple(ended), **changes
    )


def of_file(base: ServerSettings, which: Which) -> tuple[str, str]:
    """Role and password as the node's file has them."""
    if which is Which.REPLICATION:
        return base.replication_role, base.replication_password
    return base.rewind_role, base.rewind_password
