"""What may go into the archive of WAL and what may come out of it."""

from __future__ import annotations

from typing import Any

import pytest
from archive_cases import ADOPTED, ALONE, BY_ARCHIVE, KNOWN, alone
from plan_values import (
    END,
    TERM,
    electing,
    facts,
    key,
    look,
    member,
    myself,
    parked,
    pos,
    primary,
    promises,
    reign,
    replace,
    report,
    sealed,
    sender,
    standby,
    sync,
)

from pgherd.model import action as act
from pgherd.model.archive import SEGMENT_BYTES, ArchiveSeen, WalFile, read_name
from pgherd.model.facts import Facts, Frozen, Mode, Phase
from pgherd.model.ids import Lsn, NodeId, Term, Timeline
from pgherd.model.observation import Server
from pgherd.plan import election
from pgherd.plan.archiving import may_come, may_go
from pgherd.plan.member import decide
from pgherd.plan.own import SlotsSeen
from pgherd.plan.slotkeeping import others
from pgherd.plan.truth import Standing, standing

SEG = SEGMENT_BYTES
N1, N2 = NodeId("n1"), NodeId("n2")
HISTORY = (
    reign(1, 1, pos(0, 100)),
    reign(2, 1, pos(1, 2 * SEG + 500)),
    reign(3, 1, pos(2, 4 * SEG + 10)),
)
"""Timeline 2 began in the third segment, timeline 3 in the fifth."""


def name(timeline: int, number: int, more: str = "") -> str:
    return f"{timeline:08X}{0:08X}{number:08X}{more}"


def led(*voters: int, k: int = 1, **changes: Any) -> Facts:
    return facts(**{"history": HISTORY, "sync": sync(*voters, k=k), **changes})


def writes(*flushed: tuple[int, int], **changes: Any) -> Any:
    """n1 is primary on timeline 3; so much have its standbys flushed."""
    senders = tuple(sender(number, flush=Lsn(end)) for number, end in flushed)
    return primary(senders=senders, **changes)


def goes(known: Facts, server: Any, file: str, *, has_lease: bool = True) -> str:
    return may_go(known, key(1), server, file, has_lease=has_lease).word


# --- names ---


def test_files_are_known_by_their_names() -> None:
    assert read_name("000000030000000100000002") == WalFile(
        Timeline(3), Lsn((1 << 32) + 2 * SEG), Lsn((1 << 32) + 3 * SEG), whole=True
    )
    assert read_name("00000003.history") == WalFile(Timeline(3))
    partial, backup = read_name(name(3, 2, ".partial")), read_name(name(3, 2, ".00000028.backup"))
    assert partial is not None
    assert backup is not None
    assert (partial.whole, backup.whole) == (False, False)
    for other in ("", "pgherd.conf", name(3, 2) + "0", "../" + name(3, 2), name(3, 2, ".partial2")):
        assert read_name(other) is None, other


# --- into the archive ---


def test_a_segment_goes_when_every_later_primary_has_it() -> None:
    """With three voters and k = 2, R is 2: any two that were sealed meet any two that flushed."""
    known = led(2, 3, 4, k=2, members={NodeId(f"n{n}"): member(n) for n in (1, 2, 3, 4)})
    file, end = name(3, 6), 7 * SEG
    assert goes(known, writes((2, end), (3, end), (4, 0)), file) == "go"
    assert goes(known, writes((2, end), (3, end - 1), (4, 0)), file) == "wait"
    assert goes(known, writes(), file) == "wait"
    assert goes(led(2, 3), writes((2, 0), (3, end)), file) == "go"


def test_segments_of_an_adopted_cluster_may_be_larger() -> None:
    """The seventh of 64 MB ends elsewhere than one of 16 MB."""
    size = 64 << 20
    for end, word in ((7 * size, "go"), (7 * size - 1, "wait"), (7 * SEG, "wait")):
        said = may_go(
            led(2), key(1), writes((2, end)), name(3, 6), has_lease=True, segment_bytes=size
        )
        assert said.word == word


