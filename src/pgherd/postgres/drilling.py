"""The writes of a drill, as the agent has them: a process of its own, told and listened to.

Owns that process and the limits of its life. What it does is `drillprogram`'s.
"""

from __future__ import annotations

import asyncio
import os
import sys

import msgspec

from pgherd.model.drill import Measured
from pgherd.model.errors import PostgresError
from pgherd.postgres.conninfo import write
from pgherd.postgres.tools import clean_environment

LINE_S = 15.0
"""It tells five times a second, whatever its writes wait for."""
END_S = 20.0
"""Longer than it tries to count its rows, or to take its table away."""
CANCELLED_S = 1.0
"""The agent ends: then the table may stay."""

LEFT = "the table pgherd.drill may be left; the next drill drops it"

Hosts = tuple[tuple[str, int], ...]


class Said(msgspec.Struct, frozen=True):
    """One line of what it says."""

    acknowledged: int = 0
    failed: int = 0
    gap_ms: int = 0
    idle_ms: int = 0
    missing: int = 0
    final: bool = False
    struck: bool = False
    left: str = ""
    error: str = ""
    problem: str = ""


def conninfo(
    hosts: Hosts,
    *,
    user: str,
    password: str,
    database: str,
    sslmode: str,
    ca: str,
    finds_primary: bool,
) -> str:
    """finds_primary: the hosts are servers, of which only the primary will do; else proxies · ca: a
    file of the authority that they are checked against, "" for none.
    """
    pairs = {
        "host": ",".join(host for host, _ in hosts),
        "port": ",".join(str(port) for _, port in hosts),
        "user": user,
        "password": password,
        "dbname": database,
        "sslmode": sslmode,
    }
    if ca:
        pairs["sslrootcert"] = ca
    if finds_primary:
        pairs["target_session_attrs"] = "read-write"
    return write(pairs)


class Probe:
    """The running program. Use as `async with`; whatever happens it ends."""

    def __init__(self, text: str, drill: str) -> None:
        self._order = msgspec.json.encode({"conninfo": text, "drill": drill})
        self._process: asyncio.subprocess.Process | None = None
        self.newest = Said()

    async def __aenter__(self) -> Probe:
        home = {"HOME": os.environ.get("HOME", "/")}  # libpq looks for certificates there
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pgherd.postgres.drillprogram"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**clean_environment(), **home},
        )
        await self._say(self._order)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """It takes its table away where it is let, and ends."""
        process = self._process
        assert process is not None, "it was begun"
        assert process.stdin is not None, "it has a pipe"
        process.stdin.close()
        is_hasty = kind is not None and issubclass(kind, asyncio.CancelledError)
        try:
            async with asyncio.timeout(CANCELLED_S if is_hasty else END_S):
                await self._until_silent()
                await process.wait()
        except TimeoutError:
            pass  # what it wrote last hangs, and will be released without it
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def until_acknowledged(self, more: int) -> None:
        """Wait for so many more acknowledged writes. Raises PostgresError."""
        wanted = self.newest.acknowledged + more
        while self.newest.acknowledged < wanted:
            await self.hear()

    async def strike(self) -> None:
        """From here on gaps count. Raises PostgresError."""
        await self._say(b"strike")
        while not (await self.hear()).struck:
            pass

    async def end(self) -> tuple[Measured, str]:
        """Stop it, and take what it found; why its rows are not counted. Raises PostgresError."""
        await self._say(b"stop")
        try:
            async with asyncio.timeout(END_S):
                while not (said := await self.hear()).final:
                    pass
        except TimeoutError as error:
            raise PostgresError(f"its rows were not counted in {END_S:g} s") from error
        found = Measured(
            outage_ms=said.gap_ms,
            acknowledged=said.acknowledged,
            failed=said.failed,
            missing=said.missing,
        )
        return found, said.problem

    async def left(self) -> str:
        """Whether its table is left, in words; "" where it is gone. Raises PostgresError."""
        try:
            async with asyncio.timeout(END_S):
                return (await self.hear()).left
        except (TimeoutError, PostgresError):
            return LEFT

    async def hear(self) -> Said:
        """Its next line. Raises PostgresError."""
        assert self._process is not None, "it was begun"
        assert self._process.stdout is not None, "it has a pipe"
        try:
            async with asyncio.timeout(LINE_S):
                line = await self._process.stdout.readline()
        except TimeoutError as error:
            raise PostgresError(f"the program that writes said nothing for {LINE_S:g} s") from error
        if not line:
            raise PostgresError("the program that writes for a drill has ended")
        said = msgspec.json.decode(line, type=Said)
        if said.problem and not said.final:
            raise PostgresError(f"the probe writes do not work: {said.problem}")
        if not said.struck:
            self.newest = said
        return said

    async def _until_silent(self) -> None:
        """Read what nobody needs any more, so that it is not kept by a full pipe."""
        assert self._process is not None, "it was begun"
        assert self._process.stdout is not None, "it has a pipe"
        while await self._process.stdout.readline():
            pass

    async def _say(self, word: bytes) -> None:
        assert self._process is not None, "it was begun"
        assert self._process.stdin is not None, "it has a pipe"
        try:
            self._process.stdin.write(word + b"\n")
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError) as error:
            raise PostgresError("the program that writes for a drill has ended") from error
