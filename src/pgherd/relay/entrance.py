"""How a client gets into a session whose TLS and SCRAM end here, and the session into a server.

Theory of operation.

    1  the client's TLS and startup packet, within `startup_ms`
    2  its verifier from the agent, within `connect_timeout_ms`
    3  its proof, within `startup_ms`: a wrong one ends here, and no server was ever touched
    4  a server, TLS where it offers it, a login there with the client's own keys, and a look at
       what the session begins with (`wire.guard`); all within `connect_timeout_ms`, again and
       again while servers are away, change, say that they are still starting up (57P03), or are in
       recovery where the primary was expected: so no statement meets one that cannot write because
       of a change of roles. What else a server answers is the client's: its own words
    5  the server's parameters go to the client with a cancel key of ours

What the client proved is kept with the session, in memory alone, so that it can log in once more
when it moves (`moving`). Owns this order, its deadlines, and what the log says of logins that fail.
Leaves the exchanges to `wire.login` and `wire.entry`, choosing and connecting to
`dial`, and what follows to `terminated`.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import TYPE_CHECKING, Protocol

import msgspec

from pgherd.relay.asking import Asker
from pgherd.relay.certificates import Certificates
from pgherd.relay.dial import HINT_REFUSED, RETRY_S_MAX, Dialled, Router, dial, woken
from pgherd.relay.hold import Hold
from pgherd.relay.journal import say
from pgherd.relay.logging_in import Entered, log_in, nonce
from pgherd.relay.messages import Verifiers
from pgherd.relay.session import CUT_LINGER_S, LINGER_S
from pgherd.relay.tally import Result, Tally
from pgherd.relay.terminated import Terminated
from pgherd.relay.transports import prepared
from pgherd.route.choose import Bound, NoBackend, Snapshot
from pgherd.wire import scram
from pgherd.wire.answer import (
    ADMIN_SHUTDOWN,
    CANNOT_CONNECT_NOW,
    TOO_MANY_CONNECTIONS,
    Refusal,
)
from pgherd.wire.entry import EntryImpossible, ServerEntry
from pgherd.wire.guard import Guard, TooQuiet, startup_refusal
from pgherd.wire.login import (
    ACCEPT_TLS,
    AskVerifier,
    Authenticated,
    BeginTls,
    Cancels,
    ClientLogin,
    LoginRefused,
    Say,
    Step,
    authentication,
    key_data,
)
from pgherd.wire.lowering import HIDING, MESSAGES, asked_at_startup, made_loud
from pgherd.wire.renewal import Renewal, RenewalImpossible
from pgherd.wire.startup import CancelKey, ProtocolViolation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgherd.relay.pools import Pools
    from pgherd.relay.rider import Rider

ENTRY_S_MIN = 1.0
"""What a login at a server is given at least, however late it begins."""

_NOT_YET = (CANNOT_CONNECT_NOW, TOO_MANY_CONNECTIONS)
"""What a server says before it does anything, and will not say for ever."""

KEY_BYTES_OLD, KEY_BYTES_NEW = 4, 32
MINOR_OF_LONG_KEYS = 2
_HINT_PASSWORD = (
    "This port takes passwords kept as SCRAM-SHA-256 (guide/sessions.md); the log of the proxy's"
    " node says what was wrong."
)
"""The same for everybody, so that it tells nobody which roles there are."""
_PASSWORD_ADVICE = "set it anew with password_encryption = scram-sha-256 (psql: \\password NAME)"


class Gate(Router, Protocol):
    """What an entrance needs of the proxy."""

    tally: Tally
    asker: Asker
    certificates: Certificates
    hold: Hold
    snapshot: Snapshot | None

    @property
    def pools(self) -> Pools:
        """Servers that are lent."""

    def pooled(self) -> Iterable[Rider]:
        """Sessions that have one now and then."""

    def session_joined(self, session: Terminated) -> None:
        """A session got its server and its key."""


class Refused(Exception):
    """The client is told this, and that is all."""

    def __init__(self, refusal: Refusal, result: Result = Result.REFUSED) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.result = result


class RefusedByServer(Exception):
    """The client is told what the server said, byte for byte."""

    def __init__(self, said: bytes) -> None:
        super().__init__("the server refused")
        self.said = said


class Comer(Protocol):
    """A session on its way into a server: a client that is new, or one that moves."""

    def renewal(self) -> Renewal | None:
        """What its server process is to be given after the login."""

    def joined(self, bound: Bound, entered: Entered) -> None:
        """The login is over. May raise Refused and RefusedByServer."""


class Newcomer:
    """A client that comes to a server of its own."""

    def __init__(self, gate: Gate, session: Terminated, proved: Authenticated) -> None:
        self._gate = gate
        self._session = session
        self._proved = proved

    def renewal(self) -> None:
        return None

    def joined(self, bound: Bound, entered: Entered) -> None:
        session, entry, proved = self._session, entered.entry, self._proved
        session.own_key = own_key(proved.startup.minor)
        session.key, session.bound, session.proved = entry.key, bound, proved
        self._gate.tally.note(session.listener, Result.OPENED)
        self._gate.session_joined(session)
        told = authentication(0) + entry.greeting + key_data(session.own_key) + entry.ready
        session.guard = Guard(has_floor=self._gate.settings.sync_floor)
        session.join(entered.transport, greeting=entry.greeting, begin=told)


async def admit(gate: Gate, session: Terminated) -> None:
    """Log a client in and give it a server, or send it away."""
    try:
        known = await _authenticate(gate, session)
        if known is not None and gate.session_named(session, known.startup):
            from pgherd.relay.passage import let_in  # which needs all of this

            await let_in(gate, session, known)
    except ProtocolViolation as why:
        gate.session_violated(session, why)
    except Refused as why:
        gate.tally.note(session.listener, why.result)
        session.refuse(why.refusal)
    except RefusedByServer as why:
        gate.tally.note(session.listener, Result.DENIED)
        session.say(authentication(0) + why.said)
        session.close(linger_s=CUT_LINGER_S, flush_s=LINGER_S)
    except TimeoutError:
        gate.tally.note(session.listener, Result.SILENT)
        session.close(linger_s=0, flush_s=LINGER_S)
    except OSError:  # it left, or broke off its handshake
        gate.tally.note(session.listener, Result.LEFT)
        _give_up(session)
    except asyncio.CancelledError:
        if session.client is None and session.tracker is None:
            gate.tally.note(session.listener, Result.LEFT)
        raise
    finally:
        if session.in_handshake:
            _give_up(session)


# The client


async def _authenticate(gate: Gate, session: Terminated) -> Authenticated | None:
    """Let the client prove itself; None for a CancelRequest."""
    certificate = gate.certificates.current()
    login = ClientLogin(
        nonce=nonce(),
        offers_tls=certificate is not None,
        needs_tls=gate.certificates.is_needed,
    )
    limit_s = gate.settings.startup_ms / 1000
    stored: str | None = None
    async with asyncio.timeout(limit_s) as deadline:
        while True:
            match _step(login, session, stored):
                case None:
                    login.feed(await session.heard())
                case Say(data):
                    session.say(data)
                case BeginTls():
                    assert certificate is not None
                    await _begin_tls(session, certificate.context, limit_s)
                    login.tls_began(certificate.end_point)
                case Cancels(key):
                    gate.session_cancels(session, key)
                    return None
                case AskVerifier(user):
                    if session.turned_away is not None:
                        raise Refused(session.turned_away, Result.REJECTED)
                    deadline.reschedule(None)
                    answer = await _ask(gate, user)
                    deadline.reschedule(asyncio.get_running_loop().time() + limit_s)
                    stored = answer.stored.get(user)
                    known = scram.parse(stored) if stored else None
                    session.verified(user, stored or "")
                    session.say(login.give(known, mock_nonce=answer.mock_nonce).data)
                case Authenticated() as proved:
                    session.inbox.put(login.rest())
                    session.say(proved.final)
                    return proved


def _step(login: ClientLogin, session: Terminated, stored: str | None) -> Step | None:
    """The next step; a login that fails is logged, since only the log may say why."""
    try:
        return login.next()
    except LoginRefused as why:
        reason, advice = _why(stored)
        say("login.refused", user=login.user, client=session.address, why=reason, next=advice)
        raise Refused(Refusal(why.sqlstate, str(why), _HINT_PASSWORD), Result.DENIED) from why


def _why(stored: str | None) -> tuple[str, str]:
    if stored is None:
        return "there is no such role", "CREATE ROLE"
    if not stored:
        return "the role has no password", _PASSWORD_ADVICE
    if scram.parse(stored) is None:
        return "the role's password is not kept as SCRAM-SHA-256", _PASSWORD_ADVICE
    return "wrong password", "check the client's settings"


async def _begin_tls(session: Terminated, context: ssl.SSLContext, limit_s: float) -> None:
    """Do the handshake. Raises OSError, also for one that fails."""
    session.say(ACCEPT_TLS)
    plain = session.client
    if plain is None:
        raise ConnectionResetError("left")
    session.in_handshake = True
    loop = asyncio.get_running_loop()
    encrypted = await loop.start_tls(
        plain, plain.get_protocol(), context, server_side=True, ssl_handshake_timeout=limit_s
    )
    if encrypted is None:
        raise ConnectionResetError("left during its handshake")
    session.in_handshake, session.is_encrypted = False, True
    session.client = prepared(encrypted)


async def _ask(gate: Gate, user: str) -> Verifiers:
    """What the agent knows of a user. Asks again while it has no answer and there is time."""
    problem = "this proxy's agent does not answer"
    try:
        async with asyncio.timeout(gate.settings.connect_timeout_ms / 1000):
            while True:
                answer = await gate.asker.ask(user)
                if not answer.problem:
                    return answer
                problem = answer.problem
                await asyncio.sleep(RETRY_S_MAX)
    except TimeoutError:
        text = f"pgherd: passwords cannot be checked now: {problem}"
        raise Refused(Refusal(CANNOT_CONNECT_NOW, text, HINT_REFUSED)) from None


def _give_up(session: Terminated) -> None:
    """Leave a client whose connection is in no state to say anything on.

    asyncio tells nobody of a connection that ends during its handshake: we have to.
    """
    client = session.client
    if client is not None:
        client.abort()
    session.client_lost()


# The server


async def enter(gate: Gate, session: Terminated, proved: Authenticated, comer: Comer) -> None:
    """Find a server and log in there, for `connect_timeout_ms` from the end of a hold on.

    Raises Refused and RefusedByServer.
    """
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    asked = asked_at_startup(proved.startup.parameters)
    if gate.settings.sync_floor and (refusal := startup_refusal(asked)) is not None:
        raise Refused(refusal, Result.DENIED)
    if asked.get(MESSAGES) in HIDING:
        proved = loud(proved)
    gate.tally.held += 1
    try:
        await gate.hold.unheld(session)
        deadline_s = loop.time() + gate.settings.connect_timeout_ms / 1000
        while True:
            news = gate.news
            found = await dial(gate, session, deadline_s=deadline_s)
            outcome: Bound | NoBackend | None
            if isinstance(found, Dialled):
                try:
                    outcome = await log_in_at(gate, proved, comer, found, deadline_s)
                except TooQuiet:
                    proved, outcome = loud(proved), None
            else:
                outcome = found
            if isinstance(outcome, Bound):
                return
            late = loop.time() + RETRY_S_MAX >= deadline_s
            if isinstance(outcome, NoBackend) and (late or outcome.final):
                text = f"pgherd: {outcome.message}"
                raise Refused(Refusal(outcome.sqlstate, text, HINT_REFUSED))
            if isinstance(outcome, NoBackend):
                await woken(news, RETRY_S_MAX)
    finally:
        gate.tally.held -= 1
        gate.tally.held_s += loop.time() - began_s


async def log_in_at(
    gate: Gate, proved: Authenticated, comer: Comer, dialled: Dialled, deadline_s: float
) -> Bound | NoBackend | None:
    """Log in at one server and join it. None: the choice did not hold; NoBackend: it is not ready.

    Raises Refused, RefusedByServer with the server's own words, and TooQuiet.
    """
    loop = asyncio.get_running_loop()
    bound = dialled.bound
    name = bound.backend.name
    login = loop.create_task(log_in(gate, proved, dialled, comer.renewal()))
    gate.attempts[login] = bound
    is_joined = False
    try:
        limit_s = max(deadline_s - loop.time(), ENTRY_S_MIN)
        await asyncio.wait([login], timeout=limit_s)
        if not login.done():
            return NoBackend(CANNOT_CONNECT_NOW, f"{name} does not finish a login")
        if login.cancelled():
            return None
        entered = login.result()
        if not gate.holds(bound):
            return None
        if entered.entry.error is not None:
            return _refused_by(entered.entry, name)
        if bound.to_primary and entered.entry.stands_by:  # its server restarted: news come soon
            return NoBackend(CANNOT_CONNECT_NOW, f"{name} is a standby now")
        if entered.refusal is not None:
            raise Refused(entered.refusal, Result.DENIED)
        comer.joined(bound, entered)
        is_joined = True
        return bound
    except EntryImpossible as why:
        say("entry.impossible", server=name, why=why, next=why.hint)
        refusal = Refusal("28000", f"pgherd: {name}: {why}", why.hint)
        raise Refused(refusal, Result.DENIED) from why
    except RenewalImpossible as why:
        text = f"pgherd: {name} cannot take the session over: {why}"
        raise Refused(Refusal(ADMIN_SHUTDOWN, text)) from why
    except (OSError, ProtocolViolation) as why:
        gate.note_error("entry_failed")
        return NoBackend(CANNOT_CONNECT_NOW, f"{name} broke off a login: {why}")
    finally:
        del gate.attempts[login]
        if not is_joined:
            login.cancel()
            dialled.transport.abort()
            gate.count(bound.backend, -1)


def _refused_by(entry: ServerEntry, name: str) -> NoBackend:
    """What a server's refusal leads to; all but "not yet" goes to the client as it is."""
    assert entry.error is not None
    if entry.error.sqlstate in _NOT_YET:
        return NoBackend(entry.error.sqlstate, f"{name}: {entry.error}")
    raise RefusedByServer(entry.refusal)


def loud(proved: Authenticated) -> Authenticated:
    """The same client, who hears warnings."""
    parameters = made_loud(proved.startup.parameters)
    startup = msgspec.structs.replace(proved.startup, parameters=parameters)
    return msgspec.structs.replace(proved, startup=startup)


def own_key(minor: int) -> CancelKey:
    """A key of ours for a client of this minor version of the protocol."""
    size = KEY_BYTES_NEW if minor >= MINOR_OF_LONG_KEYS else KEY_BYTES_OLD
    return CancelKey(int.from_bytes(os.urandom(4), "big") >> 1, os.urandom(size))
