"""Turns applied commands, decisions and acts into events: one record each, for log, history, API.

Owns the word for each command and what of it is shown: a few fields by name, so that nothing which
a command carries gets into an event by itself. Kinds and levels are `model.eventkinds`'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pgherd.daemon.splitbrain import SEEN
from pgherd.ledger import commands as cmd
from pgherd.model import action as act
from pgherd.model.event import Event, Level
from pgherd.model.eventkinds import level_of
from pgherd.model.facts import Facts, Note, Reign
from pgherd.model.ids import NodeId, Term, format_lsn
from pgherd.store.replica import Applied
from pgherd.telemetry import durations, logs
from pgherd.telemetry.boottime import unix_ms
from pgherd.telemetry.journal import Journal
from pgherd.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from pgherd.model.action import Planned
    from pgherd.plan.rule import Decision

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
    cmd.EndTrial: "config.tried",
    cmd.RotatePassword: "password.made",
    cmd.StepPassword: "password.stepped",
    cmd.EndOverlap: "password.hurried",
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
    cmd.ForgetWork: "work.forgotten",
    cmd.MakeToken: "token.made",
    cmd.RevokeToken: "token.revoked",
    cmd.LeadStandby: "standby-leader.named",
    cmd.PromoteCluster: "cluster.promoted",
    cmd.DemoteCluster: "cluster.demoted",
    cmd.BeginDrill: "drill.begun",
    cmd.EndDrill: "drill.ended",
}
UNTOLD = (cmd.RenewLease, cmd.RecordAudit)
"""What happens every few seconds says nothing, and what is a record itself."""


SAYING = ("reason", "text", "why", "outcome", "winner", "node", "candidate", "name", "id")
"""The fields that say most of a command, the best first; a note of the ledger says more."""

SHOWN = (
    *("node", "winner", "candidate", "holder", "target", "by", "elector", "founder"),
    *("id", "name", "verb", "state", "outcome", "requested_by", "author", "mode", "num_sync"),
    *("max_voters", "kind", "version", "enabled", "start", "timeline", "k", "lost_bytes", "which"),
)
"""The fields of commands that events have; nothing secret is among them."""

BESIDE = (
    *("switchover.undone", "switchover.ended", "work.ended", "member.stays"),
    *("data.loss-accepted", "config.confirmed", "cluster.follows", "drill.regressed"),
)
"""What the ledger notes beside a command's own word, and is an event of its own."""

FIRST_TERM = 1
LASTED = {"failover": durations.FAILOVER, "switchover": durations.SWITCHOVER}
GIVEN_UP = "slot.given-up"
CHANGED, RETURNED = "primary.changed", "primary.returned"
DECIDED = "herd.decided"
NOTHING_TO_DECIDE = 900
SAME_RULE_MS = 10_000
"""A decision by the same rule in other words is told no sooner again."""


def ended_early(command: cmd.AnyCommand, facts: Facts) -> bool:
    """Whether the lease of the present leader expired; a former one's end is what always comes."""
    lease = facts.lease
    return isinstance(command, cmd.ExpireLease) and lease is not None and lease.id == command.id


