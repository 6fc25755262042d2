"""Log in at a server that is connected: TLS, the exchange, and a look at what the session has.

Owns the order on one connection, for a session as for a pool. Leaves which server it is, and what
comes of a refusal, to `entrance`.
"""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from typing import TYPE_CHECKING, Protocol, cast

from pgherd.relay.certificates import server_end_point
from pgherd.relay.dial import Dialled
from pgherd.relay.transports import is_local, prepared
from pgherd.wire import scram
from pgherd.wire.answer import Refusal
from pgherd.wire.entry import ServerEntry
from pgherd.wire.guard import ASK_SETTINGS, check_settings
from pgherd.wire.login import ACCEPT_TLS, Authenticated
from pgherd.wire.query import Answers, Row, ServerError
from pgherd.wire.renewal import Renewal
from pgherd.wire.startup import SSL_REQUEST, ProtocolViolation

if TYPE_CHECKING:
    from pgherd.relay.entrance import Gate
    from pgherd.relay.terminated import Inbox


class LoginSide(Protocol):
    """A socket towards a server, while somebody logs in there."""

    inbox: Inbox
    transport: asyncio.Transport | None


class Entered:
    """A session at a server, before the client hears of it. renewal: of one that was elsewhere."""

    __slots__ = ("entry", "refusal", "renewal", "transport")

    def __init__(
        self, entry: ServerEntry, transport: asyncio.Transport, renewal: Renewal | None
    ) -> None:
        self.entry = entry
        self.transport = transport
        self.renewal = renewal
        self.refusal: Refusal | None = None


async def log_in(
    gate: Gate, proved: Authenticated, dialled: Dialled, renewal: Renewal | None
) -> Entered:
    """TLS where the server offers it, then the exchange, then what the process is to be given.

    Raises OSError, ProtocolViolation, RenewalImpossible.
    """
    transport = dialled.transport
    side = cast(LoginSide, transport.get_protocol())
    if not is_local(transport):
        transport = await _server_tls(gate, side, transport)
    entry = ServerEntry(
        proved.startup.parameters,
        proved.keys,
        nonce=nonce(),
        end_point=server_end_point(transport.get_extra_info("ssl_object")),
    )
    transport.write(entry.start())
    while not entry.is_over:
        if said := entry.feed(await side.inbox.more()):
            transport.write(said)
    entered = Entered(entry, transport, renewal)
    if entry.error is None:
        has_floor = gate.settings.sync_floor and dialled.bound.to_primary
        rows = await _settings(side, transport)
        entered.refusal = check_settings(rows, has_floor=has_floor)
    if renewal is not None and entry.error is None:
        transport.write(renewal.start(entry.greeting))
        while not renewal.is_over:
            renewal.feed(await side.inbox.more())
    return entered


async def _settings(side: LoginSide, transport: asyncio.Transport) -> list[Row]:
    """What the session begins with. Raises OSError, ProtocolViolation."""
    answers = Answers()
    rows: list[Row] = []
    transport.write(b"".join(ASK_SETTINGS))
    try:
        for _ in ASK_SETTINGS:
            while not answers.feed(b""):
                answers.feed(await side.inbox.more())
            rows += answers.take()
    except ServerError as error:
        raise ProtocolViolation(str(error)) from error
    return rows


async def _server_tls(gate: Gate, side: LoginSide, plain: asyncio.Transport) -> asyncio.Transport:
    plain.write(SSL_REQUEST)
    answer = await side.inbox.more()
    if answer == b"N":
        return plain
    if answer != ACCEPT_TLS:
        raise ProtocolViolation("no answer to a request for TLS")
    encrypted = await asyncio.get_running_loop().start_tls(
        plain, plain.get_protocol(), gate.certificates.for_servers(), server_side=False
    )
    if encrypted is None:
        raise ConnectionResetError("left during the handshake")
    side.transport = prepared(encrypted)
    return side.transport


def nonce() -> str:
    """Printable text that nobody can guess."""
    return b64encode(os.urandom(scram.NONCE_BYTES)).decode()
