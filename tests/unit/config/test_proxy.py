"""Proves what the keys of `proxy` take, refuse and say."""

from __future__ import annotations

import pytest

from pgherd.config.load import load_text
from pgherd.config.problems import ConfigError
from pgherd.config.proxy import Proxy
from pgherd.daemon import translate
from pgherd.route.choose import Balance

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


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("balance: random", "is not available in this version"),
        ("balance: fastest", "write least_connections or round_robin"),
        ("read_timeout: 100ms", "100ms is too little (at least 1s, or 0 for never)"),
        ("write_timeout: 5", "5 has no unit"),
        ("listeners: [{port: 1, route: primary, fallback: none}]", "has no effect"),
        ("listeners: [{port: 1, route: replica, fallback: x}]", "write primary or none"),
    ],
)
def test_what_cannot_work_is_refused_with_what_to_write(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        proxy(text)
    assert why in str(caught.value)
