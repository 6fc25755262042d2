"""Rules 1001-1033: whose an address is, until when, and that two never have one at a time."""

from __future__ import annotations

import random
from typing import Any

import pytest
from plan_values import (
    NAMES,
    NOW,
    TERM,
    electing,
    establishing,
    facts,
    key,
    late,
    lease,
    primary,
    promises,
    quiet_reports,
    replace,
    report,
    standby,
)

from pgherd.model.facts import Phase
from pgherd.model.ids import Instant, NodeId, RaftId
from pgherd.model.lease import Ask
from pgherd.model.observation import Heard, Observation, Server
from pgherd.model.vip import Follow, Vip, VipSeen
from pgherd.plan import herd, member
from pgherd.plan.reference import page
from pgherd.plan.vip import (
    ASKING,
    BEGIN_MS,
    HEARING_DETECTS,
    HERE,
    KERNEL_MS,
    OVERTAKEN_MS,
    QUEUE_MS,
    RULES,
    SAID_MS,
    SETTLING,
    SLACK_MS,
    STARTING,
    TELLING_MS,
    Look,
    decide,
    heard_by_majority,
    is_overtaken,
    place,
    quiet_ms,
    rows,
)

ADDRESS = "10.0.1.100"
DETECT_MS = 1500
HEARING_MS = HEARING_DETECTS * DETECT_MS
VOTERS = (RaftId(1), RaftId(2), RaftId(3))


def vip(follow: Follow = Follow.PRIMARY, address: str = ADDRESS) -> Vip:
    return Vip(address, 24, "eth0", follow)


def seen(follow: Follow = Follow.PRIMARY, *, owned: bool = False, **more: Any) -> VipSeen:
    return VipSeen(ADDRESS, follow, "eth0", owned=owned, **more)


def look(number: int = 1, **changes: Any) -> Look:
    """What one node of the quiet herd sees, n1 being the primary."""
    made = Look(
        me=key(number),
        facts=facts(lease=lease(asked=Ask("boot", NOW))),
        server=primary() if number == 1 else standby(),
        reports=quiet_reports(),
        voters=VOTERS,
        lease_until=Instant(NOW + 9000) if number == 1 else None,
        detect_ms=DETECT_MS,
        proxy_healthy=True,
        takes_part=True,
        caught_up=True,
        now=NOW,
        began_at=Instant(0),
        awake_since=Instant(0),
    )
    return replace(made, **changes)


def told(*heard: Heard) -> dict[NodeId, Heard]:
    """The quiet herd's reports, some of them exchanged."""
    return quiet_reports() | {each.report.node: each for each in heard}


def rule_of(seen_now: Look, wanted: Vip) -> int:
    return decide(seen_now, wanted).rule


HAS = frozenset({ADDRESS})


def test_the_address_of_a_replica_is_not_where_no_reads_are_wanted() -> None:
    """Its owner leaves it, and it is not waited for as if it could take it."""
    for number, others in ((2, 1021), (3, 1025)):
        tagged = quiet_reports()[NodeId("n2")]
        tagged = replace(tagged, report=replace(tagged.report, noloadbalance=True))
        found = decide(look(number, reports=told(tagged)), vip(Follow.REPLICA))
        assert (found.rule == 1021) is (number == 2), (others, found)


# --- the table ------------------------------------------------------------------------------------


def test_the_rows_are_numbered_once_and_stand_on_the_page() -> None:
    numbers = [number for number, _, _ in rows()]
    used = {rule.number for table in RULES.values() for rule in table}
    assert {*used, STARTING[0], *(number for number, _ in HERE.values())} == set(numbers)
    others = [rule.number for rule in (*herd.RULES, *member.RULES)]
    assert len({*numbers, *others}) == len(numbers) + len(others)
    for number, scope, sentence in rows():
        assert sentence.endswith(".")
        assert f"| {number} | {scope} | {sentence} |" in page()


