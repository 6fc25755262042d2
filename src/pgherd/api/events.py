"""Events over HTTP: what was, as JSON, and what comes, as server-sent events.

Owns filters, the form of the stream and its limits: how many follow, how long a reader may not
read, what is said to one that comes too late. A follower is a place in the journal and nothing
else, so a slow one costs no memory: where the journal has gone on without it, it gets `lost` with
their number, and the stream ends. What an event is, is `model.event`'s.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from fnmatch import fnmatchcase
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from starlette.types import Receive, Scope, Send

from pgherd.api.deps import Services, ServicesDep, viewer
from pgherd.api.eventschema import Events, shown
from pgherd.api.failures import Problem
from pgherd.api.herd import EventSource
from pgherd.api.times import time_of
from pgherd.model.event import Event as Told
from pgherd.model.event import Level
from pgherd.telemetry.journal import EVENTS_KEPT_MAX, Entry, Journal

STREAMS_MAX = 64
HEARTBEAT_S = 15.0
SEND_S_MAX = 20.0
"""A reader that takes nothing for so long is hung up on; it may come again and go on."""
STREAM_S_MAX = 3600.0
"""Then a follower has to come again, with a token that is still good."""
BATCH_MAX = 100
RETRY_MS = 2000
STREAM = "text/event-stream"
LIST = "application/json"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Connection": "close"}
HINT = "since takes 10m, 2026-01-31T23:00Z, or the place of an event"

router = APIRouter(dependencies=[Depends(viewer)])


class Wanted(msgspec.Struct, frozen=True):
    """Which events somebody asked for. kinds: patterns as leader.*; () = all."""

    kinds: tuple[str, ...] = ()
    level: Level = Level.DEBUG
    node: str = ""
    since_ms: int = 0

    def takes(self, event: Told) -> bool:
        """Whether this is one of them."""
        if event.level.weight < self.level.weight or event.at_ms < self.since_ms:
            return False
        if self.kinds and not any(fnmatchcase(event.kind, kind) for kind in self.kinds):
            return False
        return not self.node or self.node in (event.node, *event.fields.values())


async def wanted(
    services: ServicesDep,
    kind: Annotated[
        list[str] | None, Query(description="Kinds, * for any part of a name.", max_length=20)
    ] = None,
    level: Annotated[Level, Query(description="At least so important.")] = Level.DEBUG,
    node: Annotated[str, Query(description="Told by this node, or about it.", max_length=64)] = "",
    since: Annotated[
        str | None, Query(description="How long ago, a time, or a place.", max_length=128)
    ] = None,
) -> Wanted:
    """The filters of a request."""
    at = None if since is None else time_of(since, now_ms=int(services.unix_s() * 1000))
    return Wanted(tuple(kind or ()), level, node, since_ms=at or 0)


@router.get(
    "/api/v1/events",
    response_model=Events,
    responses={200: {"content": {STREAM: {"schema": {"type": "string"}}}}},
)
async def events(
    request: Request,
    services: ServicesDep,
    wanted: Annotated[Wanted, Depends(wanted)],
    since: Annotated[str | None, Query(max_length=128)] = None,
    follow: Annotated[
        bool | None, Query(description="A stream or a list; else as Accept says, a stream.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=EVENTS_KEPT_MAX)] = 200,
    last_event_id: Annotated[str | None, Header(max_length=128)] = None,
) -> Any:
    """Events as they happen, or the newest of them."""
    source = services.herd.events()
    journal = source.journal
    if follow is None:
        accept = request.headers.get("accept", "")
        follow = STREAM in accept or LIST not in accept
    place = last_event_id or (since if not wanted.since_ms else None)
    if not follow:
        await source.gather()
        return listed(journal, wanted, start(journal, place, fresh=0), limit=limit)
    if services.streams >= STREAMS_MAX:
        raise Problem(
            429,
            "too_many_followers",
            f"{STREAMS_MAX} follow the events of this node already",
            hint="follow at another node, or ask with follow=0",
            headers={"Retry-After": "30"},
        )
    number = start(journal, place, fresh=0 if wanted.since_ms else journal.newest)
    return EventStream(services, source, wanted, number)


def start(journal: Journal, place: str | None, *, fresh: int) -> int:
    """The number after which somebody reads on; fresh: where no place was named."""
    if place is None:
        return fresh
    try:
        return journal.number_after(place)
    except ValueError:
        raise Problem(422, "invalid", f"{place} is neither time nor place", hint=HINT) from None


def listed(journal: Journal, wanted: Wanted, number: int, *, limit: int) -> Events:
    """What is known of a time, oldest first by the clock of who told it."""
    found = [one for one in journal.since(number) if wanted.takes(one.event)]
    found.sort(key=lambda one: one.event.at_ms)
    return Events(
        events=[shown(one.event, place=journal.place(one)) for one in found[-limit:]],
        place=journal.place_now(),
        lost=journal.missed(number) if number else 0,
    )


class EventStream(Response):
    """One follower, until it goes, reads too slowly, or the agent ends."""

    media_type = STREAM

    def __init__(
        self, services: Services, source: EventSource, wanted: Wanted, number: int
    ) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._services = services
        self._source = source
        self._wanted = wanted
        self._number = number

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end; who has gone is noticed at once."""
        self._services.streams += 1
        told = asyncio.create_task(self._tell(send))
        gone = asyncio.create_task(disconnected(receive))
        try:
            with self._source.following():
                await asyncio.wait({told, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._services.streams -= 1
            for task in (told, gone):
                task.cancel()
            await asyncio.gather(told, gone, return_exceptions=True)

    async def _tell(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for text in self._texts():
            async with asyncio.timeout(SEND_S_MAX):
                await send({"type": "http.response.body", "body": text, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _texts(self) -> AsyncIterator[bytes]:
        journal = self._source.journal
        yield f"retry: {RETRY_MS}\n\n".encode() + self._alive()
        until = asyncio.get_running_loop().time() + STREAM_S_MAX
        while not journal.closing and asyncio.get_running_loop().time() < until:
            if lost := journal.missed(self._number):
                yield message("lost", {"lost": lost, "place": journal.place_now()})
                return
            entries = journal.following(self._number, limit=BATCH_MAX)
            taken = [entry for entry in entries if self._wanted.takes(entry.event)]
            if entries:
                self._number = entries[-1].number
            if taken:
                yield b"".join(told(journal, entry) for entry in taken)
            elif not entries and not await self._something():
                yield self._alive()

    async def _something(self) -> bool:
        """Wait for the next event; False when it is time for a sign of life."""
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                await self._source.journal.wait_past(self._number)
        except TimeoutError:
            return False
        return True

    def _alive(self) -> bytes:
        """A comment; with it the place moves past what was not wanted."""
        journal = self._source.journal
        if self._number != journal.newest:
            return b": alive\n\n"
        return f": alive\nid: {journal.place_now()}\n\n".encode()


def told(journal: Journal, entry: Entry) -> bytes:
    """One event of the stream."""
    place = journal.place(entry)
    return message(entry.event.kind, shown(entry.event, place=place).model_dump(), place=place)


def message(kind: str, data: dict[str, Any], *, place: str = "") -> bytes:
    """One message in the form of server-sent events; JSON has no line breaks."""
    head = f"id: {place}\n" if place else ""
    return f"{head}event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


async def disconnected(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
