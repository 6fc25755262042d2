"""The certificate that PostgreSQL shows, where PostgreSQL's user can read it.

Owns a directory beside the data directory with copies of the files that the configuration names:
the originals may be root's, and no backup should carry a key. All functions block, but for `renew`.
"""

from __future__ import annotations

import asyncio
import signal
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pgherd.model.errors import OperatorError
from pgherd.postgres import processes
from pgherd.postgres.files import make_directory, read_text, write_atomic
from pgherd.postgres.identity import PostgresUser
from pgherd.postgres.settings import ServerSettings

if TYPE_CHECKING:
    from pgherd.postgres.server import PostgresServer

DIRECTORY = "tls"
NAMES = ("node.crt", "node.key", "ca.crt")
MODES = (0o644, 0o600, 0o644)


def used(
    settings: ServerSettings, beside: Path, *, certificate: str, key: str, ca: str, required: bool
) -> ServerSettings:
    """The settings with TLS by copies of these files. required: peers are checked, and checked for
    their host names."""
    copies = [str(beside / DIRECTORY / name) for name in NAMES]
    return msgspec.structs.replace(
        settings,
        tls_from=(certificate, key, ca),
        tls_certificate=copies[0],
        tls_key=copies[1],
        tls_ca=copies[2],
        tls_required=required,
        sslmode="verify-full" if required else "prefer",
    )


def write(settings: ServerSettings, *, user: PostgresUser | None) -> bool:
    """Bring the copies up to date; whether one changed. Raises OperatorError, and changes nothing
    then."""
    if not settings.tls_from:
        return False
    certificate, key, _ = settings.tls_from
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        texts = [Path(source).read_text(encoding="ascii") for source in settings.tls_from]
    except (OSError, ValueError) as error:
        raise OperatorError(
            f"PostgreSQL's certificate {certificate} and key {key} cannot be used: {error}",
            "check postgresql.tls, or make them anew: pgherd pki renew",
        ) from error
    copies = (settings.tls_certificate, settings.tls_key, settings.tls_ca)
    stale = [
        (Path(copy), text, mode)
        for copy, text, mode in zip(copies, texts, MODES, strict=True)
        if read_text(Path(copy)) != text
    ]
    if stale:
        make_directory(Path(copies[0]).parent, user=user, mode=0o700)
    for copy, text, mode in stale:
        write_atomic(copy, text, user=user, mode=mode)
    return bool(stale)


async def renew(server: PostgresServer) -> bool:
    """Have a server show the files of now; sessions that run go on. Whether anything changed."""
    async with server.conf_lock:
        changed = await asyncio.to_thread(write, server.settings, user=server.user)
    if changed and server.pid:
        processes.send(server.pid, signal.SIGHUP, data_dir=server.data_dir)
    return changed
