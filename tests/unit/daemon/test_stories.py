"""What becomes an event, at which level, with which rule, duration and id, and what does not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec.structs import replace

import pgherd
from pgherd.daemon.journal import KINDS, Storyteller, fields_of
from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import apply_command
from pgherd.ledger.levels import LEVEL
from pgherd.model import action as act
from pgherd.model import eventkinds
from pgherd.model.action import Planned
from pgherd.model.event import Event, Level
from pgherd.model.facts import Address, Facts, Handover, Kind
from pgherd.model.ids import Lsn, MemberKey, NodeId, Position, Term, Timeline
from pgherd.model.upkeep import Verb
from pgherd.plan.rule import Decision
from pgherd.store.replica import Applied
from pgherd.telemetry.journal import Journal
from pgherd.telemetry.metrics import Metrics

N1, N2 = NodeId("n1"), NodeId("n2")


def key(node: NodeId) -> MemberKey:
    return MemberKey(node, f"aaaaa{node[1:]}")


class Told:
    """A ledger whose commands are told as one node's agent would."""

    def __init__(self, journal: Journal | None = None, *, told: int = 0) -> None:
        self.journal = journal or Journal()
        self.stories = Storyteller(N1, self.journal, Metrics(node=N1, version="1"), told=told)
        self.facts = Facts(cluster="main", level=LEVEL)
        self.index = 1
        self.at_ms = 1_000

    def apply(self, *commands: cmd.AnyCommand, took_ms: int = 100) -> list[Event]:
        """The events of these commands."""
        before = self.journal.newest
        for command in commands:
            self.index += 1
            self.at_ms += took_ms
            self.facts, outcome = apply_command(self.facts, command, at_ms=self.at_ms)
            proposal = cmd.Proposal("n1-x", self.index, self.at_ms, command)
            self.stories.applied(Applied(self.index, proposal, outcome), self.facts)
        return [entry.event for entry in self.journal.since(before)]

    def born(self) -> None:
        for number, node in enumerate((N1, N2)):
            where = Address("127.0.0.1", raft_port=8300 + number)
            self.apply(cmd.AddMember(node=node, kind=Kind.DATA, address=where, level=LEVEL))
        self.apply(
            cmd.ChooseFounder(node=N1),
            cmd.Born(node=N1, incarnation=key(N1).incarnation, system_id="7", major=15),
            cmd.RegisterIncarnation(node=N2, incarnation=key(N2).incarnation),
        )
        self.elect(N1, rule=101)

    def elect(self, node: NodeId, *, rule: int, handover: Handover | None = None) -> list[Event]:
        term, first = Term(self.facts.term + 1), not self.facts.history
        other = N2 if node == N1 else N1
        voters = () if first else (key(other),)
        return self.apply(
            cmd.Begin(
                expected=self.facts.term, elector=N2, rule=rule, reason="why", handover=handover
            ),
            cmd.Elect(
                term=term,
                elector=N2,
                winner=key(node),
                start=Position(Term(term - 1), Lsn(0x3000000)),
                promoted=True,
                voters=voters,
                k=0 if first else 1,
                rule=305,
                reason="it has everything",
                lease_ttl_ms=10_000,
            ),
            cmd.Establish(
                term=term, timeline=Timeline(term), epoch_record_end=Lsn(0x3000040), names=voters
            ),
        )


@pytest.fixture
def told() -> Told:
    made = Told()
    made.born()
    return made


def test_every_kind_stands_in_the_catalogue() -> None:
    """Of commands, and whatever the source tells by name; names are promises."""
    assert set(KINDS.values()) <= set(eventkinds.CLUSTER)
    known = {*eventkinds.CLUSTER, *eventkinds.NODE}
    source = Path(pgherd.__file__).parent
    for room in ("daemon", "act", "observe"):
        for path in (source / room).glob("*.py"):
            text = path.read_text()
            for kind in re.findall(r"\b_?(?:tell|happened)\(\s*\"([a-z_.-]+)\"", text):
                assert kind in known, f"{path.name}: {kind}"


def test_a_failover_is_told_from_its_beginning_to_its_end(told: Told) -> None:
    """In order, with rule and term; the last says from whom to whom, and how long it took."""
    events = told.elect(N2, rule=203)
    assert [one.kind for one in events] == [
        "term.begun",
        "leader.elected",
        "term.established",
        "primary.changed",
    ]
    assert [one.term for one in events] == [2, 2, 2, 2]
    assert [one.rule for one in events] == [203, 305, 0, 203]
    change = events[-1]
    assert change.fields == {
        "kind": "failover",
        "from": "n1",
        "to": "n2",
        "timeline": "2",
        "lsn": "0/3000000",
    }
    assert (change.duration_ms, change.level, change.node) == (200, Level.WARNING, N2)
    assert change.id == f"c{told.index}.1"
    assert events[0].text == "why"


def test_a_switchover_is_no_alarm(told: Told) -> None:
    """It was asked for: level info, and its kind says so."""
    told.apply(cmd.RequestSwitchover(id="s1", candidate=N2, requested_by="otto"))
    events = told.elect(N2, rule=601, handover=Handover(switchover="s1", candidate=N2))
    change = events[-1]
    assert (change.kind, change.level) == ("primary.changed", Level.INFO)
    assert change.fields["kind"] == "switchover"