def test_flushes_under_another_term_and_of_strangers_count_for_nothing() -> None:
    file, end = name(3, 6), Lsn(7 * SEG)
    former = primary(senders=(sender(2, term=Term(2), flush=end),))
    assert goes(led(2), former, file) == "wait"
    stranger = primary(senders=(sender(3, flush=end), sender(2, flush=Lsn(0))))
    assert goes(led(2), stranger, file) == "wait"


def test_an_old_primary_archives_nothing_of_its_own() -> None:
    """Cut off, it knows of no later term: its lost voters tell. In an election, its phase."""
    assert goes(led(2, 3), writes(), name(3, 6)) == "wait"
    assert goes(electing(history=HISTORY), writes((2, 7 * SEG)), name(3, 6)) == "wait"
    assert goes(led(2, 3, leader=key(2)), writes((3, 7 * SEG)), name(3, 6)) == "halt"
    assert goes(led(2, 3, phase=Phase.ESTABLISHING), writes((3, 7 * SEG)), name(3, 6)) == "wait"
    assert goes(led(2, 3), standby(), name(3, 6)) == "halt"


@pytest.mark.parametrize("known", [led(), led(2, 3, mode=Mode.ASYNC)])
def test_who_writes_alone_archives_by_its_lease(known: Facts) -> None:
    assert goes(known, writes(), name(3, 6)) == "go"
    assert goes(known, writes(), name(3, 6), has_lease=False) == "wait"
    assert goes(known, writes(), "00000003.history", has_lease=False) == "wait"


def test_of_an_earlier_timeline_only_what_is_on_the_history() -> None:
    """What its predecessor had not archived any more; never what was left behind a fork."""
    known, server = led(2, 3), writes()
    assert goes(known, server, name(2, 3)) == "go"
    assert goes(known, server, name(2, 4)) == "skip", "timeline 3 began in it"
    assert goes(known, server, name(2, 4, ".partial")) == "go"
    assert goes(known, server, name(1, 1)) == "go"
    assert goes(known, server, name(1, 2)) == "skip"
    assert goes(known, server, name(1, 3)) == "skip"
    assert goes(known, server, "00000002.history") == "go"
    assert goes(known, server, "00000003.history") == "go"
    assert goes(known, server, name(3, 6, ".00000028.backup")) == "go"
    assert goes(known, server, "postgresql.conf") == "skip"


def test_a_reign_without_a_number_ends_the_one_before_all_the_same() -> None:
    """Its winner died before it was established, so that nobody wrote down its timeline."""
    unknown = replace(HISTORY[1], timeline=Timeline(0), established=False)
    known = led(2, 3, history=(HISTORY[0], unknown, HISTORY[2]))
    assert goes(known, writes(), name(1, 1)) == "go"
    assert goes(known, writes(), name(1, 2)) == "skip"
    assert goes(known, writes(), name(1, 3)) == "skip"


# --- out of the archive ---


def archived(last: str = "", **changes: Any) -> Any:
    return report(1, primary(**changes), archive=ArchiveSeen(last=last)).report


def comes(file: str, *, last: str = name(3, 7), known: Any = None, own: Any = ADOPTED) -> Any:
    return may_come(known or led(2, 3), own, archived(last), file)


def test_what_the_leader_archived_comes() -> None:
    assert comes(name(3, 7)).word == "go"
    assert comes(name(3, 5)).word == "go"
    assert comes(name(3, 8)).word == "none", "somebody else left it there"
    assert comes(name(3, 5), last="").word == "none"
    assert comes(name(3, 5), last=name(2, 9)).word == "none"
    assert comes(name(4, 5)).word == "none"
    assert may_come(led(2, 3), ADOPTED, None, name(3, 5)).word == "none", "it is not heard"


