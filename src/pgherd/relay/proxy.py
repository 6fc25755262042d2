"""The proxy's middle: clients on one side, the last snapshot on the other.

Owns every session of this process, and what each is bound to. It applies a snapshot in one step:
sessions of a reign that is over are cut, attempts at the wrong server end, waiters wake. It never
makes up a fact: without a snapshot, or past its deadline, clients wait and are then refused.

A client that is refused may have asked for encryption, and waits for one byte. Where the servers
are known to speak TLS the error itself is that answer (libpq says that the server sent an error
during the exchange). Where they do not, "N" is the truth, and the client's next packet can get the
whole error with its SQLSTATE.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING, TypeGuard

from pgherd.model.ids import NodeId
from pgherd.relay.asking import Asker
from pgherd.relay.barred import Barred, packed
from pgherd.relay.cancel import cancel_on
from pgherd.relay.certificates import CertificateError, Certificates
from pgherd.relay.dial import HINT_REFUSED, Attempt, Dialled, dial
from pgherd.relay.hold import Hold
from pgherd.relay.journal import say
from pgherd.relay.listeners import ListenError, Listeners
from pgherd.relay.messages import ListenerSettings, Pool, ProxyCounters, ProxySettings
from pgherd.relay.session import CUT_FLUSH_LIMIT_S, LINGER_S, ClientSide, Session, Totals
from pgherd.relay.silence import Silences, end
from pgherd.relay.sockets import is_dead
from pgherd.relay.tally import Result, Tally, rss_bytes
from pgherd.route.choose import (
    Backend,
    Bound,
    NoBackend,
    Route,
    Snapshot,
    choose,
    is_newer,
    rebound,
    superseded,
)
from pgherd.route.entry import Key, Kind, Places, may_come, named
from pgherd.telemetry.boottime import now_ms
from pgherd.wire.answer import (
    CANNOT_CONNECT_NOW,
    REFUSE_ENCRYPTION,
    TOO_MANY_CONNECTIONS,
    Refusal,
)
from pgherd.wire.opening import Opening
from pgherd.wire.startup import (
    CancelKey,
    DirectTls,
    GssEncRequest,
    ProtocolViolation,
    SslRequest,
    StartupMessage,
)

if TYPE_CHECKING:
    from pgherd.relay.terminated import Terminated

LAST_WORD_S = 2.0
"""How long a refused client has for its next packet after a refusal of encryption."""

CANCELS_AT_ONCE_MAX = 64
SPARE_FILES = 64
"""Descriptors kept for everything that is not a session; a session takes two."""

TURNED_AWAY_MAX = 32
"""Clients over the limit that get as far as their startup packet, so that TLS ones are told why."""

SWEEP_PARTS = 10
"""Every second one part of the sessions is asked for dead peers."""

DRAIN_LOOK_S = 0.05
HINT_DRAIN = {False: "Connect to another node.", True: "Connect again."}
_HINT_CUT = "Connect again: the new session reaches the primary of now."


class Proxy:
    """See the module's text. Everything runs in one event loop."""

    def __init__(self, *, turn: int = 0) -> None:
        self.settings = ProxySettings(listeners=())
        self.news = asyncio.Event()
        self.attempts: dict[Attempt, Bound] = {}
        self.totals = Totals()
        self.tally = Tally()
        self.snapshot: Snapshot | None = None
        self.asker = Asker()
        self.certificates = Certificates()
        self.listeners = Listeners(self._client_side)
        self._sessions: set[Session] = set()
        self._counts: Counter[NodeId] = Counter()
        self._keys: dict[CancelKey, Backend] = {}
        self._own_keys: dict[CancelKey, Terminated] = {}
        self._cancels: set[asyncio.Task[None]] = set()
        self._offers_tls: bool | None = None
        self._turn = turn
        self._silences = Silences()
        self._places = Places()
        self._barred = Barred()
        self._sessions_max = 0
        self.hold = Hold(self)

    def _client_side(self, listener: ListenerSettings) -> ClientSide:
        if listener.pool is Pool.NONE:
            return ClientSide(self, listener)
        from pgherd.relay.terminated import TerminatedClient  # a proxy without them stays lean

        return TerminatedClient(self, listener)

    # What the agent says

    async def configure(self, settings: ProxySettings) -> None:
        """Take settings, and open or close listeners to match. Raises ListenError.

        Only the first time it is patient with a port that is taken: later a snapshot may wait
        behind it, and snapshots cut sessions.
        """
        try:
            self.certificates.configure(settings.tls)
        except CertificateError as error:
            raise ListenError(str(error)) from error
        self.settings = settings
        self._sessions_max = min(settings.sessions_max, (_files_max() - SPARE_FILES) // 2)
        if self.listeners.labels():
            await self.listeners.match(settings.listeners, tries=1)
        else:
            await self.listeners.match(settings.listeners)

    def apply(self, snapshot: Snapshot) -> bool:
        """Take a snapshot; whether the term or the primary changed with it."""
        before = self.snapshot
        if not is_newer(snapshot, before):
            self.tally.snapshots_refused += 1
            return False
        self.snapshot = snapshot
        is_change = before is None or _reign(before) != _reign(snapshot)
        if is_change:
            self._follow(snapshot)
        self.hold.follow(snapshot, self._sessions)
        for connecting, bound in list(self.attempts.items()):
            if not self.holds(bound):
                connecting.cancel()
        self.news.set()
        self.news = asyncio.Event()
        return is_change

    def _follow(self, snapshot: Snapshot) -> None:
        """Cut the sessions of a reign that is over, but those that can move."""
        cut = moving = 0
        for session in list(self._sessions):
            if session.bound is None or session.closing:
                continue
            if not superseded(session.bound, snapshot):
                session.bound = rebound(session.bound, snapshot)
            elif self.hold.adrift(session):
                moving += 1
            else:
                session.cut(
                    f"pgherd: {session.bound.backend.name} is no longer the primary", _HINT_CUT
                )
                cut += 1
        self.tally.cut += cut
        name = snapshot.primary.name if snapshot.primary is not None else "none"
        say("route.changed", term=snapshot.term, primary=name, sessions_cut=cut, moving=moving)

    # What dialling asks

    def choose(self, listener: ListenerSettings, exclude: Collection[NodeId]) -> Bound | NoBackend:
        """The server for a new session now."""
        self._turn += listener.route is Route.REPLICA
        return choose(
            self.snapshot,
            listener.route,
            now=now_ms(),
            counts=self._counts,
            preference=listener.preference,
            exclude=exclude,
            turn=self._turn,
        )

    def holds(self, bound: Bound) -> bool:
        """Whether a choice made a moment ago may still be used."""
        snapshot = self.snapshot
        if snapshot is None or superseded(bound, snapshot):
            return False
        if not bound.to_primary:
            return True
        again = choose(snapshot, Route.PRIMARY, now=now_ms(), counts=self._counts)
        return isinstance(again, Bound) and again.backend == bound.backend

    def count(self, backend: Backend, change: int) -> None:
        """A session to a server begins or ends, attempts included."""
        self._counts[backend.name] += change
        if self._counts[backend.name] <= 0:
            del self._counts[backend.name]

    def note_error(self, reason: str) -> None:
        """One more error of this kind."""
        self.tally.errors[reason] += 1

    # What sessions say

    def session_began(self, session: Session) -> None:
        """Take a client in, or turn it away when it may not come or there are too many."""
        if not self._lets_in(session):
            return
        refusal = self._full(session)
        if refusal is not None:
            self.tally.note(session.listener, Result.REJECTED)
            if not _is_terminated(session) or self._is_beyond():
                session.refuse(refusal)
                return
            session.turned_away = refusal
        self._sessions.add(session)
        opening = self._admit(session) if _is_terminated(session) else self._open(session)
        session.task = asyncio.get_running_loop().create_task(opening)

    async def _admit(self, session: Terminated) -> None:
        from pgherd.relay.entrance import admit

        await admit(self, session)

    def _lets_in(self, session: Session) -> bool:
        """Whether a client may come in; one that may not is left without a word."""
        client, allow = session.client, self.settings.allow
        assert client is not None
        peer = client.get_extra_info("peername")
        address = str(peer[0]) if peer else "unknown"
        if not allow or may_come(packed(address), allow):
            return True
        self.tally.note(session.listener, Result.BARRED)
        now_s = asyncio.get_running_loop().time()
        self._barred.note(address, session.listener.label, now_s=now_s)
        session.closing = True
        client.abort()
        return False

    def _full(self, session: Session) -> Refusal | None:
        """Why there is no place for one more, as far as that is known without its name."""
        if len(self._sessions) >= self._sessions_max:
            self.note_error("limit_total")
            text = f"pgherd: {self._sessions_max} sessions are open already"
            return Refusal(TOO_MANY_CONNECTIONS, text)
        listener = session.listener
        return self._take(session, {(Kind.LISTENER, listener.label): listener.limit})

    def session_named(self, session: Session, startup: StartupMessage) -> bool:
        """Count a session for its user and its database, or tell it that there are too many."""
        refusal = self._take(session, named(startup.parameters, self.settings.limits))
        if refusal is None:
            return True
        if session.bound is None:  # else it is counted as opened already
            self.tally.note(session.listener, Result.REJECTED)
        session.refuse(refusal)
        return False

    def _take(self, session: Session, wanted: dict[Key, int]) -> Refusal | None:
        full = self._places.take(wanted)
        if full is not None:
            self.note_error(f"limit_{full.kind}")
            return full.refusal
        session.places += tuple(wanted)
        return None

    def _is_beyond(self) -> bool:
        """Whether there is no room even for those that are told so in the proper place."""
        return len(self._sessions) >= self._sessions_max + TURNED_AWAY_MAX

    def session_joined(self, session: Terminated) -> None:
        """Remember whose a cancel key of ours is."""
        assert session.own_key is not None
        self._own_keys[session.own_key] = session

    def session_learned(self, session: Session, opening: Opening) -> None:
        """Remember which server knows a cancel key."""
        if opening.offers_tls is not None:
            self._offers_tls = opening.offers_tls
        if session.key is not None and session.bound is not None:
            self._keys[session.key] = session.bound.backend

    def session_cancels(self, session: Session, key: CancelKey) -> None:
        """Pass a CancelRequest on, to the one server that knows its key or else to all."""
        self.tally.note(session.listener, Result.CANCELLED)
        self.tally.cancels += 1
        if session.task is not None and session.task is not asyncio.current_task():
            session.task.cancel()
        session.leave_server()
        if len(self._cancels) >= CANCELS_AT_ONCE_MAX:
            self.note_error("too_many_cancels")
            session.close(linger_s=0, flush_s=LINGER_S)
            return
        task = asyncio.get_running_loop().create_task(self._cancel(session, key))
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)

    def session_violated(self, session: Session, why: ProtocolViolation) -> None:
        """Tell a client that does not speak the protocol, and close."""
        self.tally.note(session.listener, Result.VIOLATED)
        session.refuse(Refusal(why.sqlstate, f"pgherd: {why}"))

    def session_ended(self, session: Session) -> None:
        """Forget a session."""
        self._sessions.discard(session)
        self._places.leave(session.places)
        self.hold.forget(session)
        if session.bound is not None:
            self.count(session.bound.backend, -1)
        if _is_terminated(session):
            if session.own_key is not None:
                self._own_keys.pop(session.own_key, None)
        elif session.key is not None:
            self._keys.pop(session.key, None)

    # How a session opens

    async def _open(self, session: Session) -> None:
        try:
            async with asyncio.timeout(self.settings.startup_ms / 1000):
                await session.wants.wait()
        except TimeoutError:
            self.tally.note(session.listener, Result.SILENT)
            session.close(linger_s=0, flush_s=LINGER_S)
            return
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        self.tally.held += 1
        try:
            await self.hold.unheld(session)
            outcome = await dial(self, session)
        except asyncio.CancelledError:
            if session.client is None:
                self.tally.note(session.listener, Result.LEFT)
            raise
        finally:
            self.tally.held -= 1
            self.tally.held_s += loop.time() - began_s
        if isinstance(outcome, Dialled):
            self._join(session, outcome)
        else:
            self.tally.note(session.listener, Result.REFUSED)
            await self._refuse(session, outcome)

    def _join(self, session: Session, dialled: Dialled) -> None:
        if session.is_gone:
            self.tally.note(session.listener, Result.LEFT)
            dialled.transport.abort()
            self.count(dialled.bound.backend, -1)
            return
        self.tally.note(session.listener, Result.OPENED)
        session.bound = dialled.bound
        session.relay(dialled.transport)

    async def _refuse(self, session: Session, why: NoBackend) -> None:
        """Refuse encryption as often as it is asked for, then say why; see the module's text."""
        refusal = Refusal(why.sqlstate, f"pgherd: {why.message}", HINT_REFUSED)
        while not session.is_gone:
            last, opening = session.packets[-1], session.opening
            if isinstance(last, DirectTls) or opening is None:
                session.close(linger_s=0, flush_s=LINGER_S)  # only TLS would be understood
                return
            is_asked = isinstance(last, GssEncRequest) or (
                isinstance(last, SslRequest) and not self._offers_tls
            )
            if not is_asked:
                session.refuse(refusal)
                return
            session.wants.clear()
            opening.server(REFUSE_ENCRYPTION)
            session.say(REFUSE_ENCRYPTION)
            try:
                async with asyncio.timeout(LAST_WORD_S):
                    await session.wants.wait()
            except TimeoutError:
                session.close(linger_s=0, flush_s=LINGER_S)

    async def _cancel(self, session: Session, key: CancelKey) -> None:
        own = self._own_keys.get(key)
        try:
            if own is not None and own.bound is not None and own.key is not None:
                await cancel_on([own.bound.backend], own.key)
            elif not _is_terminated(session):
                await cancel_on(self._may_know(key), key)
        finally:
            session.close(linger_s=0, flush_s=LINGER_S)

    def _may_know(self, key: CancelKey) -> list[Backend]:
        known = self._keys.get(key)
        if known is not None:
            return [known]
        servers = [one.bound.backend for one in self._sessions if one.bound is not None]
        if self.snapshot is not None:
            servers += self.snapshot.replicas
            servers += [self.snapshot.primary] if self.snapshot.primary is not None else []
        return list(dict.fromkeys(servers))

    # Upkeep and end

    def end_silent(self) -> None:
        """End sessions by `read_timeout` and `write_timeout`; to be called once a second."""
        now_s = asyncio.get_running_loop().time()
        for session, limit in self._silences.look(self._sessions, self.settings, now_s=now_s):
            self.note_error(limit)
            end(session, limit, self.settings)

    def sweep(self, part: int) -> None:
        """Drop the sessions of one part whose peer has vanished with data under way."""
        for session in list(self._sessions):
            if id(session) // 64 % SWEEP_PARTS != part % SWEEP_PARTS:
                continue
            for transport in (session.client, session.server):
                sock = transport.get_extra_info("socket") if transport is not None else None
                if sock is not None and is_dead(sock, dead_peer_ms=self.settings.dead_peer_ms):
                    assert transport is not None
                    self.note_error("peer_vanished")
                    transport.abort()

    async def drain(self, limit_s: float, hurry: asyncio.Event, *, stays: bool = False) -> None:
        """Take no more clients; let sessions end within the limit, then cut the rest.

        stays: a successor is there for new clients, so nobody has to leave before the limit. Else
        only the busy have until then, and those without a server yet leave at once. Returns a
        second after the limit at most, whoever still reads slowly.
        """
        self.listeners.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit_s
        while self._sessions:
            if hurry.is_set():
                deadline = min(deadline, loop.time())
            is_late = loop.time() >= deadline
            for session in list(self._sessions):
                if stays and not is_late:
                    continue
                if session.bound is None and not session.closing:
                    session.refuse(Refusal(CANNOT_CONNECT_NOW, "pgherd: this proxy is stopping"))
                elif is_late or session.is_idle:
                    session.cut("pgherd: this proxy is stopping", HINT_DRAIN[stays])
            if loop.time() >= deadline + CUT_FLUSH_LIMIT_S:
                return
            await asyncio.sleep(DRAIN_LOOK_S)

    def report(self) -> ProxyCounters:
        """The counters now."""
        snapshot, tally = self.snapshot, self.tally
        lag_s, tally.lag_s = tally.lag_s, 0.0
        return ProxyCounters(
            pid=os.getpid(),
            listening=self.listeners.labels(),
            sessions=self._open_now(),
            held=tally.held + self.hold.waiting(),
            moved_total=tally.moved,
            held_ms_total=int(tally.held_s * 1000),
            opened={label: dict(results) for label, results in tally.results.items()},
            errors=dict(tally.errors),
            cut_total=tally.cut,
            cancels_total=tally.cancels,
            bytes_from_clients=self.totals.from_clients,
            bytes_from_servers=self.totals.from_servers,
            term=snapshot.term if snapshot is not None else 0,
            generation=snapshot.generation if snapshot is not None else 0,
            expires_at=snapshot.expires_at if snapshot is not None else 0,
            snapshots_refused=tally.snapshots_refused,
            rss_bytes=rss_bytes(),
            lag_ms=int(lag_s * 1000),
        )

    def _open_now(self) -> dict[str, dict[str, int]]:
        found: dict[str, Counter[str]] = {}
        for session in self._sessions:
            if session.bound is not None and not session.closing:
                counter = found.setdefault(session.listener.label, Counter())
                counter[session.bound.backend.name] += 1
        return {label: dict(counter) for label, counter in found.items()}


def _is_terminated(session: Session) -> TypeGuard[Terminated]:
    return session.ends_here


def _files_max() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _reign(snapshot: Snapshot) -> tuple[int, str]:
    return snapshot.term, snapshot.primary.name if snapshot.primary is not None else ""
