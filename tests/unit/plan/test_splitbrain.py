"""What contradicts the ledger in the reports of all, who it is, since when, and when it is over."""

from __future__ import annotations

from typing import Any

import pytest
from plan_values import electing, facts, key, pos, primary, promises, replace, report, standby

from pgherd.model.facts import Facts
from pgherd.model.ids import Instant, NodeId, Term
from pgherd.model.observation import Observation, ServerSeen
from pgherd.plan.splitbrain import DEPOSED_MS, Notebook, contradictions

N1, N2, N3 = (NodeId(f"n{number}") for number in (1, 2, 3))
APPLIED = 50


def says(number: int, server: ServerSeen, **promised: Any) -> Observation:
    """A report of a node; its primary, if it has one, is its own work of term 3."""
    made = {"adopted": Term(3), "adopted_leader": NodeId(f"n{number}"), **promised}
    own = promises(number, **made)
    return replace(report(number, server, own).report, applied_index=APPLIED)


LEADER = says(1, primary())
FOLLOWER = says(3, standby(), adopted_leader=N1)


def found(*reports: Observation, known: Facts | None = None, applied: int = APPLIED) -> list[Any]:
    seen = {one.node: one for one in (LEADER, FOLLOWER, *reports)}
    return [
        (one.node, one.what, one.patience_ms)
        for one in contradictions(known or facts(), seen, applied=applied)
    ]


def test_a_sound_herd_contradicts_nothing() -> None:
    """Nor does an election with the old primary still up, or a node that is ahead of our ledger."""
    assert found() == []
    assert found(known=electing()) == []
    ahead = replace(facts(), term=Term(3), history=facts().history)
    newer = replace(says(2, primary(position=pos(4, 9000)), adopted=Term(4)), applied_index=60)
    assert [one for one in found(newer, known=ahead) if one[1] == "ungranted_term"] == []


@pytest.mark.parametrize(
    ("one", "what", "patience_ms"),
    [
        (says(2, primary(), adopted_leader=N1), "promoted_by_hand", 0),
        (says(2, primary(), adopted_leader=None), "promoted_by_hand", 0),
        (says(2, standby(system_id="9")), "other_system", 0),
        (says(2, primary(system_id="9"), adopted_leader=None), "other_system", 0),
        (says(2, primary(position=pos(9, 9000)), adopted=Term(9)), "ungranted_term", 0),
        (says(2, primary(position=pos(3, 9000))), "ungranted_term", 0),
    ],
    ids=["by hand", "by hand, new", "other files", "other primary", "no such term", "of another"],
)
def test_a_node_that_contradicts_the_ledger(one: Observation, what: str, patience_ms: int) -> None:
    """Each is named with its kind; the leader is not."""
    assert found(one) == [(N2, what, patience_ms)]


def test_an_old_primary_that_is_back_has_a_moment() -> None:
    """Unless its gate is open beside the leader's: then two would acknowledge."""
    reigns = (replace(facts().history[0], term=Term(2), leader=key(2)), *facts().history)
    known = facts(history=reigns)
    server = primary(position=pos(2, 900))
    old = says(2, server, adopted=Term(2))
    assert found(old, known=known) == [(N2, "deposed", 0)]
    shut = says(2, replace(server, names='"pgherd-closed"'), adopted=Term(2))
    assert found(shut, known=known) == [(N2, "deposed", DEPOSED_MS)]


def test_the_leader_itself_can_be_the_one() -> None:
    """A hand-made primary in the leader's place: nobody may be led to it."""
    assert found(says(1, primary(), adopted_leader=None)) == [(N1, "promoted_by_hand", 0)]


def test_a_notebook_tells_once_and_forgets_what_is_over() -> None:
    """Since when it is so stays; what needs patience is told when that is over."""
    notebook = Notebook()
    seen = {one.node: one for one in (LEADER, says(2, primary(), adopted_leader=None))}
    now = contradictions(facts(), seen, applied=APPLIED)
    begun, ended = notebook.look(now, now=Instant(1000), unix_ms=77_000)
    assert ([one.about.node for one in begun], ended) == ([N2], ())
    assert notebook.look(now, now=Instant(3000), unix_ms=79_000) == ((), ())
    assert notebook.nodes == {N2}
    [noticed] = notebook.noticed
    assert noticed.since_unix_ms == 77_000
    assert noticed.sentence("noon").startswith("split brain: the server of n2 is out of recovery")
    _, ended = notebook.look((), now=Instant(4000), unix_ms=80_000)
    assert [one.about.node for one in ended] == [N2]
    assert not notebook.noticed

    patient = tuple(replace(one, patience_ms=2000) for one in now)
    assert notebook.look(patient, now=Instant(5000), unix_ms=0) == ((), ())
    assert not notebook.nodes
    begun, _ = notebook.look(patient, now=Instant(7000), unix_ms=0)
    assert len(begun) == 1
