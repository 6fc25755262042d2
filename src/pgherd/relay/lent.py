"""A server connection of a pool: lent to one client after the other.

Theory of operation. While it logs in, what the server says collects in an `Inbox`. Then it is idle,
or some client has it: what it says goes to that client's session. An idle server says little: a
parameter that changed is noted, a farewell ends it. It is reset before it is lent again if a client
left something in it, and it stays away from everybody else while a cancel that was meant for its
last client is still on its way: what that hits must be nobody's statement but the client's.

Owns the socket and what is known of its session. Leaves who gets it to `pools`.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec

from pgherd.relay.session import LINGER_S, Side, Totals, shared_view
from pgherd.relay.terminated import Inbox
from pgherd.relay.transports import close, pause, prepared, resume
from pgherd.wire.frames import Frames
from pgherd.wire.query import TERMINATE, simple
from pgherd.wire.shelf import Shelf
from pgherd.wire.startup import CancelKey, ProtocolViolation

RESET_S = 5.0
"""How long a server has for DISCARD ALL."""

_DISCARD = simple("DISCARD ALL")
_BODY_BYTES_MAX = 4096


Parameters = tuple[tuple[str, str], ...]


class Family(msgspec.Struct, frozen=True):
    """Sessions that can share servers. database: as its clients call it · parameters: what a server
    of theirs is started with, its user and database among it.
    """

    user: str
    database: str
    parameters: Parameters
    by_socket: bool = False


class Holder(Protocol):
    """Who has a server."""

    client: asyncio.Transport | None

    def server_said(self, data: bytes) -> None:
        """Bytes of the server."""

    def server_lost(self) -> None:
        """Its socket is gone."""


class Owner(Protocol):
    """What a server's pool hears of it."""

    def due(self, server: PoolServer, *, fit: bool) -> None:
        """Its client has no more to do with it, and nothing is under way."""

    def gone(self, server: PoolServer) -> None:
        """Its socket is gone."""


class PoolServer(Side):
    """See the module's theory of operation.

    settings: what its parameters are now · base: as it was started · cancels: requests under way.
    """

    __slots__ = (
        "_frames",
        "_is_due",
        "_is_fit",
        "_reset",
        "_totals",
        "base",
        "cancels",
        "holder",
        "inbox",
        "key",
        "number",
        "owner",
        "settings",
        "shelf",
    )

    def __init__(self, totals: Totals) -> None:
        super().__init__()
        self._totals = totals
        self.inbox = Inbox()
        self.owner: Owner | None = None
        self.number = 0
        self.holder: Holder | None = None
        self.key: CancelKey | None = None
        self.settings: dict[str, str] = {}
        self.base: dict[str, str] = {}
        self.shelf = Shelf()
        self.cancels = 0
        self._is_due = False
        self._is_fit = True
        self._reset: asyncio.TimerHandle | None = None
        self._frames = _frames()

    # Its life

    def adopted(self, owner: Owner, *, number: int) -> None:
        """It belongs to a pool now."""
        self.owner, self.number = owner, number

    def is_lent(self, to: Holder) -> None:
        """This client has it now."""
        assert self.holder is None
        self.holder = to

    @property
    def can_ride(self) -> bool:
        """Whether its socket may be lent to somebody who knows nothing but bytes (`carrying`)."""
        transport = self.transport
        if transport is None or transport.is_closing() or self.cancels or not self._is_fit:
            return False
        if self.is_encrypted or self._reset is not None:
            return False
        return transport.get_write_buffer_size() == 0

    @property
    def is_encrypted(self) -> bool:
        """Whether its bytes pass in TLS."""
        transport = self.transport
        return transport is not None and transport.get_extra_info("ssl_object") is not None

    def passes_to(self, holder: Holder, said: bytes) -> None:
        """Another client has it now, as it is. said: bytes that wait to be sent to it."""
        self.holder = holder
        self.shelf.doubt_unnamed()
        if self.transport is not None:
            resume(self.transport)
            self.transport.write(said)

    def rode(self, rest: bytes) -> None:
        """It said something while nobody had it, and is listened to again for a moment."""
        self.holder = None
        if rest:
            self._said_idle(rest)

    def is_back(self, settings: dict[str, str], *, clean: bool) -> None:
        """Its client has done with it, between two transactions. clean: nothing of it is left."""
        self.holder, self.settings = None, settings
        transport = self.transport
        if transport is None:
            return
        resume(transport)
        if clean:
            self._over()
            return
        self._frames = _frames()
        self.shelf.doubt_all()
        transport.write(_DISCARD)
        self._reset = asyncio.get_running_loop().call_later(RESET_S, transport.abort)

    def is_left(self) -> None:
        """Its client went away in the middle: what it had said is done, and then the server ends,
        which undoes its transaction."""
        self.holder = None
        transport = self.transport
        if transport is not None:
            resume(transport)
            close(transport)
            self._reset = asyncio.get_running_loop().call_later(LINGER_S, transport.abort)

    def spoil(self) -> None:
        """Let nobody have it after its client of now."""
        self._is_fit = False

    def cancel_begins(self) -> None:
        """A cancel is on its way to it."""
        self.cancels += 1

    def cancel_ended(self) -> None:
        """It has arrived, or never will."""
        self.cancels -= 1
        if self._is_due and not self.cancels:
            self._over()

    def end(self) -> None:
        """Leave it, in order."""
        transport = self.transport
        self.owner = None
        if transport is not None and not transport.is_closing():
            transport.write(TERMINATE)
            close(transport)

    def _over(self) -> None:
        """It can be lent again, but for cancels."""
        self._is_due = bool(self.cancels)
        if not self._is_due and self.owner is not None:
            self.owner.due(self, fit=self._is_fit)

    # Its socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = prepared(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return shared_view

    def buffer_updated(self, nbytes: int) -> None:
        data, holder = bytes(shared_view[:nbytes]), self.holder
        if holder is not None:
            self._totals.from_servers += nbytes
            holder.server_said(data)
        elif self.owner is None:
            self.inbox.put(data)
        else:
            self._said_idle(data)

    def _said_idle(self, data: bytes) -> None:
        """Something nobody asked for, or the answer to a reset."""
        assert self.transport is not None
        try:
            frames = self._frames.feed(data)
        except ProtocolViolation:
            self.transport.abort()
            return
        for frame in frames:
            if frame.kind == ord("S"):
                name, _, value = frame.body.decode("utf-8", "replace").partition("\0")
                self.settings = {**self.settings, name: value.rstrip("\0")}
            elif frame.kind == ord("E"):
                self.transport.abort()
                return
            elif frame.kind == ord("Z") and self._reset is not None:
                self._reset.cancel()
                self._reset = None
                self._over()

    def pause_writing(self) -> None:
        if self.holder is not None:
            pause(self.holder.client)

    def resume_writing(self) -> None:
        if self.holder is not None:
            resume(self.holder.client)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.inbox.end()
        self.lost_early = self.owner is None
        self.transport = None
        if self._reset is not None:
            self._reset.cancel()
        holder, self.holder = self.holder, None
        if self.owner is not None:
            self.owner.gone(self)
        if holder is not None:
            holder.server_lost()


def _frames() -> Frames:
    return Frames(skip=b"", keep=b"S", keep_bytes=_BODY_BYTES_MAX)
