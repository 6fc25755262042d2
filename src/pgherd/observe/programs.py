"""What of PostgreSQL is installed beside the running server, and what its next start would lack.

Asked now and then, off the loop. A newer build of the same major is taken up for the next start at
once; where an installation had to be copied, so that PostgreSQL's user reaches it, the newer one is
copied too.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from pgherd.model.errors import OperatorError, PostgresError
from pgherd.model.ids import Instant
from pgherd.model.observation import Observation, Server, ServerSeen
from pgherd.model.programs import Programs, Wanted
from pgherd.postgres import libraries
from pgherd.postgres.binaries import Binaries
from pgherd.postgres.datadir import major_of
from pgherd.postgres.server import PostgresServer
from pgherd.telemetry import logs
from pgherd.telemetry.boottime import now_ms

log = logs.get("observe")

EVERY_MS = 5000
EXTENSIONS_EVERY_MS = 300_000
"""A session in each database of the primary is what it takes."""
FAILED_EVERY_MS = 60_000
"""A package may not be complete yet; a look may copy all of it."""
Mark = tuple[int, int, int]


class Installed:
    """Keeps what `ServerSeen.programs` says. find: looks for them as at the agent's start."""

    def __init__(self, server: PostgresServer, find: Callable[[], Binaries]) -> None:
        self._wanted = Wanted()
        self.programs = Programs(on_disk=server.binaries.number)
        self._server = server
        self._find = find
        self._mark = mark_of(server.binaries.installed)
        self._found: Binaries | None = server.binaries
        self._problem = ""
        self._again_at = now_ms()
        self._asked_at = now_ms() - EVERY_MS
        self._extensions_of: tuple[int, bool, tuple[str, ...]] | None = None
        self._extensions_at = now_ms()
        self._asking: asyncio.Task[None] | None = None

    def hear(self, leader: Observation | None) -> None:
        """What the primary has, by its report; while it is silent, what it had."""
        if leader is not None and leader.server.programs.running:
            programs = leader.server.programs
            self._wanted = Wanted(programs.preloads, programs.extensions)

    def look_if_due(self, state: Server) -> None:
        """Ask in the background, unless the last question is young or still open."""
        now = now_ms()
        is_open = self._asking is not None and not self._asking.done()
        if is_open or now - self._asked_at < EVERY_MS:
            return
        self._asked_at = now
        self._asking = asyncio.create_task(self.look(state), name="programs")

    def told(self, seen: ServerSeen) -> ServerSeen:
        """A look at the server, with the programs; what ran is not told of one that does not."""
        running = self._server.applied.version if seen.pid else 0
        programs = msgspec.structs.replace(self.programs, running=running)
        return msgspec.structs.replace(seen, programs=programs)

    async def look(self, state: Server) -> None:
        """Ask now."""
        await asyncio.to_thread(self._look_at_disk)
        found, server = self._found, self._server
        if found is not None and found.major == server.binaries.major and found != server.binaries:
            log.info("programs.newer", bin_dir=str(found.bin_dir), version=found.number)
            server.binaries = found
        data_major = await asyncio.to_thread(major_of, server.data_dir)
        self.programs = msgspec.structs.replace(
            self.programs,
            on_disk=found.number if found is not None else 0,
            data_major=data_major,
            problem=self._problem,
            preloads=server.applied.preloads or self.programs.preloads,
        )
        if state in (Server.STANDBY, Server.PRIMARY):
            try:
                await self._ask_server(leads=state is Server.PRIMARY)
            except (PostgresError, OSError):
                self._extensions_of = None  # it is asked again

    def _look_at_disk(self) -> None:
        """Blocks, and copies an installation where that is needed."""
        place = self._server.binaries.installed
        mark = mark_of(place)
        if mark == self._mark and (self._found is not None or now_ms() < self._again_at):
            return
        try:
            self._found, self._problem = self._find(), ""
        except OperatorError as error:
            self._found, self._problem = None, error.message
            self._again_at = Instant(now_ms() + FAILED_EVERY_MS)
        self._mark = mark

    async def _ask_server(self, *, leads: bool) -> None:
        server, wanted = self._server, self._wanted
        names = {*server.applied.preloads, *wanted.libraries}
        gone: tuple[str, ...] = ()
        if names:
            where = await libraries.places(server.reading)
            gone = await asyncio.to_thread(self._missing, names, where)
        extensions, absent = self.programs.extensions, self.programs.no_extension
        due = now_ms() - self._extensions_at >= EXTENSIONS_EVERY_MS
        if due or self._extensions_of != (server.pid, leads, wanted.extensions):
            extensions = await libraries.in_use(server.login) if leads else ()
            absent = await libraries.absent(server.reading, wanted.extensions)
            self._extensions_of = server.pid, leads, wanted.extensions
            self._extensions_at = now_ms()
        self.programs = msgspec.structs.replace(
            self.programs,
            preloads=server.applied.preloads,
            extensions=extensions,
            no_library=gone,
            no_extension=absent,
        )

    def _missing(self, names: set[str], where: libraries.Places) -> tuple[str, ...]:
        server = self._server
        after = libraries.moved(where, running=bin_of(server.pid), next_bin=server.binaries.bin_dir)
        return libraries.missing(names, after)


def mark_of(bin_dir: Path) -> Mark:
    """What changes when another build is installed there; zeros where there is none."""
    try:
        seen = os.stat(bin_dir / "postgres")
    except OSError:
        return 0, 0, 0
    return seen.st_ino, seen.st_mtime_ns, seen.st_size


def bin_of(pid: int) -> Path | None:
    """The folder from which a postmaster was started; None where the system does not say."""
    try:
        return Path(os.readlink(f"/proc/{pid}/exe")).parent
    except OSError:
        return None
