"""Before a promotion: the operator's program that may refuse it.

Owns its say. Exit code 0: the promotion goes on. Any other: this node is not promoted in that term,
and says for a while that it must not lead, so that another one is elected, or nobody where nobody
else has everything. A program that cannot be started, or does not end by its deadline, stops
nothing: a broken script must not cost the cluster its primary.
"""

from __future__ import annotations

from collections.abc import Callable

from pgherd.config.hooks import Hooks
from pgherd.daemon.happenings import REPLICA, Happened
from pgherd.daemon.programs import Occasion, run
from pgherd.model.facts import Facts
from pgherd.model.ids import Instant, NodeId, Term
from pgherd.telemetry.boottime import now_ms
from pgherd.telemetry.metrics import Metrics

HOOK = "pre_promote"
VETO_MS = 60_000
"""For so long a node that refused is passed over."""
GRACE_MS = 10_000
"""For so long after its program a winner asks for time to promote, as it has it without one."""


class Preparation:
    """One node's. hooks: as configured, may be replaced at any time."""

    def __init__(
        self,
        me: NodeId,
        hooks: Hooks,
        *,
        facts: Callable[[], Facts],
        happened: Happened,
        metrics: Metrics,
        clock: Callable[[], Instant] = now_ms,
    ) -> None:
        self.hooks = hooks
        self._me = me
        self._facts = facts
        self._happened = happened
        self._metrics = metrics
        self._clock = clock
        self._veto = ""
        self._term = Term(0)
        self._until = Instant(0)
        self._runs = False
        self._grace = (Term(0), Instant(0))

    def busy(self) -> bool:
        """Whether the program runs, or ran just now, so that the promotion is yet to come."""
        term, until = self._grace
        return self._runs or (self._facts().term == term and self._clock() < until)

    def veto(self) -> str:
        """Why this node must not lead for now; "" when it may."""
        return self._veto if self._clock() < self._until else ""

    def forgive(self) -> None:
        """Forget a veto: its program may be another one by now."""
        self._until = Instant(0)
        self._term = Term(0)

    async def before(self, term: Term) -> str:
        """Have its say on the promotion of a term: why it is refused, "" when it is not."""
        program, facts = self.hooks.pre_promote, self._facts()
        earlier = [reign for reign in facts.history if reign.term < term and reign.established]
        if program is None or not earlier:  # the first data has no promotion to refuse
            return ""
        if self._term == term:
            return self._veto
        old = earlier[-1].leader.node
        variables = {
            "NODE": self._me,
            "TERM": str(term),
            "RULE": str(facts.rule),
            "REASON": facts.reason,
            "PRIMARY": self._me,
            "OLD_PRIMARY": old,
        }
        self._runs = True
        try:
            ran = await run(program, Occasion(HOOK, REPLICA, facts.cluster, variables))
        finally:
            self._runs = False
        self._grace = term, Instant(self._clock() + GRACE_MS)
        fields = {"hook": HOOK, "from": old}
        if ran.code is None:
            text = f"{HOOK}: {ran.text}; the promotion goes on"
            self._ended("hook.failed", "failed", text, term, ran.took_ms, fields)
            return ""
        if ran.code == 0:
            self._ended("hook.done", "done", f"{HOOK}: {ran.text}", term, ran.took_ms, fields)
            return ""
        self._veto = f"{HOOK} refused the promotion: {ran.text}"
        self._term, self._until = term, Instant(self._clock() + VETO_MS)
        self._grace = Term(0), Instant(0)
        self._ended("promotion.vetoed", "vetoed", self._veto, term, ran.took_ms, fields)
        return self._veto

    def _ended(
        self, kind: str, result: str, text: str, term: Term, took_ms: int, fields: dict[str, str]
    ) -> None:
        self._metrics.hook_ran(HOOK, result)
        self._happened(kind, text, term=term, duration_ms=took_ms, fields=fields)
