"""Proves that logins share questions to the agent, and that none is lost with it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from pgherd.relay.asking import USERS_PER_QUESTION, Asker
from pgherd.relay.messages import Verifiers, VerifiersAsked


class Agent:
    """What was asked, and the answers to it."""

    def __init__(self, asker: Asker) -> None:
        self.asker = asker
        self.asked: list[tuple[str, ...]] = []

    def connect(self) -> None:
        self.asker.connected(self._take)

    def _take(self, question: VerifiersAsked) -> None:
        self.asked.append(question.users)

    def answer(self, stored: str) -> None:
        users = self.asked[-1]
        self.asker.answered(Verifiers(users, stored=dict.fromkeys(users, stored)))


async def begun(*asking: Coroutine[None, None, Verifiers]) -> list[asyncio.Task[Verifiers]]:
    tasks = [asyncio.create_task(each) for each in asking]
    await asyncio.sleep(0)
    return tasks


def test_one_question_is_under_way_and_the_rest_wait_for_the_next() -> None:
    """Who comes while it is asked is not given its answer: the password may be newer than it."""

    async def story() -> None:
        asker = Asker()
        agent = Agent(asker)
        agent.connect()
        [first] = await begun(asker.ask("ann"))
        later = await begun(asker.ask("ann"), asker.ask("bob"), asker.ask("ann"))
        assert agent.asked == [("ann",)]
        agent.answer("old")
        assert (await first).stored == {"ann": "old"}
        assert agent.asked == [("ann",), ("ann", "bob")]
        assert not any(task.done() for task in later)
        agent.answer("new")
        for answer in await asyncio.gather(*later):
            assert answer.stored["ann"] == "new"
        assert len(agent.asked) == 2

    asyncio.run(story())


def test_an_agent_that_comes_back_is_asked_again() -> None:
    """By those that still wait; those that gave up are not asked for."""

    async def story() -> None:
        asker = Asker()
        agent = Agent(asker)
        [ann, bob] = await begun(asker.ask("ann"), asker.ask("bob"))
        assert agent.asked == []
        agent.connect()
        assert agent.asked == [("ann", "bob")]
        asker.lost()
        bob.cancel()
        await asyncio.sleep(0)
        agent.connect()
        assert agent.asked[-1] == ("ann",)
        agent.answer("new")
        assert (await ann).stored == {"ann": "new"}

    asyncio.run(story())


def test_a_question_has_a_limit() -> None:
    """A flood of names is cut into questions of one size."""

    async def story() -> None:
        asker = Asker()
        agent = Agent(asker)
        tasks = await begun(*(asker.ask(f"u{number}") for number in range(USERS_PER_QUESTION + 5)))
        agent.connect()
        assert len(agent.asked[0]) == USERS_PER_QUESTION
        agent.answer("x")
        assert len(agent.asked[1]) == 5
        agent.answer("x")
        await asyncio.gather(*tasks)

    asyncio.run(story())
