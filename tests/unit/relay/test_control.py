"""Proves the agent's end of the channel: what it sends, believes, and refuses to use."""

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from pgherd.model.ids import Instant, Term
from pgherd.relay import control as control_module
from pgherd.relay.control import LINKS_MAX, ControlError, ProxyControl
from pgherd.relay.messages import (
    FRAME_BYTES_MAX,
    ListenerSettings,
    ProxyCounters,
    ProxyFailed,
    ProxyHello,
    ProxyQuiet,
    ProxySettings,
    ToAgent,
    frame,
    read_to_proxy,
)
from pgherd.route.choose import Route, Snapshot

LISTENER = ListenerSettings("127.0.0.1", 5432, Route.PRIMARY)
SETTINGS = ProxySettings(listeners=(LISTENER,))
SNAPSHOT = Snapshot(generation=1, term=Term(1), expires_at=Instant(1))
LIMIT_S = 5


def with_control(path: Path, act: Any) -> None:
    async def scenario() -> None:
        control = ProxyControl(path, SETTINGS)
        await control.start()
        try:
            async with asyncio.timeout(LIMIT_S):
                await act(control)
        finally:
            await control.stop()

    asyncio.run(scenario())
    assert not path.exists()


class Proxy:
    """A proxy's end of the channel, by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, path: Path) -> Proxy:
        return cls(*await asyncio.open_unix_connection(path))

    def say(self, message: ToAgent) -> None:
        self.writer.write(frame(message))

    def hear(self) -> Coroutine[Any, Any, Any]:
        return read_to_proxy(self.reader)


async def until(holds: Any) -> None:
    while not holds():  # noqa: ASYNC110 -- there is no event to wait for
        await asyncio.sleep(0.01)


def test_a_new_proxy_is_told_settings_and_the_last_snapshot(tmp_path: Path) -> None:
    """Only the last of the snapshots published before it came, and each one after."""
    path = tmp_path / "s"

    async def act(control: ProxyControl) -> None:
        control.publish(SNAPSHOT)
        newer = Snapshot(generation=2, term=Term(1), expires_at=Instant(2))
        control.publish(newer)
        proxy = await Proxy.connect(path)
        assert [await proxy.hear(), await proxy.hear()] == [SETTINGS, newer]
        control.publish(SNAPSHOT)
        assert await proxy.hear() == SNAPSHOT
        proxy.writer.close()

    with_control(path, act)


def test_health_needs_reports_and_every_listener(tmp_path: Path) -> None:
    """Connected is not healthy; reporting with all listeners is; gone is not."""
    path = tmp_path / "s"

    async def act(control: ProxyControl) -> None:
        proxy = await Proxy.connect(path)
        proxy.say(ProxyHello(7, "1"))
        proxy.say(ProxyCounters(7))
        await until(lambda: control.counters() is not None)
        assert not control.healthy()
        assert control.hello() == ProxyHello(7, "1")
        proxy.say(ProxyCounters(7, listening=(LISTENER.label,)))
        await until(control.healthy)
        proxy.writer.close()
        await until(lambda: not control.healthy())
        assert control.hello() is None
        assert control.counters() == ProxyCounters(7, listening=(LISTENER.label,))

    with_control(path, act)


def test_a_failure_is_kept_until_a_proxy_does_well(tmp_path: Path) -> None:
    """The line survives the end of the process that said it."""
    path = tmp_path / "s"

    async def act(control: ProxyControl) -> None:
        first = await Proxy.connect(path)
        first.say(ProxyFailed("the port is taken"))
        await until(lambda: control.failure() is not None)
        first.writer.close()
        second = await Proxy.connect(path)
        assert control.failure() == "the port is taken"
        second.say(ProxyCounters(8, listening=(LISTENER.label,)))
        await until(lambda: control.failure() is None)
        second.writer.close()

    with_control(path, act)


def test_quiet_is_waited_for_where_it_can_come(tmp_path: Path, monkeypatch: Any) -> None:
    """Not from an older version that drains, nor from one that hangs; one that ends is told of."""
    path = tmp_path / "s"
    told: list[int] = []
    monkeypatch.setattr(control_module, "COUNTERS_AGE_S_MAX", 1.0)

    async def act(control: ProxyControl) -> None:
        control._on_quiet = lambda: told.append(1)
        draining, new = await Proxy.connect(path), await Proxy.connect(path)
        draining.say(ProxyHello(7, "0"))
        new.say(ProxyHello(8, "1", holds=True))
        await until(lambda: control.hello() == ProxyHello(8, "1", holds=True))
        assert not control.is_quiet("one")
        new.say(ProxyQuiet("one"))
        await until(lambda: control.is_quiet("one"))
        assert told == [1]
        new.writer.close()
        await until(lambda: told == [1, 1])
        hanging = await Proxy.connect(path)
        hanging.say(ProxyHello(9, "1", holds=True))
        await until(lambda: control.hello() == ProxyHello(9, "1", holds=True))
        assert not control.is_quiet("two")
        await until(lambda: control.is_quiet("two"))
        hanging.say(ProxyCounters(9))
        await until(lambda: not control.is_quiet("two"))
        for one in (draining, hanging):
            one.writer.close()

    with_control(path, act)


@pytest.mark.parametrize(
    "garbage",
    [b"\0\0\0\3abc", (FRAME_BYTES_MAX + 1).to_bytes(4, "big"), b"\0\0\0\x01\xc0"],
)
def test_garbage_ends_the_connection_and_nothing_else(tmp_path: Path, garbage: bytes) -> None:
    """A frame that is no message, or too long: that proxy is left, the next one is served."""
    path = tmp_path / "s"

    async def act(control: ProxyControl) -> None:
        bad = await Proxy.connect(path)
        bad.writer.write(garbage)
        assert await bad.hear() == SETTINGS
        assert await bad.hear() is None
        bad.writer.close()
        good = await Proxy.connect(path)
        assert await good.hear() == SETTINGS
        good.writer.close()

    with_control(path, act)


def test_connections_are_limited(tmp_path: Path) -> None:
    """One more than the limit is closed at once."""
    path = tmp_path / "s"

    async def act(control: ProxyControl) -> None:
        proxies = [await Proxy.connect(path) for _ in range(LINKS_MAX + 1)]
        heard = [await one.hear() for one in proxies]
        assert heard.count(None) == 1
        for one in proxies:
            one.writer.close()

    with_control(path, act)


def test_the_socket_is_the_owners_alone(tmp_path: Path) -> None:
    """Mode 0600; a stale socket of a dead agent is replaced."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))

    async def act(control: ProxyControl) -> None:
        mode = path.lstat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600

    with_control(path, act)


def test_a_path_in_use_is_refused(tmp_path: Path) -> None:
    """Another agent's socket, a plain file, and a path too long: each says so, none is touched."""
    path = tmp_path / "s"

    async def act(control: ProxyControl) -> None:
        with pytest.raises(ControlError, match="another agent"):
            await ProxyControl(path, SETTINGS).start()
        plain = tmp_path / "plain"
        plain.write_text("mine")
        with pytest.raises(ControlError, match="not a socket"):
            await ProxyControl(plain, SETTINGS).start()
        assert plain.read_text() == "mine"
        with pytest.raises(ControlError, match="longer than"):
            await ProxyControl(tmp_path / ("x" * 120), SETTINGS).start()

    with_control(path, act)
