"""The certificates of this node: when each ends, and whether they are of use.

Owns what is said of them: warnings from 30 days before the end on, and at once where one is not
valid yet, has ended, or does not fit the authority; and the seconds left, for the metrics. New
connections take changed files by themselves (`pki.contexts`, `api.serve`).
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

import msgspec

from pgherd.config.settings import Settings
from pgherd.model.errors import OperatorError
from pgherd.pki.authority import first_certificate
from pgherd.pki.contexts import client_context, server_context
from pgherd.pki.files import TlsFiles
from pgherd.pki.trying import refusal
from pgherd.pki.validity import Validity, validity
from pgherd.telemetry import logs

DAY_S = 86_400
WARN_S = 30 * DAY_S
EVERY_S = 60.0
RENEW = "pgherd pki renew"

log = logs.get("daemon")


class Seen(msgspec.Struct, frozen=True):
    """One file as it was read last. problem: why it cannot be read, or is of no use."""

    path: str
    validity: Validity | None = None
    problem: str = ""


class CertificateWatch:
    """See the module's text. renewed: called when a file has changed."""

    def __init__(
        self,
        settings: Settings,
        *,
        renewed: Callable[[], Awaitable[None]],
        unix_s: Callable[[], float] = time.time,
    ) -> None:
        self._renewed = renewed
        self._unix_s = unix_s
        self.heed(settings)

    def heed(self, settings: Settings) -> None:
        """Look after the files that a configuration names."""
        self._files, self._keys = files_of(settings), keys_of(settings)
        self._pair = peers_of(settings)
        self._seen: dict[str, Seen] = {}
        self._stamp: tuple[tuple[int, int], ...] = ()
        self._read_at = -EVERY_S

    async def look(self) -> None:
        """Read what has changed, and all of it once a minute: the clock may have."""
        stamp = tuple(stamp_of(path) for path in self.watched())
        now = time.monotonic()
        if stamp == self._stamp and now - self._read_at < EVERY_S:
            return
        changed = bool(self._stamp) and stamp != self._stamp
        self._stamp, self._read_at = stamp, now
        before, self._seen = self._seen, await asyncio.to_thread(self.read)
        for name, seen in self._seen.items():
            if name in before and before[name] != seen:
                log.info("certificate.changed", name=name, file=seen.path, problem=seen.problem)
        if changed:
            await self._renewed()

    def watched(self) -> list[str]:
        """Every file whose change is one of certificates."""
        return [*self._files.values(), *self._keys.values()]

    def read(self) -> dict[str, Seen]:
        """Read all of them. Blocks."""
        found = {name: read_one(path, self._keys.get(path)) for name, path in self._files.items()}
        if self._pair is not None and not any(one.problem for one in found.values()):
            problem = unfit(self._pair)
            found["node"] = msgspec.structs.replace(found["node"], problem=problem)
        return found

    def seconds_left(self) -> Mapping[str, float]:
        """For each certificate, how long it is still good; negative: since when it is not."""
        now = self._unix_s()
        return {
            name: one.validity.ends_s - now
            for name, one in self._seen.items()
            if one.validity is not None
        }

    def warnings(self) -> list[str]:
        """What people should know of them now."""
        now = self._unix_s()
        return [text for name, one in self._seen.items() if (text := said(name, one, now))]


def said(name: str, one: Seen, now: float) -> str:
    """What is wrong with a certificate, or will be soon; "" for nothing."""
    what = f"the certificate {name} ({one.path})"
    good = one.validity
    if good is None:
        return f"{what} cannot be used: {one.problem}; {RENEW}"
    if now >= good.ends_s:
        return f"{what} has expired on {day(good.ends_s)}: nobody new takes it; {RENEW}"
    if now < good.begins_s:
        return f"{what} is not valid before {day(good.begins_s)}: look at this machine's clock"
    if one.problem:
        return f"{what} is refused: {one.problem}; {RENEW}"
    if good.ends_s - now < WARN_S:
        return f"{what} ends in {int((good.ends_s - now) // DAY_S)} days; {RENEW}"
    return ""


def day(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def read_one(path: str, key: str | None = None) -> Seen:
    """One file, by its first certificate; key: the file of its private key, which has to fit."""
    try:
        with open(path, "rb") as opened:
            good = validity(first_certificate(opened.read()))
        if key is not None:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, key)
    except ssl.SSLError as error:
        return Seen(path, good, problem=f"its key does not fit: {error.reason or error}")
    except OSError as error:
        return Seen(path, problem=error.strerror or str(error))
    except ValueError as error:
        return Seen(path, problem=str(error))
    return Seen(path, good)


def unfit(pair: TlsFiles) -> str:
    """Why peers would refuse these files; "" where they would not."""
    try:
        return refusal(server_context(pair), client_context(pair))
    except OperatorError as error:
        return error.message
    except ssl.SSLError as error:
        return str(error.reason or error)


def files_of(settings: Settings) -> dict[str, str]:
    """The certificates of a configuration by name; a file that serves twice has its first name."""
    found: dict[str, str] = {}
    places = (
        ("node", settings.raft.tls and settings.raft.tls.cert),
        ("authority", settings.raft.tls and settings.raft.tls.ca),
        ("api", settings.api.tls and settings.api.tls.cert),
        ("proxy", settings.proxy.tls and settings.proxy.tls.cert),
        ("postgresql", settings.postgresql.tls and settings.postgresql.tls.cert),
    )
    for name, path in places:
        if path and str(path) not in found.values():
            found[name] = str(path)
    return found


def keys_of(settings: Settings) -> dict[str, str]:
    """The key of each certificate that is shown to somebody, by the certificate's path."""
    places = (settings.raft.tls, settings.api.tls, settings.proxy.tls, settings.postgresql.tls)
    return {str(tls.cert): str(tls.key) for tls in places if tls is not None}


def peers_of(settings: Settings) -> TlsFiles | None:
    tls = settings.raft.tls
    return TlsFiles(str(tls.cert), str(tls.key), str(tls.ca)) if tls is not None else None


def stamp_of(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0)
    return found.st_mtime_ns, found.st_ino
