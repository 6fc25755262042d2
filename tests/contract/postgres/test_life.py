"""One server's life on real PostgreSQL: birth, start as a standby, promotion, epoch, gate, end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time

import msgspec
import psycopg
import pytest

from pgherd.model.errors import PostgresError
from pgherd.model.ids import NodeId, Position, Term
from pgherd.postgres import conf, processes, slots
from pgherd.postgres.datadir import DirKind
from pgherd.postgres.probe import Probe
from pgherd.postgres.server import PostgresServer
from pgherd.postgres.session import Session
from pgherd.postgres.settings import CLOSED_NAMES

pytestmark = pytest.mark.cluster


def test_a_cluster_is_born_as_a_standby_and_opened_by_promotion(lab, play):
    """initdb -> start never opens a primary by itself; promote does, and the epoch is written."""
    server = lab.server("a")

    async def story():
        assert (await server.state()).kind is DirKind.NONE
        await server.initdb("a00001")
        state = await server.state()
        assert (state.kind, state.clean, state.incarnation) == (DirKind.STOPPED, True, "a00001")
        assert state.control is not None
        assert state.control.checksums
        started = await server.start()
        assert started.accepting
        before = await server.look()
        assert before.in_recovery
        assert before.names == CLOSED_NAMES
        assert before.settings_problem == ""
        assert before.epoch == 0
        assert await server.probe() is Probe.ALIVE
        sealed = await server.seal(5.0)
        assert sealed == before.position
        assert (await server.state()).control.state == "in archive recovery"
        await server.stop()
        assert not (await server.state()).control.was_primary
        await server.start()
        await server.promote()
        end = await server.write_epoch(Term(1), NodeId("a"))
        after = await server.look()
        assert not after.in_recovery
        assert (after.timeline, after.epoch, after.epoch_leader) == (2, 1, "a")
        assert Position(Term(1), end) <= after.position
        assert await server.write_epoch(Term(1), NodeId("a")) >= end
        with pytest.raises(PostgresError, match="already has an epoch record"):
            await server.write_epoch(Term(1), NodeId("b"))
        await server.write_epoch(Term(3), NodeId("a"))
        with pytest.raises(PostgresError, match="above 2"):
            await server.write_epoch(Term(2), NodeId("a"))
        assert await server.oldest_wal() > 0
        assert await server.stop() == "fast"
        stopped = await server.state()
        assert (stopped.kind, stopped.clean) == (DirKind.STOPPED, True)
        assert stopped.control.was_primary
        assert await server.probe() is Probe.REFUSED

    play(story())


def test_closed_names_hold_every_commit_and_the_gate_ends_sessions(lab, play):
    """Under closed names no client gets a success; open names release; closing cuts the clients."""

    async def client(server: PostgresServer) -> psycopg.AsyncConnection:
        return await psycopg.AsyncConnection.connect(lab.dsn(server), autocommit=True)

    async def story():
        server = await lab.primary("a")
        waiting = await server.commit_waits_probe()
        assert waiting.is_waiting
        writer = await client(server)
        commit = asyncio.create_task(writer.execute("CREATE TABLE public.t (i int)"))
        done, _ = await asyncio.wait({commit}, timeout=0.3)
        assert not done, "a commit was acknowledged under closed names"
        assert await server.close_gate() >= 2
        with pytest.raises(psycopg.OperationalError):
            await commit
        await waiting.release()
        await server.set_names("")
        with pytest.raises(PostgresError, match="did not wait"):
            await server.commit_waits_probe()
        idle = await client(server)
        await idle.execute("INSERT INTO public.t VALUES (1)")
        await server.close_gate()
        with pytest.raises(psycopg.OperationalError):
            await idle.execute("SELECT 1")
        again = await server.commit_waits_probe()
        await again.release()
        assert (await server.look()).names == CLOSED_NAMES

    play(story())


def test_slots_and_roles_are_made_once_and_only_ours_are_dropped(lab, play):
    """ensure_* repeated changes nothing; a slot of somebody else is never touched."""

    async def story():
        server = await lab.primary("a")
        assert await server.ensure_roles() == ()
        await server.acting.rows("SELECT pg_create_physical_replication_slot('backup_tool')")
        made = await slots.ensure_slots(server, {"pgherd_b", "pgherd_c"})
        assert made.created == ("pgherd_b", "pgherd_c")
        changed = await slots.ensure_slots(server, {"pgherd_c"})
        assert (changed.created, changed.dropped) == ((), ("pgherd_b",))
        seen = await server.look()
        assert [slot.name for slot in seen.slots] == ["backup_tool", "pgherd_c"]
        rows = await server.acting.rows(
            "SELECT rolpassword FROM pg_authid WHERE rolname LIKE 'pgherd%'"
        )
        assert all(secret.startswith("SCRAM-SHA-256$") for (secret,) in rows)

    play(story())


def test_alter_system_cannot_take_a_safety_setting_away(lab, play, wait_until):
    """A reload notices and undoes ALTER SYSTEM; a start purges it and says so."""
    server = lab.server("a", parameters={"work_mem": "8MB", "fsync": "off", "wal_level": "logical"})

    async def story():
        await server.initdb("a00001")
        started = await server.start()
        assert [line.split(" ")[0] for line in started.overridden] == ["fsync"]
        session = server.acting
        assert (await session.row("SHOW work_mem")) == ("8MB",)
        assert (await session.row("SHOW fsync")) == ("on",)
        assert (await session.row("SHOW wal_level")) == ("logical",)
        await session.rows("ALTER SYSTEM SET synchronous_standby_names = ''")
        await session.rows("ALTER SYSTEM SET work_mem = '9MB'")
        await server.set_names('ANY 1 ("b.b00001@2")')
        assert (await server.look()).names == 'ANY 1 ("b.b00001@2")'
        await session.rows("ALTER SYSTEM SET primary_conninfo = 'host=evil'")
        await session.rows("SELECT pg_reload_conf()")

        async def is_seen() -> bool:
            return "postgresql.auto.conf" in await server.check_settings()

        await wait_until("it is seen who set it", is_seen)
        await server.stop()
        again = await server.start()
        assert again.purged == ("primary_conninfo = 'host=evil'",)
        seen = await server.look()
        assert (seen.conninfo, seen.names) == ("", CLOSED_NAMES)
        assert (await server.acting.row("SHOW work_mem")) == ("9MB",)

    play(story())


def test_new_settings_count_at_once_or_are_named_as_waiting(lab, play):
    """A reload takes what it can, says what needs a restart, and access lines change with it."""

    async def story():
        server = await lab.primary("a")
        wishes = {"work_mem": "8MB", "shared_buffers": "20MB"}
        line = "host all nobody 192.0.2.1/32 reject"
        new = msgspec.structs.replace(server.settings, parameters=wishes, hba=(line,))
        assert await server.reconfigure(new) == ("shared_buffers",)
        assert (await server.acting.row("SHOW work_mem")) == ("8MB",)
        rows = await server.acting.rows(
            "SELECT auth_method FROM pg_hba_file_rules WHERE address = '192.0.2.1'"
        )
        assert rows == [("reject",)]
        await server.kill_tree()
        assert not (await server.state()).clean
        await server.shut_down_in_order()
        assert (await server.state()).clean

    play(story())


def test_a_reload_ends_when_the_server_has_read_its_files(lab, play):
    """However late that is: what waits for a restart is named, and who connects meets the rest."""

    async def story():
        server = await lab.primary("a")
        wishes = {"work_mem": "8MB", "shared_buffers": "20MB"}
        new = msgspec.structs.replace(server.settings, parameters=wishes)
        await server.set_names('ANY 1 ("b.b00001@1")', "local")
        async with late(server):
            assert await server.reconfigure(new) == ("shared_buffers",)
            assert (await server.acting.row("SHOW work_mem")) == ("8MB",)
        await server.reading.close()
        assert (await server.reading.row("SHOW work_mem")) == ("8MB",)
        hidden = await server.acting.rows("SELECT 1 FROM pg_settings WHERE name LIKE 'pgherd%'")
        assert hidden == [], "operators see their own parameters only"
        async with late(server) as woken:
            await server.set_names('ANY 1 ("b.b00001@1")')
            assert woken, "no commit is weaker from here on"

    @contextlib.asynccontextmanager
    async def late(server):
        """Its postmaster stands still for a while; what is yielded is true from then on."""
        woken = []

        def wake():
            os.kill(server.pid, signal.SIGCONT)
            woken.append(True)

        os.kill(server.pid, signal.SIGSTOP)
        waking = asyncio.get_running_loop().call_later(0.5, wake)
        try:
            yield woken
        finally:
            waking.cancel()
            wake()

    play(story())


def test_an_agent_that_comes_back_adopts_the_running_server(lab, play):
    """A second object for the same directory takes pid and names over, and sees the death."""

    async def story():
        first = await lab.primary("a")
        await first.set_names('ANY 1 ("b.b00001@1")')
        await first.close()
        second = PostgresServer(
            data_dir=first.data_dir,
            port=first.port,
            socket_dir=first.socket_dir,
            binaries=first.binaries,
            user=first.user,
            settings=first.settings,
            log_file=first.log_file,
        )
        assert await second.adopt()
        assert second.pid == first.pid
        assert second.live["synchronous_standby_names"] == 'ANY 1 ("b.b00001@1")'
        death = asyncio.create_task(second.wait_death())
        await asyncio.sleep(0)
        began = time.monotonic()
        os.kill(second.pid, signal.SIGKILL)
        await death
        assert time.monotonic() - began < 2.0
        assert not second.is_running()
        with pytest.raises(PostgresError):
            await second.look()
        await second.kill_tree()
        assert processes.of_directory(second.data_dir) == ()
        assert not await second.adopt()
        assert not (await second.state()).clean
        await second.start()
        assert (await second.look()).epoch == 1
        await second.close()

    play(story())


@pytest.mark.fault(16)
def test_a_hung_server_is_told_from_a_busy_and_a_dead_one(lab, play, wait_until):
    """SIGSTOP: the probe says hung in its time; no free connection: full, which is alive."""

    async def story():
        server = await lab.primary("a", parameters={"max_connections": "8"})
        guests = [Session(server.login) for _ in range(9)]

        async def is_full():
            for guest in guests:
                with contextlib.suppress(PostgresError):
                    await guest.rows("SELECT 1")
            return await server.probe() is Probe.FULL

        async def has_room():
            with contextlib.suppress(PostgresError):
                return await server.look()

        await wait_until("every seat is taken", is_full)
        assert Probe.FULL.is_alive
        for guest in guests:
            await guest.close()
        await wait_until("the guests have left", has_room)
        backend = server.watching.backend_pid
        assert processes.belongs(backend, server.data_dir)
        os.kill(server.pid, signal.SIGSTOP)
        os.kill(backend, signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert await server.probe(0.3) is Probe.HUNG
            assert time.monotonic() - began < 2.0
            with pytest.raises(PostgresError, match="no answer"):
                await server.look(0.3)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await server.kill_tree()

    play(story())


def test_the_configuration_of_the_operator_is_left_alone(lab, play):
    """postgresql.conf gets one line, at its end, and gets it back there when it was moved."""
    server = lab.server("a")

    async def story():
        await server.initdb("a00001")
        path = server.data_dir / "postgresql.conf"
        before = path.read_text()
        await server.start()
        assert path.read_text() == before + conf.INCLUDE_LINE + "\n"
        await server.stop()
        path.write_text(path.read_text() + "port = 1\n")
        await server.start()
        assert (await server.acting.row("SHOW port")) == (str(server.port),)
        assert path.read_text() == before + "port = 1\n" + conf.INCLUDE_LINE + "\n"

    play(story())