# --- every address --------------------------------------------------------------------------------


def test_an_agent_that_knows_no_ledger_leaves_all_as_it_is() -> None:
    for follow in Follow:
        verdict = decide(look(caught_up=False, takes_part=False), vip(follow))
        assert (verdict.rule, verdict.stays, verdict.until) == (1001, True, None)


@pytest.mark.parametrize("follow", list(Follow))
def test_an_agent_that_has_just_begun_does_not_judge_what_an_earlier_one_left(
    follow: Follow,
) -> None:
    """What it has not heard yet forbids nothing, what it has heard allows it at once."""
    number = 2 if follow is Follow.REPLICA else 1
    begun = look(number, owned=HAS, began_at=Instant(NOW - BEGIN_MS + 1), reports={})
    assert (rule_of(begun, vip(follow)), decide(begun, vip(follow)).stays) == (1001, True)
    assert rule_of(replace(begun, began_at=Instant(NOW - BEGIN_MS)), vip(follow)) == 1003
    assert rule_of(replace(begun, owned=frozenset()), vip(follow)) == 1003
    assert decide(replace(begun, reports=quiet_reports()), vip(follow)).until is not None


@pytest.mark.parametrize("follow", list(Follow))
def test_who_takes_no_part_has_none(follow: Follow) -> None:
    number = 2 if follow is Follow.REPLICA else 1
    assert rule_of(look(number, takes_part=False, owned=HAS), vip(follow)) == 1002
    removed = facts(members={n: m for n, m in facts().members.items() if n != f"n{number}"})
    assert rule_of(look(number, facts=removed, owned=HAS), vip(follow)) == 1002


def test_what_counts_is_who_heard_us_not_whom_we_hear() -> None:
    """Of three, one other is enough; the instant is when it heard this node, by our clock."""
    deaf = {"heard_ms": {NodeId("n1"): 50_000}}
    one = told(report(2, standby(), heard_ms={NodeId("n1"): 400}), report(3, standby(), **deaf))
    assert heard_by_majority(look(reports=one)) == NOW - 400
    none = told(report(2, standby(), **deaf), report(3, standby(), **deaf))
    assert rule_of(look(reports=none, owned=HAS), vip()) == 1003
    never = told(report(2, standby(), heard_ms={}), report(3, standby(), heard_ms={}))
    assert heard_by_majority(look(reports=never)) is None
    assert rule_of(look(reports=never, owned=HAS), vip()) == 1003


def test_who_does_not_vote_does_not_count() -> None:
    apart = told(late(report(2, standby())))
    assert heard_by_majority(look(reports=apart, voters=VOTERS[:2])) == NOW - 60_050
    assert heard_by_majority(look(voters=VOTERS[:1])) == NOW, "one voter is a majority by itself"


@pytest.mark.parametrize("follow", list(Follow))
def test_it_ends_when_the_majority_has_been_silent_for_long_enough(follow: Follow) -> None:
    """To the millisecond: the last look at which it is kept, and the first at which it is not."""
    number = 2 if follow is Follow.REPLICA else 1
    others = [n for n in (1, 2, 3) if n != number]

    def silent_for(ms: int) -> Look:
        quiet = [report(n, primary() if n == 1 else standby()) for n in others]
        heard = {NodeId(f"n{number}"): ms}
        mine = quiet_reports()[NodeId(f"n{number}")]
        words = [Heard(replace(one.report, heard_ms=heard), one.at) for one in quiet]
        return look(number, reports=told(mine, *words), owned=HAS, lease_until=Instant(NOW + 9000))

    kept = decide(silent_for(HEARING_MS - 1), vip(follow))
    assert kept.until == NOW + 1
    assert rule_of(silent_for(HEARING_MS), vip(follow)) == 1003


# --- the primary's --------------------------------------------------------------------------------


