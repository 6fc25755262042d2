"""`pgherd cluster create` and `destroy`: it runs on by itself, and leaves nothing behind."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pgherd.proof import lasting

pytestmark = pytest.mark.cluster


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that PostgreSQL's user may enter; whatever the test does, nothing stays."""
    directory = Path(tempfile.mkdtemp(prefix="pgherd-dev-", dir="/var/tmp"))
    directory.chmod(0o755)
    yield directory / "dev"
    if lasting.is_herd(directory / "dev"):
        lasting.destroy(directory / "dev")
    shutil.rmtree(directory)


def pgherd(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pgherd.cli.main", *words]
    given = {**os.environ, **env}
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=100)


def test_a_cluster_is_made_used_and_destroyed(place: Path) -> None:
    """What it prints leads into it; a second one there is refused; then it is gone."""
    where = ("--dir", str(place))
    made = pgherd("cluster", "create", "--nodes", "1", *where)
    assert made.returncode == 0, made.stderr
    psql, ask = made.stdout.splitlines()
    target = shlex.split(psql)[-1]
    with psycopg.connect(target, passfile=str(place / "pgpass"), autocommit=True) as client:
        client.execute("CREATE TABLE kept AS SELECT 7 AS seven")
    config = ask.split()[0].removeprefix("PGHERD_CONFIG=")
    token = (place / "token.secret").read_text().strip()
    status = pgherd("status", PGHERD_CONFIG=config, PGHERD_TOKEN=token)
    assert "operational" in status.stdout, status.stderr
    again = pgherd("cluster", "create", "--nodes", "1", *where)
    assert (again.returncode, "runs" in again.stderr) == (2, True), again.stderr
    assert pgherd("cluster", "destroy", *where).returncode == 2
    assert lasting.processes_of(place)
    gone = pgherd("cluster", "destroy", "--yes", *where)
    assert gone.returncode == 0, gone.stderr
    assert not place.exists()
    assert not lasting.processes_of(place)
    assert pgherd("cluster", "destroy", "--yes", *where).returncode == 2
