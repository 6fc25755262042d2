"""Who may log in: pg_hba, pg_ident and passfile texts that pgherd generates. Pure.

Our own lines come first, so that no operator's line can lock the herd out. Then come this node's
own, the cluster's in a block that is marked, and a default that lets every role in with its
password; a cluster that manages the whole file has its lines in place of all three.
"""

from __future__ import annotations

from pgherd.model.errors import OperatorError
from pgherd.postgres.settings import ServerSettings

IDENT_MAP = "pgherd"
GENERATED = "# Written by pgherd at every start; set postgresql.hba in pgherd's configuration.\n"
BEGIN = "# --- the cluster's lines: pgherd config {} show"
END = "# --- end of the cluster's lines"


def hba_text(settings: ServerSettings) -> str:
    """pgherd_hba.conf."""
    managed = settings.access
    lines = [*own_lines(settings)]
    if not managed.whole:
        lines += [_checked(line) for line in settings.hba]
    lines += block("hba", managed.hba)
    if not managed.whole:
        lines += ["local all all scram-sha-256", "host all all all scram-sha-256"]
    return GENERATED + "\n".join(lines) + "\n"


def own_lines(settings: ServerSettings) -> list[str]:
    """What replication and pgherd itself need."""
    roles = [("replication", settings.replication_role), (settings.database, settings.rewind_role)]
    roles += [
        ("replication" if one.replication else settings.database, one.role)
        for one in settings.beside
    ]
    host = host_kind(settings)
    return [
        f"local all {settings.superuser} peer map={IDENT_MAP}",
        *(f"{host} {database} {role} all scram-sha-256" for database, role in roles),
    ]


def host_kind(settings: ServerSettings) -> str:
    """The kind of line for members; clients choose, unless a line of theirs says so."""
    return "hostssl" if settings.tls_required else "host"


def block(name: str, lines: tuple[str, ...]) -> list[str]:
    """The cluster's lines between their marks; nothing where it has none."""
    return [BEGIN.format(name), *lines, END] if lines else []


def ident_text(settings: ServerSettings, peers: tuple[str, ...]) -> str:
    """pgherd_ident.conf: the operating-system users that are the superuser's equals."""
    lines = [f"{IDENT_MAP} {peer} {settings.superuser}" for peer in peers]
    lines += block("ident", settings.access.ident)
    return GENERATED + "\n".join(lines) + "\n"


def passfile_text(settings: ServerSettings) -> str:
    """The passwords with which this node's servers and tools log in at their peers."""
    pairs = (
        (settings.replication_role, settings.replication_password),
        (settings.rewind_role, settings.rewind_password),
        *((one.role, one.password) for one in settings.beside),
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


def is_comment(line: str) -> bool:
    """Whether a line says something to people only."""
    return line.lstrip().startswith("#") or not line.strip()


def misplaced(hba: tuple[str, ...], ident: tuple[str, ...]) -> list[str]:
    """Lines of the cluster that are none, or that would speak for pgherd; one sentence each."""
    found = []
    for number, line in enumerate(hba, 1):
        if is_comment(line):
            continue
        try:
            _checked(line)
        except OperatorError as error:
            found.append(f"hba line {number}: {line!r} is none: {error.hint}")
    for number, line in enumerate(ident, 1):
        words = line.split()
        if is_comment(line):
            continue
        if len(words) < 3 or words[0].startswith("include"):
            found.append(f"ident line {number}: {line!r} is none: write MAP SYSTEM-USER ROLE")
        elif words[0].strip('"') == IDENT_MAP:
            found.append(f"ident line {number}: the map {IDENT_MAP} is pgherd's own")
    return found
