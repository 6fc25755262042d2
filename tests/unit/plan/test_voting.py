"""Who is chosen to vote, and the steps towards it: stable, spread, and never weaker on the way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_values import NOW, facts, late, look, member, replace, report, standby, sync

from pgherd.model.facts import Kind, Tags
from pgherd.model.ids import NodeId, RaftId
from pgherd.model.policy import Policy
from pgherd.plan import membership
from pgherd.plan.rule import Decision, Membership, Situation
from pgherd.plan.voting import Candidate, choose

POLICY = Policy(voter_timeout_ms=10_000)
STEPS_MAX = 40


def one(number: int, **changes: Any) -> Candidate:
    return replace(Candidate(NodeId(f"n{number}")), **changes)


def names(*numbers: int) -> set[str]:
    return {f"n{number}" for number in numbers}


def voting(*numbers: int, **changes: Any) -> list[Candidate]:
    return [one(number, votes=True, **changes) for number in numbers]


@pytest.mark.parametrize(
    ("story", "candidates", "seats", "expected"),
    [
        ("few enough all vote", [one(1), one(2), one(3)], 5, names(1, 2, 3)),
        ("who votes goes on", [one(1), one(2), *voting(3, 4, 5)], 3, names(3, 4, 5)),
        (
            "the leader keeps its seat",
            [*voting(1, 2), one(3, votes=True, leads=True)],
            2,
            {"n1", "n3"},
        ),
        (
            "a lost voter is replaced",
            [*voting(1, 2), one(3, votes=True, able=False), one(4)],
            3,
            names(1, 2, 4),
        ),
        (
            "but not by nobody",
            [*voting(1, 2), one(3, votes=True, able=False), one(4, able=False)],
            3,
            names(1, 2, 3),
        ),
        (
            "zones are spread over",
            [*voting(1, 2, 3, zone="a"), one(4, zone="b"), one(5, zone="c")],
            3,
            names(1, 4, 5),
        ),
        (
            "two zones cannot be spread better",
            [*voting(1, 2, zone="a"), one(3, votes=True, zone="b"), one(4, zone="b")],
            3,
            names(1, 2, 3),
        ),
        (
            "two data members need the witness",
            [one(1), one(2), one(3, witness=True), one(4, able=False)],
            3,
            names(1, 2, 3),
        ),
        (
            "a witness that comes late gets a vote",
            [*voting(1, 2, 3), one(4, witness=True)],
            3,
            names(1, 2, 4),
        ),
        (
            "witnesses are no majority while there is data",
            [one(1), one(2), *(one(n, witness=True) for n in (3, 4, 5))],
            3,
            names(1, 2, 3),
        ),
        (
            "and where there is not enough data they fill up",
            [one(1), *(one(n, witness=True) for n in (2, 3, 4))],
            3,
            names(1, 2, 3),
        ),
        (
            "a witness takes the zone that has no voter yet",
            [
                one(1, zone="a"),
                one(2, zone="b"),
                one(3, zone="a", witness=True),
                one(4, zone="c", witness=True),
                one(5, zone="a"),
                one(6, zone="b"),
            ],
            3,
            names(1, 2, 4),
        ),
    ],
)
def test_choice(story: str, candidates: list[Candidate], seats: int, expected: set[str]) -> None:
    """The choice for one look."""
    assert choose(candidates, seats=seats) == expected, story


CANDIDATES = st.lists(
    st.builds(
        one,
        number=st.integers(1, 9),
        witness=st.booleans(),
        zone=st.sampled_from(["", "a", "b", "c"]),
        votes=st.booleans(),
        able=st.booleans(),
    ),
    unique_by=lambda candidate: candidate.node,
)


@given(candidates=CANDIDATES, seats=st.integers(1, 7), order=st.randoms())
def test_a_choice_is_chosen_again(candidates: list[Candidate], seats: int, order: Any) -> None:
    """Carried out, it stays: nothing moves for ever. The order of the members does not matter."""
    chosen = choose(candidates, seats=seats)
    after = [replace(each, votes=each.node in chosen) for each in candidates]
    order.shuffle(after)
    assert choose(after, seats=seats) == chosen


@given(candidates=CANDIDATES, seats=st.integers(1, 7))
def test_what_holds_of_every_choice(candidates: list[Candidate], seats: int) -> None:
    """Seats are filled with who can vote; nobody without a vote or an answer gets one."""
    chosen = choose(candidates, seats=seats)
    able = {each.node for each in candidates if each.able}
    assert len(chosen & able) == min(seats, len(able))
    assert len(chosen) <= seats
    assert {each.node for each in candidates if each.node in chosen - able} <= {
        each.node for each in candidates if each.votes
    }
    data = {each.node for each in candidates if each.able and not each.witness}
    assert len(chosen & able - data) <= max((seats - 1) // 2, seats - len(data))


# --- the steps ---------------------------------------------------------------------------------


def seen(
    ages: dict[int, int],
    voters: set[int],
    *,
    me: int,
    seats: int,
    zones: dict[int, str] | None = None,
    witnesses: frozenset[int] = frozenset(),
    proxies: frozenset[int] = frozenset(),
) -> Situation:
    """A quiet herd whose members were last heard so many ms ago."""
    kinds = dict.fromkeys(witnesses, Kind.WITNESS) | dict.fromkeys(proxies, Kind.PROXY)
    members = {
        NodeId(f"n{n}"): member(
            n,
            tags=Tags(zone=(zones or {}).get(n, "")),
            kind=kinds.get(n, Kind.DATA),
            voter=n not in proxies,
        )
        for n in ages
    }
    known = facts(members=members, sync=sync(), max_voters=seats)
    heard = [late(report(n, standby()), age) for n, age in ages.items()]
    ids = tuple(RaftId(n) for n in sorted(ages))
    made = look(
        known,
        *heard,
        me=me,
        raft_voters=tuple(n for n in ids if n in voters),
        raft_learners=tuple(n for n in ids if n not in voters),
        caught_up=ids,
    )
    return replace(made, policy=POLICY)


def decide(situation: Situation) -> Decision:
    """What the rules about votes say, the first that has something to say."""
    for rule in membership.RULES:
        decision = rule.decide(situation) if rule.number in (703, 706, 707) else None
        if decision is not None:
            return decision
    return Decision(900, "")


def step(situation: Situation) -> tuple[int, object]:
    decision = decide(situation)
    change = decision.membership
    return decision.rule, (change.verb, change.raft_id) if change else decision.transfer_to


LOST = {1: 0, 2: 0, 3: 12_000, 4: 0}


def test_a_lost_voter_is_replaced_in_two_steps() -> None:
    """The newcomer votes first, then the lost one is a learner; back again it stays one."""
    assert step(seen({**LOST, 3: 9_000}, {1, 2, 3}, me=2, seats=3)) == (900, None)
    assert step(seen(LOST, {1, 2, 3}, me=2, seats=3)) == (706, ("voter", 4))
    assert step(seen(LOST, {1, 2, 3, 4}, me=2, seats=3)) == (707, ("learner", 3))
    assert step(seen(LOST, {1, 2, 4}, me=2, seats=3)) == (900, None)
    assert step(seen({**LOST, 3: 0}, {1, 2, 4}, me=2, seats=3)) == (900, None)


def test_a_proxy_node_never_votes() -> None:
    """It takes no free seat, replaces nobody who is lost, and loses a vote that it has."""
    four = frozenset({4})
    all_four = {**LOST, 3: 0}
    assert step(seen(all_four, {1, 2}, me=2, seats=3, proxies=four)) == (703, ("voter", 3))
    assert step(seen(LOST, {1, 2, 3}, me=2, seats=5, proxies=four)) == (900, None)
    was_witness = seen(all_four, {1, 2, 3, 4}, me=2, seats=5, proxies=four)
    assert step(was_witness) == (707, ("learner", 4))
    assert decide(was_witness).reason == "n4 votes no more: a proxy node never does"


def test_the_reasons_are_told() -> None:
    """People read why a vote moved."""
    assert decide(seen(LOST, {1, 2, 3}, me=2, seats=3)).reason == (
        "n4 is to vote in place of n3, silent for 12 s"
    )
    assert decide(seen(LOST, {1, 2, 3, 4}, me=2, seats=3)).reason == (
        "n3 votes no more: silent for 12 s"
    )
    everybody = dict.fromkeys(range(1, 5), 0)
    assert decide(seen(everybody, {1, 2, 3, 4}, me=2, seats=3)).reason == (
        "n4 votes no more: raft.max_voters is 3"
    )


def test_who_reports_and_does_not_answer_in_consensus_is_lost_too() -> None:
    """A node with a hung disk talks and votes for nothing."""
    known = seen(dict.fromkeys(LOST, 0), {1, 2, 3}, me=2, seats=3)
    for unanswered_ms, expected in ((9_000, 900), (12_000, 706)):
        hung = replace(known.view, unanswered_ms={RaftId(1): 0, RaftId(3): unanswered_ms})
        assert decide(replace(known, view=hung)).rule == expected


def test_without_an_answer_nobody_replaces() -> None:
    """A silent non-voter, or one whose log is behind, takes no seat."""
    silent = {**LOST, 4: 1_600}
    assert step(seen(silent, {1, 2, 3}, me=2, seats=3)) == (900, None)
    behind = seen(LOST, {1, 2, 3}, me=2, seats=3)
    behind = replace(behind, view=replace(behind.view, caught_up=(RaftId(1), RaftId(2))))
    assert step(behind) == (900, None)


def test_one_too_many_waits_while_another_voter_is_silent() -> None:
    """A restart of a voter that stays is no moment to do with one vote less."""
    ages = {1: 0, 2: 0, 3: 2_000, 4: 0}
    decision = decide(seen(ages, {1, 2, 3, 4}, me=2, seats=3))
    assert (decision.rule, decision.membership) == (707, None)
    assert decision.reason == "n4 keeps its vote until n3 answers"
    ages = {1: 0, 2: 0, 3: 2_000, 4: 2_000, 5: 2_000}
    decision = decide(seen(ages, {1, 2, 3, 4, 5}, me=2, seats=3))
    assert (decision.rule, decision.membership) == (707, None)
    assert "1 voters more must answer" in decision.reason


def test_of_those_too_many_the_silent_goes_first() -> None:
    """Else a majority of fewer would for a moment have to count on it."""
    ages = {**dict.fromkeys(range(1, 5), 0), 5: 2_000}
    assert step(seen(ages, {1, 2, 3, 4, 5}, me=2, seats=3)) == (707, ("learner", 5))


def test_a_leader_too_many_hands_over_first() -> None:
    """With one seat in another zone the leader of consensus gives it up, after it led it there."""
    zones = {1: "a", 2: "a", 3: "b"}
    ages = dict.fromkeys(zones, 0)
    known = seen(ages, {1, 2, 3}, me=2, seats=1, zones=zones)
    assert step(known) == (707, ("learner", 1)), "n2 leads, so it keeps the only seat"
    witness = seen(dict.fromkeys(range(1, 5), 0), {1, 2, 3, 4}, me=4, seats=3, zones={4: "z"})
    assert step(witness)[0] == 707
    led = seen(ages, {1, 2, 3}, me=3, seats=2, witnesses=frozenset({3}))
    assert step(led) == (707, NodeId("n2")), "data takes both seats; n1 is the primary"


AGES = st.sampled_from([0, 0, 0, 2_000, 12_000])


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Up to nine members, any of them voters, under a leader that can commit."""
    count = draw(st.integers(1, 9))
    numbers = range(1, count + 1)
    me = draw(st.sampled_from(numbers))
    ages = {n: 0 if n == me else draw(AGES) for n in numbers}
    voters = draw(st.sets(st.sampled_from(numbers))) | {me}
    zones = {n: draw(st.sampled_from(["", "a", "b", "c"])) for n in numbers}
    witnesses = frozenset(draw(st.sets(st.sampled_from(numbers), max_size=3)))
    seats = draw(st.integers(1, 7))
    return seen(ages, voters, me=me, seats=seats, zones=zones, witnesses=witnesses)


