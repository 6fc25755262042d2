"""Where lines and metrics of a node go is what its file says: sockets, files, an address."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog

from pgherd.config.load import load_text
from pgherd.config.settings import Settings
from pgherd.daemon.main import open_logs
from pgherd.daemon.telling import metrics_server
from pgherd.proof.ports import claim_base
from pgherd.telemetry import logs

LINE = "x" * 1000


def settings(text: str) -> Settings:
    return load_text(f"version: 1\nnode: {{name: n1, address: 127.0.0.1}}\n{text}\n")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Other tests find logging as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    logs.set_level("info")
    root.handlers[:] = handlers
    root.setLevel(level)


def test_lines_go_to_the_journal_of_the_file(tmp_path: Path) -> None:
    """`log.journal`, with what the journal wants to know of each."""
    place = tmp_path / "journal"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(place))
        journal.settimeout(10)
        out = open_logs(settings(f"log: {{journal: {place}}}"), level="info")
        logs.get("act").warning("disk.fills")
        message = journal.recv(9000)
        assert out.close()
    assert message.startswith(b"PRIORITY=4\nSYSLOG_IDENTIFIER=pgherd\n")
    assert b"disk.fills" in message


@pytest.mark.parametrize("keep", [0, 2])
def test_so_many_files_are_kept(tmp_path: Path, keep: int) -> None:
    """`log.file_keep` of those that were full; the oldest go."""
    file = tmp_path / "agent.log"
    text = f"log: {{file: {file}, file_size: 64kB, file_keep: {keep}}}"
    for _ in range(5):  # each a file full
        out = open_logs(settings(text), level="info")
        for _ in range(70):
            logs.get("act").info("a.line", text=LINE)
        assert out.close()
        assert out.dropped == 0
    wanted = ["agent.log", *(f"agent.log.{number}" for number in range(1, keep + 1))]
    assert sorted(path.name for path in tmp_path.iterdir()) == wanted


def test_metrics_have_an_address_of_their_own() -> None:
    """`metrics.bind` with `metrics.port`; there only, and /metrics only."""
    port = claim_base()
    told = settings(f"metrics: {{bind: 127.0.0.2, port: {port}}}")
    assert metrics_server(settings("api: {port: 8008}"), page) is None
    server = metrics_server(told, page)
    assert server is not None

    async def story() -> None:
        running = asyncio.create_task(server.run())
        await server.started.wait()
        async with httpx2.AsyncClient(trust_env=False, timeout=20) as client:
            found = await client.get(f"http://127.0.0.2:{port}/metrics")
            assert (found.status_code, found.text) == (200, "of n1")
            assert (await client.get(f"http://127.0.0.2:{port}/health")).status_code == 404
            with pytest.raises(httpx2.ConnectError):
                await client.get(f"http://127.0.0.1:{port}/metrics")
        server.stop()
        await running

    asyncio.run(story())


async def page(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers everything."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"of n1"})
