"""Proves how events are asked for and followed: filters, places, limits, and what is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pgherd.api import events as room
from pgherd.api.serve import serve
from pgherd.model.event import Event, Level
from pgherd.model.ids import NodeId, Term

N1, N2 = NodeId("n1"), NodeId("n2")
PATH = "/api/v1/events?follow=0"


def clusters(index: int, kind: str = "leader.elected", **more: Any) -> Event:
    values: dict[str, Any] = {"node": N1, "text": f"event {index}", "at_ms": 1_700_000_000_000}
    return Event(kind=kind, index=index, id=f"c{index}.0", term=Term(3), **{**values, **more})


def own(node: NodeId = N1, **more: Any) -> Event:
    return Event(at_ms=1_700_000_000_000, node=node, kind="server.full", text="full", **more)


def ids(client, query: str = "") -> list[str]:
    return [one["id"] for one in client.get(f"{PATH}{query}").json()["events"]]


def test_an_event_says_all_that_is_known(herd, client):
    """Rule, term, duration and fields; whether every node has it."""
    event = clusters(
        7, "primary.changed", rule=203, duration_ms=812, fields={"to": "n1"}, level=Level.WARNING
    )
    herd.told.journal.record(event)
    [found] = client.get(PATH).json()["events"]
    assert found.pop("place").startswith("7.")
    assert found == {
        "id": "c7.0",
        "at": "2023-11-14T22:13:20.000Z",
        "kind": "primary.changed",
        "level": "warning",
        "scope": "cluster",
        "node": "n1",
        "epoch": 3,
        "rule": 203,
        "text": "event 7",
        "duration_ms": 812,
        "fields": {"to": "n1"},
    }


def test_filters(herd, client):
    """By kind, level, node, time and number."""
    journal = herd.told.journal
    journal.record(clusters(1))
    journal.record(clusters(2, "term.begun", level=Level.WARNING, node=NodeId("")))
    journal.record(clusters(3, "primary.changed", fields={"from": "n2"}, at_ms=herd.unix_ms - 5000))
    assert ids(client) == ["c3.0", "c1.0", "c2.0"]
    assert ids(client, "&kind=leader.*&kind=primary.changed") == ["c3.0", "c1.0"]
    assert ids(client, "&level=warning") == ["c2.0"]
    assert ids(client, "&node=n2") == ["c3.0"]
    assert ids(client, "&limit=1") == ["c2.0"]
    herd.unix_ms += 60_000
    assert ids(client, "&since=30s") == []
    assert ids(client, "&since=70s") == ["c3.0", "c1.0", "c2.0"]
    assert ids(client, "&since=2023-11-14T22:13:18Z") == ["c1.0", "c2.0"]
    for wrong in ("&since=yesterday", "&level=loud", "&limit=0"):
        assert client.get(f"{PATH}{wrong}").status_code == 422, wrong


def test_a_place_goes_on_here_and_elsewhere(herd, client):
    """Here by number, in another journal by the ledger's index, which all nodes share."""
    journal = herd.told.journal
    for event in (clusters(4), own(), clusters(6), clusters(9)):
        journal.record(event)
    found = client.get(PATH).json()["events"]
    assert ids(client, f"&since={found[1]['place']}") == ["c6.0", "c9.0"]
    assert ids(client, "&since=6.ffffffff.812") == ["c9.0"]
    assert ids(client, "&since=5.ffffffff.812") == ["c6.0", "c9.0"]
    assert len(ids(client, "&since=1.ffffffff.812")) == 4


def test_what_others_alone_know_is_asked_for(herd, client):
    """One answer has the events of all nodes, tagged with who told them."""
    herd.told.journal.record(own())
    herd.told.elsewhere = [own(N2, id="n2-aa-1")]
    found = client.get(PATH).json()["events"]
    assert [(one["node"], one["scope"]) for one in found] == [("n1", "node"), ("n2", "node")]


def test_a_list_says_what_is_not_kept(herd, client):
    """The journal has 50 events here."""
    for index in range(1, 71):
        herd.told.journal.record(clusters(index))
    answer = client.get(f"{PATH}&since=1.{herd.told.journal.run}.5&limit=2000").json()
    assert (len(answer["events"]), answer["lost"]) == (50, 15)