def test_of_earlier_timelines_what_is_on_the_history_comes() -> None:
    assert comes(name(2, 3)).word == "go"
    assert comes(name(2, 4)).word == "none"
    assert comes(name(1, 1)).word == "go"
    assert comes(name(1, 2)).word == "none"
    unknown = replace(HISTORY[1], timeline=Timeline(0))
    known = led(2, 3, history=(HISTORY[0], unknown, HISTORY[2]))
    assert comes(name(2, 3), known=known).word == "none", "no established term opened it"


def test_a_history_file_has_to_begin_where_the_ledger_has_it() -> None:
    """Two that were promoted alone may have chosen one number."""
    assert comes("00000003.history") == ("go", "", "0/400000A")
    assert comes("00000002.history") == ("go", "", "0/20001F4")


def test_nothing_comes_behind_a_seal() -> None:
    """Not after a promise, not while it is frozen, not of a leader that it has not adopted."""
    file = name(3, 5)
    assert comes(file, own=replace(ADOPTED, promise=Term(4))).word == "none"
    assert comes(file, own=replace(ADOPTED, frozen=Frozen(TERM, pos(3, END)))).word == "none"
    assert comes(file, own=replace(ADOPTED, adopted=Term(2))).word == "none"
    assert comes(file, own=replace(ADOPTED, adopted_leader=N2)).word == "none"
    assert comes(file, known=electing(history=HISTORY)).word == "none"
    assert comes(file, known=led(2, 3, phase=Phase.ESTABLISHING)).word == "none"


def test_a_rewind_may_read_what_is_common_to_both_branches() -> None:
    """It replays nothing; but under a later promise nobody rewinds any more."""
    own = replace(ADOPTED, adopted=Term(2))
    leader = archived(name(3, 7))
    for file, word in ((name(2, 3), "go"), (name(2, 4), "none"), (name(1, 1), "go")):
        assert may_come(led(2, 3), own, leader, file, rewinds=True).word == word
    later = replace(own, promise=Term(4))
    assert may_come(led(2, 3), later, leader, name(2, 3), rewinds=True).word == "none"


# --- who follows by the archive alone ---


def test_it_follows_without_a_stream() -> None:
    own = replace(ADOPTED, adopted=Term(2))
    planned = decide(alone(parked(pos(3, END)), own)).action
    assert isinstance(planned, act.Follow)
    assert planned.by_archive
    usual = decide(myself(KNOWN, parked(pos(3, END)), me=2, promises=own)).action
    assert isinstance(usual, act.Follow)
    assert not usual.by_archive


def test_it_is_never_counted_on() -> None:
    """Whoever wins the election, it does not stream: no set and no k is made of it."""
    done = sealed(3, pos(3, END))
    fields = {"done": done, "server": parked(pos(3, END))}
    found = {}
    for nostream in (False, True):
        it = report(3, fields["server"], done, nostream=nostream)
        winner = report(2, parked(pos(3, END)), sealed(2, pos(3, END)))
        seen = look(electing(), it, winner)
        found[nostream] = election.streamers(seen, key(2), start=pos(3, END), promoted=True)
    assert found == {False: [key(3)], True: []}


def test_nobody_keeps_wal_for_it() -> None:
    """It would never read from its slot."""
    seen = replace(myself(facts(), primary()), slots=SlotsSeen(nostream=frozenset({N2})))
    assert others(seen) == (NodeId("n3"),)


def test_its_state_is_archive_recovery() -> None:
    for use in (ALONE, replace(ALONE, nostream=False)):
        told = report(2, BY_ARCHIVE, ADOPTED, nostream=use.nostream).report
        found = standing(KNOWN, member(2), told, report(1, primary()).report)
        assert found is not None
        assert found[0] is Standing.RECOVERY
        assert "archive" in found[1]
    other = report(2, BY_ARCHIVE, promises(2, adopted=Term(2), adopted_leader=N1)).report
    assert standing(KNOWN, member(2), other, report(1, primary()).report) is None


def test_a_server_that_is_no_standby_is_told_nothing() -> None:
    stopped = replace(BY_ARCHIVE, state=Server.STOPPED, fetches=False)
    assert decide(alone(stopped)).rule == 53
