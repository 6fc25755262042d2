"""One outgoing connection to one peer: kept up, with back-off, and the requests under way on it.

Theory of operation. A task dials, greets and then waits until the connection is lost, again and
again. Between two connections the outbox keeps what is queued, and a failed dial empties it, so
that what was queued while dialling still leaves, and nothing old ever does. The link is up once
the peer has welcomed us: under TLS 1.3 a completed handshake does not mean that our certificate
was accepted. The bulk lane dials when there is something to send and hangs up when idle.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

from pgherd.model.errors import OperatorError
from pgherd.model.ids import NodeId
from pgherd.peer import frame as frames
from pgherd.peer.errors import PeerRefused, PeerUnreachable
from pgherd.peer.frame import (
    NEWEST,
    OLDEST,
    Channel,
    FrameError,
    Hello,
    Lane,
    Request,
    Response,
    Welcome,
    pack,
)
from pgherd.peer.outbox import Outbox
from pgherd.peer.resolve import Resolver
from pgherd.peer.storemarks import StoreMark
from pgherd.peer.wire import Wire, explain
from pgherd.pki.contexts import Contexts

BACKOFF_S_MIN = 0.05
BACKOFF_S_MAX = 1.0
DIAL_S_MAX = 2.0
"""Dialling and greeting; short, since a SYN lost in a partition is repeated after seconds only."""
IDLE_TICKS_MAX = 10
SILENT_TICKS_MAX = 4
BULK_SILENT_TICKS_MAX = 30
"""Signs of life wait behind long frames there; TCP_USER_TIMEOUT notices a dead peer before."""
REQUESTS_MAX = 256
RTT_WEIGHT = 0.2


class Link:
    """An outgoing connection. `on_change(link, problem)`: it came up (None) or went down."""

    def __init__(
        self,
        *,
        me: NodeId,
        peer: NodeId,
        address: tuple[str, int],
        lane: Lane,
        contexts: Contexts | None,
        resolver: Resolver,
        on_change: Callable[[Link, str | None], None],
        store: Callable[[], StoreMark],
        own_address: tuple[str, int],
    ) -> None:
        self.me, self.peer, self.address, self.lane = me, peer, address, lane
        self.is_up = False
        self.rtt_s: float | None = None
        self.certificate_ends_unix: int | None = None
        self.protocol = 0
        self.outbox = Outbox()
        self._contexts = contexts
        self._resolver = resolver
        self._on_change = on_change
        self._store = store
        self._own_address = own_address
        self._wire: Wire | None = None
        self._lost: asyncio.Future[str] | None = None
        self._welcome: asyncio.Future[None] | None = None
        self._wake = asyncio.Event()
        self._pending: dict[int, asyncio.Future[bytes]] = {}
        self._next_request = 1
        self._idle_ticks = 0
        self._is_hanging_up = False
        self._hello_at = 0.0
        self._task = asyncio.get_running_loop().create_task(self._run())

    def wake(self) -> None:
        """Dial at once: there is something to send, or the peer was heard from."""
        self._wake.set()

    def flush(self) -> None:
        """Send what is queued, dialling if need be."""
        self._idle_ticks = 0
        if self.is_up and self._wire is not None:
            self._wire.flush_soon()
        elif self.lane is Lane.BULK:
            self.wake()

    def tick(self) -> None:
        """Once a second: ask for a sign of life, give up on a silent peer, hang up when idle."""
        wire = self._wire
        if wire is None or not self.is_up:
            return
        wire.silent_ticks += 1
        self._idle_ticks += 1
        is_bulk = self.lane is Lane.BULK
        if is_bulk and (wire.has_backlog() or self._pending):
            wire.silent_ticks = self._idle_ticks = 0
        if wire.silent_ticks > (BULK_SILENT_TICKS_MAX if is_bulk else SILENT_TICKS_MAX):
            wire.abort(TimeoutError("no sign of life"))
        elif is_bulk and self._idle_ticks > IDLE_TICKS_MAX:
            self._is_hanging_up = True
            wire.close()
        else:
            stamp = time.monotonic_ns() // 1000
            self.outbox.put_urgent(pack(Channel.PING, frames.encode(stamp)))
            wire.flush_soon()

    async def request(self, kind: str, body: bytes, timeout_s: float) -> bytes:
        """Ask and wait for the answer."""
        if not self.is_up and self.lane is Lane.MAIN:
            raise PeerUnreachable(f"no connection to {self.peer}", sent=False)
        if len(self._pending) >= REQUESTS_MAX:
            raise PeerUnreachable(f"too many requests to {self.peer} wait", sent=False)
        number, self._next_request = self._next_request, self._next_request + 1
        try:
            asked = pack(Channel.REQUEST, frames.encode(Request(number, kind, body)))
        except FrameError as error:
            raise PeerUnreachable(f"request {kind}: {error}", sent=False) from error
        if not self.outbox.put_call(asked):
            raise PeerUnreachable(f"too many requests to {self.peer} wait", sent=False)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._pending[number] = answer
        self.flush()
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError as error:
            text = f"{self.peer} did not answer {kind} within {timeout_s:g} s"
            raise PeerUnreachable(text, sent=True) from error
        finally:
            self._pending.pop(number, None)

    async def stop(self) -> None:
        """Hang up for good."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._wire is not None:
            self._wire.abort()
        self._fail_requests(f"the connection to {self.peer} was closed", sent=True)

    async def _run(self) -> None:
        delay = BACKOFF_S_MIN
        while True:
            if self.lane is Lane.BULK:
                await self._wait_for_work()
            problem = await self._connect_and_wait()
            was_up, self.is_up, self.rtt_s, self._wire = self.is_up, False, None, None
            self.outbox.clear()
            self._fail_requests(f"no connection to {self.peer}: {problem}", sent=was_up)
            if not self._is_hanging_up:
                self._on_change(self, problem)
            self._is_hanging_up = False
            delay = BACKOFF_S_MIN if was_up else min(delay * 2, BACKOFF_S_MAX)
            if await self._pause(delay * random.uniform(0.8, 1.2)):
                delay = BACKOFF_S_MIN

    async def _wait_for_work(self) -> None:
        while not self.outbox:
            self._wake.clear()
            await self._wake.wait()

    async def _pause(self, seconds: float) -> bool:
        """Wait before the next dial; True when the peer was heard from and there is no need to."""
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    async def _connect_and_wait(self) -> str:
        """Dial, greet, and return why the connection ended."""
        loop = asyncio.get_running_loop()
        self._lost, self._welcome = loop.create_future(), loop.create_future()
        wire = Wire(on_frame=self._on_frame, on_lost=self._on_lost)
        try:
            async with asyncio.timeout(DIAL_S_MAX):
                await self._dial(wire)
                self._wire = wire
                self._greet(wire)
                either: list[asyncio.Future[Any]] = [self._lost, self._welcome]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            return await self._lost
        except (OSError, PeerRefused, OperatorError) as error:
            wire.abort(error)
            return explain(error)
        except asyncio.CancelledError:
            wire.abort()
            raise

    async def _dial(self, wire: Wire) -> None:
        """Try the peer's addresses in turn; raises the last failure."""
        loop = asyncio.get_running_loop()
        context = await asyncio.to_thread(self._contexts.client) if self._contexts else None
        failure: OSError = OSError(f"{self.address[0]} has no address")
        for host in await self._resolver.resolve(self.address[0]):
            try:
                name = str(self.peer) if context else None
                await loop.create_connection(
                    lambda: wire, host, self.address[1], ssl=context, server_hostname=name
                )
                return
            except OSError as error:
                failure = error
        raise failure

    def _greet(self, wire: Wire) -> None:
        """Say who we are, once the other side has shown that it is who we want."""
        if self._contexts is not None:
            name = wire.peer_name()
            if name != self.peer:
                host, port = self.address
                raise PeerRefused(f"the certificate at {host}:{port} is of {name}")
            self.certificate_ends_unix = wire.certificate_ends_unix()
        self._hello_at = time.monotonic()
        wire.send_now(pack(Channel.HELLO, frames.encode(self._hello())))

    def _hello(self) -> Hello:
        return Hello(
            node=self.me,
            to=self.peer,
            lane=int(self.lane),
            store=self._store(),
            oldest=OLDEST,
            newest=NEWEST,
            address=self._own_address,
        )

    def _on_frame(self, wire: Wire, channel: Channel, body: bytes) -> None:
        match channel:
            case Channel.RESPONSE if self.is_up:
                self._on_response(frames.decode_response(body))
            case Channel.PONG if self.is_up:
                sample = time.monotonic() - frames.decode_number(body) / 1e6
                self._measure(sample)
            case Channel.WELCOME if not self.is_up:
                self._on_welcome(wire, frames.decode_welcome(body))
            case Channel.REFUSED:
                wire.fail(PeerRefused(f"it refuses us: {frames.decode_text(body)[:200]}"))
            case Channel.LATER:
                pass  # nothing that we asked for
            case _:
                raise FrameError(f"{channel.name} has no place on an outgoing connection")

    def _on_welcome(self, wire: Wire, welcome: Welcome) -> None:
        if welcome.node != self.peer:
            raise FrameError(f"it calls itself {welcome.node}")
        if not OLDEST <= welcome.protocol <= NEWEST:
            raise FrameError(f"it goes by protocol {welcome.protocol}, which we do not speak")
        self.is_up, self.protocol = True, welcome.protocol
        self._measure(time.monotonic() - self._hello_at)
        wire.splitter.greeted()
        wire.outbox = self.outbox
        wire.flush_soon()
        if self._welcome is not None and not self._welcome.done():
            self._welcome.set_result(None)
        self._on_change(self, None)

    def _measure(self, sample_s: float) -> None:
        known = self.rtt_s
        self.rtt_s = sample_s if known is None else known + RTT_WEIGHT * (sample_s - known)

    def _on_response(self, response: Response) -> None:
        answer = self._pending.get(response.id)
        if answer is None or answer.done():
            return  # it came after its deadline
        if response.problem is None:
            answer.set_result(response.body)
        else:
            answer.set_exception(PeerRefused(response.problem))

    def _on_lost(self, _wire: Wire, error: Exception | None) -> None:
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(explain(error))

    def _fail_requests(self, why: str, *, sent: bool) -> None:
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(PeerUnreachable(why, sent=sent))
