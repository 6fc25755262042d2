"""The way in for clients: listeners, and how their sessions are spread, limited and ended.

Owns the keys of `proxy`. What they do is `relay`'s and `route`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, field_validator

from pgherd.config.fields import Bytes, Change, Flag, Key, Millis, NetworkRef, Port
from pgherd.config.pools import Pools
from pgherd.config.problems import Wrong
from pgherd.config.section import Section
from pgherd.config.tls import ProxyTls
from pgherd.config.units import format_duration

LIVE, RELOAD = Change.LIVE, Change.RELOAD
SILENCE_MS_MIN = 1000


Count = Annotated[int, Key("Most sessions at a time; 0: no limit.", LIVE, least=0)]


def as_balance(value: Any) -> Any:
    """The name that other systems have for it is understood too."""
    return "least_connections" if value == "least_connected" else value


class Listener(Section):
    """One port that clients connect to."""

    port: Annotated[Port, Key("Port of this listener.")]
    route: Annotated[
        Literal["primary", "replica", "auto"],
        Key(
            "Where its connections go. auto, with pool: transaction: each read to a replica,"
            " everything else to the primary."
        ),
    ]
    pool: Annotated[
        Literal["none", "session", "transaction"],
        Key(
            "none: bytes pass from client to server untouched; session: TLS and SCRAM end at the"
            " proxy, which logs in to the server with the client's own keys; transaction: besides,"
            " clients share server connections, and have one for each transaction (proxy.pools)."
            " init and join write session for the primary port.",
        ),
    ] = "none"
    fallback: Annotated[
        Literal["primary", "none"] | None,
        Key(
            "Of route: replica or auto, when no replica can take a read: primary, as unless said,"
            " or none: it is refused after proxy.connect_timeout.",
            LIVE,
        ),
    ] = None
    limit: Annotated[
        int | None, Key("Most sessions at a time through this listener.", LIVE, least=1)
    ] = None
    proxy_protocol: Annotated[
        tuple[NetworkRef, ...],
        Key(
            "Networks of balancers in front, as [10.0.9.0/28]: what comes from there has to begin"
            " with a header of the PROXY protocol (1 or 2), which says who the client is.",
            LIVE,
        ),
    ] = ()


class Limits(Section):
    """Most sessions at a time through this node's proxy; one more is refused with 53300."""

    total: Annotated[int, Key("Of all clients together.", LIVE, least=1)] = 2000
    user: Annotated[int, Key("Of any one user; 0: no limit.", LIVE, least=0)] = 0
    database: Annotated[int, Key("To any one database; 0: no limit.", LIVE, least=0)] = 0
    address: Annotated[int, Key("Of any one client address; 0: no limit.", LIVE, least=0)] = 0
    users: Annotated[
        Mapping[str, Count], Key("Of users by name, in place of proxy.limits.user.", LIVE)
    ] = {}
    databases: Annotated[
        Mapping[str, Count],
        Key("To databases by name, in place of proxy.limits.database.", LIVE),
    ] = {}


