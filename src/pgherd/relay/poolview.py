"""What the pools of this proxy look like: for the agent's reports, and for SHOW.

Columns have the names that PgBouncer gives them where they mean the same, and others where not.
Owns what is told; how it is asked for is `admin`'s.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pgherd import __version__
from pgherd.config.units import format_duration
from pgherd.model.ids import Instant
from pgherd.relay.pooltally import CARRIED, COUNTED, LENT, QUERIES, WAITED_MS
from pgherd.relay.riding import WAITING
from pgherd.route.orders import MEANINGS, View
from pgherd.route.poolreport import PoolCounters, PoolReport
from pgherd.route.poolrules import PoolRules
from pgherd.telemetry.boottime import now_ms
from pgherd.wire.table import Cell

if TYPE_CHECKING:
    from pgherd.relay.lent import Family
    from pgherd.relay.pools import Pools
    from pgherd.relay.rider import Rider

Table = tuple[Sequence[str], list[Sequence[Cell]]]
DEFAULTS = PoolRules()
REPORTED_MAX = 1000
"""More pools than these are not reported to the agent; SHOW tells of all."""


def reported(pools: Pools) -> PoolCounters:
    """For the agent: what pools of the same names hold at one server, and what all did so far."""
    now = now_ms()
    found: dict[tuple[str, str, str], PoolReport] = {}
    for lending in pools.lendings():
        family = lending.family
        key = family.database, family.user, lending.bound.backend.name
        seen, limits = lending.seen(now), lending.pool.limits
        if key in found:
            found[key] = found[key].with_another(seen)
        elif len(found) < REPORTED_MAX:
            found[key] = PoolReport(*key, size=limits.size, reserve=limits.reserve, seen=seen)
    done: Counter[str] = Counter()
    for counts in pools.tally.by_database(pools.lendings(), (), now).values():
        done.update(counts)
    return PoolCounters(
        pools=tuple(found.values()),
        done={**{name: done[name] for name in COUNTED}, CARRIED: pools.rides.total().lent},
        wait_counts=pools.rides.waits_with(pools.tally.wait_counts),
        waited_ms=pools.tally.waited_ms + pools.rides.total().waited_ms,
    )


class Views:
    """What SHOW shows."""

    def __init__(self, pools: Pools, sessions: Iterable[Rider], rules: PoolRules) -> None:
        self._pools = pools
        self._sessions = [one for one in sessions if one.family is not None and one.is_running]
        self._rules = rules
        self._now = now_ms()
        self._riding = pools.rides.servers()

    def of(self, view: View) -> Table:
        """Columns and rows."""
        match view:
            case View.POOLS:
                return self._of_pools()
            case View.CLIENTS:
                return self._of_clients()
            case View.SERVERS:
                return self._of_servers()
            case View.DATABASES:
                return self._of_databases()
            case View.STATS:
                return self._of_stats()
            case View.LISTS:
                return self._of_lists()
            case View.CONFIG:
                return _CONFIG, list(_settings(self._rules))
            case View.VERSION:
                return ("version",), [(f"pgherd {__version__}",)]
            case View.HELP:
                return ("command", "meaning"), list(MEANINGS.items())

    def _of_pools(self) -> Table:
        counts: dict[tuple[str, str], Counter[str]] = {}
        for family in self._families():
            counts[family.database, family.user] = Counter()
        for one in self._sessions:
            is_waiting = one.is_waiting
            if one.is_riding and (since := self._seen_riding(one)[1]) is not None:
                is_waiting = True
                count = counts[_names(one.family)]
                count["cl_waiting"] += 1
                count["maxwait_ms"] = max(count["maxwait_ms"], self._now - since)
            counts[_names(one.family)]["cl_active"] += not is_waiting
        for family, _, since in self._pools.waits():
            count = counts[_names(family)]
            count["cl_waiting"] += 1
            count["maxwait_ms"] = max(count["maxwait_ms"], self._now - since)
        for lending in self._pools.lendings():
            seen, count = lending.seen(self._now), counts[_names(lending.family)]
            count["sv_active"] += seen.servers_active
            count["sv_idle"] += seen.servers_idle
            count["sv_tested"] += seen.servers_resetting
            count["sv_login"] += seen.servers_opening
        rows: list[Sequence[Cell]] = [
            (*names, *(count[name] for name in _STATES), *_wait(count["maxwait_ms"]), _MODE)
            for names, count in sorted(counts.items())
        ]
        return ("database", "user", *_STATES, "maxwait", "maxwait_us", "pool_mode"), rows

    def _of_clients(self) -> Table:
        waits = {borrower.number: since for _, borrower, since in self._pools.waits()}
        rows: list[Sequence[Cell]] = []
        for one in self._sessions:
            since = waits.get(one.number)
            link = one.lent.number if one.lent is not None else None
            if one.is_riding:
                link, since = self._seen_riding(one)
            state = "waiting" if since is not None else "active" if link else "idle"
            database, user = _names(one.family)
            host, port = _peer(one.client)
            wait = _wait(self._now - since if since is not None else 0)
            tls = "on" if one.is_encrypted else "off"
            name = one.tracker.settings.get("application_name", "") if one.tracker else ""
            place = one.address or host, port
            rows.append(("C", user, database, state, *place, *wait, one.number, link, tls, name))
        return _CLIENTS, rows

    def _seen_riding(self, session: Rider) -> tuple[int | None, Instant | None]:
        """The server that it has, and since when it waits for one."""
        seen = self._pools.rides.look(session)
        since = Instant(self._now - seen.waits_ms) if seen.state == WAITING else None
        return seen.server or None, since

    def _of_servers(self) -> Table:
        rows: list[Sequence[Cell]] = []
        for lending in self._pools.lendings():
            backend, family = lending.bound.backend, lending.family
            place = (backend.name, backend.host, backend.port)
            for seen in lending.pool.each():
                server = lending.servers[seen.number]
                state = "tested" if seen.state == "resetting" else seen.state
                link = seen.client
                if seen.number in self._riding:
                    link = self._riding[seen.number] or None
                    state = "active" if link else "idle"
                tls = server.transport and server.transport.get_extra_info("ssl_object")
                pid = server.key.pid if server.key is not None else None
                what = (
                    self._clock(seen.born),
                    seen.number,
                    link,
                    pid,
                    "on" if tls else "off",
                )
                rows.append(("S", family.user, family.database, state, *place, *what))
            for _ in range(lending.seen(self._now).servers_opening):
                named = ("S", family.user, family.database, "login", *place)
                rows.append((*named, None, None, None, None, None))
        return _SERVERS, rows

    def _of_databases(self) -> Table:
        clients = Counter(_names(one.family)[0] for one in self._sessions)
        servers: Counter[str] = Counter()
        for lending in self._pools.lendings():
            seen = lending.seen(self._now)
            there = seen.servers_active + seen.servers_idle + seen.servers_resetting
            servers[lending.family.database] += there
        pausing = self._pools.pausing
        names = {*self._rules.databases, *pausing.named, *clients, *servers}
        rows: list[Sequence[Cell]] = []
        for name in sorted(names):
            limits, is_paused = self._rules.limits_of("", name), pausing.is_paused(name)
            sizes = limits.size, limits.min_size, limits.reserve, limits.lifetime_ms // 1000
            counts = self._rules.most_of(name), servers[name], clients[name]
            dbname = self._rules.dbname_of(name)
            rows.append((name, dbname, *sizes, _MODE, *counts, int(is_paused)))
        return _DATABASES, rows

    def _of_stats(self) -> Table:
        pools = self._pools
        found = pools.tally.by_database(pools.lendings(), self._sessions, self._now)
        rows: list[Sequence[Cell]] = [
            (name, counts[LENT], counts[QUERIES], counts[WAITED_MS] * 1000)
            for name, counts in sorted(found.items())
        ]
        return _STATS, rows

    def _of_lists(self) -> Table:
        lendings = self._pools.lendings()
        names = {_names(family) for family in self._families()}
        seen = [lending.seen(self._now) for lending in lendings]
        waiting = len(list(self._pools.waits()))
        waiting += sum(self._pools.rides.of(lending).waiting for lending in lendings)
        there = sum(one.servers_active + one.servers_idle + one.servers_resetting for one in seen)
        rows: list[Sequence[Cell]] = [
            ("databases", len({database for database, _ in names})),
            ("users", len({user for _, user in names})),
            ("pools", len(names)),
            ("used_clients", len(self._sessions)),
            ("waiting_clients", waiting),
            ("used_servers", there),
            ("opening_servers", sum(one.servers_opening for one in seen)),
        ]
        return ("list", "items"), rows

    def _families(self) -> list[Family]:
        found = [one.family for one in self._sessions if one.family is not None]
        found += [lending.family for lending in self._pools.lendings()]
        return found + [family for family, *_ in self._pools.waits()]

    def _clock(self, at: int) -> str:
        moment = time.time() - (self._now - at) / 1000
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


_MODE = "transaction"
_STATES = ("cl_active", "cl_waiting", "sv_active", "sv_idle", "sv_tested", "sv_login")
_CLIENTS = (
    *("type", "user", "database", "state", "addr", "port", "wait", "wait_us"),
    *("id", "link", "tls", "application_name"),
)
_SERVERS = (
    *("type", "user", "database", "state", "server", "addr", "port"),
    *("connect_time", "id", "link", "remote_pid", "tls"),
)
_DATABASES = (
    *("name", "database", "pool_size", "min_pool_size", "reserve_pool_size", "server_lifetime"),
    *("pool_mode", "max_connections", "current_connections", "current_client_connections"),
    "paused",
)
_STATS = ("database", "total_server_assignment_count", "total_query_count", "total_wait_time")
_CONFIG = ("key", "value", "default", "changeable")


def _settings(rules: PoolRules) -> Iterable[Sequence[Cell]]:
    """What is in force, in the words of the configuration."""
    for key, value, default in (
        ("size", rules.limits.size, DEFAULTS.limits.size),
        ("min_size", rules.limits.min_size, DEFAULTS.limits.min_size),
        ("reserve", rules.limits.reserve, DEFAULTS.limits.reserve),
        ("queue", rules.limits.queue, DEFAULTS.limits.queue),
        ("user_servers", rules.user_servers, DEFAULTS.user_servers),
        ("database_servers", rules.database_servers, DEFAULTS.database_servers),
    ):
        yield f"proxy.pools.{key}", str(value), str(default), "yes"
    for key, value, default in (
        ("reserve_timeout", rules.limits.reserve_after_ms, DEFAULTS.limits.reserve_after_ms),
        ("query_wait_timeout", rules.limits.wait_ms, DEFAULTS.limits.wait_ms),
        ("idle_timeout", rules.limits.idle_ms, DEFAULTS.limits.idle_ms),
        ("lifetime", rules.limits.lifetime_ms, DEFAULTS.limits.lifetime_ms),
    ):
        yield f"proxy.pools.{key}", format_duration(value), format_duration(default), "yes"
    for key, names in (
        ("users", sorted(rules.users)),
        ("databases", sorted(rules.databases)),
        ("ignore_startup_parameters", rules.ignored),
        ("admins", rules.admins),
        ("viewers", rules.viewers),
    ):
        yield f"proxy.pools.{key}", ", ".join(names), "", "yes"


def _names(family: Family | None) -> tuple[str, str]:
    assert family is not None
    return family.database, family.user


def _wait(ms: int) -> tuple[int, int]:
    """Whole seconds, and the microseconds beyond them."""
    return ms // 1000, ms % 1000 * 1000


def _peer(transport: object) -> tuple[str, int]:
    peer = transport.get_extra_info("peername") if transport is not None else None  # type: ignore[attr-defined] # any transport
    return (peer[0], peer[1]) if isinstance(peer, tuple) else ("", 0)
