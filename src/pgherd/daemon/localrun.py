"""Runs `pgherd cluster create` and `destroy` for the API, in a process of its own session.

What this daemon was told by its environment is not for the cluster that it makes.
"""

from __future__ import annotations

import asyncio
import os
import sys

from pgherd.api.localcluster import Ran
from pgherd.model.errors import OperatorError

DEADLINE_S = 180.0
_one_at_a_time = asyncio.Lock()


async def run(words: list[str]) -> Ran:
    """Run it to its end. Raises OperatorError where another one runs, or it does not end."""
    if _one_at_a_time.locked():
        raise OperatorError("another cluster for development is being made or deleted", "wait")
    async with _one_at_a_time:
        return await _run(words)


async def _run(words: list[str]) -> Ran:
    environment = {name: text for name, text in os.environ.items() if not name.startswith("PGHERD")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pgherd.cli.main", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: text for name, text in environment.items() if name != "NOTIFY_SOCKET"},
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            out, err = await process.communicate()
    except TimeoutError as error:
        process.kill()
        text = f"it did not end in {DEADLINE_S:g} s"
        raise OperatorError(text, "look at the logs in its directory") from error
    return Ran(process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))
