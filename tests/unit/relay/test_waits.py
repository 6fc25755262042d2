"""Proves what a proxy does with a cancel: asked of the agent, withheld, or sent by key."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace

from pgherd.model.ids import NodeId, Term
from pgherd.relay import waits as module
from pgherd.relay.messages import CancelAsked, Cancelled, CancelTold
from pgherd.relay.waits import Waits
from pgherd.route.choose import Backend, Bound
from pgherd.wire.startup import CancelKey

KEY = CancelKey(42, b"abcd")


def test_a_cancel_is_withheld_sent_or_goes_by_key(fakes) -> None:
    """By key only where nobody can say, and where nothing can wait."""

    async def story() -> None:
        async with fakes("n1") as (server,):
            asked: list[CancelAsked] = []
            errors: Counter[str] = Counter()
            waits = Waits(errors)

            def session(*, to_primary: bool = True):
                return SimpleNamespace(bound=Bound(server.backend, Term(1), to_primary), key=KEY)

            async def cancel(outcome: Cancelled) -> int:
                running = asyncio.create_task(waits.cancel(session()))
                await asyncio.sleep(0.01)
                waits.told(CancelTold(999, Cancelled.SENT))  # of a question long over
                waits.told(CancelTold(asked[-1].number, outcome))
                await running
                return len(server.cancels)

            await waits.cancel(session())
            assert len(server.cancels) == 1, "there is no agent"
            waits.connected(asked.append)
            assert await cancel(Cancelled.SENT) == 1
            assert await cancel(Cancelled.WITHHELD) == 1
            assert errors == {"cancel_withheld": 1}
            assert await cancel(Cancelled.UNKNOWN) == 2
            assert (asked[-1].node, asked[-1].pid) == (NodeId("n1"), 42)
            await waits.cancel(session(to_primary=False))
            assert len(server.cancels) == 3
            assert len(asked) == 3
            running = asyncio.create_task(waits.cancel(session()))
            await asyncio.sleep(0.01)
            waits.lost()
            await running
            assert len(server.cancels) == 4
            await waits.cancel(SimpleNamespace(bound=None, key=None))

    asyncio.run(story())


def test_an_agent_that_does_not_answer_is_not_waited_for_long(fakes, monkeypatch) -> None:
    async def story() -> None:
        async with fakes("n1") as (server,):
            monkeypatch.setattr(module, "ASK_LIMIT_S", 0.05)
            waits = Waits(Counter())
            waits.connected(lambda asked: None)
            backend = Backend(NodeId("n1"), "127.0.0.1", server.port)
            await waits.cancel(SimpleNamespace(bound=Bound(backend, Term(1), True), key=KEY))
            assert len(server.cancels) == 1

    asyncio.run(story())
