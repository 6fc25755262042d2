"""Running PostgreSQL's own programs: as its user, in a clean environment, never on the loop.

Secrets are never arguments: passwords travel in passfiles only.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

import msgspec

from pgherd.model.errors import PostgresError
from pgherd.postgres.identity import PostgresUser
from pgherd.postgres.processes import wait_gone

OUTPUT_BYTES_MAX = 1 << 20
KEPT_VARIABLES = ("PATH", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


class ToolResult(msgspec.Struct, frozen=True):
    """How a program ended, and what it said."""

    code: int
    out: str
    err: str

    def last_words(self) -> str:
        """The end of what it said, for an error message."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return " | ".join(lines[-4:]) or f"exit code {self.code}"


def clean_environment() -> dict[str, str]:
    """Our environment without PG* and locale: the same behaviour wherever pgherd was started."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return {**kept, "LC_ALL": "C"}


def as_user(user: PostgresUser | None) -> dict[str, Any]:
    """Arguments of subprocess functions that make the child run as PostgreSQL's user."""
    if user is None:
        return {}
    return {"user": user.uid, "group": user.gid, "extra_groups": []}


async def run_tool(
    argv: Sequence[str],
    *,
    user: PostgresUser | None,
    timeout_s: float,
    on_error_line: Callable[[str], None] | None = None,
    variables: Mapping[str, str] | None = None,
) -> ToolResult:
    """Run one program to its end; when time is up or we are cancelled its whole group dies.

    variables: of its environment, beside the few of ours that it gets.
    """
    process = await asyncio.to_thread(_spawn, list(argv), user, dict(variables or {}))
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(timeout_s):
            out, err, _ = await asyncio.gather(
                _collect(process.stdout, None),
                _collect(process.stderr, on_error_line),
                wait_gone(process.pid),
            )
    except TimeoutError as error:
        raise PostgresError(f"{argv[0]} did not end within {timeout_s:g} s") from error
    finally:
        if process.poll() is None:
            _kill_group(process.pid)
            await wait_gone(process.pid)
        code = process.wait()
    return ToolResult(code, out, err)


def _spawn(
    argv: list[str], user: PostgresUser | None, variables: dict[str, str]
) -> subprocess.Popen[bytes]:
    """Start a program; not through the loop, since uvloop cannot change the user."""
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**clean_environment(), **variables},
            cwd="/",
            start_new_session=True,
            **as_user(user),
        )
    except OSError as error:
        raise PostgresError(f"cannot run {argv[0]}: {error}") from error


async def _collect(pipe: IO[bytes], on_line: Callable[[str], None] | None) -> str:
    """Read to the end, keeping the newest part; lines end with \\n or (progress) with \\r."""
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), pipe
    )
    try:
        return await _read_all(stream, on_line)
    finally:
        transport.close()


async def _read_all(stream: asyncio.StreamReader, on_line: Callable[[str], None] | None) -> str:
    kept, pending = b"", b""
    while chunk := await stream.read(65_536):
        kept = (kept + chunk)[-OUTPUT_BYTES_MAX:]
        if on_line is not None:
            *lines, pending = (pending + chunk).replace(b"\r", b"\n").split(b"\n")
            for line in lines:
                on_line(line.decode(errors="replace"))
    return kept.decode(errors="replace")


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it ended between the look and the kill
