"""Proves what the keys of `proxy` take, refuse and say."""

from __future__ import annotations

import pytest

from pgherd.config.load import load_text
from pgherd.config.problems import ConfigError
from pgherd.config.proxy import Proxy
from pgherd.daemon import translate
from pgherd.route.choose import Balance, Route
from pgherd.route.entry import Limits, Network, may_come

SMALLEST = "version: 1\nnode: {name: n1, address: 127.0.0.1, zone: a}\n"


def proxy(text: str) -> Proxy:
    return load_text(f"{SMALLEST}proxy: {{{text}}}").proxy


def test_words_of_choosing() -> None:
    """The name of other systems is understood; what the proxy gets is what was written."""
    assert proxy("balance: least_connected").balance == "least_connections"
    text = "balance: round_robin, max_replica_lag: 1MB, prefer_zone: no, listeners:"
    text += " [{port: 1, route: replica, fallback: none}, {port: 2, route: replica}]"
    given = translate.proxy_settings(load_text(f"{SMALLEST}proxy: {{{text}}}"))
    alone, usual = (one.preference for one in given.listeners)
    assert (alone.balance, alone.zone, alone.lag_bytes_max) == (Balance.ROUND_ROBIN, "", 1 << 20)
    assert (alone.falls_back, usual.falls_back) == (False, True)
    assert translate.proxy_settings(load_text(SMALLEST)).listeners[0].preference.zone == "a"


def test_the_engine_reaches_the_proxy() -> None:
    assert translate.proxy_settings(load_text(SMALLEST)).engine == "auto"
    for name in ("uvloop", "pump", "uring"):
        given = load_text(f"{SMALLEST}proxy: {{engine: {name}}}")
        assert translate.proxy_settings(given).engine == name


def test_a_pool_of_any_kind_reaches_the_proxy_and_takes_tls() -> None:
    for kind in ("none", "session", "transaction"):
        text = f"listeners: [{{port: 1, route: primary, pool: {kind}}}]"
        given = translate.proxy_settings(load_text(f"{SMALLEST}proxy: {{{text}}}"))
        assert given.listeners[0].pool == kind
    files = ", tls: {cert: /c, key: /k}"
    assert proxy("listeners: [{port: 1, route: primary, pool: transaction}]" + files).tls


def test_limits_and_networks_reach_the_proxy() -> None:
    text = "limits: {total: 50, user: 5, address: 3, users: {ann: 0, 'ümit': 2},"
    text += " databases: {app: 9}},"
    text += " allow: [10.0.1.0/24, 'fd00::/8', 192.0.2.1],"
    text += " listeners: [{port: 1, route: primary, limit: 20, proxy_protocol: [10.0.9.4]}]"
    given = translate.proxy_settings(load_text(f"{SMALLEST}proxy: {{{text}}}"))
    assert (given.sessions_max, given.listeners[0].limit) == (50, 20)
    assert given.limits == Limits(
        user=5, address=3, users={"ann": 0, "ümit": 2}, databases={"app": 9}
    )
    assert [one.bits for one in given.allow] == [24, 8, 32]
    assert given.listeners[0].balancers == (Network(bytes((10, 0, 9, 4)), 32),)
    assert may_come(bytes((192, 0, 2, 1)), given.allow)
    assert not may_come(bytes((192, 0, 2, 2)), given.allow)


def test_the_own_socket_is_for_whom_it_asks_a_password() -> None:
    """Not for the superuser, whom pgherd's own user is; nor for replication, which it refuses."""
    text = f"{SMALLEST}proxy: {{local_socket: true}}\n"
    text += "postgresql: {socket_dir: /run/pg, superuser: {username: root}}\n"
    local = translate.proxy_settings(load_text(text)).local
    assert local is not None
    assert (local.node, local.directory, local.port, local.has_tls) == (
        "n1",
        "/run/pg",
        5442,
        False,
    )
    assert local.takes([("user", "ann"), ("database", "shop")])
    for parameters in ([("user", "root")], [("user", "ann"), ("replication", "on")], []):
        assert not local.takes(parameters)
    assert translate.proxy_settings(load_text(SMALLEST)).local is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("balance: random", "is not available in this version"),
        ("balance: fastest", "write least_connections or round_robin"),
        ("engine: haproxy", "write auto, uvloop, pump or uring"),
        ("read_timeout: 100ms", "100ms is too little (at least 1s, or 0 for never)"),
        ("write_timeout: 5", "5 has no unit"),
        ("listeners: [{port: 1, route: primary, fallback: none}]", "has no effect"),
        ("listeners: [{port: 1, route: replica, fallback: x}]", "write primary or none"),
        ("limits: {total: 0}", "0 is too little (at least 1)"),
        ("limits: {users: {ann: -1}}", "-1 is too little"),
        ("limits: {users: {ann: many}}", "is not a whole number"),
        ("limits: {user: 1}}\npostgresql: {parameters: {ssl: on}", "write pool: session"),
        ("allow: [10.0.1.7/24]", "write 10.0.1.0/24"),
        ("allow: [example.org]", "is not a network"),
        ("allow: 10.0.1.0/24", "must be a list"),
        ("local_socket: true", "no PostgreSQL runs on this node"),
        (
            "local_socket: true}\npostgresql: {hba: ['local all all trust']",
            "would let clients in without a password, by the line 'local all all trust'",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_what_to_write(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        proxy(text)
    assert why in str(caught.value)


def test_auto_needs_a_pool_of_transactions() -> None:
    """It says so, with what to write; then it reaches the proxy, as does whose writes are seen."""
    with pytest.raises(ConfigError) as caught:
        proxy("listeners: [{port: 1, route: auto, pool: session}]")
    assert "write {port: 1, route: auto, pool: transaction}" in str(caught.value)
    text = "listeners: [{port: 1, route: auto, pool: transaction}],"
    text += " read_your_writes: token, read_your_writes_wait: 50ms"
    given = translate.proxy_settings(load_text(f"{SMALLEST}proxy: {{{text}}}"))
    assert given.listeners[0].route is Route.AUTO
    assert (given.read_your_writes, given.read_your_writes_wait_ms) == ("token", 50)
    assert translate.proxy_settings(load_text(SMALLEST)).read_your_writes == "off"
