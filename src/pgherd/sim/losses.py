"""I7, I8 and I20 in mode async: what was acknowledged may be lost by policy only, and is recorded.

A reign that began by an expired lease may lack what its predecessor acknowledged: of what the
ledger had heard of no more than max_lag allows and the history says, and what was written later.
What is lost so is taken out of the checks' record of acknowledgements. Two primaries never
acknowledge at once (I8), except one whose agent is dead or stands still: there nobody can close.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.ledger import commands as cmd
from pgherd.model.facts import Reign
from pgherd.model.ids import Lsn, NodeId, Term
from pgherd.sim.clock import SECOND
from pgherd.sim.wal import Record
from pgherd.store.replica import Applied

if TYPE_CHECKING:
    from pgherd.sim.commits import Commits
    from pgherd.sim.postgres import Server
    from pgherd.sim.world import World

AWAKE_FOR = SECOND
"""An agent that has looked for so long has had its time to close what it must."""


class Losses:
    """What one run lost by policy. told: how far each reign's WAL was by its last renewal."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.told: dict[Term, Lsn] = {}
        self.reigns = 0
        self.rows = 0
        self.unwatched = 0

    def on_applied(self, applied: Applied) -> None:
        command = applied.proposal.command
        if isinstance(command, cmd.RenewLease) and isinstance(applied.outcome, cmd.Done):
            self.told[command.term] = max(self.told.get(command.term, Lsn(0)), command.flush_lsn)

    def allows(self, server: Server) -> bool:
        """Whether the newest reign, which is this server's, may lack what was acknowledged."""
        facts = self.world.facts()
        reign = facts.reign() if facts is not None else None
        if reign is None or reign.leader.node != server.node or not self._lossy():
            return False
        self._give_up(server, reign)
        return True

    def _lossy(self) -> list[Reign]:
        """The reigns by policy since the last one that acknowledged: the loss of all of them."""
        facts = self.world.facts()
        assert facts is not None
        found, newest = [], facts.history[-1:]
        for reign in reversed(facts.history):
            if reign.established and reign not in newest:
                break
            if reign.lost_bytes is not None:
                found.append(reign)
        return found

    def on_established(self, reign: Reign) -> None:
        """Until here the old primary may have acknowledged what its successor lacks."""
        server = self.world.server(reign.leader.node)
        if server.dir is not None and self._lossy():
            self.reigns += 1
            self._give_up(server, reign)

    def _give_up(self, server: Server, reign: Reign) -> None:
        """What was told of must be recorded, and within the policy; the rest came after that."""
        checks, most = self.world.checks, self.world.policy.max_lag_bytes
        assert server.dir is not None
        lost = [one.lost_bytes or 0 for one in self._lossy()]
        if max(lost) > most:
            checks.fail("I7", f"up to term {reign.term} {lost} bytes were given up, not {most}")
        behind = self.told.get(self._before(reign), Lsn(0)) - reign.start.lsn
        if sum(lost) < behind:
            checks.fail("I7", f"term {reign.term} is {behind} bytes behind, {lost} are recorded")
        gone = [one for one in checks.acks.values() if not server.dir.holds(one)]
        self._forget(gone)
        checks.tip = max(checks.acks.values(), key=lambda one: one.depth, default=None)

    def _before(self, reign: Reign) -> Term:
        """The reign that was the last to acknowledge anything before another one."""
        established = self.world.checks.established
        return max((term for term in established if term < reign.term), default=Term(0))

    def _forget(self, gone: list[Record]) -> None:
        for record in gone:
            del self.world.checks.acks[record.data]
        self.rows += len(gone)

    def late(self, server: Commits, record: Record, term: Term) -> bool:
        """Whether this is acknowledged behind a successor's back, where nobody could stop it.

        term: of the names under which it is. Where somebody could, two primaries acknowledge.
        """
        checks, facts = self.world.checks, self.world.facts()
        newest = max(checks.established, default=Term(0))
        reigns = facts.history if facts is not None else ()
        later = [one for one in reigns if one.term > term]
        gave_up = [one.leader for one in later if one.gave_up]
        if not gave_up and not any(one.lost_bytes is not None for one in later):
            return False
        holder = self.world.server((gave_up[-1] if gave_up else checks.leaders[newest]).node)
        if (not gave_up and term >= newest) or (
            holder.dir is not None and holder.dir.holds(record)
        ):
            return False
        if self._is_watched(server.node):
            checks.fail("I8", f"{server.node} acknowledges {record} while {holder.node} leads")
        self.unwatched += 1
        self._forget([record])
        return True

    def _is_watched(self, node: NodeId) -> bool:
        """Whether a node's agent lives and has had the time to close what it must."""
        agent = self.world.nodes[node].agent or self.world.nodes[node].forgetful
        if agent is None or agent.proc.paused:
            return False
        return self.world.clock.now - agent.awake_since > AWAKE_FOR
