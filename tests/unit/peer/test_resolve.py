"""Prove that a hanging or broken name server cuts nobody off whose address was known."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pgherd.peer.resolve import Resolver


@pytest.mark.fault(35)
def test_the_last_good_answer_serves_while_names_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """First an error, then silence: the known address is given; an unknown host is an error."""
    monkeypatch.setattr("pgherd.peer.resolve.LOOKUP_S_MAX", 0.05)
    release = threading.Event()
    asked: list[str] = []

    def good(host: str) -> list[str]:
        return ["10.0.0.7"]

    def broken(host: str) -> list[str]:
        raise OSError("no such name")

    def hanging(host: str) -> list[str]:
        asked.append(host)
        release.wait(10)
        return ["10.0.0.8"]

    async def story() -> None:
        resolver = Resolver()
        assert await resolver.resolve("::1") == ["::1"]
        for look_up in (good, broken, hanging, hanging):
            monkeypatch.setattr("pgherd.peer.resolve.look_up", look_up)
            assert await resolver.resolve("db1") == ["10.0.0.7"]
        assert asked == ["db1"], "one question at a time for each name"
        with pytest.raises(TimeoutError):
            await resolver.resolve("db2")
        release.set()
        while await resolver.resolve("db1") != ["10.0.0.8"]:  # noqa: ASYNC110 - asks anew
            await asyncio.sleep(0.01)
        resolver.close()

    asyncio.run(story())
