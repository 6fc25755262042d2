"""Drills: a change of primary that this node makes and measures, or a kill that another asks for.

Theory of operation. The API has put the drill into the ledger, which lets one run at a time. This
node writes small rows as any client would (`postgres.drilling`), waits until they are acknowledged,
asks once more whether anything has come in the way, strikes, and goes on until the herd is stable
and writes are acknowledged again; then the ledger is told what was found. The stroke is an
operator's switchover like any other, or it is a request to the primary's own agent, which kills its
postmaster only for a drill that the ledger knows, in its term, and while the herd is at rest. Where
this node dies the drill is given up by the next one.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from textwrap import shorten
from typing import TYPE_CHECKING

import msgspec

from pgherd.ledger.commands import BeginDrill, EndDrill, Refused, RequestSwitchover
from pgherd.ledger.drills import may_lose, not_at_rest
from pgherd.model.drill import Drill, DrillKind, DrillState, Measured
from pgherd.model.errors import OperatorError, PgherdError, PostgresError
from pgherd.model.facts import Facts, Kind, Phase
from pgherd.model.ids import Term
from pgherd.telemetry import logs

if TYPE_CHECKING:
    from pgherd.daemon.build import Node
    from pgherd.postgres.drilling import Hosts, Probe

DRILL_KILL = "drill-kill"
BEFORE = 10
"""So many acknowledged writes before the stroke: the way works, and the last one is known."""
AFTER = 20
"""So many after the change, for what breaks a second time."""
BEFORE_S = 20.0
"""Longer nobody waits for them: what stands still before the stroke is no drill."""
CHANGE_S = 60.0
LIMIT_S = 120.0
POLL_S = 0.05
SUBMIT_S = 10.0
KILL_S = 5.0
TEXT_LETTERS_MAX = 600
"""Of what the ledger keeps for each; PostgreSQL has a sentence for every host that it tried."""

log = logs.get("drill")


class Drilling:
    """The drills of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._task: asyncio.Task[None] | None = None

    def via(self) -> str:
        """Where the probe writes of this node go. Raises OperatorError where they cannot."""
        node = self._node
        if node.server is None:
            raise OperatorError(f"{node.me} has no PostgreSQL", "ask a data member")
        if not node.server.settings.superuser_password:
            raise OperatorError(
                "a drill logs in as any client does, and postgresql.superuser has no password",
                "set postgresql.superuser.password, then pgherd reload",
            )
        return "proxy" if self._proxies(node.agent.facts) else "servers"

    def begin(self, drill: BeginDrill, obstacle: Callable[[], str]) -> None:
        """Carry out what the ledger has taken. obstacle: what is in the way of the stroke."""
        self._task = asyncio.create_task(self._run(drill, obstacle), name="drill")

    async def end(self) -> None:
        """Before consensus stops."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def answer(self, body: bytes) -> bytes:
        """Another node's drill wants this node's primary killed. Raises OperatorError."""
        self._kill(msgspec.msgpack.decode(body, type=str))
        return b""

    # --- one drill -------------------------------------------------------------------------------

    async def _run(self, drill: BeginDrill, obstacle: Callable[[], str]) -> None:
        state, text, found = DrillState.FAILED, "", None
        try:
            async with asyncio.timeout(LIMIT_S):
                found, text, problem = await self._measure(drill, obstacle)
                if found.missing:
                    problem = f"{found.missing} acknowledged rows are missing"
                state = DrillState.FAILED if problem else DrillState.DONE
                text = f"{problem}; {text}" if problem else text
        except TimeoutError:
            text = f"writes did not come back in {LIMIT_S:g} s"
        except PgherdError as error:
            text = error.message
        except Exception as error:
            log.error("drill.broken", exc_info=error)
            text = f"{type(error).__name__}: {error}"
        await self._tell(drill, state, text, found)

    async def _measure(
        self, drill: BeginDrill, obstacle: Callable[[], str]
    ) -> tuple[Measured, str, str]:
        """The figures, in words what came of it, and what is wrong with it, "" for nothing.

        Raises PgherdError, TimeoutError.
        """
        from pgherd.postgres.drilling import Probe

        async with Probe(self._conninfo(drill.via), drill.id) as probe:
            await before(probe)
            if why := obstacle() or outdated(self._node.agent.facts, drill.term):
                raise OperatorError(f"nothing was changed: {why}")
            changing = asyncio.create_task(self._change(drill), name="drill-change")
            try:
                while not changing.done():
                    await probe.hear()
                text = await changing
            finally:
                changing.cancel()
            await probe.until_acknowledged(AFTER)
            found, problem = await probe.end()
            left = await probe.left()
        return found, f"{text}; {left}" if left else text, problem

    async def _change(self, drill: BeginDrill) -> str:
        """Strike, and wait for the next stable term; what came of it. Raises PgherdError."""
        await self._strike(drill)
        agent = self._node.agent
        try:
            async with asyncio.timeout(CHANGE_S):
                await self._until_over(drill)
        except TimeoutError as error:
            facts = agent.facts
            why = f"epoch {facts.term} is {facts.phase.value}: {facts.reason}"
            raise PostgresError(f"no stable primary after {CHANGE_S:g} s; {why}") from error
        facts = agent.facts
        if facts.term == drill.term:
            ends = [one.text for one in facts.notes if one.kind == "switchover.ended"]
            raise OperatorError(ends[-1] if ends else "the switchover was given up")
        assert facts.leader is not None, "a stable term has a leader"
        if why := not_switched(facts, drill):
            raise OperatorError(why)
        return f"{facts.leader.node} leads epoch {facts.term}: {facts.reason}"

    async def _until_over(self, drill: BeginDrill) -> None:
        while True:
            if is_over(self._node.agent.facts, drill):
                return
            await asyncio.sleep(POLL_S)

    async def _strike(self, drill: BeginDrill) -> None:
        """Raises PgherdError."""
        node = self._node
        if drill.kind is DrillKind.SWITCHOVER:
            wish = RequestSwitchover(
                id=drill.id, candidate=None, requested_by=f"{drill.requested_by}, for a drill"
            )
            outcome = await node.port.submit(wish, timeout_s=SUBMIT_S)
            if isinstance(outcome, Refused):
                raise OperatorError(outcome.reason)
            return
        leader = node.agent.facts.leader
        if leader is None or leader.node == node.me:
            self._kill(drill.id)
            return
        body = msgspec.msgpack.encode(drill.id)
        await node.peers.request(leader.node, DRILL_KILL, body, timeout_s=KILL_S)

    def _kill(self, id: str) -> None:
        """Kill the postmaster here, for a drill that the ledger knows. Raises OperatorError."""
        from pgherd.postgres import processes

        node, facts = self._node, self._node.agent.facts
        drill = next((one for one in facts.drills if one.id == id), None)
        why = cannot_kill(facts, drill)
        if why or not facts.is_leader(node.me) or node.server is None or not node.server.pid:
            raise OperatorError(why or f"{node.me} is not the primary")
        log.warning("drill.kills", pid=node.server.pid, id=id)
        processes.send(node.server.pid, signal.SIGKILL, data_dir=node.server.data_dir)

    async def _tell(
        self, drill: BeginDrill, state: DrillState, text: str, found: Measured | None
    ) -> None:
        leader = self._node.agent.facts.leader
        new = leader.node if leader is not None and state is DrillState.DONE else None
        told = shorten(text, TEXT_LETTERS_MAX, placeholder=" ...")
        command = EndDrill(drill.id, state, told, new_primary=new, measured=found)
        try:
            await self._node.port.submit(command, timeout_s=SUBMIT_S)
        except PgherdError as error:
            log.error("drill.untold", reason=error.message)

    # --- where the rows go -----------------------------------------------------------------------

    def _conninfo(self, via: str) -> str:
        from pgherd.postgres.drilling import conninfo

        server = self._node.server
        assert server is not None, "the API asked before"
        facts, settings = self._node.agent.facts, server.settings
        by_proxy = via == "proxy"
        return conninfo(
            self._proxies(facts) if by_proxy else servers(facts),
            user=settings.superuser,
            password=settings.superuser_password,
            database=settings.database,
            sslmode="prefer" if by_proxy else settings.sslmode,
            ca="" if by_proxy else settings.tls_ca,
            finds_primary=not by_proxy,
        )

    def _proxies(self, facts: Facts) -> Hosts:
        """The ways to the primary through proxies, this node's first."""
        me = self._node.me
        members = sorted(facts.members.values(), key=lambda one: (one.node != me, one.node))
        return tuple(where for one in members if (where := one.address.proxy())[1])


