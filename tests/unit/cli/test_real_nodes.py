"""Proves `init --start` and `join --start` with real daemons and a real PostgreSQL on loopback.

Two nodes from two commands and one token, then a switchover asked of the other node.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pgherd.config.load import load

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]
DEADLINE_S = 30.0


@pytest.fixture
def ground() -> Iterator[Path]:
    """A directory that PostgreSQL's user can enter; everything that runs in it is ended."""
    directory = Path(tempfile.mkdtemp(prefix="pgherd-cli-", dir="/var/tmp"))
    directory.chmod(0o755)
    yield directory
    end_all(directory)
    shutil.rmtree(directory)


def processes_of(directory: Path) -> list[int]:
    """Every process whose command line names the directory, supervisors first."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and str(directory).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return sorted(found)


def end_all(directory: Path) -> None:
    until = time.monotonic() + DEADLINE_S
    while found := processes_of(directory):
        gone = time.monotonic() > until
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if gone else signal.SIGTERM)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.3)


def test_two_nodes_from_two_commands(pgherd, ground):
    """init makes a primary with the first database, join a streaming synchronous replica."""
    ports = [pgherd.free_base()]
    where = ("--address", "127.0.0.1", "--start")
    made = pgherd(
        *("init", "--dir", ground / "n1", "--base-port", ports[0], "--database", "app"),
        *where,
        *("--timeout", "60"),
    )
    assert made.code == 0, made.err
    assert f"port={ports[0]} user=app dbname=app" in made.out
    first = ground / "n1" / "pgherd.yaml"
    token = pgherd("token", "create", "--join", "--config", first).out.strip()
    ports.append(pgherd.free_base())
    joined = pgherd(
        *("join", "--token", token, "--name", "n2", "--dir", ground / "n2"),
        *("--base-port", ports[1]),
        *where,
        *("--timeout", "60"),
    )
    assert joined.code == 0, joined.err
    for check in ("it streams from the primary", "synchronous set", "a peer reaches it"):
        assert f"ok    {check}" in joined.err or f"ok    it is in the {check}" in joined.err
    password = (ground / "n1/secrets/app.password").read_text().strip()
    target = {"host": "127.0.0.1", "user": "app", "dbname": "app", "password": password}
    with psycopg.connect(**target, port=ports[1], autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (id int PRIMARY KEY)")
        connection.execute("INSERT INTO kept VALUES (1)")
    second = ground / "n2" / "pgherd.yaml"
    moved = pgherd("switchover", "--to", "n2", "--yes", "--config", second)
    assert (moved.code, moved.out) == (0, "n2 is the primary of epoch 2\n"), moved.err
    with psycopg.connect(**target, port=ports[0], autocommit=True) as connection:
        assert connection.execute("SELECT id FROM kept").fetchall() == [(1,)]
    assert load(first).raft.data_dir.exists()
