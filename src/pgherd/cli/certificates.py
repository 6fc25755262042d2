"""Commands about certificates: `pki renew`, `pki issue`, `pki show`.

Owns the writing of this node's files. A node that has the authority's key signs by itself, running
or not; another one asks the cluster. Who uses the files reads them again by itself.
"""

from __future__ import annotations

import re
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.client import here, own_file, read_settings
from pgherd.cli.output import Format, emit, line, say, table
from pgherd.cli.tokens import ROLES
from pgherd.model.errors import OperatorError

if TYPE_CHECKING:
    from pgherd.config.settings import Settings
    from pgherd.config.tls import Tls
    from pgherd.pki.authority import Authority

RENEW_DAYS = 3650
CLIENT_DAYS = 90
SEEN_S = 10.0
LOOK_S = 2.0
DAY_MS = 86_400_000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")

TtlOption = Annotated[str | None, typer.Option("--ttl", help="How long it is good for, as 365d.")]


@asking
def renew(common: Common, ttl: TtlOption = None) -> None:
    """Make this node a new key and certificate; nothing is restarted and no session ends."""
    from pgherd.api.joining import hosts_of
    from pgherd.cli import place as places
    from pgherd.model.ids import NodeId
    from pgherd.pki.authority import expires_at, fingerprint, make_request, sign_request
    from pgherd.pki.files import replace_pair

    settings, tls = files(common)
    days = days_of(ttl, RENEW_DAYS)
    address, name = places.address_of(settings), settings.node.name
    request = make_request(NodeId(name), hosts_of(address))
    ca = authority_pem(tls)
    authority = own_authority(tls, ca)
    if authority is not None:
        certificate = sign_request(
            authority, request.csr_pem, node=NodeId(name), hosts=hosts_of(address), days=days
        )
    else:
        body = {"node": name, "csr": request.csr_pem.decode(), "days": days}
        found = common.api().post("/api/v1/pki/sign", body, timeout_s=30.0)
        certificate = found["certificate"].encode()
        if fingerprint(found["ca"].encode()) != fingerprint(ca):
            raise OperatorError("the answer is of another authority", "look at raft.tls.ca")
    replace_pair((tls.key, request.key_pem), (tls.cert, certificate))
    ends = expires_at(certificate).strftime("%Y-%m-%d")
    line(f"{tls.cert} is good until {ends}")
    tell_the_others(settings, tls)
    if not is_shown(settings, tls, fingerprint(certificate)):
        say("  next: pgherd start; no daemon shows the new certificate yet")


def files(common: Common) -> tuple[Settings, Tls]:
    """This node's settings and the files that peers see. Raises OperatorError."""
    settings = read_settings(own_file(common.config))
    if settings.raft.tls is None:
        raise OperatorError("this node has no certificate", "set raft.tls, or make it with init")
    return settings, settings.raft.tls


def authority_pem(tls: Tls) -> bytes:
    """The authority's certificate. Raises OperatorError."""
    from pgherd.pki.authority import fingerprint

    try:
        found = Path(tls.ca).read_bytes()
        fingerprint(found)
    except (OSError, ValueError) as error:
        raise OperatorError(
            f"cannot read the authority {tls.ca}: {error}",
            "put ca.crt of another node there (raft.tls.ca), or run this as the daemon's user",
        ) from error
    return found


