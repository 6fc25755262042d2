"""Who PostgreSQL runs as, and who may speak to it as its superuser.

PostgreSQL refuses to run as root, so a root pgherd runs it as an unprivileged user. The agent
reaches it through the Unix socket with `peer` authentication and a user-name map: no password of
the superuser exists anywhere, so none can leak, and root or the server's own user could become
the superuser anyway.
"""

from __future__ import annotations

import os
import pwd

import msgspec

from pgherd.model.errors import OperatorError


class PostgresUser(msgspec.Struct, frozen=True):
    """The operating-system user that owns the data directory and runs the server."""

    uid: int
    gid: int
    name: str


def resolve(name: str = "postgres") -> PostgresUser | None:
    """The user to run PostgreSQL as; None when pgherd is not root and runs it as itself."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(name)
    except KeyError as error:
        raise OperatorError(
            f"there is no user {name!r} to run PostgreSQL as (it refuses to run as root)",
            f"useradd --system --user-group {name}   (or set postgresql.user)",
        ) from error
    if entry.pw_uid == 0:
        raise OperatorError(
            f"PostgreSQL refuses to run as {name!r}, which is root",
            "set postgresql.user to an unprivileged user",
        )
    return PostgresUser(entry.pw_uid, entry.pw_gid, name)


def owner_uid(user: PostgresUser | None) -> int:
    """The uid that data directory and server must belong to."""
    return user.uid if user is not None else os.geteuid()


def peer_names(user: PostgresUser | None) -> tuple[str, ...]:
    """The operating-system names that may log in as superuser: ours and the server's own."""
    try:
        mine = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError as error:
        raise OperatorError(
            f"uid {os.geteuid()} has no name, so PostgreSQL cannot tell that pgherd is its owner",
            "add the uid to /etc/passwd (in a container: at image build, or through nss_wrapper)",
        ) from error
    names = {mine} if user is None else {mine, user.name}
    return tuple(sorted(names))
