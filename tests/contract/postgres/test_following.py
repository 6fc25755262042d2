"""Two servers: streaming under a token, the seal, death, promotion, rewind and rebuild."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time

import psycopg
import pytest

from pgherd.model.errors import PostgresError
from pgherd.model.ids import Lsn, NodeId, Position, Term, format_lsn
from pgherd.model.remedy import Copied
from pgherd.observe.disk import FreeSpace
from pgherd.postgres import clone, conf, processes, slots
from pgherd.postgres.branch import newest_begins
from pgherd.postgres.datadir import is_whole
from pgherd.postgres.rewind import RewindOutcome, rewind
from pgherd.postgres.server import PostgresServer
from pgherd.postgres.settings import conninfo

pytestmark = pytest.mark.cluster

SEALS = 12
SEAL_MEDIAN_S_MAX = 0.5  # 0.01 s on an idle machine; the bound leaves room for a busy one


class Writer:
    """Inserts one row per transaction and remembers what was acknowledged."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.acknowledged: list[int] = []

    async def run(self) -> None:
        async with await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as link:
            for number in range(1_000_000):
                await link.execute(
                    "INSERT INTO public.rows VALUES (%s, repeat('x', 500))", [number]
                )
                self.acknowledged.append(number)


async def rows_of(server: PostgresServer) -> set[int]:
    return {number for (number,) in await server.acting.rows("SELECT i FROM public.rows")}


def test_a_seal_freezes_a_standby_while_its_primary_writes_and_loses_nothing(lab, play, wait_until):
    """Under a writer with synchronous names: every acknowledged row is in the sealed position."""

    async def story():
        a = await lab.primary("a")
        await a.acting.rows("CREATE TABLE public.rows (i int PRIMARY KEY, filler text)")
        b = await lab.replica("b", a)
        seen = await a.look()
        assert [sender.token for sender in seen.senders] == ["b.b00001@1"]
        await a.set_names('ANY 1 ("b.b00001@1")')
        writer = Writer(lab.dsn(a))
        task = asyncio.create_task(writer.run())
        times = []
        for round_number in range(SEALS):
            if round_number:
                await lab.follow(b, a, 1)
            before = len(writer.acknowledged)

            async def writes(before: int = before) -> bool:
                return len(writer.acknowledged) >= before + 20

            await wait_until("the writer gets on", writes)
            began = time.monotonic()
            position = await b.seal(5.0)
            times.append(time.monotonic() - began)
            assert position.epoch == 1
            assert set(writer.acknowledged) <= await rows_of(b)
            still = await b.look()
            assert (still.position, still.receiver, still.conninfo) == (position, None, "")
        print("seal ms", [round(each * 1000, 1) for each in times])
        assert statistics.median(times) <= SEAL_MEDIAN_S_MAX
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    play(story())


@pytest.mark.fault(68)
def test_a_failover_and_the_old_primary_comes_back_by_rewind(lab, play):
    """kill -9 -> seen at once -> seal -> promote; the diverged old primary rewinds and follows."""

    async def story():
        a = await lab.primary("a")
        await a.acting.rows("CREATE TABLE public.rows (i int PRIMARY KEY, filler text)")
        b = await lab.replica("b", a)
        await a.acting.rows("INSERT INTO public.rows VALUES (1)")
        end = (await a.look()).flush_lsn
        frozen = await b.seal(5.0)
        assert frozen >= Position(Term(1), end)
        await a.acting.rows("INSERT INTO public.rows VALUES (666)")  # nobody has this row
        death = asyncio.create_task(a.wait_death())
        os.kill(a.pid, signal.SIGKILL)
        await asyncio.wait_for(death, 2.0)
        await a.kill_tree()
        await b.promote()
        assert newest_begins(b.data_dir) == frozen.lsn, "the sealed position is where it begins"
        await b.write_epoch(Term(2), NodeId("b"))
        await b.checkpoint()
        assert await rows_of(b) == {1}
        await slots.ensure_slots(b, {"pgherd_a"})

        edited = a.data_dir / "postgresql.conf"
        edited.write_text(edited.read_text() + "# an operator's own line\n")
        await a.start()
        lost = await a.seal(10.0)
        assert lost.epoch == 1
        assert lost > frozen
        await a.stop()
        told: list[Copied] = []
        result = await rewind(
            a.data_dir,
            binaries=a.binaries,
            user=a.user,
            conninfo=conninfo(
                a.settings,
                host="127.0.0.1",
                port=b.port,
                application_name="pgherd-rewind",
                role=a.settings.rewind_role,
                database=a.settings.database,
            ),
            incarnation="a00001",
            on_progress=told.append,
        )
        assert result.outcome is RewindOutcome.DONE, result.reason
        assert (told[-1].percent, told[-1].done_bytes) == (100, told[-1].total_bytes)
        assert conf.read_incarnation(a.data_dir) == "a00001"
        assert "# an operator's own line" in edited.read_text()
        assert not (a.data_dir / conf.CONF).exists()
        assert not is_whole(await a.state(), a.data_dir), "it needs its source's WAL"
        await lab.follow(a, b, 2)
        target = (await b.look()).position

        async def caught_up() -> bool:
            return (await a.look()).position >= target

        deadline = time.monotonic() + 10
        while not await caught_up():
            assert time.monotonic() < deadline, format_lsn(target.lsn)
            await asyncio.sleep(0.01)
        assert is_whole(await a.state(), a.data_dir)
        assert await rows_of(a) == {1}
        assert (await a.look()).epoch_leader == "b"
        assert [each.token for each in (await b.look()).senders] == ["a.a00001@2"]

    play(story())


