"""Checks that need more than one key, or a look at this machine's files.

Owns collisions of ports, timings that only make sense together, and files that must be readable.
Yields (path, message, hint); leaves reporting to `load`.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping

from pgherd.config import archive, detection, pools, vip
from pgherd.config.addresses import Channel
from pgherd.config.fields import Secret, is_loopback, is_wildcard
from pgherd.config.parameters import CHOICES, INSTEAD
from pgherd.config.settings import Settings
from pgherd.config.source import Path
from pgherd.config.units import format_duration
from pgherd.model.errors import OperatorError
from pgherd.model.facts import Kind
from pgherd.model.lease import TTL_ASYNC_MS, held_ms, renew_ms

HEARTBEATS_PER_ELECTION_MIN = 5
ELECTIONS_PER_LEASE_MIN = 2
UNASKED = {"trust", "peer", "ident"}
"""Methods that believe in who connects to a Unix socket."""
SOCKET_PATH_BYTES_MAX = 107

Found = Iterator[tuple[Path, str, str]]


def joint_problems(settings: Settings) -> Found:
    """What single keys cannot tell."""
    yield from _addresses(settings)
    yield from _ports(settings)
    yield from _trust(settings)
    yield from _timings(settings)
    yield from _members(settings)
    yield from _kind(settings)
    yield from _pools(settings)
    yield from _upstream(settings)
    yield from _places(settings)
    yield from _parameters(settings)
    yield from archive.problems(
        settings.archive, settings.postgresql.parameters, nostream=settings.node.tags.nostream
    )
    if settings.vip and not any(True for _ in _addresses(settings)):
        yield from vip.problems(settings)


def file_problems(settings: Settings, env: Mapping[str, str]) -> Found:
    """Secrets and certificates that cannot be read here and now."""
    sections = (
        ("raft", settings.raft.tls),
        ("api", settings.api.tls),
        ("proxy", settings.proxy.tls),
    )
    for section, tls in sections:
        for name in ("ca", "cert", "key") if tls is not None else ():
            file = getattr(tls, name, None)
            if file is None:
                continue
            try:
                with open(file, "rb") as opened:
                    opened.read(1)
            except OSError as error:
                hint = (
                    "make it readable by the user that pgherd runs as, or run pgherd init or join"
                )
                yield (section, "tls", name), f"cannot read {file}: {error.strerror}", hint
    yield from _data_left(settings)
    yield from _pair(settings)
    for role in ("superuser", "replication", "rewind"):
        secret: Secret | None = getattr(settings.postgresql, role).password
        if secret is not None:
            try:
                secret.reveal(env)
            except OperatorError as error:
                yield ("postgresql", role, "password"), error.message, error.hint


def _pair(settings: Settings) -> Found:
    """What clients of the proxy are shown; the peers' own files are checked where they are made."""
    tls = settings.proxy.tls
    if tls is None or not all(os.access(file, os.R_OK) for file in (tls.cert, tls.key)):
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.cert, tls.key)
    except ssl.SSLError as error:
        yield (
            ("proxy", "tls", "key"),
            f"{tls.key} is not the key of {tls.cert}, or one of them is no PEM file"
            f" ({error.reason or error})",
            "write the files that were issued together",
        )


def _addresses(settings: Settings) -> Found:
    address = settings.node.address
    if address.advertise is not None:
        return
    channels: tuple[Channel, ...] = ("raft", "api", "postgresql", "proxy")
    for channel in channels:
        own = getattr(address, channel)
        if own is None or own.advertise is None:
            yield (
                ("node", "address"),
                f"says no address that others reach {channel} at",
                f"add advertise: 10.0.1.1, or {channel}: {{advertise: 10.0.1.1}}",
            )