def test_the_primary_has_its_address_as_long_as_it_is_heard_and_holds_its_lease() -> None:
    verdict = decide(look(), vip())
    assert (verdict.rule, verdict.until) == (1031, NOW - 50 + HEARING_MS)
    near = decide(look(lease_until=Instant(NOW + 1500)), vip())
    assert near.until == NOW + 1500 - KERNEL_MS, "the kernel's seconds end before the lease does"
    assert rule_of(look(lease_until=Instant(NOW + KERNEL_MS)), vip()) == 1014
    ran_out = facts(lease=lease(asked=Ask("boot", NOW)))
    assert rule_of(look(facts=ran_out, lease_until=None, owned=HAS), vip()) == 1014
    old = decide(look(facts=facts(lease=None), lease_until=None), vip())
    assert old.rule == 1031, "leaders of an older program have no leases"


def test_nobody_else_takes_it() -> None:
    assert rule_of(look(2, owned=HAS), vip()) == 1011
    rebuilt = facts(leader=key(1, "b1"))
    assert rule_of(look(facts=rebuilt, owned=HAS), vip()) == 1011, "an earlier life of n1 led"


def test_a_winner_gets_ready_to_take_it_and_does_when_its_term_is_stable() -> None:
    """The network is asked meanwhile: clients wait."""
    wins = look(2, facts=establishing(), server=primary())
    assert (rule_of(wins, vip()), decide(wins, vip()).soon) == (SETTLING, True)
    stable = replace(wins, facts=replace(establishing(), phase=Phase.STABLE))
    assert (rule_of(stable, vip()), decide(stable, vip()).soon) == (SETTLING, True)
    asked = lease(2, id=2, term=TERM + 1, asked=Ask("boot", NOW))
    has_lease = replace(stable, facts=replace(stable.facts, lease=asked))
    ready = replace(has_lease, lease_until=Instant(NOW + 9000))
    assert decide(ready, vip()).until is not None
    again = replace(stable, owned=HAS)
    assert decide(again, vip()).until is not None, "a false alarm takes it from nobody"
    assert not decide(look(2), vip()).soon


def test_an_election_moves_it_only_when_another_leads() -> None:
    """The old primary's clients hear through it that their sessions end."""
    begun = electing()
    assert decide(look(facts=begun, lease_until=None, owned=HAS), vip()).until is not None
    assert rule_of(look(facts=begun, lease_until=None), vip()) == 1011, "nobody takes it meanwhile"
    assert rule_of(look(facts=establishing(), owned=HAS), vip()) == 1011
    closed = look(facts=begun, server=primary(state=Server.STOPPED), owned=HAS)
    assert rule_of(closed, vip()) == 1013


def test_a_server_that_hangs_keeps_it_and_does_not_take_it() -> None:
    hung = primary(state=Server.HUNG)
    assert rule_of(look(server=hung, owned=HAS), vip()) == 1031
    assert rule_of(look(server=hung), vip()) == 1013
    assert rule_of(look(server=standby(), owned=HAS), vip()) == 1013


def test_who_was_overtaken_unheard_leaves() -> None:
    """Cut off from the Raft leader alone, it still hears what others have promised."""
    later = told(report(3, standby(), promises(3, promise=4)))
    assert is_overtaken(facts(), later)
    assert not is_overtaken(facts(), quiet_reports())
    assert not is_overtaken(facts(members={}), later), "of members only"
    assert rule_of(look(overtaken_ms=OVERTAKEN_MS - 1, owned=HAS), vip()) == 1031
    assert rule_of(look(overtaken_ms=OVERTAKEN_MS, owned=HAS), vip()) == 1012


def test_a_new_primary_waits_for_the_word_of_an_owner_that_speaks() -> None:
    """One that died or hangs is not waited for: the network is asked instead."""
    other = report(2, standby(), vips=(seen(owned=True),))
    speaks = told(other)
    assert rule_of(look(reports=speaks), vip()) == 1015
    assert rule_of(look(reports=speaks, owned=HAS), vip()) == 1031
    unheard = {NodeId("n1"): 50, NodeId("n2"): 60_000}
    third = report(3, standby(), heard_ms=unheard)
    assert rule_of(look(reports=told(late(other, TELLING_MS), third)), vip()) == 1031