def servers(facts: Facts) -> Hosts:
    """Every server's own port."""
    found = [one for _, one in sorted(facts.members.items()) if one.kind is Kind.DATA]
    return tuple(one.address.postgres() for one in found)


def is_over(facts: Facts, drill: BeginDrill) -> bool:
    """Whether the change that was made has ended, one way or the other."""
    if facts.phase is not Phase.STABLE:
        return False
    wish = facts.switchover
    undone = drill.kind is DrillKind.SWITCHOVER and (wish is None or wish.id != drill.id)
    return facts.term > drill.term or undone


def not_switched(facts: Facts, drill: BeginDrill) -> str:
    """Why the change that came is not the one to be measured; "" where it is.

    A switchover that was undone begins a term too, with the old primary in it. After a kill that
    one may lead again: then this is what was measured.
    """
    begun = next((one for one in facts.drills if one.id == drill.id), None)
    if begun is None or drill.kind is DrillKind.KILL or not facts.is_leader(begun.primary):
        return ""
    return f"{begun.primary} is the primary still: {facts.reason}"


async def before(probe: Probe) -> None:
    """Until writes are known to be acknowledged, and gaps count. Raises PostgresError."""
    try:
        async with asyncio.timeout(BEFORE_S):
            await probe.until_acknowledged(BEFORE)
            await probe.strike()
    except TimeoutError as error:
        said = probe.newest
        text = (
            f"nothing was changed: {said.acknowledged} of {BEFORE} probe writes were acknowledged"
        )
        why = f": {said.error}" if said.error else ""
        raise PostgresError(f"{text} in {BEFORE_S:g} s{why}") from error


def cannot_kill(facts: Facts, drill: Drill | None) -> str:
    """Why a primary is not killed for a drill; "" when it is."""
    if drill is None or drill.kind is not DrillKind.KILL or drill.state is not DrillState.RUNNING:
        return "the ledger knows of no such drill"
    if why := outdated(facts, drill.term):
        return why
    refused = not_at_rest(facts) or may_lose(facts, drill.kind)
    return refused.reason if refused is not None else ""


def outdated(facts: Facts, term: Term) -> str:
    """That the primary which a drill was for does not lead any more; "" while it does."""
    if facts.term == term and facts.phase is Phase.STABLE:
        return ""
    return f"the drill was for epoch {term}, it is {facts.term}, {facts.phase.value}"
