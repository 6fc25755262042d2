"""All peers of a node behind one object: send and forget, report, ask, and be told.

Nothing here waits on a peer: `send_raft` and `send_report` queue and return. Callbacks run on the
loop; `on_unreachable` always in a later turn than the call that found out, never inside of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from pgherd.model.ids import NodeId
from pgherd.model.observation import Observation
from pgherd.peer import frame as frames
from pgherd.peer.chunks import Assembly, whole
from pgherd.peer.courier import IN_THREAD_BYTES, Courier
from pgherd.peer.door import Door
from pgherd.peer.errors import PeerRefused, PeerUnreachable
from pgherd.peer.frame import Channel, FrameError, Lane, NotUnderstood, pack
from pgherd.peer.link import Link
from pgherd.peer.resolve import Resolver
from pgherd.peer.storemarks import MADE_ANEW, WENT_BACK, StoreMark, StoreMarks
from pgherd.pki.contexts import Contexts
from pgherd.pki.files import TlsFiles
from pgherd.raft.types import Msg
from pgherd.telemetry import logs
from pgherd.telemetry.boottime import until_next

TICK_S = 1.0
BULK_BYTES_MIN = 64 * 1024
CHUNK = "snapshot-chunk"
"""The kind of the requests that bring a snapshot."""
CHUNK_S_MAX = 10.0
IN_ORDER = frozenset({"App", "Prop"})
"""Raft messages that keep their order; all others are small and overtake them."""

log = logs.get("peer")


class Peers:
    """The transport between nodes. Plain TCP when tls is None: tests only.

    store: how far this node's store is now · on_went_back: a peer knows that it was further, or
    another one · on_snapshot: a snapshot to a peer was delivered, or not · address: where this node
    is reached · learns: it has forgotten who the others are, and dials back whoever proves to be of
    this cluster.
    """

    link_type = Link
    """How a peer is dialled; another one speaks as another version would."""

    def __init__(
        self,
        *,
        me: NodeId,
        listen: tuple[str, int],
        tls: TlsFiles | None,
        on_raft: Callable[[NodeId, Msg], None],
        on_report: Callable[[NodeId, Observation], None],
        on_request: Callable[[NodeId, str, bytes], Awaitable[bytes]],
        on_unreachable: Callable[[NodeId], None],
        store: Callable[[], StoreMark] = StoreMark,
        on_went_back: Callable[[NodeId, str], None] = lambda node, why: None,
        on_snapshot: Callable[[NodeId, bool], None] = lambda node, taken: None,
        address: tuple[str, int] = ("", 0),
        learns: bool = False,
    ) -> None:
        self._me = me
        self._contexts = Contexts(tls) if tls is not None else None
        self._on_raft, self._on_report, self._on_unreachable = on_raft, on_report, on_unreachable
        self._store, self._on_went_back = store, on_went_back
        self._on_request, self._on_snapshot = on_request, on_snapshot
        self._address, self._learns = address, learns
        self.marks = StoreMarks()
        self._assembly = Assembly()
        self._courier = Courier(self._ask_chunk, self._snapshot_ended)
        self._door = Door(
            me=me,
            listen=listen,
            contexts=self._contexts,
            on_frame=self._on_frame,
            on_request=self._answer,
            on_arrival=self._on_arrival,
            marks=self.marks,
        )
        self._links: dict[tuple[NodeId, Lane], Link] = {}
        self._addresses: dict[NodeId, tuple[str, int]] = {}
        self._problems: dict[NodeId, str] = {}
        self.not_understood: dict[NodeId, int] = {}
        """How much of each peer's messages was dropped because only newer versions know it."""
        self._to_tell: set[NodeId] = set()
        self._resolver = Resolver()
        self._ticker: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The port that is listened on, once started."""
        return self._door.port

    async def start(self) -> None:
        """Listen and begin to dial. Raises OperatorError for a taken port or bad certificates."""
        await self._door.open()
        self._ticker = asyncio.create_task(self._tick())
        self.set_peers(self._addresses)

    async def stop(self) -> None:
        """Hang up everywhere and stop listening."""
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
            self._ticker = None
        await self._courier.stop()
        links = list(self._links.values())
        self._links.clear()
        await asyncio.gather(*(link.stop() for link in links), *self._closing)
        await self._door.close()
        self._resolver.close()

    def use(self, tls: TlsFiles | None) -> None:
        """Take the files of another place for new connections; TLS stays on, or off."""
        if self._contexts is not None and tls is not None:
            self._contexts.use(tls)

    def set_peers(self, addresses: Mapping[NodeId, tuple[str, int]]) -> None:
        """Say who the others are; those with a new address are dialled anew."""
        self._addresses = {n: (a[0], a[1]) for n, a in addresses.items() if n != self._me}
        if self._ticker is None:
            return
        for (node, lane), link in list(self._links.items()):
            if self._addresses.get(node) != link.address:
                del self._links[node, lane]
                self._problems.pop(node, None)
                self._courier.forget(node)
                self._close(link)
        for node in self._addresses:
            for lane in Lane:
                if (node, lane) not in self._links:
                    self._links[node, lane] = self._new_link(node, lane)

    def send_raft(self, to: NodeId, msg: Msg) -> None:
        """Queue a message. What cannot be sent is dropped, and on_unreachable called later.

        A snapshot leaves in chunks, and on_snapshot says what became of it.
        """
        if msg.type == "Snap" and (to, Lane.BULK) in self._links:
            self._courier.send(to, msg)
            return
        try:
            frame = pack(Channel.RAFT, frames.encode(msg))
        except FrameError as error:
            log.error("peer.message_too_large", peer=to, type=msg.type, problem=str(error))
            self._tell_unreachable(to)
            return
        is_bulk = len(frame) >= BULK_BYTES_MIN
        link = self._links.get((to, Lane.BULK if is_bulk else Lane.MAIN))
        if link is None:
            self._tell_unreachable(to)
            return
        put = link.outbox.put_raft if is_bulk or msg.type in IN_ORDER else link.outbox.put_urgent
        if not put(frame):
            self._tell_unreachable(to)
        link.flush()

    def send_report(self, report: Observation) -> None:
        """Queue a report for every peer; it replaces one that still waits."""
        mark = self._store()
        report = msgspec.structs.replace(
            report, store_incarnation=mark.incarnation, store_sequence=mark.sequence
        )
        frame = pack(Channel.REPORT, frames.encode(report))
        for (_, lane), link in self._links.items():
            if lane is Lane.MAIN:
                link.outbox.put_report(frame)
                link.flush()

    async def request(self, to: NodeId, kind: str, body: bytes, *, timeout_s: float) -> bytes:
        """Ask a peer. Raises PeerRefused, or PeerUnreachable that says whether it was sent."""
        lane = Lane.BULK if len(body) >= BULK_BYTES_MIN else Lane.MAIN
        link = self._links.get((to, lane))
        if link is None:
            raise PeerUnreachable(f"{to} is not known here", sent=False)
        return await link.request(kind, body, timeout_s)

    def connected(self) -> dict[NodeId, bool]:
        """For each peer, whether our connection to it stands."""
        return {node: link.is_up for (node, lane), link in self._links.items() if not lane}

    def rtt_s(self) -> dict[NodeId, float]:
        """The smoothed round-trip time to each connected peer."""
        links = self._links.items()
        return {n: k.rtt_s for (n, lane), k in links if not lane and k.rtt_s is not None}

    def problems(self) -> dict[NodeId, str]:
        """For each peer without a connection, why."""
        return dict(self._problems)

    def certificates_end_unix(self) -> dict[NodeId, int]:
        """When the certificate of each peer that was reached ends: for an alarm in time."""
        links = [link for (_, lane), link in self._links.items() if lane is Lane.MAIN]
        return {k.peer: end for k in links if (end := k.certificate_ends_unix) is not None}

    def _new_link(self, node: NodeId, lane: Lane) -> Link:
        return self.link_type(
            me=self._me,
            peer=node,
            address=self._addresses[node],
            lane=lane,
            contexts=self._contexts,
            resolver=self._resolver,
            on_change=self._on_change,
            store=self._store,
            own_address=self._address,
        )

    def _close(self, link: Link) -> None:
        task = asyncio.ensure_future(link.stop())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(until_next(TICK_S))
            self._door.tick()
            self._assembly.tick()
            for link in self._links.values():
                link.tick()

    def _on_frame(self, node: NodeId, channel: Channel, body: bytes) -> None:
        try:
            self._hand_on(node, channel, body)
        except NotUnderstood as error:
            self._count_dropped(node, channel, error)

    def _count_dropped(self, node: NodeId, channel: Channel, error: NotUnderstood) -> None:
        """Of a newer version, or a bug: what was sent counts as lost; 1, 10, 100 ... are logged."""
        count = self.not_understood[node] = self.not_understood.get(node, 0) + 1
        if str(count).strip("0") == "1":
            what, why = channel.name.lower(), str(error)
            log.warning("peer.not_understood", peer=node, count=count, what=what, problem=why)

    def _hand_on(self, node: NodeId, channel: Channel, body: bytes) -> None:
        if channel is Channel.LATER:
            raise NotUnderstood("a frame on a channel of a newer version")
        if channel is Channel.RAFT:
            message = frames.decode_message(body)
            self._guard(lambda: self._on_raft(node, message))
            return
        report = frames.decode_report(body)
        if report.node != node:
            raise FrameError(f"a report of {report.node} from {node}")
        mark = StoreMark(report.raft_id, report.store_incarnation, report.store_sequence)
        if self.marks.is_another(mark):
            raise FrameError(f"Raft id {mark.raft_id} has another store")
        self.marks.note(mark)
        self._guard(lambda: self._on_report(node, report))

    # Snapshots.

    async def _ask_chunk(self, to: NodeId, body: bytes) -> bytes:
        link = self._links.get((to, Lane.BULK))
        if link is None:
            raise PeerUnreachable(f"{to} is not known here", sent=False)
        return await link.request(CHUNK, body, CHUNK_S_MAX)

    def _snapshot_ended(self, to: NodeId, taken: bool) -> None:
        self._guard(lambda: self._on_snapshot(to, taken))

    async def _answer(self, node: NodeId, kind: str, body: bytes) -> bytes:
        """Answer a request: chunks of a snapshot here, all else is the owner's."""
        if kind != CHUNK:
            return await self._on_request(node, kind, body)
        try:
            chunk = frames.decode_chunk(body)
        except FrameError as error:
            raise PeerRefused(str(error)) from error
        following = self._assembly.take(node, chunk)
        if self._assembly.is_complete(chunk):
            message, parts = self._assembly.give()
            complete = await self._put_together(message, parts)
            self._guard(lambda: self._on_raft(node, complete))
        return frames.encode(frames.Taken(following))

    async def _put_together(self, message: Msg, parts: list[bytes]) -> Msg:
        if sum(map(len, parts)) < IN_THREAD_BYTES:
            return whole(message, parts)
        return await asyncio.to_thread(whole, message, parts)

    def _guard(self, callback: Callable[[], None]) -> None:
        """Our own failure must not look like the peer's: tell the loop's handler, keep the wire."""
        try:
            callback()
        except Exception as error:
            context = {"message": "a peer callback failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)

    def _on_arrival(self, node: NodeId, address: tuple[str, int]) -> None:
        if self._learns and all(address) and self._addresses.get(node) != address:
            self.set_peers({**self._addresses, node: address})
        link = self._links.get((node, Lane.MAIN))
        if link is not None and not link.is_up:
            link.wake()

    def _on_change(self, link: Link, problem: str | None) -> None:
        """Note and log what is new; tell the owner of a loss."""
        if self._links.get((link.peer, link.lane)) is not link:
            return
        if problem is not None:
            self._tell_unreachable(link.peer)
            if WENT_BACK in problem or MADE_ANEW in problem:
                self._guard(lambda: self._on_went_back(link.peer, problem))
        if link.lane is Lane.BULK:
            return
        if problem is None:
            self._problems.pop(link.peer, None)
            log.info("peer.connected", peer=link.peer)
        elif self._problems.get(link.peer) != problem:
            self._problems[link.peer] = problem
            log.warning("peer.unreachable", peer=link.peer, problem=problem)

    def _tell_unreachable(self, node: NodeId) -> None:
        if not self._to_tell:
            asyncio.get_running_loop().call_soon(self._tell)
        self._to_tell.add(node)

    def _tell(self) -> None:
        nodes, self._to_tell = self._to_tell, set()
        for node in sorted(nodes):
            self._guard(lambda node=node: self._on_unreachable(node))  # type: ignore[misc] # binds node
