"""Proves what the keys of `proxy.pools` take, refuse and say, and that they reach the proxy."""

from __future__ import annotations

import pytest

from pgherd.config.load import load_text
from pgherd.config.problems import ConfigError
from pgherd.daemon import translate
from pgherd.route.poolrules import PoolRules
from pgherd.route.poolsteps import PoolLimits

SMALLEST = "version: 1\nnode: {name: n1, address: 127.0.0.1}\n"


def rules(text: str, *, pool: str = "transaction") -> PoolRules:
    """What the proxy is given of `proxy.pools: {TEXT}` beside a listener that lends."""
    listeners = f"listeners: [{{port: 1, route: primary, pool: {pool}}}]"
    settings = load_text(f"{SMALLEST}proxy: {{{listeners}, pools: {{{text}}}}}")
    return translate.proxy_settings(settings).pools


def test_what_nobody_says_is_what_the_pool_takes_for_itself() -> None:
    assert rules("") == PoolRules()


def test_every_size_and_time_reaches_the_proxy() -> None:
    found = rules(
        "size: 8, min_size: 2, reserve: 3, reserve_timeout: 2s, queue: 100,"
        " query_wait_timeout: 1m, idle_timeout: 90s, lifetime: 0, user_servers: 30,"
        " database_servers: 40, ignore_startup_parameters: [extra_float_digits, Options],"
        " admins: [dba], viewers: [ann]"
    )
    assert found == PoolRules(
        limits=PoolLimits(
            size=8,
            min_size=2,
            reserve=3,
            reserve_after_ms=2_000,
            queue=100,
            wait_ms=60_000,
            idle_ms=90_000,
            lifetime_ms=0,
        ),
        user_servers=30,
        database_servers=40,
        ignored=("extra_float_digits", "options"),
        admins=("dba",),
        viewers=("ann",),
    )


def test_what_is_otherwise_for_users_and_databases_reaches_the_proxy() -> None:
    found = rules(
        "size: 8, users: {ann: {size: 2, query_wait_timeout: 5s, servers: 9}},"
        " databases: {reports: {dbname: shop, size: 4, min_size: 1, reserve: 1, queue: 7,"
        " idle_timeout: 1s, lifetime: 2s, settings: {Work_Mem: 64MB, jit: off}}}"
    )
    assert found.limits_of("ann", "shop") == PoolLimits(size=2, wait_ms=5_000)
    reports = PoolLimits(size=4, min_size=1, reserve=1, queue=7, idle_ms=1_000, lifetime_ms=2_000)
    assert found.limits_of("bob", "reports") == reports
    assert found.databases["reports"].dbname == "shop"
    assert found.databases["reports"].settings == {"work_mem": "64MB", "jit": "off"}
    assert found.users["ann"].servers == 9


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("size: 0", "proxy.pools.size: 0 is too little (at least 1)"),
        ("pool_size: 5", "is not a key of pgherd"),
        ("idle_timeout: 600", "600 has no unit"),
        (
            "size: 5, min_size: 6",
            "proxy.pools.min_size: keeps 6 servers open where there may be 5 (write min_size: 5",
        ),
        (
            "min_size: 5, users: {ann: {size: 3}}",
            "proxy.pools.users.ann.size: keeps 5 servers open where there may be 3",
        ),
        (
            "databases: {shop: {min_size: 30}}",
            "proxy.pools.databases.shop.min_size: keeps 30 servers open where there may be 20",
        ),
        (
            "min_size: 2, users: {ann: {servers: 1}}",
            "proxy.pools.users.ann.servers: keeps 2 servers open where there may be 1",
        ),
        (
            "min_size: 4, database_servers: 3",
            "proxy.pools.min_size: keeps 4 servers open where there may be 3",
        ),
        ("users: [ann]", "proxy.pools.users: must be a map of keys"),
        ("users: {ann: {sizes: 3}}", "did you mean size?"),
        ("users: {'': {size: 3}}", "'' is not a name"),
        ("admins: [17]", "17 is not a name (write a text; numbers take quotes)"),
        ("users: {ann: {dbname: shop}}", "proxy.pools.users.ann.dbname: is not a key of pgherd"),
        (
            "databases: {pgherd: {size: 3}}",
            "pgherd is the database in which pools are seen and stopped (give it another name"
            " here, with dbname: pgherd)",
        ),
        ("databases: {shop: {settings: {port: 1}}}", "belongs to pgherd"),
        ("databases: {shop: {settings: {user: ann}}}", "is not a parameter of PostgreSQL"),
        ("databases: {shop: {settings: {work_mem: [1]}}}", "is not one value"),
        (
            "ignore_startup_parameters: [jit], databases: {shop: {settings: {jit: off}}}",
            "proxy.pools.databases.shop.settings.jit: is one of ignore_startup_parameters",
        ),
        ("ignore_startup_parameters: [User]", "user is what a session is, and cannot be ignored"),
        (
            "admins: [ann], viewers: [bob, ann]",
            "proxy.pools.viewers[1]: ann is one of admins, who may SHOW too",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_what_to_write(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rules(text)
    assert why in str(caught.value)


def test_who_may_look_at_pools_that_nobody_uses_is_told_so() -> None:
    for key in ("admins", "viewers"):
        with pytest.raises(ConfigError) as caught:
            rules(f"{key}: [ann]", pool="session")
        assert f"proxy.pools.{key}: has no effect: no listener has pool" in str(caught.value)
    names = rules("databases: {reports: {dbname: shop}}", pool="session").databases
    assert names["reports"].dbname == "shop"  # these count there too
