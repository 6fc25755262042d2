"""The agent's end of the channel to its proxy: settings and snapshots down, counters up.

Owns the Unix socket (mode 0600) and what was last published; a proxy that connects anew is given
both at once, and a slow one gets only the last snapshot. Leaves starting it to the supervisor.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path

import msgspec

from pgherd.relay.messages import (
    CancelAsked,
    Cancelled,
    CancelTold,
    FrameError,
    MeaningsAsked,
    MeaningsTold,
    ProxyCounters,
    ProxyFailed,
    ProxyHello,
    ProxyQuiet,
    ProxySettings,
    ToProxy,
    Verifiers,
    VerifiersAsked,
    frame,
    read_to_agent,
)
from pgherd.route.choose import Snapshot

COUNTERS_AGE_S_MAX = 3.0
"""The proxy reports once a second; silence for so long is not healthy."""

LINKS_MAX = 8
"""One proxy is usual; while one replaces another there are two."""

SOCKET_PATH_BYTES_MAX = 107
"""sun_path of Linux, less its closing zero."""


Source = Callable[[tuple[str, ...]], Awaitable[Verifiers]]
"""Who knows what users' passwords are checked with; problems are part of the answer."""

Cancel = Callable[[CancelAsked], Awaitable[CancelTold]]
"""Who can cancel what a server runs; problems are part of the answer."""

Meant = Callable[[MeaningsAsked], Awaitable[MeaningsTold]]
"""Who knows what names mean in a database; problems are part of the answer."""

CANCELS_AT_ONCE_MAX = 64


class ControlError(Exception):
    """The operator's arrangement of the control socket cannot work."""


class _Link:
    """One connected proxy and what it said last."""

    __slots__ = (
        "answering",
        "at_s",
        "cancelling",
        "counters",
        "hello",
        "quiet",
        "task",
        "was_well",
    )

    def __init__(self, task: asyncio.Task[None], *, at_s: float) -> None:
        self.task = task
        self.answering: asyncio.Task[None] | None = None
        self.cancelling: set[asyncio.Task[None]] = set()
        self.hello: ProxyHello | None = None
        self.counters: ProxyCounters | None = None
        self.quiet = ""
        self.at_s = at_s
        self.was_well = False


