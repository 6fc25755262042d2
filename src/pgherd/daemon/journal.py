"""Turns applied commands into events: one record per decision, for log, history and API."""

from __future__ import annotations

from pgherd.daemon.splitbrain import SEEN
from pgherd.ledger import commands as cmd
from pgherd.model.event import Event
from pgherd.model.facts import Facts
from pgherd.model.ids import NodeId, Term
from pgherd.store.replica import Applied
from pgherd.telemetry import logs
from pgherd.telemetry.boottime import unix_ms
from pgherd.telemetry.journal import Journal
from pgherd.telemetry.metrics import Metrics

log = logs.get("daemon")

KINDS: dict[type, str] = {
    cmd.ChooseFounder: "founder.chosen",
    cmd.Born: "cluster.born",
    cmd.Begin: "term.begun",
    cmd.Drained: "leader.drained",
    cmd.Elect: "leader.elected",
    cmd.FastForward: "candidate.catches-up",
    cmd.Establish: "term.established",
    cmd.ChangeSync: "sync.changed",
    cmd.RegisterIncarnation: "member.rebuilt",
    cmd.RequestSwitchover: "switchover.requested",
    cmd.Hold: "switchover.held",
    cmd.EndSwitchover: "switchover.ended",
    cmd.RequestFailover: "failover.requested",
    cmd.AddMember: "member.added",
    cmd.UpdateMember: "member.updated",
    cmd.AskLeave: "member.leaving",
    cmd.RemoveMember: "member.removed",
    cmd.RegisterStore: "member.store-known",
    cmd.Readmit: "member.readmitted",
    cmd.IssueToken: "token.issued",
    cmd.SetMode: "mode.set",
    cmd.SetMaxVoters: "voters.limited",
    cmd.GrantLease: "lease.granted",
    cmd.ExpireLease: "lease.ended",
    cmd.GiveUp: "data.given-up",
    cmd.Fenced: "fence.ended",
    cmd.SetConfig: "config.changed",
    cmd.FailConfig: "config.failed",
    cmd.Pause: "cluster.paused",
    cmd.Resume: "cluster.resumed",
    cmd.SetMaintenance: "member.maintenance",
    cmd.AskWork: "work.requested",
    cmd.TakeInHand: "work.goes-on",
    cmd.CrossOff: "work.goes-on",
    cmd.EndWork: "work.ended",
    cmd.KeepSlot: "slot.wanted",
    cmd.DropSlot: "slot.dropped",
    cmd.ForgetSlot: "slot.gone",
    cmd.TuneSync: "sync.tuned",
    cmd.EndMaintenance: "member.maintenance",
}
UNTOLD = (cmd.RenewLease,)
"""What happens every few seconds says nothing."""


SAYING = ("reason", "text", "why", "outcome", "winner", "node", "candidate", "name", "id")
"""The fields that say most of a command, the best first."""


FIRST_TERM = 1
GIVEN_UP = "slot.given-up"


def ended_early(command: cmd.AnyCommand, facts: Facts) -> bool:
    """Whether the lease of the present leader expired; a former one's end is what always comes."""
    lease = facts.lease
    return isinstance(command, cmd.ExpireLease) and lease is not None and lease.id == command.id


class Storyteller:
    """Records what consensus applied on this node."""

    def __init__(self, me: NodeId, journal: Journal, metrics: Metrics, *, told: int) -> None:
        """told: the index up to which an earlier run of this node has recorded everything."""
        self._me = me
        self._told = told
        self._journal = journal
        self._metrics = metrics
        self._handover = False
        self._moved = False

    def applied(self, each: Applied, facts: Facts) -> None:
        """One command took effect or was refused; facts: as they are now."""
        command = each.proposal.command
        if isinstance(each.outcome, cmd.Refused) or isinstance(command, UNTOLD):
            return
        if each.index <= self._told:
            return
        kind = KINDS[type(command)]
        text = next((str(said) for name in SAYING if (said := getattr(command, name, ""))), "")
        term = getattr(command, "term", facts.term)
        rule = getattr(command, "rule", 0)
        event = Event(
            at_ms=each.proposal.at_ms, node=self._me, kind=kind, text=text, term=term, rule=rule
        )
        self._journal.record(event)
        say = log.warning if ended_early(command, facts) else log.info
        say(kind, term=term, rule=rule, text=text, index=each.index)
        self._count(command)

    def tell(self, kind: str, text: str, *, term: Term) -> None:
        """Something that only this node noticed, and that no command tells of."""
        event = Event(at_ms=unix_ms(), node=self._me, kind=kind, text=text, term=term)
        self._journal.record(event)
        if kind == SEEN:
            self._metrics.saw_split_brain()
        elif kind == GIVEN_UP:
            self._metrics.gave_slot_up()

    def _count(self, command: cmd.AnyCommand) -> None:
        if isinstance(command, cmd.Begin):
            self._handover = command.handover is not None
        elif isinstance(command, cmd.Elect):
            self._moved = command.promoted and command.term > FIRST_TERM
            if command.promoted and command.winner.node == self._me:
                self._metrics.promoted()
        elif isinstance(command, cmd.Establish) and self._moved:
            kind = "switchover" if self._handover else "failover"
            self._metrics.failed_over(kind=kind, result="done")
