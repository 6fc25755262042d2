"""Proves waiting and refusing, balancing, cancels, limits, and life without an agent.

Against fake servers, with the real proxy process and the real channel.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import pytest

from pgherd.model.ids import NodeId
from pgherd.relay.messages import ListenerSettings, ProxySettings
from pgherd.route.choose import Backend, Preference, Route


def test_without_a_primary_a_client_waits_and_is_refused(rig: Any, raw: Any) -> None:
    """57P03 with a text and a next step, after the configured time and not before."""

    async def scenario() -> None:
        async with rig(connect_timeout_ms=700) as it:
            it.publish(None, term=3)
            await it.until_term(3)
            began = time.monotonic()
            client = await raw.connect(it.port())
            error = raw.fields(await client.rest())
            assert 0.6 < time.monotonic() - began < 3
            assert (error["S"], error["C"]) == ("FATAL", "57P03")
            assert error["M"] == "pgherd: the cluster has no primary now (term 3)"
            assert "pgherd status" in error["H"]
            await it.until(lambda now: now.opened.get(f"primary:{it.port()}") == {"refused": 1})

    asyncio.run(scenario())


def test_a_refused_server_is_named(rig: Any, raw: Any) -> None:
    """The primary is known and does not accept: the text says which and where."""

    async def scenario() -> None:
        async with rig(connect_timeout_ms=300) as it:
            port = raw.free_port()
            it.publish(Backend(NodeId("n1"), "127.0.0.1", port))
            await it.until_term(1)
            error = raw.fields(await (await raw.connect(it.port())).rest())
            assert error["C"] == "57P03"
            assert error["M"].startswith(f"pgherd: n1 at 127.0.0.1:{port} cannot be reached")

    asyncio.run(scenario())


def test_a_refused_client_that_asked_for_tls_hears_why(rig: Any, raw: Any) -> None:
    """N to its request, then the whole error for its StartupMessage."""

    async def scenario() -> None:
        async with rig(connect_timeout_ms=200) as it:
            it.publish(None, term=1)
            await it.until_term(1)
            client = await raw.connect(it.port(), raw.ssl_request)
            assert await client.reader.readexactly(1) == b"N"
            client.writer.write(raw.startup())
            assert raw.fields(await client.rest())["C"] == "57P03"

    asyncio.run(scenario())


def test_a_cluster_known_to_speak_tls_never_refuses_it(rig: Any, fakes: Any, raw: Any) -> None:
    """Once a server said S, a client that asks for TLS gets the error itself, not a downgrade."""

    async def scenario() -> None:
        async with rig(connect_timeout_ms=200) as it, fakes("n1") as (one,):
            one.answer = b"S"
            it.publish(one.backend, term=1)
            first = await raw.connect(it.port(), raw.ssl_request)
            assert await first.reader.readexactly(1) == b"S"
            it.publish(None, term=2)
            await it.until_term(2)
            second = await raw.connect(it.port(), raw.ssl_request)
            assert raw.fields(await second.rest())["C"] == "57P03"

    asyncio.run(scenario())


def test_past_its_deadline_a_snapshot_opens_nothing_to_the_primary(
    rig: Any, fakes: Any, raw: Any
) -> None:
    """The agent dies: sessions go on, replicas take more, the primary takes no new ones."""

    async def scenario() -> None:
        async with rig(connect_timeout_ms=300) as it, fakes("n1", "n2") as (one, two):
            it.publish(one.backend, replicas=(two.backend,), lives_ms=1_500)
            old = await raw.connect(it.port())
            await old.until_ready()
            await it.control.stop()
            await asyncio.sleep(1.6)  # the deadline itself, not a guess at how long work takes
            assert (await old.query("who"))[0] == (b"C", b"n1\0")
            error = raw.fields(await (await raw.connect(it.port())).rest())
            assert error["C"] == "57P03"
            assert "out of date" in error["M"]
            reader = await raw.connect(it.port(Route.REPLICA))
            await reader.until_ready()
            assert (await reader.query("who"))[0] == (b"C", b"n2\0")
            await it.control.start()
            it.publish(one.backend)
            fresh = await raw.connect(it.port())
            await fresh.until_ready()
            assert (await old.query("who"))[0] == (b"C", b"n1\0")
            for client in (old, reader, fresh):
                client.close()

    asyncio.run(scenario())


def test_replicas_share_the_sessions(rig: Any, fakes: Any, raw: Any) -> None:
    """Nine clients over three replicas: three each, and a dead replica is passed over."""

    async def scenario() -> None:
        async with rig() as it, fakes("n1", "n2", "n3", "n4") as (one, *others):
            replicas = tuple(other.backend for other in others)
            it.publish(one.backend, replicas=replicas)
            clients = [await raw.connect(it.port(Route.REPLICA)) for _ in range(9)]
            for client in clients:
                await client.until_ready()
            label = f"replica:{it.port(Route.REPLICA)}"
            await it.until(lambda now: now.sessions == {label: {"n2": 3, "n3": 3, "n4": 3}})
            await others[0].stop()
            for _ in range(4):
                extra = await raw.connect(it.port(Route.REPLICA))
                await extra.until_ready()
                assert (await extra.query("who"))[0] != (b"C", b"n2\0")
                clients.append(extra)
            for client in clients:
                client.close()
            await it.until(lambda now: not now.sessions)

    asyncio.run(scenario())


def test_without_replicas_reads_go_to_the_primary_if_they_may(
    rig: Any, fakes: Any, raw: Any
) -> None:
    """Fall-back is the listener's word, and may change while it runs; its sessions go on."""

    async def scenario() -> None:
        async with rig(connect_timeout_ms=200) as it, fakes("n1") as (one,):
            it.publish(one.backend)
            client = await raw.connect(it.port(Route.REPLICA))
            await client.until_ready()
            it.configure(preference=Preference(falls_back=False))
            await it.until_refused(Route.REPLICA, "57P03", "no replica can take")
            assert (await client.query("who"))[0] == (b"C", b"n1\0")
            client.close()

    asyncio.run(scenario())


