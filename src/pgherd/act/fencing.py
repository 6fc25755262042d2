"""The actuator of fencing: an operator's command against an earlier leader that is not sealed.

It runs as the user of the daemon, never on the loop, and is killed at its deadline. How it ended is
told to the ledger before the promotion: a winner that starts again, or the next one, knows it. A
command that succeeded is run again only if this agent dies before the ledger has heard of it.
"""

from __future__ import annotations

from pgherd.act.failpoints import reached
from pgherd.act.hands import ActFailed, Hands, StaleAct, log
from pgherd.ledger import commands as cmd
from pgherd.model import action as act
from pgherd.model.errors import PostgresError
from pgherd.postgres.tools import run_tool

WORDS_MAX = 400
"""So much of what a command said goes into the ledger."""


async def fence(hands: Hands, a: act.Fence) -> None:
    """Run the command unless it is done, and tell the ledger; required: fail where it failed."""
    hands.guard(a.term)
    done = (a.term, a.target)
    problem, said = "", ""
    if done not in hands.fenced:
        problem, said = await _run(a)
        log.info("fence.ended", target=a.target.node, problem=problem, said=said)
    await reached("fence.ran")
    if not problem:
        hands.fenced.add(done)
    hands.guard(a.term)
    await _tell(hands, a, problem=problem, said=said)
    if problem and a.required:
        raise ActFailed(f"{a.target.node} is not fenced, so nobody is promoted: {problem}")


async def _run(a: act.Fence) -> tuple[str, str]:
    """What went wrong, if anything, and what the command said last."""
    told = {
        "PGHERD_FENCE_NODE": a.target.node,
        "PGHERD_FENCE_ADDRESS": a.address,
        "PGHERD_FENCE_TERM": str(a.term),
        "PGHERD_FENCE_CLUSTER": a.cluster,
    }
    try:
        result = await run_tool(
            [*a.command, *told.values()],
            user=None,
            timeout_s=a.deadline_ms / 1000,
            variables=told,
        )
    except PostgresError as error:
        return error.message, ""
    said = result.last_words()[-WORDS_MAX:]
    return (f"exit code {result.code}: {said}", said) if result.code else ("", said)


async def _tell(hands: Hands, a: act.Fence, *, problem: str, said: str) -> None:
    node, program = a.target.node, a.command[0]
    text = f"{program} fenced {node}: {said}"
    if problem:
        effect = "nobody is promoted before it succeeds" if a.required else "it is not required"
        text = f"{program} did not fence {node}, {effect}: {problem}"
    outcome = await hands.submit(
        cmd.Fenced(
            term=a.term,
            by=hands.me,
            target=a.target,
            done=not problem,
            go_on=bool(problem) and not a.required,
            text=text,
        )
    )
    if isinstance(outcome, cmd.Refused):
        raise StaleAct(f"the ledger does not wait for fencing {node}: {outcome.reason}")
