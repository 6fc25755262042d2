"""What asks an archive for WAL: a standby that is sealed meanwhile, and a rewind. Real servers."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from pgherd.model.ids import Lsn, NodeId, Term
from pgherd.postgres import processes
from pgherd.postgres.rewind import RewindOutcome, RewindResult, rewind
from pgherd.postgres.server import PostgresServer
from pgherd.postgres.settings import conninfo

pytestmark = pytest.mark.cluster

PROGRAM = """#!/bin/sh
# What is asked for after the promise does not come; what was begun before it does, late.
echo "$1" >> {home}/asked
[ -e {home}/promised ] && exit 1
[ -e {home}/wal/$1 ] || exit 1
touch {home}/began
while [ ! -e {home}/promised ]; do sleep 0.02; done
sleep 0.3
exec cp {home}/wal/$1 "$2"
"""
SLEEPS = 30
"""A sealed standby looks at its WAL so many times in a third of a second."""


async def sleeps_of_startup(server: PostgresServer) -> int:
    (pid,) = await server.acting.row(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'"
    )
    return processes.voluntary_switches(int(pid)) or 0


async def replayed(server: PostgresServer) -> Lsn:
    return (await server.look()).replay_lsn


def archive_at(home: Path) -> str:
    """An archive that PostgreSQL's user may write to, and the program that fetches from it."""
    (home / "wal").mkdir(parents=True)
    for folder in (home, home / "wal"):
        folder.chmod(0o777)
    program = home / "fetch"
    program.write_text(PROGRAM.format(home=home), encoding="utf-8")
    program.chmod(0o755)
    return f"{program} %f %p"


def test_a_seal_ends_behind_what_was_under_way_and_nothing_comes_after(lab, play, wait_until):
    """Three segments are there; the one that was being fetched counts, the others do not come."""
    home = lab.base / "archive"
    command = archive_at(home)

    async def story() -> None:
        copying = {"archive_command": f"cp %p {home}/wal/%f"}
        a = await lab.primary("a", parameters=copying)
        await a.acting.rows("CREATE TABLE public.rows (i int)")
        b = await lab.replica("b", a)
        await wait_until("b has everything", lambda: replayed_all(a, b))
        await b.seal(10.0)
        ends = []
        for number in range(3):
            await a.acting.rows("INSERT INTO public.rows VALUES ($1)", [number])
            await a.acting.rows("SELECT pg_switch_wal()")
            ends.append((await a.look()).insert_lsn)
        await wait_until("three segments in the archive", lambda: has_segments(home, 3))

        await b.set_upstream(None, None, fetch=command)
        await wait_until("the fetch under way", lambda: exists(home / "began"))
        seen = await b.look()
        assert seen.fetches
        (home / "promised").touch()
        position = await b.seal(10.0)
        assert (await b.acting.row("SHOW restore_command")) == ("",)
        assert seen.replay_lsn < position.lsn
        assert position.lsn <= ends[0] + (1 << 24), "no more than the one that was under way"
        assert (await b.acting.row("SELECT count(*) FROM public.rows")) == (1,)
        asked, slept = (home / "asked").read_text(), await sleeps_of_startup(b)
        until = asyncio.get_running_loop().time() + 15
        while await sleeps_of_startup(b) < slept + SLEEPS:
            assert asyncio.get_running_loop().time() < until
            await asyncio.sleep(0.02)
        assert await replayed(b) == position.lsn, "it stands still"
        assert (home / "asked").read_text() == asked, "and asks nobody"

        # Without the promise it goes on from there, to the archive's end.
        (home / "promised").unlink()
        (home / "fetch").write_text(f"#!/bin/sh\nexec cp {home}/wal/$1 $2\n", encoding="utf-8")
        await b.set_upstream(None, None, fetch=command)

        async def has_all() -> bool:
            return (await b.acting.row("SELECT count(*) FROM public.rows")) == (3,)

        await wait_until("all rows", has_all)

    play(story())


def test_a_rewind_reads_from_the_archive_what_its_directory_lacks(lab, play, wait_until):
    """WAL between the last common checkpoint and the fork: without it nothing can be rewound."""
    home = lab.base / "archive"
    archive_at(home)

    async def story() -> None:
        copying = {"archive_command": f"cp %p {home}/wal/%f", "wal_keep_size": "1GB"}
        a = await lab.primary("a", parameters=copying)
        await a.acting.rows("CREATE TABLE public.rows (i int)")
        b = await lab.replica("b", a)
        for number in range(3):
            await a.acting.rows("INSERT INTO public.rows VALUES ($1)", [number])
            await a.acting.rows("SELECT pg_switch_wal()")
        await wait_until("three segments in the archive", lambda: has_segments(home, 3))
        await wait_until("b has everything", lambda: replayed_all(a, b))
        fork = await b.seal(10.0)
        await a.acting.rows("INSERT INTO public.rows VALUES (666)")
        await a.kill_tree()
        await b.promote()
        await b.write_epoch(Term(2), NodeId("b"))
        await b.checkpoint()
        await a.start()
        await a.seal(10.0)
        await a.stop()
        lost = newest_whole(home)
        (a.data_dir / "pg_wal" / lost).unlink()

        async def attempt(restore: str) -> RewindResult:
            where = conninfo(
                a.settings,
                host="127.0.0.1",
                port=b.port,
                application_name="pgherd-rewind",
                role=a.settings.rewind_role,
                database=a.settings.database,
            )
            return await rewind(
                a.data_dir,
                binaries=a.binaries,
                user=a.user,
                conninfo=where,
                incarnation="a00001",
                fork=fork.lsn,
                restore=restore,
            )

        without = await attempt("")
        assert without.outcome is RewindOutcome.FAILED
        assert lost in without.reason
        with_it = await attempt(f"cp {home}/wal/%f %p")
        assert with_it.outcome is RewindOutcome.DONE, with_it.reason
        assert not (a.data_dir / "pgherd.conf").exists(), "the next start writes it without"

    play(story())


def newest_whole(home: Path) -> str:
    return max(one.name for one in (home / "wal").iterdir() if len(one.name) == 24)


async def replayed_all(a: PostgresServer, b: PostgresServer) -> bool:
    return await replayed(b) >= (await a.look()).flush_lsn


async def has_segments(home: Path, least: int) -> bool:
    return len([one for one in (home / "wal").iterdir() if len(one.name) == 24]) >= least


async def exists(path: Path) -> bool:
    return os.access(path, os.F_OK)