def margin(situation: Situation) -> int:
    """How many more voters may fall silent; negative when nothing can be committed."""
    answering = {n for n, heard in situation.view.reports.items() if NOW - heard.at < 1_500}
    answering.add(situation.view.me)
    voters = situation.view.raft_voters
    alive = [id_ for id_ in voters if f"n{id_}" in answering]
    return len(alive) - (len(voters) // 2 + 1)


def applied(situation: Situation, change: Membership) -> Situation:
    """The configuration after a change."""
    view = situation.view
    voters, learners = {*view.raft_voters}, {*view.raft_learners}
    to, away = (voters, learners) if change.verb == "voter" else (learners, voters)
    away.discard(change.raft_id)
    to.add(change.raft_id)
    made = replace(view, raft_voters=tuple(sorted(voters)), raft_learners=tuple(sorted(learners)))
    return replace(situation, view=made)


@settings(max_examples=300, deadline=None)
@given(situation=situations())
def test_the_way_ends_and_is_never_weaker_than_both_its_ends(situation: Situation) -> None:
    """Whatever is seen: after few steps who is chosen votes, or something is waited for; on the
    way a majority answers always, and no fewer may fail than before or after."""
    if margin(situation) < 0:
        return
    margins = [margin(situation)]
    for _ in range(STEPS_MAX):
        decision = decide(situation)
        if decision.membership is not None:
            before = {*situation.view.raft_voters}
            situation = applied(situation, decision.membership)
            assert len(before ^ {*situation.view.raft_voters}) == 1
            margins.append(margin(situation))
        elif decision.transfer_to is not None:
            situation = replace(situation, view=replace(situation.view, me=decision.transfer_to))
        else:
            break
    else:
        pytest.fail("it never ends")
    assert min(margins) >= min(margins[0], margins[-1]) >= 0
    if decision.rule == 900:
        chosen = {each.raft_id for each in membership.chosen(situation)}
        assert {*situation.view.raft_voters} == chosen