@pytest.mark.fault(67)
def test_a_rewind_says_when_it_is_not_required_and_when_it_cannot(lab, play):
    """The same history: not required. Not shut down in order, or no source: failed, with why."""

    async def story():
        a = await lab.primary("a")
        b = await lab.replica("b", a)
        source = conninfo(
            b.settings,
            host="127.0.0.1",
            port=a.port,
            application_name="pgherd-rewind",
            role=b.settings.rewind_role,
            database="postgres",
        )

        async def attempt(where: str):
            return await rewind(
                b.data_dir, binaries=b.binaries, user=b.user, conninfo=where, incarnation="b00001"
            )

        await b.kill_tree()
        unclean = await attempt(source)
        assert unclean.outcome is RewindOutcome.FAILED
        assert "not shut down in order" in unclean.reason
        await b.start()
        await b.stop()
        assert (await attempt(source)).outcome is RewindOutcome.NOT_REQUIRED
        nobody = await attempt(source.replace(f"port={a.port}", f"port={b.port}"))
        assert nobody.outcome is RewindOutcome.FAILED
        assert not nobody.touched
        await lab.follow(b, a, 1)

    play(story())


def test_a_rebuild_keeps_the_old_directory_and_removes_only_what_is_settled(lab, play):
    """swap_in renames aside; an older copy goes only when its position is known and behind."""

    async def story():
        a = await lab.primary("a")
        b = await lab.replica("b", a)
        (b.data_dir / "postgresql.conf").open("a").write("# an operator's own line\n")
        await b.stop()
        told: list[Copied] = []

        async def rebuild(incarnation: str, last: Position | None, settled: Position | None):
            side = await clone.basebackup(
                b.data_dir,
                binaries=b.binaries,
                user=b.user,
                conninfo=b.upstream(host="127.0.0.1", port=a.port, token="copy"),
                incarnation=incarnation,
                on_progress=told.append,
            )
            assert not (side / conf.CONF).exists()
            assert (side / conf.STANDBY_SIGNAL).exists()
            return await clone.swap_in(side, b.data_dir, user=b.user, last=last, settled=settled)

        low, high = Position(Term(1), 10), Position(Term(1), 20)
        first = await rebuild("b00002", high, high)
        assert first.kept == b.data_dir.with_name("data.old-1")
        assert first.removed == ()
        second = await rebuild("b00003", None, low)
        assert second.kept == b.data_dir.with_name("data.old-2")
        assert second.removed == ()  # the first is ahead of what is settled
        third = await rebuild("b00004", None, high)
        assert third.removed == (b.data_dir.with_name("data.old-1"),)
        assert clone.kept_copies(b.data_dir) == [
            b.data_dir.with_name("data.old-2"),  # its position is unknown: it stays
            b.data_dir.with_name("data.old-3"),
        ]
        space = FreeSpace(b.data_dir)
        await space.look()
        assert ["data.old-2, data.old-3" in one for one in space.warnings()] == [True]
        assert conf.read_incarnation(b.data_dir) == "b00004"
        assert "# an operator's own line" in (b.data_dir / "postgresql.conf").read_text()
        assert 100 in [one.percent for one in told]
        await lab.follow(b, a, 1)

    play(story())


