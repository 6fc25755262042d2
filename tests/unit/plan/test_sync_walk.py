"""Any sequence of steps of the sync set keeps what (Q) is for: acknowledgers meet electors.

The deciders and the ledger are driven through random sights of who streams, with a leader that
obeys late and settles late. After every step, every set of k that could acknowledge under a
configuration in use meets every set of R that could be sealed, counted out by brute force.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from plan_values import END, NOW, facts, key, look, member, primary, report, sender, standby, sync

from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import apply_command
from pgherd.model.facts import Facts, Mode, SyncState
from pgherd.model.ids import Instant, MemberKey, NodeId
from pgherd.plan import herd

SIZE = 5
OTHERS = range(2, SIZE + 1)
Use = tuple[tuple[MemberKey, ...], int]


class Sight(NamedTuple):
    """streams: who does · silent: who has not for long · obeys, settles: how the leader is."""

    streams: frozenset[int]
    silent: bool
    obeys: bool
    settles: bool
    patient: bool


SIGHTS = st.builds(
    Sight,
    streams=st.frozensets(st.sampled_from(list(OTHERS))),
    silent=st.booleans(),
    obeys=st.booleans(),
    settles=st.booleans(),
    patient=st.booleans(),
)


class Walk:
    """The ledger, and what the leader's server may still act on."""

    def __init__(self, mode: Mode) -> None:
        members = {NodeId(f"n{n}"): member(n) for n in range(1, SIZE + 1)}
        self.facts: Facts = facts(members=members, sync=sync(2, 3, 4, k=2), mode=mode)
        self.used = self.settled = self.facts.sync.generation
        self.in_use: dict[int, Use] = {self.used: use_of(self.facts.sync)}
        self.kd_promised = 2

    def step(self, sight: Sight) -> None:
        """The leader keeps up as it likes; then the herd decides."""
        generation = self.facts.sync.generation
        if sight.obeys:
            self.used = generation
        if sight.settles and self.used == generation:
            self.settled = generation
            self.in_use = {generation: use_of(self.facts.sync)}
        self.decide(sight)

    def decide(self, sight: Sight) -> None:
        missing = {str(key(n)): 4000 for n in OTHERS if sight.silent and n not in sight.streams}
        server = primary(
            senders=tuple(sender(n, flush=END) for n in sorted(sight.streams)),
            names_generation=self.used,
            settled=self.settled,
        )
        reports = [report(n, standby()) for n in OTHERS]
        seen = look(
            self.facts,
            report(1, server, missing_ms=missing),
            *reports,
            names_since=NOW if sight.patient else Instant(0),
        )
        decision = herd.decide(seen.facts, view=seen.view, policy=seen.policy, now=seen.now)
        if isinstance(decision.command, cmd.ChangeSync):
            self.facts, outcome = apply_command(self.facts, decision.command, at_ms=0)
            assert isinstance(outcome, cmd.Done), (decision.rule, outcome)
            self.in_use[self.facts.sync.generation] = use_of(self.facts.sync)

    def check(self) -> None:
        """Every possible acknowledgement meets every possible election."""
        state = self.facts.sync
        for names, k in self.in_use.values():
            if state.voters:
                assert state.kd <= k
                assert meets(names, k, state), (names, k, state)


def use_of(state: SyncState) -> Use:
    return state.names, state.names_k


def meets(names: tuple[MemberKey, ...], k: int, state: SyncState) -> bool:
    return all(
        set(acknowledgers) & set(electors)
        for acknowledgers in combinations(names, k)
        for electors in combinations(state.voters, state.r)
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(SIGHTS, min_size=1, max_size=25), st.sampled_from(list(Mode)))
def test_every_walk_keeps_the_inequality(sights: list[Sight], mode: Mode) -> None:
    """Whatever is seen, in whatever order, no acknowledged commit can be missed by an election."""
    walk = Walk(mode)
    for sight in sights:
        walk.step(sight)
        walk.check()


def test_the_walk_can_go_all_the_way() -> None:
    """Down to nobody and up again to k = 2: the random walk does not stand still."""
    walk = Walk(Mode.QUORUM)
    nobody = Sight(frozenset(), silent=True, obeys=True, settles=True, patient=False)
    everybody = Sight(frozenset(OTHERS), silent=False, obeys=True, settles=True, patient=False)
    for _ in range(3):
        walk.step(nobody)
    assert walk.facts.sync.voters == ()
    for _ in range(12):
        walk.step(everybody)
        walk.check()
    assert (len(walk.facts.sync.voters), walk.facts.sync.k, walk.facts.sync.kd) == (4, 2, 2)
