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
from pgherd.model.lease import Ask
from pgherd.plan import bylease, herd, leases

SIZE = 5
OTHERS = range(2, SIZE + 1)
Use = tuple[tuple[MemberKey, ...], int]


class Sight(NamedTuple):
    """streams: who does · silent: who has not for long · obeys, settles: how the leader is.

    asks: a mode that an operator asks for · renews: the leader's lease is renewed.
    """

    streams: frozenset[int]
    silent: bool
    obeys: bool
    settles: bool
    patient: bool
    asks: Mode | None = None
    renews: bool = True


SIGHTS = st.builds(
    Sight,
    streams=st.frozensets(st.sampled_from(list(OTHERS))),
    silent=st.booleans(),
    obeys=st.booleans(),
    settles=st.booleans(),
    patient=st.booleans(),
    asks=st.sampled_from([None, None, None, *Mode]),
    renews=st.booleans(),
)


class Walk:
    """The ledger, and what the leader's server may still act on."""

    def __init__(self, mode: Mode) -> None:
        members = {NodeId(f"n{n}"): member(n) for n in range(1, SIZE + 1)}
        self.facts: Facts = facts(members=members, sync=sync(2, 3, 4, k=2), level=2)
        self.used = self.settled = self.facts.sync.generation
        self.in_use: dict[int, Use] = {self.used: use_of(self.facts.sync)}
        self.asks = 0
        self.apply(cmd.SetMode(mode, 0))

    def apply(self, command: cmd.AnyCommand) -> cmd.Outcome:
        self.facts, outcome = apply_command(self.facts, command, at_ms=0)
        self.in_use[self.facts.sync.generation] = use_of(self.facts.sync)
        return outcome

    def step(self, sight: Sight) -> None:
        """An operator asks, the leader keeps up as it likes, the herd decides."""
        if sight.asks is not None:
            self.apply(cmd.SetMode(sight.asks, 0))
        generation = self.facts.sync.generation
        if sight.obeys:
            self.used = generation
            if not self.facts.sync.names_k:
                self.in_use = {generation: use_of(self.facts.sync)}
        if sight.settles and self.used == generation:
            self.settled = generation
            self.in_use = {generation: use_of(self.facts.sync)}
        self.decide(sight)

    def decide(self, sight: Sight) -> None:
        missing = {str(key(n)): 4000 for n in OTHERS if sight.silent and n not in sight.streams}
        server = primary(
            senders=tuple(sender(n, flush=END) for n in sorted(sight.streams)),
            names=self.names(),
            names_generation=self.used,
            settled=self.settled,
        )
        self.asks += 5000
        ask = Ask("b", Instant(self.asks))
        renewal = leases.renewal(self.facts, report(1, server, ask=ask).report)
        if sight.renews and renewal is not None:
            assert self.apply(renewal) == cmd.Done()
        reports = [report(n, standby()) for n in OTHERS]
        seen = look(
            self.facts,
            report(1, server, missing_ms=missing),
            *reports,
            names_since=NOW if sight.patient else Instant(0),
        )
        decision = herd.decide(seen.facts, view=seen.view, policy=seen.policy, now=seen.now)
        if isinstance(decision.command, cmd.ChangeSync):
            outcome = self.apply(decision.command)
            assert isinstance(outcome, cmd.Done), (decision.rule, outcome)

    def names(self) -> str:
        """What the leader's server uses: empty only where the ledger had it so."""
        named, k = self.in_use.get(self.used, ((), 0))
        return f"ANY {k} {named}" if k else ""

    def check(self) -> None:
        """Every possible acknowledgement meets every possible election."""
        state = self.facts.sync
        for names, k in self.in_use.values():
            if state.voters:
                assert state.kd <= k
                assert meets(names, k, state), (names, k, state)
            if self.facts.mode is Mode.ASYNC and bylease.wrote_alone(self.facts):
                assert k == 0, "a lease that may end a reign bounds all that acknowledges"
        assert self.facts.mode is not Mode.ASYNC or not state.voters
        assert self.facts.mode_wanted is None or self.facts.mode is Mode.ASYNC


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


def test_the_walk_changes_modes() -> None:
    """To async at once and with nobody streaming; back with the first set, never before."""
    walk = Walk(Mode.QUORUM)
    step = Sight(frozenset(OTHERS), silent=False, obeys=True, settles=True, patient=False)
    walk.step(step._replace(asks=Mode.ASYNC, streams=frozenset()))
    assert (walk.facts.mode, walk.facts.sync.voters) == (Mode.ASYNC, ())
    assert bylease.wrote_alone(walk.facts)
    walk.step(step._replace(asks=Mode.QUORUM, streams=frozenset()))
    assert (walk.facts.mode, walk.facts.mode_wanted) == (Mode.ASYNC, Mode.QUORUM)
    walk.step(step._replace(obeys=False, settles=False))
    assert (walk.facts.mode, walk.facts.sync.names_k) == (Mode.ASYNC, 2)
    assert not bylease.wrote_alone(walk.facts), "standbys may acknowledge under the new set"
    walk.step(step)
    assert (walk.facts.mode, walk.facts.mode_wanted) == (Mode.QUORUM, None)
    assert walk.facts.sync.k == 2
