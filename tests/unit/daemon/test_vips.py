"""The keeper of an address does what the rules say, with a stand-in for the network."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from pgherd.act.netlink import Held
from pgherd.act.vip import Place, VipFailed
from pgherd.daemon import vips
from pgherd.daemon.vips import ANNOUNCE_MS, Keeper, Vips
from pgherd.model.facts import Address, Facts, Kind, Member
from pgherd.model.ids import Instant, MemberKey, NodeId, RaftId, Term
from pgherd.model.observation import Heard, Observation, ServerSeen
from pgherd.model.promises import Promises
from pgherd.model.vip import Follow, Vip
from pgherd.plan.vip import ASKING, KERNEL_MS, Look, Verdict
from pgherd.telemetry.boottime import now_ms

VIP = Vip("10.0.1.100", 24, "eth0", Follow.PROXY)
HERE_MS = 3000


class StandIn(Place):
    """What a network would be: it says who claims the address, and what was done."""

    def __init__(self) -> None:
        super().__init__(VIP)
        self.claim = ""
        self.broken: VipFailed | None = None
        self.cannot = ""
        self.before: Held | None = None
        self.done: list[Any] = []
        self.probing = threading.Event()
        self.probing.set()

    def why_not(self) -> str:
        return self.cannot

    def found(self) -> Held | None:
        return self.before

    def probe(self) -> str:
        self.probing.wait(5)
        self._do("probe")
        return self.claim

    def put(self, seconds: int) -> None:
        self._do(f"put {seconds}")

    def remove(self) -> bool:
        self._do("remove")
        return True

    def announce(self) -> None:
        self._do("announce")

    def _do(self, what: str) -> None:
        if self.broken is not None:
            raise self.broken
        self.done.append(what)


class Stage:
    """A keeper on its stand-in, its events and how often the others were told."""

    def __init__(self) -> None:
        self.place = StandIn()
        self.events: list[tuple[str, ...]] = []
        self.changes = 0
        self.keeper = Keeper(
            self.place, tell=lambda *said: self.events.append(said), changed=self.change
        )

    def change(self) -> None:
        self.changes += 1

    async def look(self, verdict: Verdict | None = None, *, at: Instant | None = None) -> None:
        """One look, and what follows from it."""
        now = at or now_ms()
        self.keeper.look(verdict or here(), now)
        await self.done()

    async def done(self) -> None:
        if self.keeper._work is not None:
            await self.keeper._work

    def kinds(self) -> list[str]:
        return [said[0] for said in self.events]


def here(ms: int = HERE_MS) -> Verdict:
    return Verdict(1033, "the proxy is here", until=Instant(now_ms() + ms))


AWAY = Verdict(1021, "the proxy is not well here")
STAYS = Verdict(1001, "starting", stays=True)


def test_it_is_probed_put_and_announced_and_the_others_hear_of_it() -> None:
    async def go() -> None:
        stage = Stage()
        await stage.look(AWAY)
        assert stage.place.done == []
        await stage.look()
        assert stage.place.done == ["probe", "put 3", "announce"]
        assert stage.keeper.owned
        assert stage.keeper.taking is None
        assert stage.kinds() == ["vip.taken"]
        assert stage.changes == 2, "that it is about to be taken, and that it is"
        await stage.look(AWAY)
        assert stage.place.done[3:] == ["remove"]
        assert not stage.keeper.owned
        assert stage.events[-1][1] == (
            "10.0.1.100 (proxy) is here no more: the proxy is not well here"
        )

    asyncio.run(go())


def test_its_time_is_renewed_by_whole_seconds_and_it_is_announced_for_a_minute() -> None:
    async def go() -> None:
        stage = Stage()
        await stage.look()
        stage.place.done.clear()
        await stage.look(here(HERE_MS + 500))
        assert stage.place.done == [], "half a second more is nothing to the kernel"
        await stage.look(here(HERE_MS + 1500))
        assert stage.place.done == ["put 5"]
        began = now_ms()
        stage.place.done.clear()
        for after in range(0, 70_000, 300):
            now = Instant(began + after)
            stage.keeper._until = Instant(now + 3000)
            await stage.look(Verdict(1033, "here", until=Instant(now + 3000)), at=now)
        assert stage.place.done == ["announce"] * (len(ANNOUNCE_MS) - 1)

    asyncio.run(go())


def test_a_verdict_that_changes_while_it_is_probed_counts() -> None:
    async def go() -> None:
        stage = Stage()
        stage.place.probing.clear()
        stage.keeper.look(here(), now_ms())
        await asyncio.sleep(0.05)
        assert stage.keeper.taking is not None
        stage.keeper.look(AWAY, now_ms())
        stage.place.probing.set()
        await stage.done()
        assert stage.place.done == ["probe"]
        assert (stage.keeper.owned, stage.keeper.taking, stage.kinds()) == (False, None, [])

    asyncio.run(go())


def test_it_is_taken_when_all_have_heard_that_it_will_be() -> None:
    async def go() -> None:
        stage = Stage()
        stage.keeper.look(here(), now_ms())
        stage.keeper.look(Verdict(ASKING, "n3 has not heard yet"), now_ms())
        await asyncio.sleep(0.2)
        assert stage.place.done == ["probe"]
        stage.keeper.look(here(), now_ms())
        await stage.done()
        assert stage.place.done == ["probe", "put 3", "announce"]

    asyncio.run(go())


def test_nobody_waits_for_ever_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vips, "SOON_MS", 300)

    async def go() -> None:
        stage = Stage()
        stage.keeper.look(here(), now_ms())
        await stage.look(Verdict(ASKING, "n3 has not heard yet"))
        assert (stage.place.done, stage.keeper.owned) == (["probe"], False)

    asyncio.run(go())


def test_an_address_that_is_claimed_is_said_once_and_tried_again() -> None:
    async def go() -> None:
        stage = Stage()
        stage.place.claim = "02:00:00:00:00:07"
        for after in (0, 500, 2000):
            await stage.look(at=Instant(now_ms() + after))
        assert stage.place.done == ["probe"] * 2
        assert (stage.kinds(), stage.keeper.owned) == (["vip.claimed"], False)
        assert "02:00:00:00:00:07 has it" in stage.events[0][1]
        made = Vips([stage.keeper], see=lambda: pytest.fail("not asked for"))
        assert made.seen()[0].claimed_by == "02:00:00:00:00:07"
        assert made.warnings(now=now_ms()) == [], "an owner of ours may merely be slow"
        [warning] = made.warnings(now=Instant(now_ms() + 60_000))
        assert "it does not take 10.0.1.100: 02:00:00:00:00:07 has it on eth0" in warning
        await stage.look(AWAY)
        assert made.seen()[0].claimed_by == ""

    asyncio.run(go())


def test_what_fails_is_said_once_and_makes_a_node_unfit_for_a_while() -> None:
    async def go() -> None:
        stage = Stage()
        stage.place.broken = VipFailed("eth0 is down", "ip link set eth0 up")
        for after in (0, 3000, 6000):
            await stage.look(at=Instant(now_ms() + after))
        assert stage.kinds() == ["vip.failed"]
        assert "ip link set eth0 up" in stage.events[0][1]
        made = Vips([stage.keeper], see=lambda: pytest.fail("not asked for"))
        assert made.seen()[0].problem == "eth0 is down (ip link set eth0 up)"
        assert made.warnings(now=now_ms()) == [
            "it cannot have the address 10.0.1.100: eth0 is down (ip link set eth0 up)"
        ]
        await stage.look(AWAY, at=Instant(now_ms() + 60_000))
        assert made.seen()[0].problem == ""

    asyncio.run(go())


def test_what_a_machine_lacks_is_said_before_it_is_needed() -> None:
    async def go() -> None:
        stage = Stage()
        stage.place.cannot = "there is no interface eth0"
        await stage.look(AWAY)
        await stage.look(AWAY)
        assert stage.kinds() == ["vip.failed"]
        assert stage.keeper.problem == "there is no interface eth0"
        stage.place.cannot = ""
        await stage.look(AWAY, at=Instant(now_ms() + 6000))
        assert stage.keeper.problem == ""

    asyncio.run(go())


def test_an_address_that_cannot_be_removed_is_tried_again() -> None:
    async def go() -> None:
        stage = Stage()
        await stage.look()
        stage.place.broken = VipFailed("eth0 is stuck", "look at it")
        await stage.look(AWAY)
        assert stage.keeper.owned
        stage.place.broken = None
        await stage.look(AWAY)
        assert not stage.keeper.owned

    asyncio.run(go())


def test_who_was_not_awake_gives_up_what_the_kernel_may_have_taken() -> None:
    """And probes anew, for another may have it."""

    async def go() -> None:
        stage = Stage()
        await stage.look()
        late = Instant(now_ms() + 60_000)
        later = Verdict(1033, "the proxy is here", until=Instant(late + HERE_MS))
        await stage.look(later, at=late)
        assert not stage.keeper.owned
        await stage.look(later, at=late)
        assert stage.place.done[3:6] == ["remove", "probe", "put 63"]

    asyncio.run(go())


def test_what_the_kernel_has_taken_away_is_told_even_while_something_hangs() -> None:
    """A new primary waits for the word of an old owner that speaks."""

    async def go() -> None:
        stage = Stage()
        await stage.look()
        made = Vips([stage.keeper], see=lambda: pytest.fail("not asked for"))
        assert made.seen()[0].owned
        stage.keeper._until = Instant(now_ms() - KERNEL_MS)
        assert not made.seen()[0].owned

    asyncio.run(go())


def test_what_one_look_cannot_know_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """For how long this agent stood still, and others have been ahead of its ledger."""
    stage, looks = Stage(), []

    def note(look: Look, _: Vip) -> Verdict:
        looks.append(look)
        return STAYS

    monkeypatch.setattr(vips, "decide", note)
    began = now_ms()
    member = Member(NodeId("n2"), RaftId(2), Kind.DATA, Address("h", 1))
    facts = Facts(cluster="main", members={member.node: member}, term=Term(3))
    now, promised = began, Term(3)

    def see() -> Look:
        report = Observation(
            node=member.node,
            raft_id=member.raft_id,
            sequence=1,
            server=ServerSeen(),
            promises=Promises(promise=promised),
        )
        return Look(
            me=MemberKey(NodeId("n1"), "a1"),
            facts=facts,
            server=ServerSeen(),
            reports={member.node: Heard(report, now)},
            voters=(),
            lease_until=None,
            detect_ms=1500,
            proxy_healthy=True,
            takes_part=True,
            caught_up=True,
            now=now,
            began_at=now,
            awake_since=now,
        )

    async def go() -> None:
        nonlocal now, promised
        made = Vips([stage.keeper], see=see)
        made.look()
        assert looks == [], "not before it has looked for what an earlier agent left"
        await made.begin()
        for after, term in ((300, 3), (600, 4), (900, 4), (2400, 4), (2700, 3)):
            now, promised = Instant(began + after), Term(term)
            made.look()

    asyncio.run(go())
    assert [look.overtaken_ms for look in looks] == [0, 0, 300, 1800, 0]
    assert [look.stalled_ms for look in looks] == [0, 0, 0, 1500, 1500]
    assert [look.awake_since - began for look in looks][3:] == [2400, 2400]
    assert all(look.began_at <= began + 100 for look in looks)


def test_an_earlier_agents_address_stays_until_the_ledger_is_known() -> None:
    async def go() -> None:
        stage = Stage()
        stage.place.before = Held(VIP.address, 2, 24, 3)
        await stage.keeper.begin()
        assert stage.keeper.owned
        await stage.look(STAYS)
        assert (stage.place.done, stage.kinds()) == ([], [])
        await stage.look(here(HERE_MS + 2000))
        assert stage.place.done == ["put 5"], "renewed, not taken"
        await stage.keeper.end(leave="")
        assert stage.place.done == ["put 5"], "kept for the next agent"

    asyncio.run(go())


@pytest.mark.parametrize("held", [Held(VIP.address, 2, 24, None), Held(VIP.address, 2, 32, 3)])
def test_what_no_agent_of_ours_has_put_there_is_removed_at_once(held: Held) -> None:
    async def go() -> None:
        stage = Stage()
        stage.place.before = held
        await stage.keeper.begin()
        assert (stage.place.done, stage.keeper.owned) == (["remove"], False)
        assert stage.kinds() == ["vip.left"]

    asyncio.run(go())


def test_the_end_takes_away_what_is_just_being_taken() -> None:
    async def go() -> None:
        stage = Stage()
        stage.place.probing.clear()
        stage.keeper.look(here(), now_ms())
        await asyncio.sleep(0.05)
        threading.Timer(0.1, stage.place.probing.set).start()
        began = time.monotonic()
        await stage.keeper.end(leave="this node stops")
        assert time.monotonic() - began > 0.05, "it waited"
        assert (stage.place.done, stage.keeper.owned) == (["probe"], False)
        await stage.look(at=Instant(now_ms() + 2500))
        await stage.keeper.end(leave="this node stops")
        assert stage.place.done[-1] == "remove"
        assert "this node stops" in stage.events[-1][1]

    asyncio.run(go())


def test_addresses_change_while_others_stay_untouched() -> None:
    """One that is gone is left, one that follows something else keeps its keeper, one comes."""

    async def go() -> None:
        stays, goes = Stage(), Stage()
        goes.place.vip = Vip("10.0.1.101", 24, "eth0", Follow.PROXY)
        all_of_them = Vips([stays.keeper, goes.keeper], see=lambda: pytest.fail("unasked"))
        await all_of_them.begin()
        for stage in (stays, goes):
            await stage.look()
        comes = Stage()
        made: list[Vip] = []

        def make(vip: Vip) -> Keeper:
            made.append(vip)
            return comes.keeper

        moved = Vip("10.0.1.101", 24, "eth1", Follow.PROXY)
        other = Vip(VIP.address, VIP.prefix, VIP.interface, Follow.PRIMARY)
        await all_of_them.change([moved, other], make)
        assert made == [moved]
        assert goes.place.done[-1] == "remove"
        assert "vip says so no more" in goes.events[-1][1]
        assert "remove" not in stays.place.done
        assert [one.follow for one in all_of_them.seen()] == [Follow.PRIMARY, VIP.follow]
        await all_of_them.change([], make)
        assert all_of_them.seen() == ()
        assert stays.place.done[-1] == "remove"

    asyncio.run(go())
