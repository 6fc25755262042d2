"""What agent and proxy say to each other over the local channel, and its framing.

Owns the values and the frame (4 bytes of length, then msgpack). Both ends use it: `control` on the
agent's side, `link` in the proxy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from enum import StrEnum
from typing import TypeVar

import msgspec

from pgherd.model.ids import NodeId
from pgherd.route.choose import PREFERENCE, Preference, Route, Snapshot
from pgherd.route.entry import Limits, Network
from pgherd.route.mark import ReadYourWrites
from pgherd.route.meanings import Meanings, Names
from pgherd.route.poolreport import PoolCounters
from pgherd.route.poolrules import PoolRules

FRAME_BYTES_MAX = 1024 * 1024
_LENGTH_BYTES = 4


class Pool(StrEnum):
    """What the proxy does with a session. NONE: bytes pass · SESSION: it ends TLS and SCRAM ·
    TRANSACTION: and lends it a server for each transaction.
    """

    NONE = "none"
    SESSION = "session"
    TRANSACTION = "transaction"


class Engine(StrEnum):
    """Who carries the bytes of pool: none. AUTO: PUMP where it works, else UVLOOP."""

    AUTO = "auto"
    UVLOOP = "uvloop"
    PUMP = "pump"
    URING = "uring"


Place = tuple[str, int]


class ListenerSettings(msgspec.Struct, frozen=True):
    """One way in. host: an address to bind, "" or "*" for all · preference: how it chooses · limit:
    most sessions at a time through it, 0 = none of its own · balancers: who sends the PROXY
    protocol here.
    """

    host: str
    port: int
    route: Route
    pool: Pool = Pool.NONE
    preference: Preference = PREFERENCE
    limit: int = 0
    balancers: tuple[Network, ...] = ()

    @property
    def place(self) -> Place:
        """What it binds, which is what it is known by."""
        return self.host, self.port

    @property
    def label(self) -> str:
        """How counters and logs call it."""
        return f"{self.route}:{self.port}"


class ProxyTls(msgspec.Struct, frozen=True):
    """The files of listeners that end TLS. required: a client without TLS is refused."""

    cert: str
    key: str
    required: bool = False


class LocalServer(msgspec.Struct, frozen=True):
    """This node's own server as it is reached through its Unix socket.

    by_tcp: users whom the socket would let in for being pgherd's own, whoever they are · has_tls:
    clients that ask for TLS are to get it, which a Unix socket does not have.
    """

    node: NodeId
    directory: str
    port: int
    by_tcp: tuple[str, ...] = ()
    has_tls: bool = False

    def takes(self, parameters: Iterable[tuple[str, str]]) -> bool:
        """Whether a session of these startup parameters may come through the socket."""
        known = dict(parameters)
        user = known.get("user", "")
        return bool(user) and user not in self.by_tcp and "replication" not in known


class ProxySettings(msgspec.Struct, frozen=True, tag=True):
    """How the proxy works. Everything but the deciders' facts.

    connect_timeout_ms: how long a client waits for a server to appear · attempt_ms: limit of one
    TCP connection attempt · startup_ms: limit for a client's first packet · drain_ms: how long
    sessions may go on when this process leaves · dead_peer_ms: a peer that leaves sent data
    unacknowledged for so long is gone · read_timeout_ms: how long a client may say nothing while it
    is its turn, 0 = for ever · write_timeout_ms: how long a peer may take nothing of what waits for
    it, 0 = for ever · allow: whose addresses may come in, () = everybody's · local:
    this node's server, where its Unix socket is to be used · sync_floor: whether a session that
    ends here may not lower synchronous_commit · engine: who carries the bytes of sessions that
    begin from now on · pools: of pool: transaction, and other names of databases ·
    read_your_writes: whose writes reads of route: auto see, and read_your_writes_wait_ms: how long
    a replica has for it.
    """

    listeners: tuple[ListenerSettings, ...]
    connect_timeout_ms: int = 5_000
    attempt_ms: int = 1_500
    startup_ms: int = 10_000
    drain_ms: int = 0
    sessions_max: int = 2_000
    dead_peer_ms: int = 30_000
    read_timeout_ms: int = 0
    write_timeout_ms: int = 0
    limits: Limits = Limits()
    allow: tuple[Network, ...] = ()
    tls: ProxyTls | None = None
    local: LocalServer | None = None
    sync_floor: bool = False
    engine: Engine = Engine.AUTO
    read_your_writes: ReadYourWrites = ReadYourWrites.OFF
    read_your_writes_wait_ms: int = 100
    pools: PoolRules = PoolRules()


class VerifiersAsked(msgspec.Struct, frozen=True, tag=True):
    """A proxy needs to know what these users' passwords are checked with."""

    users: tuple[str, ...]


class Verifiers(msgspec.Struct, frozen=True, tag=True):
    """The answer. stored: user -> what PostgreSQL keeps (SCRAM, md5, "" for none); a user that is
    not there does not exist · mock_nonce: of the cluster, for `wire.scram.mock` · problem: why
    nothing could be found out; then the rest says nothing.
    """

    users: tuple[str, ...]
    stored: dict[str, str] = {}
    mock_nonce: bytes = b""
    problem: str = ""

    def __repr__(self) -> str:
        """Without what is stored: a repr ends up in logs."""
        return f"Verifiers(users={self.users!r}, problem={self.problem!r})"


