"""From settings to the values and parts that the rooms take. No logic: names and units only."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pgherd import __version__
from pgherd.api.app import build_app
from pgherd.api.gate import OnChange
from pgherd.api.guard import Access, ApiToken, Guard, Role
from pgherd.api.herd import Herd, Shared, SharedToken
from pgherd.api.joining import Joiner, Submit
from pgherd.api.serve import ApiServer, ServeTls, serve
from pgherd.config.fields import Secret
from pgherd.config.pools import Pools, UserPools
from pgherd.config.proxy import Listener
from pgherd.config.settings import Settings
from pgherd.daemon import localrun
from pgherd.ledger.levels import LEVEL
from pgherd.model.facts import Address, Facts, Member, Tags
from pgherd.model.ids import NodeId, RaftId
from pgherd.model.policy import FenceOrder, Policy
from pgherd.pki.files import TlsFiles
from pgherd.postgres.settings import ServerSettings
from pgherd.relay.messages import (
    Engine,
    ListenerSettings,
    LocalServer,
    Pool,
    ProxySettings,
    ProxyTls,
)
from pgherd.route.choose import Balance, Preference, Route
from pgherd.route.entry import Limits, Network
from pgherd.route.mark import ReadYourWrites
from pgherd.route.poolrules import Database, PoolRules, Sizes
from pgherd.route.poolsteps import PoolLimits
from pgherd.telemetry import logs
from pgherd.telemetry.metrics import Metrics

log = logs.get("api")

PASSFILE = "pgpass"
CA_KEY = "ca.key"


def policy(settings: Settings) -> Policy:
    """The deciders' limits."""
    failover, replication = settings.failover, settings.replication
    wanted, ttl = replication.num_sync, failover.lease_ttl_ms
    return Policy(
        failover_enabled=failover.enabled,
        detect_ms=failover.detect_ms,
        minimum_interval_ms=failover.minimum_interval_ms,
        sync_timeout_ms=replication.sync_timeout_ms,
        start_timeout_ms=failover.start_timeout_ms,
        num_sync=wanted if isinstance(wanted, int) else 0,
        restart_in_place=failover.on_postgres_crash == "auto",
        voter_timeout_ms=settings.raft.voter_timeout_ms,
        lease_ttl_ms=ttl if isinstance(ttl, int) else 0,
        hold_ms=settings.proxy.hold_timeout_ms,
        max_lag_bytes=failover.max_lag_bytes,
        fence=fence(settings),
        min_free_disk_bytes=failover.min_free_disk_bytes,
        disk_full_within_ms=failover.disk_full_within_ms,
        slot_min_free_disk_bytes=replication.slots.min_free_disk_bytes,
        ignore_slots=replication.slots.ignore,
    )


def fence(settings: Settings) -> FenceOrder | None:
    """The operator's fencing command; auto and off: there is none."""
    wanted = settings.failover.fence
    if isinstance(wanted, str):
        return None
    return FenceOrder(
        command=wanted.command, deadline_ms=wanted.deadline_ms, required=wanted.required
    )


def address(settings: Settings) -> Address:
    """Where the other nodes and clients reach this one."""
    own = settings.node.address
    ports = {listener.route: listener.port for listener in reversed(settings.proxy.listeners)}
    return Address(
        host=own.advertised("raft"),
        raft_port=settings.raft.port,
        postgres_port=settings.postgresql.port if settings.has_server else 0,
        api_port=settings.api.port,
        proxy_primary_port=ports.get("primary", ports.get("auto", 0)),
        proxy_replica_port=ports.get("replica", 0),
        postgres_host=own.advertised("postgresql"),
        api_host=own.advertised("api"),
        proxy_host=own.advertised("proxy"),
    )


def own_record(settings: Settings) -> Member:
    """This node's record in the ledger, as its file says."""
    tags = settings.node.tags
    return Member(
        node=NodeId(settings.node.name),
        raft_id=RaftId(0),
        kind=settings.kind,
        address=address(settings),
        tags=Tags(
            failover_priority=tags.failover_priority,
            nofailover=tags.nofailover or tags.nostream,
            nosync=tags.nosync or tags.nostream,
            zone=settings.node.zone,
            replicatefrom=tags.replicatefrom or "",
            delay_ms=tags.delay_ms,
        ),
        level=LEVEL,
    )


def peer_tls(settings: Settings) -> TlsFiles | None:
    """The files of the peer channel."""
    tls = settings.raft.tls
    if tls is None:
        return None
    return TlsFiles(certificate=str(tls.cert), key=str(tls.key), ca=str(tls.ca))