# --- a replica's, a proxy's -----------------------------------------------------------------------


def fit_herd(follow: Follow, *owners: int) -> dict[NodeId, Heard]:
    """All could have it, except that the primary is no replica; some say that they have it."""
    servers = {1: primary(), 2: standby(), 3: standby()}
    return told(
        *(
            report(n, server, vips=(seen(follow, owned=n in owners),), proxy_healthy=True)
            for n, server in servers.items()
        )
    )


def takers(
    follow: Follow, reports: dict[NodeId, Heard], wanted: Vip | None = None, *, owner: int = 0
) -> list[int]:
    """Who has it next, one after the other being asked; the owner knows that it has it."""
    made = wanted or vip(follow)
    views = {
        n: look(n, reports=reports, owned=HAS if n == owner else frozenset()) for n in (1, 2, 3)
    }
    return [n for n, view in views.items() if decide(view, made).until is not None]


@pytest.mark.parametrize("follow", [Follow.REPLICA, Follow.PROXY])
def test_exactly_one_takes_it_and_all_agree_who(follow: Follow) -> None:
    allowed = {1, 2, 3} if follow is Follow.PROXY else {2, 3}
    found = set()
    for number in range(1, 40):
        address = f"10.0.1.{number}"
        reports = {
            node: Heard(replace(one.report, vips=(VipSeen(address, follow, "eth0"),)), one.at)
            for node, one in fit_herd(follow).items()
        }
        [taker] = takers(follow, reports, vip(follow, address))
        found.add(taker)
    assert found == allowed, "several addresses are spread over the nodes"


@pytest.mark.parametrize("follow", [Follow.REPLICA, Follow.PROXY])
def test_it_stays_where_it_is(follow: Follow) -> None:
    for owner in (2, 3):
        reports = fit_herd(follow, owner)
        assert takers(follow, reports, owner=owner) == [owner]
        others = {rule_of(look(n, reports=reports), vip(follow)) for n in (2, 3) if n != owner}
        assert others == {1022}


def test_only_a_healthy_replica_of_this_term_is_one() -> None:
    wanted = vip(Follow.REPLICA)
    receiver = standby().receiver
    assert receiver is not None
    ill = [
        primary(),
        standby(healthy=False),
        standby(receiver=None),
        standby(state=Server.HUNG),
        standby(receiver=replace(receiver, status="waiting")),
        standby(receiver=replace(receiver, term=TERM - 1)),
        standby(receiver=replace(receiver, upstream=NodeId("n3"))),
    ]
    for server in ill:
        assert rule_of(look(2, server=server, owned=HAS), wanted) == 1021
    assert rule_of(look(2, proxy_healthy=False, owned=HAS), vip(Follow.PROXY)) == 1021


@pytest.mark.parametrize("follow", [Follow.REPLICA, Follow.PROXY])
def test_who_could_not_have_it_is_passed_over(follow: Follow) -> None:
    """No rights, no interface, another file, an ill server or proxy, or no word."""
    first, second = sorted((2, 3), key=lambda n: place(vip(follow), NodeId(f"n{n}")))
    good = fit_herd(follow)
    if follow is Follow.PROXY:
        good[NodeId("n1")] = report(1, primary())  # n1 has it not in its file
    node = NodeId(f"n{first}")
    assert takers(follow, good) == [first]
    one = good[node].report
    spoilt = [
        replace(one, vips=(seen(follow, problem="no such interface"),)),
        replace(one, vips=()),
        replace(one, server=standby(receiver=None), proxy_healthy=False),
    ]
    for each in spoilt:
        reports = good | {node: Heard(each, NOW)}
        assert decide(look(second, reports=reports), vip(follow)).until is not None
    silent = good | {node: late(good[node])}
    third = replace(silent[NodeId("n1")].report, heard_ms={n: 50 for n in NAMES if n != node})
    silent[NodeId("n1")] = Heard(third, NOW)
    assert decide(look(second, reports=silent), vip(follow)).until is not None


