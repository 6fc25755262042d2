"""Who may log in: pg_hba, pg_ident and passfile texts that pgherd generates. Pure.

Our own lines come first, so that no operator's line can lock the herd out; the operator's lines
follow, then a default that lets every role in with its password.
"""

from __future__ import annotations

from pgherd.model.errors import OperatorError
from pgherd.postgres.settings import ServerSettings

IDENT_MAP = "pgherd"
GENERATED = "# Written by pgherd at every start; set postgresql.hba in pgherd's configuration.\n"


def hba_text(settings: ServerSettings) -> str:
    """pgherd_hba.conf."""
    host = "hostssl" if settings.tls else "host"
    lines = [
        f"local all {settings.superuser} peer map={IDENT_MAP}",
        f"{host} replication {settings.replication_role} all scram-sha-256",
        f"{host} {settings.database} {settings.rewind_role} all scram-sha-256",
        *(_checked(line) for line in settings.hba),
        "local all all scram-sha-256",
        f"{host} all all all scram-sha-256",
    ]
    return GENERATED + "\n".join(lines) + "\n"


def ident_text(settings: ServerSettings, peers: tuple[str, ...]) -> str:
    """pgherd_ident.conf: the operating-system users that are the superuser's equals."""
    lines = [f"{IDENT_MAP} {peer} {settings.superuser}" for peer in peers]
    return GENERATED + "\n".join(lines) + "\n"


def passfile_text(settings: ServerSettings) -> str:
    """The passwords with which this node's servers and tools log in at their peers."""
    pairs = (
        (settings.replication_role, settings.replication_password),
        (settings.rewind_role, settings.rewind_password),
    )
    return "".join(f"*:*:*:{_escape(role)}:{_escape(secret)}\n" for role, secret in pairs if secret)


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace(":", "\\:")


def _checked(line: str) -> str:
    words = line.split()
    types = {"local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"}
    if "\n" in line or not words or words[0] not in types or len(words) < 4:
        raise OperatorError(
            f"postgresql.hba: {line!r} is not a line of pg_hba.conf",
            "write TYPE DATABASE USER [ADDRESS] METHOD, one per item",
        )
    return line
