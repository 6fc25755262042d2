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
from collections import Counter
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, TypeGuard

from pgherd.model.ids import NodeId
from pgherd.relay import counting
from pgherd.relay.asking import Asker
from pgherd.relay.barred import misspoken
from pgherd.relay.cancels import Cancels
from pgherd.relay.certificates import CertificateError, Certificates
from pgherd.relay.dial import HINT_REFUSED, Attempt, Dialled, dial
from pgherd.relay.door import Door
from pgherd.relay.engines import Engines
from pgherd.relay.hold import Hold
from pgherd.relay.journal import say
from pgherd.relay.kinds import client_side
from pgherd.relay.learning import Learnt
from pgherd.relay.listeners import ListenError, Listeners
from pgherd.relay.messages import ListenerSettings, Pool, ProxyCounters, ProxySettings
from pgherd.relay.session import CUT_FLUSH_LIMIT_S, LINGER_S, Session, Totals
from pgherd.relay.silence import Silences, end
from pgherd.relay.sockets import is_dead
from pgherd.relay.tally import Result, Tally, rss_bytes
from pgherd.relay.tended import Tended
from pgherd.relay.waits import Waits
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
from pgherd.telemetry.boottime import now_ms
from pgherd.wire.answer import (
    CANNOT_CONNECT_NOW,
    REFUSE_ENCRYPTION,
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
    from pgherd.relay.pools import Pools
    from pgherd.relay.rider import Rider
    from pgherd.relay.terminated import Terminated

LAST_WORD_S = 2.0
"""How long a refused client has for its next packet after a refusal of encryption."""

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
        self.totals, self.tally = Totals(), Tally()
        self.waits = Waits(self.tally.errors)
        self.snapshot: Snapshot | None = None
        self.asker, self.learnt = Asker(), Learnt()
        self.certificates = Certificates()
        self.engines = Engines()
        self.listeners = Listeners(self._accepting)
        self._sessions: set[Session] = set()
        self._counts: Counter[NodeId] = Counter()
        self._cancels = Cancels(self)
        self._pools: Pools | None = None
        self._offers_tls: bool | None = None
        self._turn = turn
        self._silences, self._tended = Silences(), Tended()
        self._misspoken = misspoken()
        self.hold = Hold(self)
        self._door = Door(self.tally)

    def _accepting(self, listener: ListenerSettings) -> asyncio.BufferedProtocol:
        if not listener.balancers:
            return client_side(self, listener)
        from pgherd.relay.forwarding import side_for  # few listeners stand behind balancers

        return side_for(listener, self.tally, lambda: client_side(self, listener))

    @property
    def pools(self) -> Pools:
        """Servers for sessions that have one now and then."""
        from pgherd.relay.pools import Pools

        if self._pools is None:
            self._pools = Pools(self)
            self._pools.rides.configure()
            self.engines.others.append(self._pools.rides.bytes_passed)
        return self._pools

    def close(self) -> None:
        """End what passes outside of the event loop."""
        if self._pools is not None:
            self._pools.rides.close()
        self.engines.close()

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
        self.engines.configure(settings.engine)
        if self._pools is not None:
            self._pools.configured()
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
        if self._pools is not None:
            self._pools.expect(before, snapshot)
        is_change = before is None or _reign(before) != _reign(snapshot)
        if is_change:
            self._follow(snapshot)
        self.hold.follow(snapshot, self._sessions)
        if self._pools is not None:
            self._pools.follow(snapshot)
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

    def choose(
        self, listener: ListenerSettings, exclude: Collection[NodeId], route: Route | None = None
    ) -> Bound | NoBackend:
        """The server for a session now. route: other than the listener's."""
        route = route or listener.route
        self._turn += route is Route.REPLICA
        return choose(
            self.snapshot,
            route,
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
        settings, open_now = self.settings, len(self._sessions)
        if not self._door.lets_in(session, settings):
            return
        refusal = self._door.full(session, settings, open_now=open_now)
        if refusal is not None:
            if self._door.is_beyond(settings, open_now=open_now):
                self.tally.note(session.listener, Result.REJECTED)
                session.refuse(refusal)
                return
            session.turned_away = refusal
        self._sessions.add(session)
        opening = self._admit(session) if _is_terminated(session) else self._open(session)
        session.task = asyncio.get_running_loop().create_task(opening)

    async def _admit(self, session: Terminated) -> None:
        from pgherd.relay.entrance import admit

        await admit(self, session)

    def session_named(self, session: Session, startup: StartupMessage) -> bool:
        """Count a session for its user and its database, or tell it that there are too many."""
        refusal = self._door.named(session, startup, self.settings)
        local = self.settings.local
        session.by_socket = local is not None and local.takes(startup.parameters)
        if refusal is None:
            return True
        if session.bound is None:  # else it is counted as opened already
            self.tally.note(session.listener, Result.REJECTED)
        session.refuse(refusal)
        return False

    def session_joined(self, session: Terminated) -> None:
        """Remember whose a cancel key of ours is."""
        assert session.own_key is not None
        self._cancels.joined(session.own_key, session)

    def session_learned(self, session: Session, opening: Opening) -> None:
        """Remember which server knows a cancel key."""
        if opening.offers_tls is not None:
            self._offers_tls = opening.offers_tls
        if session.key is not None and session.bound is not None:
            self._cancels.learned(session.key, session.bound.backend)
        self.engines.take(session)

    def session_cancels(self, session: Session, key: CancelKey) -> None:
        """This is no session but a CancelRequest."""
        self.tally.note(session.listener, Result.CANCELLED)
        self.tally.cancels += 1
        if session.task is not None and session.task is not asyncio.current_task():
            session.task.cancel()
        session.leave_server()
        self._cancels.begin(session, key)

    def session_violated(self, session: Session, why: ProtocolViolation) -> None:
        """Tell a client that does not speak the protocol, and close."""
        self.tally.note(session.listener, Result.VIOLATED)
        now_s = asyncio.get_running_loop().time()
        label = session.listener.label
        self._misspoken.note(label, now_s=now_s, address=session.address, why=str(why))
        session.refuse(Refusal(why.sqlstate, f"pgherd: {why}"))

    def session_ended(self, session: Session) -> None:
        """Forget a session."""
        self._sessions.discard(session)
        self._door.left(session)
        self.hold.forget(session)
        if session.bound is not None:
            self.count(session.bound.backend, -1)
        if _is_terminated(session):
            counting.note(self.tally.queries, session)
            if _is_pooled(session):
                self.pools.tally.session_over(session)
            self._cancels.ended_here(session)
        else:
            self._cancels.ended(session)

    # How a session opens

    async def _open(self, session: Session) -> None:
        try:
            async with asyncio.timeout(self.settings.startup_ms / 1000):
                await session.wants.wait()
                await self._stay_plain(session)
        except TimeoutError:
            self.tally.note(session.listener, Result.SILENT)
            session.close(linger_s=0, flush_s=LINGER_S)
            return
        if session.turned_away is not None:
            await self._refuse(session, session.turned_away)
            self.tally.note(session.listener, Result.REJECTED)
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
            self.tally.waited(loop.time() - began_s)
        if isinstance(outcome, Dialled):
            self._join(session, outcome)
        else:
            self.tally.note(session.listener, Result.REFUSED)
            text = f"pgherd: {outcome.message}"
            await self._refuse(session, Refusal(outcome.sqlstate, text, HINT_REFUSED))

    async def _stay_plain(self, session: Session) -> None:
        """Refuse TLS ourselves where this node's server has none: who comes is to be known first,
        for only some may come to it through its socket."""
        local, opening = self.settings.local, session.opening
        if local is None or local.has_tls or session.turned_away is not None or opening is None:
            return
        while not session.is_gone and isinstance(session.packets[-1], SslRequest):
            session.wants.clear()
            session.pending.clear()
            opening.server(REFUSE_ENCRYPTION)
            opening.offers_tls = None
            session.say(REFUSE_ENCRYPTION)
            await session.wants.wait()

    def _join(self, session: Session, dialled: Dialled) -> None:
        if session.is_gone:
            self.tally.note(session.listener, Result.LEFT)
            dialled.transport.abort()
            self.count(dialled.bound.backend, -1)
            return
        self.tally.note(session.listener, Result.OPENED)
        session.bound = dialled.bound
        session.relay(dialled.transport)

    async def _refuse(self, session: Session, refusal: Refusal) -> None:
        """Refuse encryption as often as it is asked for, then say why; see the module's text."""
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

    def pooled(self) -> Iterable[Rider]:
        """Sessions of `pool: transaction`."""
        return [one for one in self._sessions if _is_pooled(one)]

    def _bound_of(self, session: Session) -> Bound | None:
        """Where its server is now."""
        return self.pools.rides.served_at(session) if _is_pooled(session) else session.bound

    def bound_to(self) -> Iterable[Backend]:
        """The servers of open sessions."""
        return (one.bound.backend for one in self._sessions if one.bound is not None)

    # Upkeep and end

    def end_silent(self) -> None:
        """End sessions by `read_timeout` and `write_timeout`; to be called once a second."""
        now_s = asyncio.get_running_loop().time()
        for session, limit in self._silences.look(self._sessions, self.settings, now_s=now_s):
            self.note_error(limit)
            end(session, limit, self.settings)

    def empty_tended(self) -> None:
        """Lead sessions away from nodes in maintenance; to be called once a second."""
        self._tended.look(self, self._sessions, now_s=asyncio.get_running_loop().time())

    def sweep(self, part: int) -> None:
        """Drop the sessions of one part whose peer has vanished with data under way."""
        for session in list(self._sessions):
            if id(session) // 64 % SWEEP_PARTS != part % SWEEP_PARTS:
                continue
            for transport in (session.client, session.server):
                is_open = transport is not None and not transport.is_closing()
                sock = transport.get_extra_info("socket") if transport and is_open else None
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
                if session.is_new and not session.closing:
                    session.refuse(Refusal(CANNOT_CONNECT_NOW, "pgherd: this proxy is stopping"))
                elif is_late or session.halt_if_idle():
                    session.cut("pgherd: this proxy is stopping", HINT_DRAIN[stays])
            if loop.time() >= deadline + CUT_FLUSH_LIMIT_S:
                return
            await asyncio.sleep(DRAIN_LOOK_S)

    def report(self) -> ProxyCounters:
        """The counters now."""
        snapshot, tally = self.snapshot, self.tally
        pools = self._pools.reported() if self._pools is not None else None
        lag_s, tally.lag_s = tally.lag_s, 0.0
        from_clients, from_servers = self.engines.totals()
        return ProxyCounters(
            pid=os.getpid(),
            listening=self.listeners.labels(),
            sessions=counting.open_now((one, self._bound_of(one)) for one in self._sessions),
            held=tally.held + self.hold.waiting(),
            moved_total=tally.moved,
            held_ms_total=int(tally.held_s * 1000),
            opened={label: dict(results) for label, results in tally.results.items()},
            errors=dict(tally.errors),
            cut_total=tally.cut,
            cancels_total=tally.cancels,
            bytes_from_clients=self.totals.from_clients + from_clients,
            bytes_from_servers=self.totals.from_servers + from_servers,
            engine=self.engines.name,
            term=snapshot.term if snapshot is not None else 0,
            generation=snapshot.generation if snapshot is not None else 0,
            expires_at=snapshot.expires_at if snapshot is not None else 0,
            snapshots_refused=tally.snapshots_refused,
            rss_bytes=rss_bytes(),
            lag_ms=int(lag_s * 1000),
            hold_counts=tuple(tally.hold_counts),
            queries=counting.total(tally.queries, filter(_is_terminated, self._sessions)),
            routed=tally.routed_now(),
            pools=pools,
        )


def _is_terminated(session: Session) -> TypeGuard[Terminated]:
    return session.ends_here


def _is_pooled(session: Session) -> TypeGuard[Rider]:
    return session.listener.pool is Pool.TRANSACTION


def _reign(snapshot: Snapshot) -> tuple[int, str]:
    return snapshot.term, snapshot.primary.name if snapshot.primary is not None else ""