@pytest.mark.parametrize("follow", [Follow.REPLICA, Follow.PROXY])
def test_the_next_one_waits_until_the_owner_cannot_have_it_any_more(follow: Follow) -> None:
    """However that is known: by own ears, or through others."""
    limit = HEARING_MS + SLACK_MS
    assert look().gone_ms == limit

    def quiet(own_ms: int, through_others_ms: int) -> Look:
        reports = fit_herd(follow, 3)
        reports[NodeId("n3")] = late(reports[NodeId("n3")], own_ms)
        ears = {NodeId("n3"): through_others_ms, NodeId("n2"): 50}
        first = replace(reports[NodeId("n1")].report, heard_ms=ears, vips=())
        reports[NodeId("n1")] = Heard(first, NOW)
        return look(2, reports=reports)

    assert quiet_ms(quiet(9000, 4000), NodeId("n3")) == 4000
    assert rule_of(quiet(HEARING_MS - 1, 60_000), vip(follow)) == 1022
    assert rule_of(quiet(limit - 1, 60_000), vip(follow)) == 1023
    assert rule_of(quiet(60_000, limit - 1), vip(follow)) == 1023
    assert decide(quiet(limit, limit), vip(follow)).until is not None


def test_of_two_that_have_it_one_stays() -> None:
    reports = fit_herd(Follow.PROXY, 2, 3)
    stays = [
        n
        for n in (2, 3)
        if decide(look(n, reports=reports, owned=HAS), vip(Follow.PROXY)).until is not None
    ]
    assert len(stays) == 1
    assert decide(look(1, reports=reports), vip(Follow.PROXY)).rule == 1022


def test_who_is_about_to_take_it_says_so_first() -> None:
    """Of two that are, the first in the order goes on."""
    wanted = vip(Follow.PROXY)
    taking = seen(Follow.PROXY, taking=True)
    reports = fit_herd(Follow.PROXY)
    for n in (2, 3):
        node = NodeId(f"n{n}")
        reports[node] = Heard(replace(reports[node].report, vips=(taking,)), NOW)
    assert rule_of(look(1, reports=reports), wanted) == 1022
    since = {ADDRESS: Instant(NOW - 50 - SAID_MS)}
    both = [n for n in (2, 3) if rule_of(look(n, reports=reports, taking=since), wanted) == 1033]
    assert both == [min((2, 3), key=lambda n: place(wanted, NodeId(f"n{n}")))]
    alone = look(2, reports=fit_herd(Follow.PROXY), taking=since)
    assert rule_of(alone, wanted) == 1033
    early = {ADDRESS: Instant(NOW - 49 - SAID_MS)}
    assert rule_of(replace(alone, taking=early), wanted) == ASKING == 1025


def test_who_does_not_hear_all_leaves_it_to_who_does() -> None:
    """n2 and n3 do not hear each other, and both are heard: n1 takes it, wherever it stands."""
    wanted = vip(Follow.PROXY)
    reports = fit_herd(Follow.PROXY)
    for n, deaf_to in ((2, "n3"), (3, "n2")):
        ears = {"n1": 50, deaf_to: 60_000}
        one = replace(reports[NodeId(f"n{n}")].report, heard_ms=ears)
        reports[NodeId(f"n{n}")] = Heard(one, NOW)
    assert decide(look(1, reports=reports), wanted).until is not None
    for n, deaf_to in ((2, "n3"), (3, "n2")):
        mine = reports | {NodeId(deaf_to): late(reports[NodeId(deaf_to)])}
        assert rule_of(look(n, reports=mine), wanted) == 1023