def cancel(key: bytes) -> bytes:
    return (8 + len(key)).to_bytes(4, "big") + (80877102).to_bytes(4, "big") + key


@pytest.mark.parametrize("is_after_ssl_request", [False, True])
def test_a_known_key_goes_to_its_server_only(
    rig: Any, fakes: Any, raw: Any, is_after_ssl_request: bool
) -> None:
    """The proxy saw the key given out: one server is asked, and the client sees the end."""

    async def scenario() -> None:
        async with rig() as it, fakes("n1", "n2") as (one, two):
            it.publish(one.backend, replicas=(two.backend,))
            session = await raw.connect(it.port(Route.REPLICA))
            await session.until_ready()
            if is_after_ssl_request:
                wish = await raw.connect(it.port(), raw.ssl_request)
                assert await wish.reader.readexactly(1) == b"N"
                wish.writer.write(cancel(two.key))
            else:
                wish = await raw.connect(it.port(), cancel(two.key))
            assert await wish.rest() == b""
            assert (one.cancels, two.cancels) == ([], [two.key])
            assert (await session.query("who"))[0] == (b"C", b"n2\0")
            session.close()

    asyncio.run(scenario())


def test_an_unknown_key_goes_to_every_server(rig: Any, fakes: Any, raw: Any) -> None:
    """A session inside TLS, or of another node's proxy: all are asked, even one that is down."""

    async def scenario() -> None:
        async with rig() as it, fakes("n1", "n2") as (one, two):
            gone = Backend(NodeId("n3"), "127.0.0.1", raw.free_port())
            it.publish(one.backend, replicas=(two.backend, gone))
            await it.until_term(1)
            key = b"\0\0\0\7" + b"x" * 32
            wish = await raw.connect(it.port(), cancel(key))
            assert await wish.rest() == b""
            assert (one.cancels, two.cancels) == ([key], [key])
            counters = await it.until(lambda now: now.cancels_total == 1)
            assert counters.opened[f"primary:{it.port()}"] == {"cancelled": 1}

    asyncio.run(scenario())