class Proxy(Section):
    """The way in for clients."""

    listeners: Annotated[
        tuple[Listener, ...],
        Key(
            "Ports and where they lead: {port, route, pool, fallback, limit, proxy_protocol}; the"
            " last three apply at once."
        ),
    ] = (
        Listener(port=5432, route="primary"),
        Listener(port=5433, route="replica"),
    )
    connect_timeout_ms: Annotated[
        Millis,
        Key(
            "How long a client waits for a server to appear.",
            LIVE,
            unit="duration",
            least=500,
            why="shorter refuses clients during an ordinary failover",
        ),
    ] = 5000
    hold_timeout_ms: Annotated[
        Millis,
        Key(
            "How long a switchover waits for running transactions while new ones are held.",
            LIVE,
            unit="duration",
            least=0,
            why="0ms: clients are not held, and those that run something are cut at once",
        ),
    ] = 10_000
    tls: Annotated[
        ProxyTls | None,
        Key(
            "What listeners with pool: session or transaction offer: {cert, key, required}.", RELOAD
        ),
    ] = None
    max_replica_lag_bytes: Annotated[
        Bytes,
        Key(
            "A replica further behind gets no new connections.",
            LIVE,
            unit="size",
            least=1 << 16,
            why="less than a few pages of WAL is never reached under load",
        ),
    ] = 16 << 20
    balance: Annotated[
        Literal["least_connections", "round_robin"],
        BeforeValidator(as_balance),
        Key(
            "Which replica gets a connection: the one with the fewest through this proxy, or each"
            " in turn.",
            LIVE,
            later=("random", "weighted"),
        ),
    ] = "least_connections"
    prefer_zone: Annotated[
        Flag,
        Key(
            "While a replica of this node's node.zone can take a connection, no other gets it.",
            LIVE,
        ),
    ] = True
    limits: Limits = Limits()
    pools: Pools = Pools()
    allow: Annotated[
        tuple[NetworkRef, ...],
        Key("Networks whose clients may come in, as [10.0.1.0/24, 'fd00::/8']; []: all.", LIVE),
    ] = ()
    sync_floor: Annotated[
        Flag,
        Key(
            "Refuse sessions of listeners with pool: session, and statements in them, that lower"
            " synchronous_commit below on: their commits could be lost by a failover.",
            LIVE,
        ),
    ] = False
    local_socket: Annotated[
        Flag,
        Key(
            "Reach this node's own server through its Unix socket, which costs less; its"
            " pg_hba.conf then sees local, not host.",
            LIVE,
        ),
    ] = False
    drain_timeout_ms: Annotated[
        Millis,
        Key(
            "How long sessions may go on when their proxy process is replaced, or their replica's"
            " node is in maintenance, and busy ones when the node stops (30s of it at most).",
            LIVE,
            unit="duration",
            least=0,
            why="0ms cuts everybody at once",
        ),
    ] = 30_000
    read_timeout_ms: Annotated[
        Millis,
        Key(
            "End a session whose client has said nothing for so long, though it is its turn:"
            " between statements, or while COPY waits for its data. Not one that listens.",
            LIVE,
            unit="duration",
            least=0,
            why="0ms is never, else at least 1s",
        ),
    ] = 0
    write_timeout_ms: Annotated[
        Millis,
        Key(
            "End a session when client or server takes nothing of what waits for it for so long.",
            LIVE,
            unit="duration",
            least=0,
            why="0ms is never, else at least 1s",
        ),
    ] = 0

    read_your_writes: Annotated[
        Literal["off", "session", "token"],
        Key(
            "Whose writes a read of a listener with route: auto is sure to see: session, its own"
            " session's; token, those up to SET pgherd.min_lsn. Counts for sessions that begin"
            " after a reload.",
            LIVE,
        ),
    ] = "off"
    read_your_writes_wait_ms: Annotated[
        Millis,
        Key(
            "How long a replica has to replay what a read is to see, before the primary is asked.",
            LIVE,
            unit="duration",
            least=0,
            why="0ms: a replica that is not there yet is not waited for",
        ),
    ] = 100
    engine: Annotated[
        Literal["auto", "uvloop", "pump", "uring"],
        Key(
            "Who carries the bytes of new sessions with pool: none: pump, threads of C that need a"
            " built extension; uring, the same on io_uring, where Linux (6.1 or later) allows it;"
            " uvloop, the proxy's own loop; auto: pump where it works.",
            LIVE,
        ),
    ] = "auto"

    @field_validator("read_timeout_ms", "write_timeout_ms", mode="after")
    @classmethod
    def _seen_in_time(cls, value: int) -> int:
        if 0 < value < SILENCE_MS_MIN:
            raise Wrong(f"{format_duration(value)} is too little", "at least 1s, or 0 for never")
        return value