@pytest.mark.parametrize("follow", list(Follow))
def test_who_stood_still_trusts_little(follow: Follow) -> None:
    """What it reads first has waited for as long as it stood still."""
    number = 2 if follow is Follow.REPLICA else 1
    woke = look(number, awake_since=Instant(NOW - 10), stalled_ms=2000, owned=HAS)
    assert decide(woke, vip(follow)).until == NOW - 50 - 2000 + HEARING_MS
    assert rule_of(replace(woke, stalled_ms=HEARING_MS), vip(follow)) == 1003
    assert decide(replace(woke, awake_since=Instant(NOW - QUEUE_MS)), vip(follow)).until == (
        NOW - 50 + HEARING_MS
    )


def test_who_has_just_begun_does_not_know_who_has_it() -> None:
    """A member that it has never heard may live, and have it."""
    reports = fit_herd(Follow.PROXY)
    first = min((2, 3), key=lambda n: place(vip(Follow.PROXY), NodeId(f"n{n}")))
    reports.pop(NodeId("n1"))
    begun = look(first, reports=reports, awake_since=Instant(NOW - HEARING_MS - SLACK_MS + 1))
    silent = {node: Heard(replace(one.report, heard_ms={}), NOW) for node, one in reports.items()}
    assert quiet_ms(replace(begun, reports=silent), NodeId("n1")) == HEARING_MS + SLACK_MS - 1
    assert rule_of(begun, vip(Follow.PROXY)) == 1023


# --- that two never have one ----------------------------------------------------------------------

STEP_MS, REPORT_EVERY_MS, DELAY_MS_MAX, PROBE_MS = 100, 200, 250, 500