def _ports(settings: Settings) -> Found:
    address = settings.node.address
    if any(True for _ in _addresses(settings)):
        return
    api = settings.api_bind()
    taken: list[tuple[Path, str, int]] = [
        (("raft", "port"), address.bound("raft"), settings.raft.port),
        (("api", "port"), api, settings.api.port),
    ]
    if settings.metrics.port is not None:
        taken.append((("metrics", "port"), settings.metrics_bind(), settings.metrics.port))
    if settings.has_server:
        taken.append(
            (("postgresql", "port"), address.bound("postgresql"), settings.postgresql.port)
        )
    for index, listener in enumerate(settings.proxy.listeners):
        taken.append((("proxy", "listeners", index, "port"), address.bound("proxy"), listener.port))
    for place, (path, host, port) in enumerate(taken):
        for other, other_host, other_port in taken[:place]:
            if port == other_port and _meet(host, other_host):
                name = ".".join(str(step) for step in other)
                yield path, f"port {port} is also that of {name}", "give each its own port"


def _meet(host: str, other: str) -> bool:
    return host == other or is_wildcard(host) or is_wildcard(other)


def _trust(settings: Settings) -> Found:
    address = settings.node.address
    if settings.raft.tls is not None or any(True for _ in _addresses(settings)):
        return
    if not (is_loopback(address.bound("raft")) and is_loopback(address.advertised("raft"))):
        yield (
            ("raft", "tls"),
            "is missing, so that anyone on the network could pose as a member",
            "pgherd init and join make the files; or write tls: {ca: ..., cert: ..., key: ...}",
        )


def _timings(settings: Settings) -> Found:
    raft = settings.raft
    least = HEARTBEATS_PER_ELECTION_MIN * raft.heartbeat_ms
    if raft.election_timeout_ms < least:
        yield (
            ("raft", "election_timeout"),
            f"{format_duration(raft.election_timeout_ms)} is too little for this heartbeat",
            f"at least {format_duration(least)}: a few lost heartbeats must not cause an election",
        )

    yield from _lease(settings)
    yield from detection.problems(settings)


def _lease(settings: Settings) -> Found:
    """A healthy primary must not lose its lease to what passes by itself.

    auto is the shortest there is; the mode may change without this file.
    """
    wanted, detect = settings.failover.lease_ttl_ms, settings.failover.detect_ms
    ttl = wanted if isinstance(wanted, int) else TTL_ASYNC_MS
    elections = ELECTIONS_PER_LEASE_MIN * settings.raft.election_timeout_ms
    left = held_ms(ttl) - renew_ms(ttl)
    if left < max(elections, detect):
        yield (
            ("failover", "lease_ttl"),
            f"{format_duration(ttl)} leaves {format_duration(left)} without a renewal, too little",
            f"at least {format_duration(max(elections, detect))} must be left: two times"
            " raft.election_timeout, and failover.detect",
        )


def _members(settings: Settings) -> Found:
    seats = settings.raft.members
    for index, seat in enumerate(seats):
        earlier = seats[:index]
        path = ("raft", "members", index)
        if any(seat.name == other.name for other in earlier):
            yield path, f"{seat.name} is listed twice", "every member has its own name"
        if any((seat.host, seat.port) == (other.host, other.port) for other in earlier):
            yield (
                path,
                f"{seat} has the address of another member",
                "give each its own address or port",
            )
    if seats and settings.node.name not in {seat.name for seat in seats}:
        hint = f"add {settings.node.name}=ADDRESS:{settings.raft.port}"
        yield ("raft", "members"), f"does not list this node, {settings.node.name}", hint


def _kind(settings: Settings) -> Found:
    if settings.kind is Kind.PROXY and not settings.proxy.listeners:
        yield (
            ("proxy", "listeners"),
            "is empty, and without a postgresql section a node only leads clients to others",
            "add a listener; or write postgresql: {} for data, node.witness: true to vote",
        )


def _data_left(settings: Settings) -> Found:
    """Whoever forgets the section must not find a node without a server."""
    data_dir = settings.postgresql.data_dir
    if settings.kind is Kind.PROXY and (data_dir / "PG_VERSION").exists():
        yield (
            ("postgresql",),
            f"is missing, but there is data in {data_dir}",
            "write postgresql: {} to run it; move the directory away for a proxy node",
        )


