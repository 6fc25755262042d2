"""Proves the server inside the agent's loop: it answers, over TLS too, ends, and leaves signals."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
from pathlib import Path

import httpx2
import pytest

from pgherd.api.serve import ApiServer, ServeTls, serve
from pgherd.model.errors import OperatorError
from pgherd.model.ids import NodeId
from pgherd.pki.authority import Authority, make_ca, make_node_certificate

DEADLINE_S = 10.0


@pytest.fixture
def app(make_client, herd):
    return make_client(herd).app


async def ask(server: ApiServer, *, verify: ssl.SSLContext | bool = True, path: str) -> int:
    scheme = "http" if verify is True else "https"
    async with httpx2.AsyncClient(verify=verify, trust_env=False) as client:
        answer = await client.get(f"{scheme}://127.0.0.1:{server.port}{path}")
        return answer.status_code


async def serving(server: ApiServer) -> asyncio.Task[None]:
    task = asyncio.create_task(server.run())
    async with asyncio.timeout(DEADLINE_S):
        await server.started.wait()
    return task


def test_it_answers_and_stops(app):
    """Signal handlers are as they were, while it runs and after."""

    async def scenario() -> None:
        before = signal.getsignal(signal.SIGTERM)
        server = serve(app, "127.0.0.1", 0)
        task = await serving(server)
        assert await ask(server, path="/primary") == 200
        assert await ask(server, path="/replica") == 503
        assert signal.getsignal(signal.SIGTERM) is before
        server.stop()
        async with asyncio.timeout(DEADLINE_S):
            await task
        with pytest.raises(httpx2.ConnectError):
            await ask(server, path="/primary")

    asyncio.run(scenario())


def test_a_cancelled_server_lets_go_of_its_port(app):
    """The agent ends its tasks by cancelling them."""

    async def scenario() -> None:
        server = serve(app, "127.0.0.1", 0)
        port = server.port
        task = await serving(server)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        serve(app, "127.0.0.1", port)._sockets[0].close()

    asyncio.run(scenario())


def test_a_taken_port_is_told_at_once(app):
    """Before anything runs, with what to do."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(OperatorError) as refused:
            serve(app, "127.0.0.1", other.getsockname()[1])
    assert "cannot listen on 127.0.0.1" in refused.value.message
    assert "api.port" in refused.value.hint


def write_pair(ca: Authority, folder: Path) -> ServeTls:
    issued = make_node_certificate(ca, NodeId("n1"), ["127.0.0.1"])
    (folder / "node.crt").write_bytes(issued.certificate_pem)
    (folder / "node.key").write_bytes(issued.key_pem)
    return ServeTls(cert=folder / "node.crt", key=folder / "node.key")


def trusting(ca: Authority) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(cadata=ca.certificate_pem.decode())
    return context


def test_certificates_are_read_again(app, tmp_path):
    """New files serve new connections within seconds; broken ones leave the old in use."""
    old, new = make_ca("old"), make_ca("new")

    async def scenario() -> None:
        tls = write_pair(old, tmp_path)
        server = serve(app, "127.0.0.1", 0, tls)
        task = await serving(server)
        assert await ask(server, verify=trusting(old), path="/liveness") == 200
        tls.cert.write_text("broken")
        os.utime(tls.cert, (1, 1))
        server._refresh()
        assert await ask(server, verify=trusting(old), path="/liveness") == 200
        write_pair(new, tmp_path)
        async with asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    assert await ask(server, verify=trusting(new), path="/liveness") == 200
                    break
                except httpx2.ConnectError:
                    await asyncio.sleep(0.1)
        server.stop()
        await task

    asyncio.run(scenario())


def test_certificates_that_do_not_fit_are_told(app, tmp_path):
    """Before the port is used in vain."""
    tls = write_pair(make_ca("one"), tmp_path)
    tls.key.write_text("nonsense")
    with pytest.raises(OperatorError):
        serve(app, "127.0.0.1", 0, tls)
