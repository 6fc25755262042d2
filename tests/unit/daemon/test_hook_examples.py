"""The examples of hooks work: the receiver against our sender, the programs as programs."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from pgherd.daemon.posting import post
from pgherd.daemon.webhooks import body_of, headers_of
from pgherd.model.event import Event, Level
from pgherd.model.ids import NodeId, Term
from pgherd.telemetry.boottime import unix_ms

EXAMPLES = Path(__file__).parents[3] / "examples" / "hooks"
KEY = "k3y"


class Chat:
    """Takes lines, unless it is told not to."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.well = True
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        size = int(head.partition("content-length: ")[2].split()[0])
        body = json.loads(await reader.readexactly(size))
        if self.well:
            self.lines.append(body["text"])
        writer.write(
            f"HTTP/1.1 {200 if self.well else 500} x\r\nContent-Length: 0\r\n\r\n".encode()
        )
        await writer.drain()
        writer.close()


@pytest.fixture
def receiver(request: pytest.FixtureRequest) -> Iterator[list[object]]:
    """How to start one, by the address of its chat; it is stopped afterwards."""
    started: list[subprocess.Popen[str]] = []
    yield started  # type: ignore[misc] # the test puts it in
    for one in started:
        one.terminate()
        one.wait(10)


def test_the_receiver_for_a_chat(receiver: list[subprocess.Popen[str]]) -> None:
    """It believes our signature only, tells once, and has us try again while the chat is away."""
    event = Event(
        at_ms=1,
        node=NodeId("n2"),
        kind="primary.changed",
        text="failover from n1 to n2",
        term=Term(3),
        level=Level.WARNING,
        index=7,
        id="c7.1",
        duration_ms=812,
    )

    async def test() -> None:
        chat = Chat()
        server = await asyncio.start_server(chat.serve, "127.0.0.1", 0)
        chat.port = server.sockets[0].getsockname()[1]
        env = {**os.environ, "HOOK_SECRET": KEY, "CHAT_URL": f"http://127.0.0.1:{chat.port}/"}
        program = [sys.executable, str(EXAMPLES / "webhook-to-chat.py"), "0"]
        running = await asyncio.to_thread(
            subprocess.Popen, program, env=env, stdout=subprocess.PIPE, text=True
        )
        receiver.append(running)
        assert running.stdout is not None
        said = await asyncio.to_thread(running.stdout.readline)
        url = f"http://127.0.0.1:{said.split()[-1]}/"

        async def send(event: Event, *, secret: str = KEY, at_s: int | None = None) -> int:
            body = body_of(event, cluster="main", sender=NodeId("n1"))
            at = unix_ms() // 1000 if at_s is None else at_s
            headers = headers_of(event, body, secret=secret, at_s=at, tries=1)
            found = await post(url, body, headers=headers, timeout_s=20, context=None)
            return found.status

        assert await send(event, secret="another") == 401
        assert await send(event, secret="") == 401
        assert await send(event, at_s=1_700_000_000) == 401
        chat.well = False
        assert await send(event) == 503
        chat.well = True
        assert [await send(event), await send(event)] == [204, 204]
        assert await send(replace(event, id="c8.0")) == 204
        line = "[main] warning: primary.changed: failover from n1 to n2 (812 ms)"
        assert chat.lines == [line, line]
        server.close()

    asyncio.run(test())


def test_the_say_before_a_promotion(tmp_path: Path) -> None:
    """It refuses where the file is, and says why."""
    flag = tmp_path / "flag"
    command = [str(EXAMPLES / "may-lead.sh"), "pre_promote", "replica", "main"]
    env = {**os.environ, "FLAG": str(flag)}
    assert subprocess.run(command, env=env, timeout=20, check=False).returncode == 0
    flag.write_text("disks are being changed")
    done = subprocess.run(command, env=env, timeout=20, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "disks are being changed" in done.stdout


def test_the_record_that_follows_the_primary(tmp_path: Path) -> None:
    """Only a primary changes it."""
    told = tmp_path / "told"
    update = tmp_path / "nsupdate"
    update.write_text(f"#!/bin/sh\ncat >> {told}\n")
    update.chmod(0o755)
    env = {**os.environ, "NSUPDATE": str(update), "ADDRESS": "10.0.0.7", "PGHERD_TERM": "4"}
    for role in ("replica", "primary"):
        command = [str(EXAMPLES / "role-changed.sh"), "on_role_change", role, "main"]
        subprocess.run(command, env=env, timeout=20, check=True, capture_output=True)
        assert told.exists() == (role == "primary")
    assert "update add main.db.example 10 A 10.0.0.7" in told.read_text()