def test_the_same_primary_again_is_no_change(told: Told) -> None:
    assert [one.kind for one in told.elect(N1, rule=204)][-1] == "primary.returned"


def test_ids_are_the_same_at_every_node_and_after_a_restart(tmp_path: Path) -> None:
    """They follow from the ledger; what an earlier run wrote down is not told again."""
    ids = []
    for name in ("a", "b"):
        told = Told(Journal(tmp_path / name))
        told.born()
        told.elect(N2, rule=203)
        told.journal.close()
        ids.append([entry.event.id for entry in told.journal.since()])
    assert ids[0] == ids[1]
    again = Told(Journal(tmp_path / "a"), told=3)
    again.born()
    again.elect(N2, rule=203)
    assert [entry.event.id for entry in again.journal.since()] == ids[0]
    [new] = again.apply(cmd.SetMaxVoters(max_voters=3, requested_by="otto"))
    assert new.kind == "voters.limited"
    again.journal.close()


def test_what_was_not_written_down_in_time_is_told_again(tmp_path: Path) -> None:
    """The file of a killed agent may end before its store does."""
    told = Told(Journal(tmp_path / "a"))
    told.born()
    told.journal.close()
    ids = [entry.event.id for entry in told.journal.since()]
    lines = (tmp_path / "a").read_bytes().splitlines(keepends=True)
    (tmp_path / "a").write_bytes(b"".join(lines[:-2]))
    again = Told(Journal(tmp_path / "a"), told=told.index)
    again.born()
    assert [entry.event.id for entry in again.journal.since()] == ids
    again.journal.close()


def test_a_restored_ledger_is_told_though_its_journal_is_ahead(tmp_path: Path) -> None:
    """The same index at another time is something else."""
    told = Told(Journal(tmp_path / "a"))
    told.born()
    told.elect(N2, rule=203)
    told.journal.close()
    again = Told(Journal(tmp_path / "a"), told=2)
    again.at_ms += 1_000_000
    before = again.journal.newest
    again.born()
    assert [entry.event.kind for entry in again.journal.since(before)][-1] == "term.established"
    again.journal.close()


def test_work_ends_with_its_duration(told: Told) -> None:
    """Also where the last node was crossed off, which has a word of its own."""
    told.apply(
        cmd.AskWork(id="w1", verb=Verb.RELOAD, nodes=(N2,), requested_by="otto"),
        cmd.TakeInHand(id="w1", step=0, node=N2, mark="", text="reloads", rule=1),
    )
    events = told.apply(cmd.CrossOff(id="w1", step=1, rule=2), took_ms=500)
    assert [one.kind for one in events] == ["work.goes-on", "work.ended"]
    assert events[-1].duration_ms == 600


def test_refusals_and_renewals_are_no_events(told: Told) -> None:
    assert told.apply(cmd.ChooseFounder(node=N2)) == []


def test_nothing_secret_is_a_field() -> None:
    """Fields are named one by one: what a command carries does not get out by itself."""
    issued = cmd.IssueToken(id="t1", secret_sha256="abc", expires_at_unix=1)
    assert fields_of(issued) == {"id": "t1"}


def test_acts_and_decisions_of_this_node(told: Told) -> None:
    """An act with rule, reason and duration; a decision once, not every time it is made."""
    planned = Planned(42, "becomes primary", act.Promote(Term(3), Position(Term(2), Lsn(1))))
    told.stories.acted(planned, "done", "", 321)
    told.stories.acted(planned, "failed", "no", 5)
    done, failed = [entry.event for entry in told.journal.since()][-2:]
    assert (done.kind, done.rule, done.term, done.duration_ms) == ("action.done", 42, 3, 321)
    assert done.text == "Promote: becomes primary"
    assert (failed.kind, failed.level) == ("action.failed", Level.WARNING)
    assert not failed.is_clusters
    slots = Planned(1601, "keeps slots", act.KeepSlots(nodes=(N1, N2)))
    told.stories.acted(slots, "done", "", 1)
    assert [entry.event for entry in told.journal.since()][-1] == failed
    told.stories.acted(replace(slots, action=replace(slots.action, drop=("mine",))), "done", "", 1)
    assert [entry.event for entry in told.journal.since()][-1].kind == "action.done"
    before = told.journal.newest
    for reason in ("waits for n2", "waits for n2", "waits for n2 and n3"):
        told.stories.decided(Decision(304, reason), Term(3))
    told.stories.decided(Decision(402, "waits until n2 is promoted"), Term(3))
    told.stories.decided(Decision(101, "n1 makes it", cmd.ChooseFounder(node=N1)), Term(3))
    told.stories.decided(Decision(900, "all is well"), Term(3))
    told.stories.decided(Decision(0, ""), Term(3))
    texts = [entry.event.text for entry in told.journal.since(before)]
    assert texts == ["waits for n2", "waits until n2 is promoted"]


def test_an_early_end_of_the_lease_is_a_warning(told: Told) -> None:
    """It is the present primary's."""
    lease = told.facts.lease
    assert lease is not None
    [event] = told.apply(
        cmd.ExpireLease(id=lease.id, renew_seq=lease.renew_seq, rule=231, reason="silent")
    )
    assert (event.kind, event.level) == ("lease.ended", Level.WARNING)