class Storyteller:
    """Records what consensus applied on this node, and what this node noticed and did."""

    def __init__(self, me: NodeId, journal: Journal, metrics: Metrics, *, told: int) -> None:
        """told: the index that an earlier run of this node had committed.

        What is not in its journal was not written down in time, and is told now; where there is no
        journal of it, all of it counts as told. A ledger that was restored begins further back than
        its journal ends: what has the same index at another time is something else.
        """
        self._me = me
        self._told = min(journal.index, told) if journal.index else told
        entries = journal.since()
        self._recalled = {(one.event.index, one.event.at_ms) for one in entries}
        self._journal = journal
        self._metrics = metrics
        self._handover = False
        self._moved = False
        self._beside: Note | None = None
        self._decided = (0, "")
        self._decided_at_ms = 0
        self._began_ms = 0

    def applied(self, each: Applied, facts: Facts) -> None:
        """One command took effect or was refused; facts: as they are now."""
        command = each.proposal.command
        if isinstance(each.outcome, cmd.Refused) or isinstance(command, UNTOLD):
            return
        if each.index <= self._told:
            return
        kind, at_ms = KINDS[type(command)], each.proposal.at_ms
        if (each.index, at_ms) in self._recalled:
            return
        notes = [note for note in facts.notes[-20:] if note.at_ms == at_ms]
        own = next((note for note in notes if note.kind == kind), None)
        text = next((str(said) for name in SAYING if (said := getattr(command, name, ""))), "")
        term = getattr(command, "term", facts.term)
        rule = getattr(command, "rule", 0)
        shown = fields_of(command)
        event = Event(
            at_ms=at_ms,
            node=NodeId(shown.get("node", "")),
            kind=kind,
            text=own.text if own is not None else text,
            term=term,
            rule=rule,
            fields=shown,
            level=Level.WARNING if ended_early(command, facts) else level_of(kind, clusters=True),
            index=each.index,
            id=f"c{each.index}",
        )
        more = [self._of_note(note, event) for note in notes if note.kind in BESIDE]
        if isinstance(command, cmd.Establish):
            more += self._of_change(event, facts)
        self._count(command, facts, at_ms=at_ms)
        told = [event, *(one for one in more if one is not None and one.kind != kind)]
        for number, one in enumerate(told):
            took_ms = worked_ms(one, facts) if one.duration_ms is None else one.duration_ms
            id = f"c{each.index}.{number}"
            self._record(msgspec.structs.replace(one, id=id, duration_ms=took_ms))

    def tell(self, kind: str, text: str, *, term: Term) -> None:
        """Something that only this node noticed, and that no command tells of."""
        self.happened(kind, text, term=term)
        if kind == SEEN:
            self._metrics.saw_split_brain()
        elif kind == GIVEN_UP:
            self._metrics.gave_slot_up()

    def happened(
        self,
        kind: str,
        text: str,
        *,
        term: Term,
        rule: int = 0,
        duration_ms: int | None = None,
        fields: dict[str, str] | None = None,
    ) -> None:
        """The same, with more to say of it."""
        self._journal.record(
            Event(
                at_ms=unix_ms(),
                node=self._me,
                kind=kind,
                text=text,
                term=term,
                rule=rule,
                fields=fields or {},
                level=level_of(kind, clusters=False),
                duration_ms=duration_ms,
            )
        )

    def acted(self, planned: Planned, ending: str, why: str, took_ms: int) -> None:
        """This node's executor has ended an act: done, failed or cut.

        That slots are where they were is done every few seconds and no news.
        """
        if ending == "done" and is_routine(planned.action):
            return
        name = type(planned.action).__name__
        term = Term(getattr(planned.action, "term", 0))
        text = f"{name}: {planned.reason}" + (f": {why}" if why else "")
        self.happened(
            f"action.{ending.split()[0]}",
            text,
            term=term,
            rule=planned.rule,
            duration_ms=took_ms,
            fields={"action": name},
        )

    def decided(self, decision: Decision, term: Term) -> None:
        """The herd decider of this node came to this; told where it is another one than before.

        What has a command becomes the cluster's event once that is applied.
        """
        said, now = (decision.rule, decision.reason), unix_ms()
        if not decision.rule or said == self._decided:
            return
        again = decision.rule == self._decided[0] and now - self._decided_at_ms < SAME_RULE_MS
        self._decided = said
        log.info(DECIDED, rule=decision.rule, reason=decision.reason)
        waits = decision.command is None and decision.rule != NOTHING_TO_DECIDE
        if waits and not again:
            self._decided_at_ms = now
            self.happened(DECIDED, decision.reason, term=term, rule=decision.rule)

    def _record(self, event: Event) -> None:
        self._journal.record(event)
        say = log.warning if event.level.weight >= Level.WARNING.weight else log.info
        asked = {"id": found} if (found := event.fields.get("id", "")) else {}
        say(
            event.kind,
            term=event.term,
            rule=event.rule,
            text=event.text,
            index=event.index,
            **asked,
        )

    def _of_note(self, note: Note, event: Event) -> Event | None:
        """What the ledger noted with a command; commands of the same moment share such a note."""
        if note == self._beside:
            return None
        self._beside = note
        return msgspec.structs.replace(
            event,
            kind=note.kind,
            text=note.text,
            term=note.term,
            rule=note.rule,
            level=level_of(note.kind, clusters=True),
        )

    def _of_change(self, event: Event, facts: Facts) -> list[Event]:
        """That a term which is established has another primary than the one before."""
        place = next((at for at, one in enumerate(facts.history) if one.term == event.term), None)
        if place is None or not self._moved:
            return []
        reign = facts.history[place]
        old = previous(facts.history[:place])
        took = reign.established_at_ms - reign.began_at_ms
        took_ms = max(0, took) if reign.established and reign.began_at_ms else None
        way = "switchover" if self._handover else "failover"
        new, was = reign.leader.node, old.leader.node if old is not None else ""
        kind = RETURNED if was == new else CHANGED
        fields = {
            "kind": way,
            "from": was,
            "to": new,
            "timeline": str(reign.timeline),
            "lsn": format_lsn(reign.start.lsn),
        }
        level = Level.INFO if self._handover else Level.WARNING
        text = f"{way} from {was or 'nobody'} to {new}: {reign.reason}"
        return [
            msgspec.structs.replace(
                event,
                kind=kind,
                node=new,
                text=text,
                rule=reign.rule,
                fields=fields,
                level=level,
                duration_ms=took_ms,
            )
        ]

    def _count(self, command: cmd.AnyCommand, facts: Facts, *, at_ms: int) -> None:
        """A change of primary ends with a term that is open, however many terms it took."""
        if isinstance(command, cmd.Begin):
            self._began_ms = self._began_ms or at_ms
            self._handover = self._handover or command.handover is not None
        elif isinstance(command, cmd.Elect):
            self._moved = self._moved or (command.promoted and command.term > FIRST_TERM)
            before = [one for one in facts.history if one.term < command.term]
            if before and before[-1].leader.node == self._me != command.winner.node:
                self._metrics.node.demoted()
            if command.promoted and command.winner.node == self._me:
                self._metrics.promoted()
        elif isinstance(command, cmd.Establish):
            if self._moved:
                kind = "switchover" if self._handover else "failover"
                self._metrics.failed_over(kind=kind, result="done")
                if self._began_ms:
                    took_s = max(0, at_ms - self._began_ms) / 1000
                    self._metrics.durations.took(LASTED[kind], took_s)
            self._moved, self._handover, self._began_ms = False, False, 0


def is_routine(action: act.Action | None) -> bool:
    """Whether an act changes nothing that anybody asked for."""
    if not isinstance(action, act.KeepSlots):
        return False
    return not (action.make or action.drop or action.renew or action.release)


def previous(history: tuple[Reign, ...]) -> Reign | None:
    """The newest reign of these that was established."""
    return next((reign for reign in reversed(history) if reign.established), None)


def worked_ms(event: Event, facts: Facts) -> int | None:
    """How long work took that ended with an event, from when it was asked for."""
    work = facts.upkeep.work(event.fields.get("id", ""))
    if event.kind != "work.ended" or work is None or not work.ended_at_ms:
        return None
    return max(0, work.ended_at_ms - max(work.asked_at_ms, work.not_before_ms))


def fields_of(command: cmd.AnyCommand) -> dict[str, str]:
    """What events show of a command."""
    found: dict[str, str] = {}
    for name in SHOWN:
        value = getattr(command, name, None)
        if value not in (None, "", ()):
            found[name] = str(getattr(value, "node", value))
    return found