def _pools(settings: Settings) -> Found:
    ends_tls = any(listener.pool != "none" for listener in settings.proxy.listeners)
    if settings.proxy.tls is not None and not ends_tls:
        yield (
            ("proxy", "tls"),
            "has no effect: with pool: none TLS is between client and PostgreSQL",
            "give a listener pool: session or transaction, or remove proxy.tls and set"
            " PostgreSQL's ssl",
        )

    for index, listener in enumerate(settings.proxy.listeners):
        if listener.route == "auto" and listener.pool != "transaction":
            yield (
                ("proxy", "listeners", index, "route"),
                "auto needs pool: transaction, as every statement may need another server",
                f"write {{port: {listener.port}, route: auto, pool: transaction}}",
            )
        if listener.fallback is not None and listener.route == "primary":
            yield (
                ("proxy", "listeners", index, "fallback"),
                "has no effect: route: primary knows no other server",
                "remove it, or write route: replica",
            )

    lends = any(listener.pool == "transaction" for listener in settings.proxy.listeners)
    yield from pools.problems(settings.proxy.pools, lends=lends)
    yield from _limits(settings)
    yield from _local_socket(settings)


def _local_socket(settings: Settings) -> Found:
    """Through the socket the server sees the proxy's user, who may be let in without a password."""
    if not settings.proxy.local_socket:
        return
    path: Path = ("proxy", "local_socket")
    if not settings.has_server:
        yield path, "has no effect: no PostgreSQL runs on this node", "remove it"
    for line in settings.postgresql.hba:
        kind, *words = line.split()
        if kind == "local" and UNASKED & set(words):
            yield (
                path,
                f"would let clients in without a password, by the line {line!r}",
                "ask for scram-sha-256 in lines of type local",
            )


def _limits(settings: Settings) -> Found:
    """A limit that every client can step around by asking for TLS would be none."""
    limits = settings.proxy.limits
    by_name = limits.user or limits.database or limits.users or limits.databases
    if not (by_name and settings.postgresql.has_tls):
        return
    for index, listener in enumerate(settings.proxy.listeners):
        if listener.pool == "none":
            yield (
                ("proxy", "listeners", index, "pool"),
                "none knows neither user nor database of a client that uses TLS, so that"
                " proxy.limits does not hold for it",
                "write pool: session, or limit this listener as a whole: limit: 100",
            )


def _places(settings: Settings) -> Found:
    data, store = settings.postgresql.data_dir, settings.raft.data_dir
    if data == store or data in store.parents or store in data.parents:
        yield (
            ("raft", "data_dir"),
            f"{store} and postgresql.data_dir {data} lie in each other",
            "use two directories side by side: the data directory is swapped as a whole",
        )
    socket = settings.postgresql.socket_directory() / f".s.PGSQL.{settings.postgresql.port}"
    if len(str(socket).encode()) > SOCKET_PATH_BYTES_MAX:
        yield (
            ("postgresql", "socket_dir"),
            f"{socket} is longer than the {SOCKET_PATH_BYTES_MAX} bytes a Unix socket may have",
            "set a shorter postgresql.socket_dir",
        )


def _upstream(settings: Settings) -> Found:
    tags = settings.node.tags
    if tags.replicatefrom == settings.node.name:
        hint = "name another member, or remove it; circles of several nodes are told in status"
        yield ("node", "tags", "replicatefrom"), "a node cannot stream from itself", hint
    if tags.nostream and (tags.replicatefrom or tags.delay_ms):
        yield (
            ("node", "tags", "nostream"),
            "does not go with replicatefrom or delay",
            "keep one of them",
        )


def _parameters(settings: Settings) -> Found:
    for name, value in settings.postgresql.parameters.items():
        allowed = CHOICES.get(name, (value,))
        if value not in allowed:
            instead = INSTEAD.get(name) or f"write {' or '.join(allowed)}, or remove it"
            yield (
                ("postgresql", "parameters", name),
                f"{value} would lose acknowledged commits",
                instead,
            )