class Wind:
    """Nodes with links that break one way, agents that hang, and a kernel that counts seconds.

    The probe takes its time and finds nothing: the rules alone must keep two from having an
    address.
    """

    def __init__(self, seed: int, *, nodes: int) -> None:
        self.draw = random.Random(seed)
        self.numbers = range(1, nodes + 1)
        self.now = 100_000
        self.down: set[tuple[int, int]] = set()
        self.hangs = dict.fromkeys(self.numbers, 0)
        self.woke = dict.fromkeys(self.numbers, (self.now, 0))
        self.looked = dict.fromkeys(self.numbers, self.now)
        self.heard: dict[int, dict[NodeId, Heard]] = {n: {} for n in self.numbers}
        self.kernel: dict[int, int] = {}
        self.probing: dict[int, int] = {}
        self.well = dict.fromkeys(self.numbers, True)
        self.flying: list[tuple[int, int, Observation]] = []
        self.last: dict[tuple[int, int], int] = {}
        one = facts().members[NodeId("n1")]
        self.facts = facts(
            members={
                NodeId(f"n{n}"): replace(one, node=NodeId(f"n{n}"), raft_id=RaftId(n))
                for n in self.numbers
            }
        )

    def owners(self) -> list[int]:
        return [n for n, end in self.kernel.items() if self.now < end]

    def step(self) -> None:
        """A tenth of a second."""
        self.now += STEP_MS
        self.blow()
        due = [one for one in self.flying if one[0] <= self.now]
        self.flying = [one for one in self.flying if one[0] > self.now]
        for at, to, made in due:
            if self.hangs[to] > self.now:
                self.flying.append((self.hangs[to], to, made))
            else:
                self.heard[to][made.node] = Heard(made, Instant(at))
        for n in self.numbers:
            if self.hangs[n] <= self.now:
                self.act(n)

    def blow(self) -> None:
        """Links break and heal, agents hang, proxies fall ill."""
        draw = self.draw
        if draw.random() < 0.03:
            part = draw.choice((0, 0, 0.2, 0.5))
            pairs = [(a, b) for a in self.numbers for b in self.numbers if a != b]
            self.down = {pair for pair in pairs if draw.random() < part}
        if draw.random() < 0.01:
            self.hangs[draw.choice(self.numbers)] = self.now + draw.randrange(9000)
        if draw.random() < 0.02:
            self.well[draw.choice(self.numbers)] = draw.random() < 0.8

    def act(self, n: int) -> None:
        """What an agent does at a look: as `daemon.vips` does it."""
        if self.now - self.looked[n] >= 1000:
            self.woke[n] = self.now, self.now - self.looked[n]
        self.looked[n] = self.now
        verdict = decide(self.view(n), vip(Follow.PROXY))
        owned = n in self.owners()
        before = owned, n in self.probing
        if verdict.rule == ASKING:
            pass
        elif verdict.until is None or verdict.until <= self.now:
            self.kernel.pop(n, None)
            self.probing.pop(n, None)
        elif owned or self.probing.setdefault(n, self.now) + PROBE_MS <= self.now:
            seconds = -(-(verdict.until - self.now) // 1000)
            self.kernel[n] = self.now + 1000 * seconds
            self.probing.pop(n, None)
        if before != (n in self.owners(), n in self.probing) or not self.now % REPORT_EVERY_MS:
            self.tell(n)

    def view(self, n: int) -> Look:
        since, stalled_ms = self.woke[n]
        return look(
            facts=self.facts,
            me=key(n),
            server=standby(),
            reports=self.heard[n],
            voters=tuple(RaftId(one) for one in self.numbers),
            proxy_healthy=self.well[n],
            now=Instant(self.now),
            awake_since=Instant(since),
            stalled_ms=stalled_ms,
            owned=HAS if n in self.owners() else frozenset(),
            taking={ADDRESS: Instant(self.probing[n])} if n in self.probing else {},
        )

    def tell(self, n: int) -> None:
        node, told = NodeId(f"n{n}"), self.heard[n].items()
        made = replace(
            report(n, standby()).report,
            proxy_healthy=self.well[n],
            heard_ms={one: self.now - heard.at for one, heard in told if one != node},
            vips=(seen(Follow.PROXY, owned=n in self.owners(), taking=n in self.probing),),
        )
        self.heard[n][node] = Heard(made, Instant(self.now))
        for to in self.numbers:
            if to != n and (n, to) not in self.down:
                at = max(self.last.get((n, to), 0), self.now + self.draw.randrange(DELAY_MS_MAX))
                self.last[n, to] = at
                self.flying.append((at, to, made))


def blown(*, nodes: int, seeds: range) -> tuple[int, int, int]:
    """Through how many steps of how many one node had it, and more than one."""
    one = more = steps = 0
    for seed in seeds:
        wind = Wind(seed, nodes=nodes)
        for _ in range(1000):
            wind.step()
            owners = len(wind.owners())
            one, more, steps = one + (owners == 1), more + (owners > 1), steps + 1
    return one, more, steps


@pytest.mark.parametrize(("nodes", "seeds"), [(3, range(6)), (5, range(3))])
def test_two_never_have_it_whatever_the_network_does(nodes: int, seeds: range) -> None:
    """And one has it for a good part of the time, in weather that no herd sees."""
    one, more, steps = blown(nodes=nodes, seeds=seeds)
    assert more == 0
    assert one > steps / 4, one / steps


def test_the_weather_is_bad_enough_without_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = tuple(rule for rule in RULES[Follow.PROXY] if rule.number != 1022)
    monkeypatch.setitem(RULES, Follow.PROXY, rules)
    assert blown(nodes=3, seeds=range(2))[1] > 0


def test_the_weather_is_bad_enough_for_who_only_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """An owner that hears others does not know whether they hear it."""

    def listens(view: Look, node: NodeId) -> int:
        heard = view.reports.get(node)
        return heard.at if heard is not None else -1

    monkeypatch.setattr("pgherd.plan.vip.heard_at", listens)
    assert blown(nodes=3, seeds=range(6))[1] > 0