def own_authority(tls: Tls, certificate: bytes) -> Authority | None:
    """The authority, if its key is here."""
    from pgherd.api.joining import ca_key_of
    from pgherd.pki.authority import Authority

    key = ca_key_of(Path(tls.ca))
    try:
        return Authority(certificate, key.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OperatorError(
            f"cannot read {error.filename}: {error.strerror}", "run this as the daemon's user"
        ) from error


def tell_the_others(settings: Settings, tls: Tls) -> None:
    """What was not renewed, because it is other files."""
    places = (
        ("api.tls", settings.api.tls),
        ("proxy.tls", settings.proxy.tls),
        ("postgresql.tls", settings.postgresql.tls),
    )
    for key, other in places:
        if other is not None and other.cert != tls.cert:
            say(f"{key} has a certificate of its own, {other.cert}: renew it where it came from")


def is_shown(settings: Settings, tls: Tls, wanted: str) -> bool:
    """Whether the daemon's API shows the certificate within moments; true where it cannot tell."""
    from pgherd.pki.authority import fingerprint

    if settings.api.tls is None or settings.api.tls.cert != tls.cert:
        return True
    where = (here(settings.api_bind()), settings.api.port)
    until = time.monotonic() + SEEN_S
    while time.monotonic() < until:
        try:
            shown = ssl.get_server_certificate(where, timeout=LOOK_S)
            if fingerprint(shown.encode()) == wanted:
                return True
        except ConnectionRefusedError:
            return False
        except OSError:
            pass  # it may be on its way down or up: asked again
        time.sleep(0.2)
    return False


@asking
def issue(
    common: Common,
    name: Annotated[str, typer.Option("--name", help="Who will use it.")] = "",
    role: Annotated[str, typer.Option("--role", help="viewer, operator or admin.")] = "",
    ttl: TtlOption = None,
    out: Annotated[str, typer.Option("--out", help="Directory to write to.")] = ".",
) -> None:
    """Make a client certificate for the API; on a data member, which has the authority's key."""
    from pgherd.pki.authority import make_client_certificate
    from pgherd.pki.files import write_private

    if not NAME.fullmatch(name) or role not in ROLES:
        raise OperatorError(
            "--name and --role are needed",
            f"pgherd pki issue --name ann --role operator (roles: {', '.join(ROLES)})",
        )
    settings, tls = files(common)
    authority = own_authority(tls, authority_pem(tls))
    if authority is None:
        raise OperatorError("this node has no key of the authority", "run this on a data member")
    paths = places_for(Path(out), name)
    made = make_client_certificate(authority, name, role, days=days_of(ttl, CLIENT_DAYS))
    try:
        write_private(paths[1], made.key_pem)
        write_private(paths[0], made.certificate_pem, mode=0o644)
    except OSError as error:
        raise unwritable(out, error) from error
    line(f"made {paths[0]} and {paths[1]}")
    if settings.api.tls is None or settings.api.tls.ca is None:
        say(f"  next: have the API take it: api.tls.ca: {tls.ca}, on every node")
    say(f"  next: PGHERD_CERT={paths[0]} PGHERD_KEY={paths[1]} pgherd status")


def places_for(directory: Path, name: str) -> tuple[Path, Path]:
    """Where a client's certificate and key will be; the directory is made. Raises OperatorError."""
    paths = directory / f"{name}.crt", directory / f"{name}.key"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        taken = [path for path in paths if path.exists()]
    except OSError as error:
        raise unwritable(str(directory), error) from error
    if taken:
        raise OperatorError(f"{taken[0]} exists", "name another place with --out DIR")
    return paths


def unwritable(directory: str, error: OSError) -> OperatorError:
    return OperatorError(
        f"cannot write to {directory}: {error.strerror}",
        "name a directory that you may write to: --out DIR",
    )


@asking
def show(common: Common) -> None:
    """The certificates of this node's files, and when they end."""
    from pgherd.daemon.certificates import day, files_of, read_one

    settings, _ = files(common)
    found = []
    for name, path in files_of(settings).items():
        seen = read_one(path)
        good = seen.validity
        days = int((good.ends_s - time.time()) // 86_400) if good is not None else None
        ends = day(good.ends_s) if good is not None else None
        one = {"name": name, "file": path, "expires": ends, "days": days, "problem": seen.problem}
        found.append(one)
    if common.output is not Format.TABLE:
        emit({"certificates": found}, common.output)
        return
    rows = [tuple(one.values()) for one in found]
    table(("name", "file", "expires", "days", "problem"), rows, color=common.color)


def days_of(ttl: str | None, otherwise: int) -> int:
    from pgherd.config.units import parse_duration_ms

    if ttl is None:
        return otherwise
    try:
        days = parse_duration_ms(ttl) // DAY_MS
    except ValueError as error:
        raise OperatorError(f"--ttl: {error}", "as in --ttl 365d") from error
    if not 1 <= days <= RENEW_DAYS:
        raise OperatorError(f"--ttl: {ttl} is not 1 to {RENEW_DAYS} days", "as in --ttl 365d")
    return days


COMMANDS: dict[str, Command] = {"renew": renew, "issue": issue, "show": show}
