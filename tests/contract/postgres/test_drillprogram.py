"""The probe of a drill on a real server: it tells while a commit waits, and leaves nothing behind
when whoever started it is gone."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import psycopg
import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.full]

ENOUGH_S = 30.0


def primary(lab: Any, play: Any, *, opened: bool) -> str:
    """Where a client of a new primary connects, which is under closed names or open."""

    async def story() -> None:
        server = await lab.primary("a")
        if opened:
            await server.set_names("")

    play(story())
    return str(lab.dsn(lab.servers[0]))


def begun(conninfo: str) -> subprocess.Popen[str]:
    """The program, with its order."""
    probe = subprocess.Popen(
        [sys.executable, "-m", "pgherd.postgres.drillprogram"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert probe.stdin is not None
    probe.stdin.write(json.dumps({"conninfo": conninfo, "drill": "d1"}) + "\n")
    probe.stdin.flush()
    return probe


def said(probe: subprocess.Popen[str]) -> dict[str, Any]:
    assert probe.stdout is not None
    found: dict[str, Any] = json.loads(probe.stdout.readline())
    return found


def test_an_orphan_takes_its_table_away(lab: Any, play: Any) -> None:
    """Both its pipes break at once, as when its agent is killed."""
    dsn = primary(lab, play, opened=True)
    probe = begun(dsn)
    while said(probe)["acknowledged"] < 3:
        pass
    with psycopg.connect(dsn, autocommit=True) as client:
        assert client.execute("SELECT count(*) > 2 FROM pgherd.drill").fetchone() == (True,)
        assert probe.stdin is not None
        assert probe.stdout is not None
        probe.stdout.close()
        probe.stdin.close()
        probe.wait(ENOUGH_S)
        assert client.execute("SELECT to_regclass('pgherd.drill')::text").fetchone() == (None,)


def test_a_commit_that_waits_is_an_outage_and_no_silence(lab: Any, play: Any) -> None:
    """Under closed names nothing is acknowledged: it says so, again and again."""
    probe = begun(primary(lab, play, opened=False))
    try:
        assert [said(probe)["acknowledged"] for _ in range(5)] == [0] * 5
    finally:
        probe.kill()
        probe.wait()


def test_subscribers_to_all_tables_are_spared(lab: Any, play: Any) -> None:
    """It ends with the reason, and has made nothing."""
    dsn = primary(lab, play, opened=True)
    with psycopg.connect(dsn, autocommit=True) as client:
        client.execute("CREATE PUBLICATION everything FOR ALL TABLES")
        probe = begun(dsn)
        told, _ = probe.communicate(timeout=ENOUGH_S)
        problems = [
            one["problem"] for line in told.splitlines() if "problem" in (one := json.loads(line))
        ]
        assert len(problems) == 1
        assert "publication everything is FOR ALL TABLES" in problems[0]
        assert client.execute("SELECT to_regclass('pgherd.drill')::text").fetchone() == (None,)
