"""One run of an operator's program: arguments, environment, deadline, and what came of it.

Owns the words that every hook's program gets. It runs in a session of its own and is killed with
all that it started at its deadline, or when it is not wanted any more; its output goes to the log,
as much as fits a few lines. Which program runs when is `callbacks`' and `preparing`'s.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pgherd.config.hooks import Program
from pgherd.model.errors import PostgresError
from pgherd.postgres.tools import run_tool
from pgherd.telemetry import logs
from pgherd.telemetry.boottime import now_ms

log = logs.get("hooks")

WORDS_MAX = 400
OUTPUT_MAX = 4096


class Occasion(msgspec.Struct, frozen=True):
    """What a program is told of. variables: names without PGHERD_, as ROLE or TERM."""

    hook: str
    role: str
    cluster: str
    variables: Mapping[str, str] = {}


class Ran(msgspec.Struct, frozen=True):
    """How it ended. code: None where it was killed at its deadline or could not be started."""

    code: int | None
    said: str
    took_ms: int

    @property
    def text(self) -> str:
        """For people."""
        if self.code is None:
            return self.said
        return f"exit code {self.code}" + (f": {self.said}" if self.said else "")


async def run(program: Program, occasion: Occasion) -> Ran:
    """Run it to its end or its deadline; a cancellation kills it too."""
    words = [*program.command, occasion.hook, occasion.role, occasion.cluster]
    named = {"HOOK": occasion.hook, "ROLE": occasion.role, "CLUSTER": occasion.cluster}
    variables = {f"PGHERD_{name}": text for name, text in {**named, **occasion.variables}.items()}
    began = now_ms()
    try:
        result = await run_tool(
            words, user=None, timeout_s=program.deadline_ms / 1000, variables=variables
        )
    except PostgresError as error:
        log.warning("hook.ended", hook=occasion.hook, reason=error.message)
        return Ran(None, error.message, now_ms() - began)
    output = f"{result.out}\n{result.err}".strip()[-OUTPUT_MAX:]
    said = result.last_words()[-WORDS_MAX:] if output else ""
    log.info("hook.ended", hook=occasion.hook, role=occasion.role, code=result.code, output=output)
    return Ran(result.code, said, now_ms() - began)