def test_too_many_sessions_are_turned_away(rig: Any, fakes: Any, raw: Any) -> None:
    """53300, and a place is free again when a session ends."""

    async def scenario() -> None:
        async with rig(sessions_max=2) as it, fakes("n1") as (one,):
            it.publish(one.backend)
            two = [await raw.connect(it.port()) for _ in range(2)]
            for client in two:
                await client.until_ready()
            third = await raw.connect(it.port())
            assert raw.fields(await third.rest())["C"] == "53300"
            third.close()
            two.pop().close()
            await it.until(lambda now: now.sessions == {f"primary:{it.port()}": {"n1": 1}})
            again = await raw.connect(it.port())
            await again.until_ready()
            for client in (*two, again):
                client.close()

    asyncio.run(scenario())


def test_what_is_not_postgresql_is_told_so(rig: Any, raw: Any) -> None:
    """A web browser on the port: 08P01 and the end."""

    async def scenario() -> None:
        async with rig() as it:
            client = await raw.connect(it.port(), b"GET / HTTP/1.1\r\n\r\n")
            assert raw.fields(await client.rest())["C"] == "08P01"
            await it.until(lambda now: now.opened.get(f"primary:{it.port()}") == {"violated": 1})

    asyncio.run(scenario())


def test_a_silent_client_is_dropped(rig: Any, raw: Any) -> None:
    """Nothing within the start-up limit: closed without a word, no place kept."""

    async def scenario() -> None:
        async with rig(startup_ms=200) as it:
            client = await raw.connect(it.port(), b"\0")
            assert await client.rest() == b""
            await it.until(lambda now: now.opened.get(f"primary:{it.port()}") == {"silent": 1})

    asyncio.run(scenario())


def test_half_closed_clients_get_their_answer(rig: Any, fakes: Any, raw: Any) -> None:
    """The client's EOF reaches the server, and the server's last words reach the client."""

    async def scenario() -> None:
        async with rig() as it, fakes("n1") as (one,):
            it.publish(one.backend)
            client = await raw.connect(it.port())
            await client.until_ready()
            client.send_query("last words")
            client.writer.write_eof()
            assert (await client.rest()).startswith(b"C\x00\x00\x00\x07n1\0")
            await it.until(lambda now: not now.sessions)
            assert one.open == 0

    asyncio.run(scenario())


def test_many_bytes_before_the_end_are_all_delivered(rig: Any, fakes: Any, raw: Any) -> None:
    """A server that sends 8 MB and closes at once, to a slow reader."""

    async def scenario() -> None:
        async with rig() as it, fakes("n1") as (one,):
            it.publish(one.backend)
            client = await raw.connect(it.port())
            await client.until_ready()
            one.writers[-1].write(bytes(8_000_000))
            one.writers[-1].close()
            size = 0
            while data := await client.reader.read(500_000):
                size += len(data)
                await asyncio.sleep(0.005)
            assert size == 8_000_000

    asyncio.run(scenario())


def test_sigterm_ends_sessions_with_a_word(rig: Any, fakes: Any, raw: Any) -> None:
    """57P01 for the idle, and exit code 0 within a second."""

    async def scenario() -> None:
        async with rig() as it, fakes("n1") as (one,):
            it.publish(one.backend)
            client = await raw.connect(it.port())
            await client.until_ready()
            it.process.send_signal(signal.SIGTERM)
            assert raw.fields(await client.rest())["C"] == "57P01"
            assert await asyncio.to_thread(it.process.wait, 3) == 0

    asyncio.run(scenario())


def test_a_draining_proxy_lets_a_running_statement_finish(rig: Any, fakes: Any, raw: Any) -> None:
    """The busy session stays until its answer, the listener is closed meanwhile."""

    async def scenario() -> None:
        async with rig(drain_ms=20_000) as it, fakes("n1") as (one,):
            it.publish(one.backend)
            client = await raw.connect(it.port())
            await client.until_ready()
            client.send_query("hang")
            await it.until(lambda now: now.bytes_from_clients > 20)
            it.process.send_signal(signal.SIGTERM)
            await until_closed(it.port())
            assert it.process.poll() is None
            one.writers[-1].write(b"C\x00\x00\x00\x08ok!\0" + b"Z\x00\x00\x00\x05I")
            rest = await client.rest()
            assert rest.startswith(b"C\x00\x00\x00\x08ok!\0")
            assert b"57P01" in rest
            assert await asyncio.to_thread(it.process.wait, 3) == 0

    asyncio.run(scenario())