class ProxyControl:
    """Talk to the proxy of this node. Everything runs in the agent's event loop."""

    def __init__(
        self,
        path: Path,
        settings: ProxySettings,
        verifiers: Source | None = None,
        cancel: Cancel | None = None,
        meanings: Meant | None = None,
        *,
        on_quiet: Callable[[], None] = lambda: None,
    ) -> None:
        self._path = path
        self._on_quiet = on_quiet
        self._verifiers = verifiers
        self._cancel = cancel
        self._meanings = meanings
        self._settings = settings
        self._snapshot: Snapshot | None = None
        self._server: asyncio.Server | None = None
        self._links: list[_Link] = []
        self._news: set[asyncio.Event] = set()
        self._last: ProxyCounters | None = None
        self._failure: str | None = None

    async def start(self) -> None:
        """Listen for the proxy. Raises ControlError when the path cannot be used."""
        _clear_path(self._path)
        mask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._on_connect, path=str(self._path))
        except OSError as error:
            raise ControlError(f"cannot listen on {self._path}: {error.strerror}") from error
        finally:
            os.umask(mask)

    def publish(self, snapshot: Snapshot) -> None:
        """Give the proxy a snapshot; only the newest is ever sent."""
        self._snapshot = snapshot
        self._wake()

    def configure(self, settings: ProxySettings) -> None:
        """Give the proxy other settings; it opens and closes listeners to match."""
        self._settings = settings
        self._wake()

    def counters(self) -> ProxyCounters | None:
        """The last report of the newest proxy, however old; None before the first.

        Sessions that earlier ones let end are among the open ones.
        """
        last = self._last
        before = [link.counters.sessions for link in self._links[:-1] if link.counters is not None]
        if last is None or not any(before):
            return last
        return msgspec.structs.replace(last, sessions=_together([*before, last.sessions]))

    def hello(self) -> ProxyHello | None:
        """Who connected last and is still there."""
        return self._links[-1].hello if self._links else None

    def failure(self) -> str | None:
        """Why a proxy could not do its work, in one line; None once a later one is well."""
        return self._failure

    def is_quiet(self, hold: str) -> bool:
        """Whether no proxy that is connected has a transaction left that it could hold.

        Nobody waits for one that holds nothing, because it is of an older version and drains, or
        that hangs: what runs there ends with the reign, as without a hold.
        """
        return all(link.quiet == hold for link in self._links if self._can_be_quiet(link))

    def healthy(self) -> bool:
        """Whether a proxy is connected, reports in time, and has every listener open."""
        return any(self._is_well(link) for link in self._links)

    async def stop(self) -> None:
        """Stop listening and leave the proxy; it keeps its sessions and its last snapshot."""
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = [link.task for link in self._links]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._path.unlink(missing_ok=True)

    def _is_well(self, link: _Link) -> bool:
        if link.counters is None:
            return False
        age_s = asyncio.get_running_loop().time() - link.at_s
        wanted = {one.label for one in self._settings.listeners}
        return age_s <= COUNTERS_AGE_S_MAX and set(link.counters.listening) == wanted

    def _can_be_quiet(self, link: _Link) -> bool:
        age_s = asyncio.get_running_loop().time() - link.at_s
        return age_s <= COUNTERS_AGE_S_MAX and (link.hello is None or link.hello.holds)

    def _newest(self) -> _Link | None:
        """The proxy that came last and has reported."""
        reported = [link for link in self._links if link.counters is not None]
        return reported[-1] if reported else None

    def _wake(self) -> None:
        for news in self._news:
            news.set()

    async def _on_connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._links) >= LINKS_MAX:
            writer.close()
            return
        link = _Link(task, at_s=asyncio.get_running_loop().time())
        self._links.append(link)
        sending = asyncio.create_task(self._send(writer))
        try:
            while (message := await read_to_agent(reader)) is not None:
                if isinstance(message, VerifiersAsked):
                    self._begin_answer(link, message.users, writer)
                elif isinstance(message, CancelAsked):
                    self._beside(link, self._do_cancel(message, writer))
                elif isinstance(message, MeaningsAsked):
                    self._beside(link, self._explain(message, writer))
                else:
                    self._take(link, message)
        except (FrameError, asyncio.CancelledError):
            pass  # one that speaks wrongly is left and will connect again; or we stop
        finally:
            sending.cancel()
            if link.answering is not None:
                link.answering.cancel()
            for task in link.cancelling:
                task.cancel()
            writer.close()
            self._links.remove(link)
            if self._server is not None:
                self._on_quiet()  # it may have been the last that was waited for

    def _begin_answer(
        self, link: _Link, users: tuple[str, ...], writer: asyncio.StreamWriter
    ) -> None:
        """Find out in a task of its own: counters go on. A proxy asks one question at a time."""
        if link.answering is not None and not link.answering.done():
            raise FrameError("a question before the last one was answered")
        link.answering = asyncio.create_task(self._answer(users, writer))

    async def _answer(self, users: tuple[str, ...], writer: asyncio.StreamWriter) -> None:
        if self._verifiers is None:
            answer = Verifiers(users, problem="this agent knows no users")
        else:
            answer = await self._verifiers(users)
        writer.write(frame(answer))

    def _beside(self, link: _Link, doing: Coroutine[None, None, None]) -> None:
        """Several go on beside each other: none waits for another's server."""
        if len(link.cancelling) >= CANCELS_AT_ONCE_MAX:
            doing.close()
            raise FrameError("too many questions at once")
        task = asyncio.create_task(doing)
        link.cancelling.add(task)
        task.add_done_callback(link.cancelling.discard)

    async def _explain(self, asked: MeaningsAsked, writer: asyncio.StreamWriter) -> None:
        if self._meanings is None:
            told = MeaningsTold(asked.database, problem="this agent knows no servers")
        else:
            told = await self._meanings(asked)
        writer.write(frame(told))

    async def _do_cancel(self, asked: CancelAsked, writer: asyncio.StreamWriter) -> None:
        if self._cancel is None:
            told = CancelTold(asked.number, Cancelled.UNKNOWN, "this agent knows no servers")
        else:
            told = await self._cancel(asked)
        writer.write(frame(told))

    def _take(
        self, link: _Link, message: ProxyHello | ProxyFailed | ProxyCounters | ProxyQuiet
    ) -> None:
        match message:
            case ProxyHello():
                link.hello = message
            case ProxyQuiet():
                is_news, link.quiet = link.quiet != message.hold, message.hold
                if is_news:
                    self._on_quiet()
            case ProxyFailed():
                self._failure = message.message
            case ProxyCounters():
                link.counters = message
                if link is self._newest():
                    self._last = message
                link.at_s = asyncio.get_running_loop().time()
                if self._is_well(link) and not link.was_well:
                    link.was_well, self._failure = True, None

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        """Send what changed since this proxy was last told, newest only."""
        news = asyncio.Event()
        self._news.add(news)
        told: dict[type, ToProxy] = {}
        try:
            while True:
                news.clear()
                for message in (self._settings, self._snapshot):
                    if message is not None and told.get(type(message)) is not message:
                        writer.write(frame(message))
                        told[type(message)] = message
                await writer.drain()
                await news.wait()
        except ConnectionError:
            return
        finally:
            self._news.discard(news)


def _together(each: list[dict[str, dict[str, int]]]) -> dict[str, dict[str, int]]:
    """The sum of several proxies' open sessions."""
    found: dict[str, Counter[str]] = {}
    for sessions in each:
        for label, counts in sessions.items():
            found.setdefault(label, Counter()).update(counts)
    return {label: dict(counts) for label, counts in found.items()}


def _clear_path(path: Path) -> None:
    """Remove a socket that nobody listens on any more."""
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise ControlError(f"path of control socket is longer than {SOCKET_PATH_BYTES_MAX}: {path}")
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ControlError(f"{path} is in the way: not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(str(path)) not in (errno.ECONNREFUSED, errno.ENOENT):
            raise ControlError(f"another agent listens on {path}")
    path.unlink(missing_ok=True)