@pytest.mark.fault(78)
def test_a_seal_waits_for_a_standby_whose_replay_is_behind(lab, play, wait_until):
    """Startup stopped, paused, or in conflict with a reader: the seal still ends with all WAL."""

    async def story():
        a = await lab.primary("a")
        await a.acting.rows("CREATE TABLE public.rows (i int PRIMARY KEY, filler text)")
        b = await lab.replica("b", a)

        async def write(first: int) -> Lsn:
            """5,000 rows that the standby has on disk; returns the end of their WAL."""
            await a.acting.rows(
                "INSERT INTO public.rows SELECT g, repeat('x', 500) "
                "FROM generate_series($1::int, $2::int) AS g",
                [first, first + 4_999],
            )
            end = (await a.look()).flush_lsn

            async def received() -> bool:
                senders = (await a.look()).senders
                return bool(senders) and all(sender.flush_lsn >= end for sender in senders)

            await wait_until("the standby has received it", received)
            return end

        await b.acting.rows("SELECT pg_wal_replay_pause()")
        end = await write(0)
        assert await b.seal(10.0) >= Position(Term(1), end)
        assert len(await rows_of(b)) == 5_000

        await lab.follow(b, a, 1)
        (startup,) = await b.acting.row(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'"
        )
        assert processes.belongs(startup, b.data_dir)
        os.kill(startup, signal.SIGSTOP)
        try:
            end = await write(5_000)
            sealing = asyncio.create_task(b.seal(20.0))

            async def alone() -> bool:
                return not (await a.look()).senders

            await wait_until("the receiver is gone", alone)
        finally:
            if processes.belongs(startup, b.data_dir):
                os.kill(startup, signal.SIGCONT)
        assert await sealing >= Position(Term(1), end)
        assert len(await rows_of(b)) == 10_000

        await lab.follow(b, a, 1)
        reader = await psycopg.AsyncConnection.connect(lab.dsn(b))
        await reader.execute("SELECT count(*) FROM public.rows")  # and holds its lock
        await a.acting.rows("TRUNCATE public.rows")
        end = await write(20_000)
        assert await b.seal(10.0) >= Position(Term(1), end)
        await reader.close()
        assert len(await rows_of(b)) == 5_000

    play(story())


def test_a_walsender_that_does_not_end_is_no_barrier(lab, play, wait_until):
    """It may act on older names for as long as it is there: an error, never taken for gone."""

    async def story():
        a = await lab.primary("a")
        await lab.replica("b", a)
        (old,) = (await a.look()).senders
        assert processes.belongs(old.pid, a.data_dir)
        os.kill(old.pid, signal.SIGSTOP)
        try:
            with pytest.raises(PostgresError, match="do not end"):
                await a.terminate_walsenders(lambda sender: True)
        finally:
            os.kill(old.pid, signal.SIGCONT)

        async def another() -> bool:
            return any(sender.pid != old.pid for sender in (await a.look()).senders)

        await wait_until("the standby is back through another one", another)
        ended = await a.terminate_walsenders(lambda sender: True)
        assert old.pid not in [sender.pid for sender in ended]

    play(story())


def test_who_finds_its_slot_before_the_promotion_streams_across_it(lab, play, wait_until):
    """A slot is made on a standby: nobody comes in vain, to come again only after a while."""

    async def story():
        a = await lab.primary("a")
        b, c = await lab.replica("b", a), await lab.replica("c", a)
        await a.stop("fast")
        await b.seal(timeout_s=10)
        change = await slots.ensure_slots(b, {"pgherd_a", "pgherd_c"})
        assert change.created == ("pgherd_a", "pgherd_c")
        await lab.follow(c, b, 2)
        await b.promote()
        assert not (await b.look()).in_recovery
        await b.write_epoch(Term(2), NodeId("b"))

        async def has_the_record() -> bool:
            return (await c.look()).epoch == 2

        await wait_until("c has the epoch record", has_the_record)
        assert "does not exist" not in lab.log(c)

    play(story())
