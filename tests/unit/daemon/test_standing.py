"""Proves whose word makes a node believe that it was removed, and when it asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pgherd.daemon import standing
from pgherd.daemon.standing import Standing
from pgherd.model.facts import Facts
from pgherd.model.ids import NodeId, RaftId
from pgherd.peer.errors import PeerUnreachable

N1, N2 = NodeId("n1"), NodeId("n2")
MINE = RaftId(3)
DEADLINE_S = 5.0


class Peers:
    """What two peers answer; None: they cannot be reached."""

    def __init__(self, **said: bool | None) -> None:
        self.said: dict[NodeId, bool | None] = {NodeId(node): word for node, word in said.items()}
        self.asked: list[NodeId] = []

    async def ask(self, node: NodeId, raft_id: RaftId, timeout_s: float) -> bool:
        assert raft_id == MINE
        self.asked.append(node)
        word = self.said[node]
        if word is None:
            raise PeerUnreachable("no connection", sent=False)
        return word


async def removed(
    peers: Peers,
    *,
    facts: Facts | None = None,
    is_led: Callable[[], bool] = lambda: True,
    until: Callable[[], bool] = lambda: False,
) -> bool:
    """Run until the node knows that it was removed, or the condition holds."""
    told = asyncio.Event()
    place = Standing(
        raft_id=MINE,
        facts=lambda: facts or Facts(cluster="main"),
        is_led=is_led,
        peers=lambda: peers.said,
        ask=peers.ask,
        removed=told.set,
    )
    task = asyncio.create_task(place.run())
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not told.is_set() and not until():  # noqa: ASYNC110 -- until() is a probe
                await asyncio.sleep(0.001)
        return told.is_set()
    finally:
        task.cancel()


def test_one_peer_that_knows_is_enough() -> None:
    """The others may be behind, or away."""
    assert asyncio.run(removed(Peers(n1=False, n2=True)))
    assert asyncio.run(removed(Peers(n1=None, n2=True)))


def test_its_own_ledger_may_know() -> None:
    """A restart after the removal was applied here needs nobody."""
    facts = Facts(cluster="main", next_raft_id=RaftId(4))
    assert asyncio.run(removed(Peers(), facts=facts))


def test_at_the_start_each_peer_is_asked_until_it_answers(monkeypatch) -> None:
    """A peer that was down is asked when it is there; one that said no is left alone."""
    monkeypatch.setattr(standing, "FIRST_S", 0.001)
    peers = Peers(n1=False, n2=None)

    def comes_up() -> bool:
        if len(peers.asked) > 6:
            peers.said[N2] = True
        return False

    assert asyncio.run(removed(peers, until=comes_up))
    assert peers.asked.count(N1) == 1


def test_without_a_leader_everybody_is_asked_again(monkeypatch) -> None:
    """Removed while it ran: nobody leads it any more, and that is how it notices."""
    monkeypatch.setattr(standing, "FIRST_ROUNDS", 0)
    monkeypatch.setattr(standing, "ASK_S", 0.001)
    peers = Peers(n1=False, n2=False)
    led = [True]

    def lose() -> bool:
        if len(peers.asked) == 2 and led:
            led.clear()
            peers.said[N2] = True
        return False

    assert asyncio.run(removed(peers, is_led=lambda: bool(led), until=lose))
    assert len(peers.asked) == 4


def test_led_and_answered_it_asks_no_more(monkeypatch) -> None:
    """The quiet life costs nothing."""
    monkeypatch.setattr(standing, "ASK_S", 0.001)
    monkeypatch.setattr(standing, "FIRST_S", 0.001)
    peers = Peers(n1=False, n2=False)
    rounds = iter(range(200))
    assert not asyncio.run(removed(peers, until=lambda: next(rounds, None) is None))
    assert sorted(peers.asked) == [N1, N2]
