"""What happens to this node's server, as events: started, stopped, restarted, another role.

Owns the comparison of two looks and nothing else: no program is run here. A server that an agent
finds running when it begins has not been started; the role that a former run told last is told
again only where it is another one by now.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pgherd.model.facts import Facts, Phase
from pgherd.model.ids import NodeId, Term
from pgherd.model.observation import Server, ServerSeen
from pgherd.model.upkeep import Verb

PRIMARY, REPLICA, STANDBY_LEADER = "primary", "replica", "standby_leader"
RUNS = (Server.STANDBY, Server.PRIMARY)
RESTS = (Server.NONE, Server.UNUSABLE, Server.STOPPED)


class Happened(Protocol):
    """Record an event of this node."""

    def __call__(
        self,
        kind: str,
        text: str,
        *,
        term: Term,
        rule: int = 0,
        duration_ms: int | None = None,
        fields: dict[str, str] | None = None,
    ) -> None: ...


def role_of(facts: Facts, server: ServerSeen, me: NodeId, *, was: str) -> str:
    """What this node is for clients; "" while that is not decided.

    A primary is one whose gate may open. Who was one and has a successor is a replica from then on,
    whatever its server does; else one that stands by for somebody. In a standby cluster one node
    stands by for the remote primary, and the others for that one.
    """
    if facts.follows is not None:
        if server.state is not Server.STANDBY:
            return ""
        return STANDBY_LEADER if facts.follows.leader == me else REPLICA
    stable = facts.phase is Phase.STABLE and facts.leader is not None
    if facts.is_leader(me):
        return PRIMARY if stable and server.state is Server.PRIMARY else ""
    if server.state is Server.STANDBY or (stable and was == PRIMARY):
        return REPLICA
    return ""


class Happenings:
    """The server and the role as they were told last."""

    def __init__(
        self, me: NodeId, happened: Happened, *, role: str, keep: Callable[[str], None]
    ) -> None:
        """role: told by a former run, "" for none; keep: remember what is told now."""
        self.role = role
        self._me = me
        self._happened = happened
        self._keep = keep
        self._running: bool | None = None
        self._pid = 0
        self._restarts = False

    def look(self, facts: Facts, server: ServerSeen) -> None:
        """Tell what is different from the last look."""
        self._look_at_server(facts, server)
        role = role_of(facts, server, self._me, was=self.role)
        if role and role != self.role:
            was, self.role = self.role, role
            leader = facts.leader.node if facts.leader is not None else ""
            fields = {"role": role, "from": was, "primary": leader}
            text = f"{self._me} is {role} now, was {was or 'nothing'}: {facts.reason}"
            self._happened("role.changed", text, term=facts.term, rule=facts.rule, fields=fields)
            self._keep(role)

    def _look_at_server(self, facts: Facts, server: ServerSeen) -> None:
        work = facts.upkeep.in_hand(self._me)
        self._restarts |= work is not None and work.verb is Verb.RESTART
        runs, rests = server.state in RUNS, server.state in RESTS
        another = bool(server.pid and self._pid and server.pid != self._pid)
        if self._running is None:
            self._running = runs if runs or rests else None
        elif runs and (not self._running or another):
            kind = "server.restarted" if self._restarts else "server.started"
            role = PRIMARY if server.state is Server.PRIMARY else REPLICA
            self._tell(kind, facts, f"PostgreSQL runs as {server.state.value}", role)
            self._running, self._restarts = True, False
        elif rests and self._running:
            if not self._restarts:
                why = f": {server.problem}" if server.problem else ""
                self._tell("server.stopped", facts, f"PostgreSQL does not run here{why}", self.role)
            self._running = False
        elif work is None and self._running:
            self._restarts = False
        if runs:
            self._pid = server.pid

    def _tell(self, kind: str, facts: Facts, text: str, role: str) -> None:
        self._happened(kind, text, term=facts.term, fields={"role": role})
