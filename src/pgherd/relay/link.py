"""The proxy's end of the channel to its agent.

Owns connecting again and again, handing settings and snapshots to the proxy, and reporting once a
second. An agent that is gone changes nothing by itself: the last snapshot runs into its deadline.
"""

from __future__ import annotations

import asyncio
import os

from pgherd import __version__
from pgherd.relay.journal import say
from pgherd.relay.listeners import ListenError
from pgherd.relay.messages import (
    CancelTold,
    FrameError,
    MeaningsTold,
    ProxyFailed,
    ProxyHello,
    ProxyQuiet,
    ProxySettings,
    Verifiers,
    frame,
    read_to_proxy,
)
from pgherd.relay.proxy import Proxy
from pgherd.route.choose import Snapshot
from pgherd.telemetry.boottime import until_next

REPORT_S = 1.0
CONNECT_RETRY_S = 0.2


class Link:
    """Keep the proxy in touch with its agent; `run` ends only by cancellation or ListenError."""

    def __init__(self, path: str, proxy: Proxy) -> None:
        self._path = path
        self._proxy = proxy
        self._is_listening = False
        self._report_now = asyncio.Event()

    async def run(self) -> None:
        """Connect, talk, connect again. Raises ListenError if the first settings cannot work."""
        was_connected = True
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path)
            except OSError:
                if was_connected:
                    say("agent.awaited", control=self._path)
                was_connected = False
                await asyncio.sleep(CONNECT_RETRY_S)
                continue
            was_connected = True
            say("agent.connected", control=self._path)
            try:
                await self._talk(reader, writer)
            finally:
                writer.close()
            say("agent.lost", control=self._path)
            await asyncio.sleep(CONNECT_RETRY_S)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reporting = asyncio.create_task(self._report(writer))
        asker, waits = self._proxy.asker, self._proxy.waits
        try:
            writer.write(frame(ProxyHello(os.getpid(), __version__, holds=True)))
            asker.connected(lambda question: writer.write(frame(question)))
            waits.connected(lambda question: writer.write(frame(question)))
            self._proxy.learnt.connected(lambda question: writer.write(frame(question)))
            self._proxy.hold.connected(lambda hold: writer.write(frame(ProxyQuiet(hold))))
            while (message := await read_to_proxy(reader)) is not None:
                match message:
                    case ProxySettings():
                        await self._configure(message, writer)
                    case Snapshot():
                        if self._proxy.apply(message):
                            self._report_now.set()
                    case Verifiers():
                        asker.answered(message)
                    case CancelTold():
                        waits.told(message)
                    case MeaningsTold():
                        self._proxy.learnt.told(message)
        except FrameError as error:
            say("agent.misspoke", why=error)
        except ConnectionError:
            pass
        finally:
            asker.lost()
            waits.lost()
            self._proxy.learnt.lost()
            self._proxy.hold.connected(None)
            reporting.cancel()

    async def _configure(self, settings: ProxySettings, writer: asyncio.StreamWriter) -> None:
        try:
            await self._proxy.configure(settings)
        except ListenError as error:
            writer.write(frame(ProxyFailed(str(error))))
            await writer.drain()
            if not self._is_listening:
                raise
            say("listener.failed", why=error)
        else:
            if not self._is_listening:
                say("proxy.listening", on=",".join(self._proxy.listeners.labels()))
            self._is_listening = True
            self._report_now.set()

    async def _report(self, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                try:
                    async with asyncio.timeout(until_next(REPORT_S)):
                        await self._report_now.wait()
                except TimeoutError:
                    pass
                self._report_now.clear()
                writer.write(frame(self._proxy.report()))
                await writer.drain()
        except ConnectionError:
            return


async def upkeep(proxy: Proxy) -> None:
    """Measure the loop's delay and look for dead peers, once a second."""
    loop = asyncio.get_running_loop()
    part = 0
    while True:
        wait_s = until_next(REPORT_S)
        expected_s = loop.time() + wait_s
        await asyncio.sleep(wait_s)
        proxy.tally.lag_s = max(proxy.tally.lag_s, loop.time() - expected_s)
        proxy.sweep(part)
        proxy.end_silent()
        proxy.empty_tended()
        part += 1
