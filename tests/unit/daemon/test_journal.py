"""Every command becomes an event, or says on purpose nothing: a missing word stops an agent."""

from __future__ import annotations

import re

from pgherd.daemon.journal import KINDS, UNTOLD, Storyteller
from pgherd.ledger import commands as cmd
from pgherd.model.facts import Facts, Handover, Reign
from pgherd.model.ids import Lsn, MemberKey, NodeId, Position, Term, Timeline
from pgherd.store.replica import Applied
from pgherd.telemetry.journal import Journal
from pgherd.telemetry.metrics import Metrics, RaftSeen

N1, N2 = NodeId("n1"), NodeId("n2")
START = Position(Term(1), Lsn(8))


def test_every_command_has_its_word() -> None:
    """The union of commands is what is told and what is not."""
    assert {*KINDS, *UNTOLD} == set(cmd.AnyCommand.__args__)


class Told:
    """The metrics of n1, to which commands are applied."""

    def __init__(self) -> None:
        self.metrics = Metrics(node=N1, version="1")
        self._teller = Storyteller(N1, Journal(), self.metrics, told=0)
        self._reigns: tuple[Reign, ...] = ()
        self._index = 0

    def apply(self, command: cmd.AnyCommand, *, at_ms: int) -> None:
        self._index += 1
        if isinstance(command, cmd.Elect):
            reign = Reign(command.term, command.winner, START, command.promoted, 1, "why")
            self._reigns = (*self._reigns, reign)
        proposal = cmd.Proposal("c", self._index, at_ms, command, 0)
        applied = Applied(self._index, proposal, cmd.Done(""))
        self._teller.applied(applied, Facts(cluster="main", history=self._reigns))

    def reign(self, term: int, leader: NodeId, *, promoted: bool, handover: bool = False) -> None:
        """A term from its begin to its winner, at 1,000 ms a term."""
        planned = Handover("s", N2) if handover else None
        begin = cmd.Begin(Term(term - 1), N2, 1, "why", planned)
        self.apply(begin, at_ms=term * 1000)
        key = MemberKey(leader, "aaaaaa")
        elect = cmd.Elect(Term(term), N2, key, START, promoted, (), 0, 1, "why")
        self.apply(elect, at_ms=term * 1000 + 100)

    def open(self, term: int) -> None:
        done = cmd.Establish(Term(term), Timeline(term), Lsn(9), ())
        self.apply(done, at_ms=term * 1000 + 500)

    def told(self, name: str) -> float:
        raft = RaftSeen(term=1, state="leader", commit_index=1, applied_index=1, has_quorum=True)
        text = self.metrics.render(facts=Facts(cluster="main"), reports={}, raft=raft).decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, flags=re.MULTILINE)
        return float(found[1]) if found is not None else 0.0


def test_a_change_of_primary_that_takes_two_terms_is_one() -> None:
    """Its time is from the first begin until the second term is open; a demotion is counted by who
    led before."""
    told = Told()
    told.reign(1, N1, promoted=True)
    told.open(1)
    told.reign(2, N2, promoted=True, handover=True)
    told.reign(3, N2, promoted=False)
    told.open(3)
    assert told.told('pgherd_failovers_total{kind="switchover",result="done"}') == 1
    assert told.told("pgherd_switchover_duration_seconds_sum") == 1.5
    assert told.told("pgherd_demotions_total") == 1
    told.reign(4, N1, promoted=True)
    told.open(4)
    assert told.told('pgherd_failovers_total{kind="failover",result="done"}') == 1
    assert told.told("pgherd_failover_duration_seconds_sum") == 0.5
    told.reign(5, N1, promoted=False)
    told.open(5)
    assert told.told("pgherd_failover_duration_seconds_count") == 1, "a false alarm changes nothing"
    assert told.told("pgherd_promotions_total") == 2