class Follower:
    """One reader of the stream over a real socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.head = b""

    async def message(self) -> dict[str, str]:
        """The next message that is not a comment alone."""
        while True:
            found: dict[str, str] = {}
            while (line := await self._line()) != "":
                name, _, value = line.partition(": ")
                if name in ("id", "event", "data", "retry"):
                    found[name] = value
            if found:
                return found

    async def event(self) -> dict[str, Any]:
        while True:
            found = await self.message()
            if "data" in found:
                return {**json.loads(found["data"]), "place": found.get("id", "")}

    async def _line(self) -> str:
        """A line of the body: the sizes of chunks are passed over."""
        while True:
            line = (await self.reader.readuntil(b"\n")).decode()
            if line.endswith("\r\n"):
                continue
            return line.rstrip("\n")


@contextlib.asynccontextmanager
async def following(port: int, query: str = "", headers: str = "") -> AsyncIterator[Follower]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /api/v1/events{query} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
    made = Follower(reader, writer)
    async with asyncio.timeout(20):
        made.head = await reader.readuntil(b"\r\n\r\n")
        yield made
    writer.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - it is a count, and nobody is told of it
            await asyncio.sleep(0.01)


def over_sockets(app, test) -> None:
    """Run a test against the application behind a real server."""

    async def run() -> None:
        server = serve(app, "127.0.0.1", 0)
        task = asyncio.create_task(server.run())
        await server.started.wait()
        try:
            await test(server.port)
        finally:
            app.state.services.herd.told.journal.let_go()
            server.stop()
            await task

    asyncio.run(run())


def test_a_stream_tells_what_happens(herd, client):
    """From now on, or from a place on; what is not wanted is left out; who goes is forgotten."""
    journal = herd.told.journal
    journal.record(clusters(1))

    async def test(port: int) -> None:
        async with following(port, "?kind=leader.*") as reader:
            assert b"text/event-stream" in reader.head
            first = await reader.message()
            assert first["retry"] == "2000"
            journal.record(clusters(2, "term.begun"))
            journal.record(clusters(3))
            event = await reader.event()
            assert (event["id"], event["kind"]) == ("c3.0", "leader.elected")
            assert herd.told.followers == 1
        async with following(port, headers=f"Last-Event-ID: {event['place']}\r\n") as reader:
            journal.record(clusters(4))
            assert (await reader.event())["id"] == "c4.0"
        async with following(port, "?since=1.ffffffff.1") as reader:
            assert [(await reader.event())["id"] for _ in range(3)] == ["c2.0", "c3.0", "c4.0"]
        await until(lambda: not herd.told.followers)

    over_sockets(client.app, test)


def test_who_is_too_late_is_told_and_dropped(herd, client):
    """The journal went on without it: `lost` with the number, then the end of the stream."""
    journal = herd.told.journal
    for index in range(1, 71):
        journal.record(clusters(index))

    async def test(port: int) -> None:
        async with following(port, f"?since=5.{journal.run}.5") as reader:
            await reader.message()
            assert (await reader.event())["lost"] == 15
            with pytest.raises(asyncio.IncompleteReadError):
                await reader.message()

    over_sockets(client.app, test)


def test_signs_of_life_move_the_place(herd, client, monkeypatch):
    """A follower that wants little does not begin far back when it comes again."""
    monkeypatch.setattr(room, "HEARTBEAT_S", 0.05)
    journal = herd.told.journal

    async def test(port: int) -> None:
        async with following(port, "?kind=nothing") as reader:
            await reader.message()
            journal.record(clusters(5))
            while (await reader.message())["id"] != journal.place_now():
                pass

    over_sockets(client.app, test)


def test_a_stream_ends_before_a_token_is_forgotten(herd, client, monkeypatch):
    """Who follows has to come again now and then, and shows what it may."""
    monkeypatch.setattr(room, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(room, "STREAM_S_MAX", 0.2)

    async def test(port: int) -> None:
        async with following(port) as reader:
            while await reader.reader.read(4096):
                pass

    over_sockets(client.app, test)


def test_followers_are_counted(herd, client, monkeypatch):
    """Beyond the limit: 429 and when to come again. The end of one makes room."""
    monkeypatch.setattr(room, "STREAMS_MAX", 1)

    async def test(port: int) -> None:
        async with following(port) as first:
            await first.message()
            async with following(port) as second:
                assert second.head.startswith(b"HTTP/1.1 429")
                assert b"retry-after: 30" in second.head.lower()
        await until(lambda: not client.app.state.services.streams)
        async with following(port) as third:
            assert third.head.startswith(b"HTTP/1.1 200")

    over_sockets(client.app, test)


def test_a_reader_that_takes_nothing_is_hung_up_on(herd, client, monkeypatch):
    """Its place in the count is free again, while others are told."""
    monkeypatch.setattr(room, "SEND_S_MAX", 0.2)
    journal = herd.told.journal

    async def test(port: int) -> None:
        async with following(port):
            for index in range(1, 400):
                journal.record(clusters(index, text="x" * 100_000))
                await asyncio.sleep(0)
                if index % 10 == 0:
                    await asyncio.sleep(0.05)
                if index > 20 and not client.app.state.services.streams:
                    break
            await until(lambda: not client.app.state.services.streams)

    over_sockets(client.app, test)
