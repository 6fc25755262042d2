"""Kept slots and the tuning of the sync set: what is refused, what stays until nobody has it."""

from __future__ import annotations

import msgspec
import pytest
from test_apply import after, refused, stable

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL, needed_level
from pgherd.ledger.slots import SLOTS_MAX, find
from pgherd.model.facts import Facts, Mode
from pgherd.model.ids import NodeId, Term
from pgherd.model.slots import SlotKind
from pgherd.model.synctuning import COMMITS, SyncTuning

FEED = cmd.KeepSlot("feed", SlotKind.PHYSICAL, "ann")
CHANGES = cmd.KeepSlot("changes", SlotKind.LOGICAL, "ann", database="app", plugin="pgoutput")


def upgraded(**changes: object) -> Facts:
    """Members that all understand the newest commands."""
    return msgspec.structs.replace(stable(), level=LEVEL, **changes)


def tune(**changes: object) -> cmd.TuneSync:
    return cmd.TuneSync(msgspec.structs.replace(SyncTuning(), **changes), requested_by="ann")


@pytest.mark.parametrize("command", [FEED, CHANGES, tune(), cmd.DropSlot("feed", "ann")])
def test_older_members_are_waited_for(command: cmd.Command) -> None:
    assert needed_level(command) == 6
    assert refused(stable(), command) == "too_new"


def test_a_slot_is_kept_dropped_and_forgotten() -> None:
    """Dropping leaves a mark until it is nowhere; a name is free again only then."""
    facts = after(upgraded(), CHANGES, FEED)
    assert [slot.name for slot in facts.slots] == ["changes", "feed"]
    kept = find(facts, "feed")
    assert kept is not None
    assert (kept.requested_by, kept.asked_in) == ("ann", facts.term)
    assert refused(facts, cmd.ForgetSlot("feed", kept.asked_at_ms, 1105)) == "stale"
    going = after(facts, cmd.DropSlot("feed", "ann"), cmd.DropSlot("feed", "bob"))
    assert [slot.dropping for slot in going.slots] == [False, True]
    assert refused(going, FEED) == "busy"
    assert refused(going, cmd.ForgetSlot("feed", kept.asked_at_ms + 1, 1105)) == "stale"
    gone = after(going, cmd.ForgetSlot("feed", kept.asked_at_ms, 1105))
    assert [slot.name for slot in gone.slots] == ["changes"]
    assert refused(gone, cmd.DropSlot("feed", "ann")) == "unknown_slot"


def test_the_same_slot_again_is_asked_for_anew() -> None:
    """That is how a logical one that a failover lost is made anew; another one is not it."""
    facts = after(upgraded(), CHANGES)
    later = msgspec.structs.replace(facts, term=Term(facts.term + 1))
    again = after(later, CHANGES)
    assert [slot.asked_in for slot in again.slots] == [later.term]
    other = msgspec.structs.replace(CHANGES, database="other")
    assert refused(again, other) == "name_taken"


@pytest.mark.parametrize(
    "command",
    [
        msgspec.structs.replace(FEED, name="pgherd_n1"),
        msgspec.structs.replace(FEED, name="Feed"),
        msgspec.structs.replace(FEED, name=""),
        msgspec.structs.replace(FEED, name="x" * 64),
        msgspec.structs.replace(FEED, plugin="pgoutput"),
        msgspec.structs.replace(CHANGES, database=""),
    ],
)
def test_what_can_be_no_slot_is_refused(command: cmd.KeepSlot) -> None:
    assert refused(upgraded(), command) == "invalid"


def test_only_so_many_are_kept() -> None:
    many = (msgspec.structs.replace(FEED, name=f"feed{n}") for n in range(SLOTS_MAX))
    assert refused(after(upgraded(), *many), FEED) == "too_many"


def test_limits_and_waits_of_commits() -> None:
    facts = after(upgraded(), tune(commit="remote_apply", max_lag_bytes=1 << 20))
    assert facts.tuning == SyncTuning("remote_apply", 1 << 20)
    assert facts.sync == upgraded().sync
    assert facts.notes[-1].kind == "sync.tuned"
    assert refused(facts, tune(commit="maybe")) == "invalid"
    assert refused(facts, tune(max_lag_bytes=1)) == "invalid"
    assert refused(facts, tune(nosync=(NodeId("n9"),))) == "unknown_node"


@pytest.mark.parametrize("commit", COMMITS)
def test_strict_and_a_weaker_wait_do_not_go_together(commit: str) -> None:
    """Whichever comes second is refused; otherwise strict would promise what nobody keeps."""
    weak = commit in ("off", "local", "remote_write")
    strict = upgraded(mode=Mode.STRICT)
    if not weak:
        assert after(strict, tune(commit=commit)).tuning.commit == commit
        return
    assert refused(strict, tune(commit=commit)) == "unsafe"
    waits = upgraded(mode=Mode.ASYNC, mode_wanted=Mode.STRICT)
    assert refused(waits, tune(commit=commit)) == "unsafe"
    weaker = after(upgraded(), tune(commit=commit))
    assert refused(weaker, cmd.SetMode(Mode.STRICT, 0, "ann")) == "unsafe"
    assert after(weaker, cmd.SetMode(Mode.ASYNC, 0, "ann")).mode is Mode.ASYNC