def orphan_maker(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)


async def until_closed(port: int) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return
        await asyncio.sleep(0.02)
    pytest.fail("still listening")


def test_the_proxy_goes_with_its_parent_when_told_to(rig: Any) -> None:
    """The supervisor is killed: a proxy that was started --with-parent frees its ports."""

    async def scenario() -> None:
        async with rig() as it:
            it.process.terminate()
            await asyncio.to_thread(it.process.wait, 5)
            command = [sys.executable, "-m", "pgherd.relay.main", "--with-parent"]
            command += ["--control", str(it.path)]
            starts = f"import subprocess, time; subprocess.Popen({command!r}); time.sleep(60)"
            parent = orphan_maker(starts)
            await it.until(lambda now: now.pid != it.process.pid and it.control.healthy())
            parent.kill()
            await asyncio.to_thread(parent.wait, 5)
            await until_closed(it.port())
            await it.until(lambda _: it.control.hello() is None)

    asyncio.run(scenario())


@pytest.mark.fault(76)
def test_a_taken_port_is_named_with_its_owner(rig: Any) -> None:
    """Exit code 1, one line on stderr, and the same line at the agent."""

    async def scenario() -> None:
        async with rig() as it:
            rival = [sys.executable, "-m", "pgherd.relay.main", "--control", str(it.path)]
            done = await asyncio.to_thread(
                subprocess.run, rival, capture_output=True, text=True, timeout=15
            )
            assert done.returncode == 1
            lines = [one for one in done.stderr.splitlines() if one.startswith("pgherd proxy:")]
            await it.until(lambda _: it.control.failure() is not None)
            assert lines == [f"pgherd proxy: {it.control.failure()}"]
            assert f"127.0.0.1:{it.port()}" in lines[0]
            assert f"taken by pid {it.process.pid} (python" in lines[0]

    asyncio.run(scenario())


def test_settings_change_while_it_runs(rig: Any, fakes: Any, raw: Any) -> None:
    """A listener is added and one removed; sessions of the removed one go on."""

    async def scenario() -> None:
        async with rig() as it, fakes("n1") as (one,):
            it.publish(one.backend)
            client = await raw.connect(it.port())
            await client.until_ready()
            added = ListenerSettings("127.0.0.1", raw.free_port(), Route.PRIMARY)
            it.control.configure(ProxySettings(listeners=(added,)))
            await it.until(lambda now: now.listening == (added.label,))
            await until_closed(it.port())
            assert (await client.query("who"))[0] == (b"C", b"n1\0")
            other = await raw.connect(added.port)
            await other.until_ready()
            client.close()
            other.close()

    asyncio.run(scenario())


def test_a_restarted_proxy_is_told_everything_again(rig: Any, fakes: Any, raw: Any) -> None:
    """SIGKILL: unhealthy at once; the next process serves with settings and last snapshot."""

    async def scenario() -> None:
        async with rig() as it, fakes("n1") as (one,):
            it.publish(one.backend)
            await it.until_term(1)
            first = it.process
            first.kill()
            await asyncio.to_thread(first.wait, 5)
            await it.until(lambda _: not it.control.healthy())
            it.launch()
            await it.until(lambda now: now.pid != first.pid and it.control.healthy())
            client = await raw.connect(it.port())
            await client.until_ready()
            client.close()

    asyncio.run(scenario())


def test_the_proxy_is_lean(rig: Any, fakes: Any, raw: Any) -> None:
    """At most 30 MB resident after 200 sessions, and none of the heavy packages is loaded."""

    async def scenario() -> None:
        async with rig() as it, fakes("n1") as (one,):
            it.publish(one.backend)
            for _ in range(10):
                clients = [await raw.connect(it.port()) for _ in range(20)]
                for client in clients:
                    await client.until_ready()
                    client.close()
            counters = await it.until(lambda now: not now.sessions and now.bytes_from_servers > 0)
            assert counters.rss_bytes < 30_000_000

    asyncio.run(scenario())
    code = "import sys, pgherd.relay.main; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {"pydantic", "structlog", "fastapi", "psycopg", "prometheus_client", "rich", "yaml"}
    assert not heavy & set(loaded.stdout.split())