def server_settings(settings: Settings) -> ServerSettings:
    """What PostgreSQL is run with."""
    pg = settings.postgresql
    rewind = pg.rewind.password or pg.replication.password
    bound = settings.node.address.bound("postgresql")
    plain = ServerSettings(
        passfile=str(pg.data_dir.parent / PASSFILE),
        members=max(3, len(settings.raft.members)),
        listen=(bound,),
        hba=pg.hba,
        parameters={str(name): str(value) for name, value in pg.parameters.items()},
        superuser=pg.superuser.username,
        superuser_password=revealed(pg.superuser.password),
        database=pg.database,
        replication_role=pg.replication.username,
        replication_password=revealed(pg.replication.password),
        rewind_role=pg.rewind.username,
        rewind_password=revealed(rewind),
        bootstrap=pg.bootstrap.command,
        bootstrap_timeout_s=pg.bootstrap.timeout_ms / 1000,
        slot_wal_max=f"{settings.replication.slots.keep_max_bytes >> 20}MB",
    )
    return postgres_tls(plain, settings)


def postgres_tls(plain: ServerSettings, settings: Settings) -> ServerSettings:
    """The same with TLS, where the file has the server offer it."""
    tls = settings.postgresql.tls
    if tls is None:
        return plain
    from pgherd.postgres import tlsfiles

    return tlsfiles.used(
        plain,
        settings.postgresql.data_dir.parent,
        certificate=str(tls.cert),
        key=str(tls.key),
        ca=str(tls.ca),
        required=tls.required,
    )


def proxy_settings(settings: Settings) -> ProxySettings:
    """How the proxy works."""
    proxy, tls, limits = settings.proxy, settings.proxy.tls, settings.proxy.limits
    return ProxySettings(
        listeners=tuple(_listener(one, settings) for one in proxy.listeners),
        connect_timeout_ms=proxy.connect_timeout_ms,
        drain_ms=proxy.drain_timeout_ms,
        read_timeout_ms=proxy.read_timeout_ms,
        write_timeout_ms=proxy.write_timeout_ms,
        sessions_max=limits.total,
        limits=Limits(
            user=limits.user,
            database=limits.database,
            address=limits.address,
            users=dict(limits.users),
            databases=dict(limits.databases),
        ),
        allow=tuple(_network(text) for text in proxy.allow),
        local=_local_server(settings),
        tls=ProxyTls(cert=str(tls.cert), key=str(tls.key), required=tls.required) if tls else None,
        sync_floor=proxy.sync_floor,
        engine=Engine(proxy.engine),
        read_your_writes=ReadYourWrites(proxy.read_your_writes),
        read_your_writes_wait_ms=proxy.read_your_writes_wait_ms,
        pools=_pools(proxy.pools),
    )


def _pools(pools: Pools) -> PoolRules:
    return PoolRules(
        limits=PoolLimits(
            size=pools.size,
            min_size=pools.min_size,
            reserve=pools.reserve,
            reserve_after_ms=pools.reserve_timeout_ms,
            queue=pools.queue,
            wait_ms=pools.query_wait_timeout_ms,
            idle_ms=pools.idle_timeout_ms,
            lifetime_ms=pools.lifetime_ms,
        ),
        users={name: _sizes(own) for name, own in pools.users.items()},
        databases={
            name: Database(_sizes(own), own.dbname or "", dict(own.settings))
            for name, own in pools.databases.items()
        },
        user_servers=pools.user_servers,
        database_servers=pools.database_servers,
        ignored=pools.ignore_startup_parameters,
        admins=pools.admins,
        viewers=pools.viewers,
    )


def _sizes(own: UserPools) -> Sizes:
    return Sizes(
        size=own.size,
        min_size=own.min_size,
        reserve=own.reserve,
        queue=own.queue,
        wait_ms=own.query_wait_timeout_ms,
        idle_ms=own.idle_timeout_ms,
        lifetime_ms=own.lifetime_ms,
        servers=own.servers,
    )


def _local_server(settings: Settings) -> LocalServer | None:
    """This node's server, where its socket is wanted. The superuser's line in pg_hba.conf trusts
    whoever has pgherd's own rights, as the proxy has: that name has to bring its password by TCP.
    """
    pg = settings.postgresql
    if not (settings.proxy.local_socket and settings.has_server):
        return None
    return LocalServer(
        node=NodeId(settings.node.name),
        directory=str(pg.socket_directory()),
        port=pg.port,
        by_tcp=(pg.superuser.username,),
        has_tls=pg.has_tls,
    )


def _network(text: str) -> Network:
    found = ipaddress.ip_network(text)
    return Network(found.network_address.packed, found.prefixlen)