class Cancelled(StrEnum):
    """What became of a cancel. WITHHELD: the process waits for a standby to confirm a commit ·
    UNKNOWN: nobody could say, and nothing was done.
    """

    SENT = "sent"
    WITHHELD = "withheld"
    UNKNOWN = "unknown"


class CancelAsked(msgspec.Struct, frozen=True, tag=True):
    """Cancel what this process of a node's server runs, unless it waits for a standby."""

    number: int
    node: NodeId
    pid: int


class CancelTold(msgspec.Struct, frozen=True, tag=True):
    """The answer to the question of this number. problem: why the outcome is not known."""

    number: int
    outcome: Cancelled
    problem: str = ""


class MeaningsAsked(msgspec.Struct, frozen=True, tag=True):
    """A proxy that tells reads from writes needs to know what names mean in a database."""

    database: str
    names: Names


class MeaningsTold(msgspec.Struct, frozen=True, tag=True):
    """The answer to the last question about this database. meanings: None if nothing could be found
    out · problem: why.
    """

    database: str
    meanings: Meanings | None = None
    problem: str = ""


class ProxyHello(msgspec.Struct, frozen=True, tag=True):
    """A proxy's first word. holds: it knows of holds, and says when it is quiet."""

    pid: int
    version: str
    holds: bool = False


class ProxyFailed(msgspec.Struct, frozen=True, tag=True):
    """The proxy cannot do what it is for, in one line for people; it exits with 1."""

    message: str


class ProxyQuiet(msgspec.Struct, frozen=True, tag=True):
    """No transaction runs any more that this proxy could hold. hold: as the snapshot calls it."""

    hold: str


class ProxyCounters(msgspec.Struct, frozen=True, tag=True):
    """What the proxy did so far and holds now.

    sessions: listener label -> server name -> open now · held: clients that wait for a server, or
    for the end of a hold · moved_total: sessions that went on at another server ·
    opened: listener label -> result (`relay.tally.Result`) -> total ·
    errors: reason -> total · term, generation, expires_at: of the snapshot in force · lag_ms: the
    event loop's worst delay since the last report · engine: who carries new sessions' bytes ·
    hold_counts: waits that ended, by the classes of `relay.tally.HOLD_BUCKETS_S` · queries:
    what sessions whose protocol ends here asked and were answered, by route and kind · routed: of
    route: auto, where cycles went -> `relay.tally.Routed` -> total · pools: of pool: transaction,
    None where nobody has used one.
    """

    pid: int
    listening: tuple[str, ...] = ()
    sessions: dict[str, dict[str, int]] = {}
    held: int = 0
    held_ms_total: int = 0
    opened: dict[str, dict[str, int]] = {}
    errors: dict[str, int] = {}
    cut_total: int = 0
    moved_total: int = 0
    cancels_total: int = 0
    bytes_from_clients: int = 0
    bytes_from_servers: int = 0
    term: int = 0
    generation: int = 0
    expires_at: int = 0
    snapshots_refused: int = 0
    rss_bytes: int = 0
    lag_ms: int = 0
    engine: str = ""
    hold_counts: tuple[int, ...] = ()
    queries: dict[str, dict[str, int]] = {}
    routed: dict[str, dict[str, int]] = {}
    pools: PoolCounters | None = None


ToProxy = ProxySettings | Snapshot | Verifiers | CancelTold | MeaningsTold
ToAgent = (
    ProxyHello
    | ProxyFailed
    | ProxyCounters
    | ProxyQuiet
    | VerifiersAsked
    | CancelAsked
    | MeaningsAsked
)

_T = TypeVar("_T")

_encoder = msgspec.msgpack.Encoder()
_to_proxy: msgspec.msgpack.Decoder[ToProxy] = msgspec.msgpack.Decoder(ToProxy)
_to_agent: msgspec.msgpack.Decoder[ToAgent] = msgspec.msgpack.Decoder(ToAgent)


class FrameError(Exception):
    """The other end of the channel does not speak as it should."""


def frame(message: ToProxy | ToAgent) -> bytes:
    """A message as it goes over the channel."""
    body = _encoder.encode(message)
    assert len(body) <= FRAME_BYTES_MAX, len(body)
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


async def read_to_proxy(reader: asyncio.StreamReader) -> ToProxy | None:
    """The agent's next message; None at the end of the stream. Raises FrameError."""
    body = await _read_frame(reader)
    return None if body is None else _decode(_to_proxy, body)


async def read_to_agent(reader: asyncio.StreamReader) -> ToAgent | None:
    """The proxy's next message; None at the end of the stream. Raises FrameError."""
    body = await _read_frame(reader)
    return None if body is None else _decode(_to_agent, body)


def _decode(decoder: msgspec.msgpack.Decoder[_T], body: bytes) -> _T:
    try:
        return decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise FrameError(f"unreadable frame of {len(body)} bytes: {error}") from error


async def _read_frame(reader: asyncio.StreamReader) -> bytes | None:
    try:
        length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
        if length > FRAME_BYTES_MAX:
            raise FrameError(f"frame of {length} bytes")
        return await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
