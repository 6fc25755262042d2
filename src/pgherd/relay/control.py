"""The agent's end of the channel to its proxy: settings and snapshots down, counters up.

Owns the Unix socket (mode 0600) and what was last published; a proxy that connects anew is given
both at once. Newest wins in both directions: a slow proxy gets only the last snapshot, and a
second proxy that connects replaces the first. Leaves starting the proxy to the supervisor.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from pathlib import Path

from pgherd.relay.messages import (
    FrameError,
    ProxyCounters,
    ProxyFailed,
    ProxyHello,
    ProxySettings,
    ToProxy,
    frame,
    read_to_agent,
)
from pgherd.route.choose import Snapshot

COUNTERS_AGE_S_MAX = 3.0
"""The proxy reports once a second; silence for so long is not healthy."""

SOCKET_PATH_BYTES_MAX = 107
"""sun_path of Linux, less its closing zero."""


class ControlError(Exception):
    """The operator's arrangement of the control socket cannot work."""


class ProxyControl:
    """Talk to the proxy of this node. Everything runs in the agent's event loop."""

    def __init__(self, path: Path, settings: ProxySettings) -> None:
        self._path = path
        self._settings = settings
        self._snapshot: Snapshot | None = None
        self._server: asyncio.Server | None = None
        self._link: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._counters: ProxyCounters | None = None
        self._counters_at = 0.0
        self._hello: ProxyHello | None = None
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
        self._news.set()

    def configure(self, settings: ProxySettings) -> None:
        """Give the proxy other settings; it opens and closes listeners to match."""
        self._settings = settings
        self._news.set()

    def counters(self) -> ProxyCounters | None:
        """The proxy's last report, however old; None before the first."""
        return self._counters

    def hello(self) -> ProxyHello | None:
        """Who is connected now."""
        return self._hello

    def failure(self) -> str | None:
        """Why the last proxy gave up, in one line; None while none did."""
        return self._failure

    def healthy(self) -> bool:
        """Whether a proxy is connected, reports in time, and has every listener open."""
        counters = self._counters
        if self._link is None or counters is None:
            return False
        age_s = asyncio.get_running_loop().time() - self._counters_at
        wanted = {one.label for one in self._settings.listeners}
        return age_s <= COUNTERS_AGE_S_MAX and set(counters.listening) == wanted

    async def stop(self) -> None:
        """Stop listening and leave the proxy; it keeps its sessions and its last snapshot."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._drop_link()
        self._path.unlink(missing_ok=True)

    async def _on_connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._drop_link()
        self._link = asyncio.current_task()
        sending = asyncio.create_task(self._send(writer))
        try:
            while (message := await read_to_agent(reader)) is not None:
                self._take(message)
        except FrameError:
            pass  # a proxy that speaks wrongly is left; it will connect again
        except asyncio.CancelledError:
            pass  # replaced by a newer proxy, or stopping
        finally:
            sending.cancel()
            writer.close()
            if self._link is asyncio.current_task():
                self._link, self._hello = None, None

    async def _drop_link(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.cancel()
            await asyncio.wait([link])

    def _take(self, message: ProxyHello | ProxyFailed | ProxyCounters) -> None:
        match message:
            case ProxyHello():
                self._hello = message
            case ProxyFailed():
                self._failure = message.message
            case ProxyCounters():
                self._counters, self._failure = message, None
                self._counters_at = asyncio.get_running_loop().time()

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        """Send what changed since this proxy was last told, newest only."""
        told: dict[type, ToProxy] = {}
        try:
            while True:
                self._news.clear()
                for message in (self._settings, self._snapshot):
                    if message is not None and told.get(type(message)) is not message:
                        writer.write(frame(message))
                        told[type(message)] = message
                await writer.drain()
                await self._news.wait()
        except ConnectionError:
            return


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