def _listener(one: Listener, settings: Settings) -> ListenerSettings:
    proxy = settings.proxy
    return ListenerSettings(
        host=settings.node.address.bound("proxy"),
        port=one.port,
        route=Route(one.route),
        pool=Pool(one.pool),
        preference=Preference(
            balance=Balance(proxy.balance),
            zone=settings.node.zone if proxy.prefer_zone else "",
            lag_bytes_max=proxy.max_replica_lag_bytes,
            falls_back=one.fallback != "none",
        ),
        limit=one.limit or 0,
        balancers=tuple(_network(text) for text in one.proxy_protocol),
    )


def revealed(secret: Secret | None) -> str:
    """A secret's text; "" where none is configured."""
    return secret.reveal() if secret is not None else ""


def tokens(settings: Settings) -> list[ApiToken]:
    """Who may do what on the API."""
    return [
        ApiToken(name=token.name, role=Role[token.role.upper()], sha256=token.sha256)
        for token in settings.api.tokens
    ]


def access(settings: Settings) -> Access:
    """What the file says of the API's callers, tokens apart."""
    own = settings.api
    return Access(
        clients={
            one.name: None if one.role == "none" else Role[one.role.upper()] for one in own.clients
        },
        takes_certificates=own.tls is not None and own.tls.ca is not None,
        allow=tuple(ipaddress.ip_network(text) for text in own.allow),
        protect_reads=own.protect_reads,
        protect_metrics=own.protect_metrics,
        changes_per_minute=own.rate_limit,
    )


def api(
    settings: Settings,
    port: Herd,
    metrics: Metrics,
    *,
    policy: Callable[[], Policy],
    on_change: OnChange,
    knows: Callable[[], bool],
) -> tuple[ApiServer, Guard]:
    """The REST API, bound, and its guard, which takes new tokens at a reload.

    Without TLS nothing is handed out that a joining node would have to trust.
    """
    tls = serve_tls(settings)
    ca = Path(settings.raft.tls.ca) if settings.raft.tls is not None else None
    app = build_app(
        port,
        tokens=tokens(settings),
        version=__version__,
        policy=policy,
        election_ms=settings.raft.election_timeout_ms,
        ca_pem=lambda: ca.read_bytes() if tls is not None and ca and ca.exists() else None,
        metrics=metrics,
        local=localrun.run,
        on_request=partial(_answered, metrics),
        on_change=on_change,
        knows=knows,
        access=access(settings),
    )
    server = serve(app, settings.api_bind(), settings.api.port, serve_tls(settings))
    return server, app.state.services.guard


def _answered(metrics: Metrics, route: str, method: str, code: int, seconds: float) -> None:
    """A request was answered: counted, and at the level debug told, with its trace."""
    metrics.answered(route, method, code, seconds)
    log.debug("api.answered", route=route, method=method, code=code, ms=round(seconds * 1000, 1))


def serve_tls(settings: Settings) -> ServeTls | None:
    """The files of HTTPS."""
    tls = settings.api.tls
    return ServeTls(cert=tls.cert, key=tls.key, ca=tls.ca) if tls is not None else None


def joiner(
    now: Callable[[], Settings], facts: Callable[[], Facts], submit: Submit
) -> Joiner | None:
    """Who admits new nodes: a member that has the authority's files. now: the settings in force."""
    tls = now().raft.tls
    if tls is None:
        return None
    ca = Path(tls.ca)
    return Joiner(
        facts=facts,
        submit=submit,
        ca_certificate=ca,
        ca_key=ca.with_name(CA_KEY),
        shared=lambda: shared(now()),
        unix_s=time.time,
    )


def shared(settings: Settings) -> Shared:
    """What a new data member's configuration has in common with ours."""
    pg = settings.postgresql
    return Shared(
        superuser=pg.superuser.username,
        superuser_password=revealed(pg.superuser.password),
        replication=pg.replication.username,
        replication_password=revealed(pg.replication.password),
        rewind=pg.rewind.username,
        rewind_password=revealed(pg.rewind.password),
        database=pg.database,
        hba=pg.hba,
        parameters={str(name): str(value) for name, value in pg.parameters.items()},
        tokens=tuple(
            SharedToken(name=one.name, role=one.role, sha256=one.sha256)
            for one in settings.api.tokens
        ),
        primary_pool=next(
            (one.pool for one in settings.proxy.listeners if one.route == "primary"), "session"
        ),
        postgres_tls=pg.tls is not None and pg.tls.required,
        proxy_tls=settings.proxy.tls is not None,
        archive=settings.archive.written(),
    )
