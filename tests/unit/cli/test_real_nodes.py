"""Proves the commands of the guide's first cluster with real daemons and a real PostgreSQL.

They are taken from the page, in its order, and typed on one machine: nodes have addresses of
loopback, and directories and ports of their own. So are the strings of the applications' page.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psycopg
import pytest
import sqlalchemy

from pgherd.config.load import load

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]
DEADLINE_S = 30.0
PAGE = Path(__file__).parents[3] / "docs" / "guide" / "first-cluster.md"
APPLICATIONS = PAGE.with_name("applications.md")
TYPED = ("init", "token", "join", "status", "switchover", "history", "dsn")


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


class Reader:
    """Somebody who types what the page says, with two nodes on one machine."""

    def __init__(self, ground: Path, base: int) -> None:
        self.ground = ground
        self.base = base
        self.token = ""
        text = PAGE.read_text(encoding="utf-8")
        blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        self.lines = [line for block in blocks for line in block.splitlines()]

    def typed(self, line: str) -> str:
        """The line as it has to be where two nodes share a machine and nobody answers questions."""
        where = f"--base-port {self.base} --timeout 60 --dir {self.ground}"
        line = line.replace("10.0.1.", "127.0.0.").replace("TOKEN", self.token)
        for first, more in (
            ("pgherd init", f"{where}/n1"),
            ("pgherd join", f"{where}/n2"),
            ("pgherd switchover", "--yes"),
        ):
            line = line.replace(first, f"{first} {more}")
        return line

    def type(self, line: str) -> subprocess.CompletedProcess[str]:
        """Have a shell run it."""
        own = {key: value for key, value in os.environ.items() if not key.startswith("PGHERD_")}
        own["PATH"] = f"{Path(sys.executable).parent}:{own['PATH']}"
        own["PGHERD_CONFIG"] = str(self.ground / "n1" / "pgherd.yaml")
        done = subprocess.run(
            ["sh", "-c", self.typed(line)], env=own, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        return done


def test_the_guides_first_cluster(pgherd, ground):
    """Its commands in its order: a primary with a database, a synchronous replica, a switchover."""
    reader = Reader(ground, pgherd.free_base())
    said = {}
    for line in reader.lines:
        done = reader.type(line)
        name = " ".join(line.split()[:2])
        said[name] = done.stdout + done.stderr
        if name == "pgherd token":
            reader.token = done.stdout.strip()
        if name == "pgherd join":
            write(reader, "127.0.0.2")
    assert list(said) == [f"pgherd {word}" for word in TYPED]
    assert f"port={reader.base} user=app dbname=app" in said["pgherd init"]
    for check in ("streams from the primary", "is in the synchronous set"):
        assert f"ok    it {check}" in said["pgherd join"]
    assert "ok    a peer reaches it" in said["pgherd join"]
    assert re.search(r"^primary +n1, epoch 1$", said["pgherd status"], re.MULTILINE)
    assert "n2 is the primary of epoch 2\n" in said["pgherd switchover"]
    assert re.search(r"\bn2\b", said["pgherd history"])
    with psycopg.connect(f"{said['pgherd dsn'].strip()} password={password(ground)}") as found:
        assert found.execute("SELECT id FROM kept").fetchall() == [(1,)]
    assert load(ground / "n1" / "pgherd.yaml").raft.data_dir.exists()
    connect_as_applications_do(reader)


def connect_as_applications_do(reader: Reader) -> None:
    """With the strings of the page, TLS checked as it says."""
    text = APPLICATIONS.read_text(encoding="utf-8").replace("10.0.1.", "127.0.0.")
    text = text.replace("5432", str(reader.base))
    ca = str(reader.ground / "n1" / "pki" / "ca.crt")
    own, libpq = password(reader.ground), re.search(r"^host=.*$", text, re.MULTILINE)
    assert libpq is not None
    with psycopg.connect(libpq[0].replace("=ca.crt", f"={ca}"), password=own) as found:
        assert found.info.pgconn.ssl_in_use
        assert found.execute("SELECT id FROM kept").fetchall() == [(1,)]

    uri = re.search(r'"(postgresql://[^"]*)"', text)
    assert uri is not None

    async def ask() -> object:
        tls = ssl.create_default_context(cafile=ca)
        connection = await asyncpg.connect(uri[1], password=own, ssl=tls, timeout=20)
        try:
            return await connection.fetchval("SELECT id FROM kept")
        finally:
            await connection.close()

    assert asyncio.run(ask()) == 1

    url = re.search(r'"(postgresql\+psycopg://[^"]*)"', text)
    assert url is not None
    options = {"connect_timeout": 20, "sslmode": "verify-full", "sslrootcert": ca, "password": own}
    engine = sqlalchemy.create_engine(url[1], connect_args=options, pool_pre_ping=True)
    with engine.connect() as found:
        assert found.execute(sqlalchemy.text("SELECT id FROM kept")).scalar_one() == 1
    engine.dispose()


def write(reader: Reader, host: str) -> None:
    """A row, through the proxy of a node."""
    own = {"user": "app", "dbname": "app", "password": password(reader.ground)}
    with psycopg.connect(host=host, port=reader.base, autocommit=True, **own) as connection:
        connection.execute("CREATE TABLE kept (id int PRIMARY KEY)")
        connection.execute("INSERT INTO kept VALUES (1)")


def password(ground: Path) -> str:
    return (ground / "n1" / "secrets" / "app.password").read_text().strip()


@pytest.mark.full
def test_a_file_for_development_is_a_primary_at_once(pgherd, ground):
    """`config generate --for dev`, `start`, and nothing else."""
    file, base = ground / "dev.yaml", pgherd.free_base()
    where = ("--dir", ground / "n1", "--base-port", base, "--file", file)
    assert pgherd("config", "generate", "--for", "dev", *where).code == 0
    command = [sys.executable, "-m", "pgherd.cli.main", "start", "--config", str(file)]
    with (ground / "log").open("wb") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
    until = time.monotonic() + DEADLINE_S
    own = {"user": "postgres", "password": "development", "dbname": "postgres"}
    while True:
        try:
            with psycopg.connect(host="127.0.0.1", port=base, **own) as found:
                assert found.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)
                break
        except psycopg.OperationalError:
            assert time.monotonic() < until, (ground / "log").read_text()
            time.sleep(0.3)
    daemon.terminate()
    assert daemon.wait(DEADLINE_S) == 0
