"""Slots and the wait of commits on real servers: lost, given up, moved, copied; weak only open."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from pgherd.model.action import SlotMade
from pgherd.model.errors import PostgresError
from pgherd.model.ids import Lsn
from pgherd.model.slots import SlotKind, SlotSeen
from pgherd.postgres import processes, slots
from pgherd.postgres.server import PostgresServer

pytestmark = pytest.mark.cluster

SHOW = "SHOW synchronous_commit"


async def slot(server: PostgresServer, name: str) -> SlotSeen:
    return {one.name: one for one in (await server.look()).slots}[name]


async def segments(server: PostgresServer, count: int) -> None:
    """So many files of WAL, and a checkpoint that may remove what nobody needs."""
    for _ in range(count):
        await server.acting.rows("SELECT pg_logical_emit_message(false, 'test', 'x')")
        await server.acting.rows("SELECT pg_switch_wal()")
    await server.checkpoint()


async def shown(lab, server: PostgresServer, *, direct: str = SHOW) -> str:
    """What a client's new session has."""
    async with await psycopg.AsyncConnection.connect(lab.dsn(server), autocommit=True) as link:
        row = await (await link.execute(direct)).fetchone()
        assert row is not None
        return str(row[0])


def test_a_slot_beyond_its_budget_is_lost_seen_and_made_anew(lab, play, wait_until):
    """One that keeps nothing serves its standby all the same, and keeps WAL from then on."""

    async def story():
        a = await lab.primary("a", slot_wal_max="64MB", wal_keep="0")
        assert (await a.look()).slot_budget_bytes == 64 << 20
        await slots.ensure_slots(a, {"pgherd_b", "pgherd_c"})
        await segments(a, 8)
        end = (await a.look()).insert_lsn
        seen = await slot(a, "pgherd_b")
        assert (seen.lost, seen.kept_bytes(end)) == (True, 0)
        await slots.renew(a, SlotMade("pgherd_c", reserve=True))
        assert (await slot(a, "pgherd_c")).lsn > 0
        await slots.renew(a, SlotMade("pgherd_b", reserve=False))
        empty = await slot(a, "pgherd_b")
        assert (empty.lost, empty.lsn, empty.kind) == (False, 0, SlotKind.PHYSICAL)
        b = lab.server("b")
        await lab.copy(b, a, "b00001")
        await lab.follow(b, a, 1)

        async def moved():
            seen = await slot(a, "pgherd_b")
            return seen.active and seen.lsn

        await wait_until("the slot follows its standby", moved)
        with pytest.raises(PostgresError, match="active"):
            await slots.renew(a, SlotMade("pgherd_b", reserve=False))

    play(story())


def test_a_standby_keeps_wal_for_the_others_and_moves_their_slots(lab, play, wait_until):
    """WAL that a slot of a standby stands for stays there; moved on, it goes."""

    async def story():
        a = await lab.primary("a", wal_keep="0")
        b = lab.server("b", wal_keep="0")
        await slots.ensure_slots(a, {"pgherd_b"})
        await lab.copy(b, a, "b00001")
        await lab.follow(b, a, 1)
        made = await slots.ensure_slots(b, {"pgherd_a", "pgherd_c"}, ignored={"pgherd_c"})
        assert made.created == ("pgherd_a",)
        first = await slot(b, "pgherd_a")
        assert first.lsn > 0
        await segments(a, 4)
        end = (await a.look()).insert_lsn

        async def replayed():
            return (await b.look()).replay_lsn >= end

        await wait_until("everything is replayed", replayed)
        await b.checkpoint()
        assert await b.oldest_wal() <= first.lsn
        await slots.advance(b, "pgherd_a", Lsn(end))
        assert (await slot(b, "pgherd_a")).lsn == end
        await slots.advance(b, "pgherd_a", Lsn(end))
        await segments(a, 1)
        behind = (await a.look()).insert_lsn

        async def gone():
            await b.checkpoint()
            return (await b.look()).replay_lsn >= behind and await b.oldest_wal() > first.lsn

        await wait_until("what nobody needs is gone", gone)

    play(story())


def test_what_is_ignored_is_left_alone_whatever_it_is_called(lab, play):
    async def story():
        server = await lab.primary("a")
        for name in ("pgherd_backup", "pgherd_old"):
            await slots.make(server, SlotMade(name, reserve=True))
        changed = await slots.ensure_slots(server, {"pgherd_b"}, ignored={"pgherd_backup"})
        assert (changed.created, changed.dropped) == (("pgherd_b",), ("pgherd_old",))
        assert (await slot(server, "pgherd_backup")).lsn > 0

    play(story())


def test_logical_slots_and_their_copies(lab, play, wait_until):
    """From 17 on a standby gets a usable copy, and who reads waits for the standbys of the set.

    Before, there is none, and PostgreSQL is told nothing that it does not know.
    """
    copies = lab.binaries.major >= 17

    async def story():
        logical = {"wal_level": "logical"}
        a = await lab.primary("a", parameters=logical)
        b = lab.server("b", parameters=logical)
        await slots.ensure_slots(a, {"pgherd_b"})
        await lab.copy(b, a, "b00001")
        await lab.follow(b, a, 1)
        await a.acting.rows("CREATE DATABASE app")
        made = SlotMade("changes", reserve=True, database="app", plugin="test_decoding")
        await slots.make(a, made)
        await slots.make(a, made)
        seen = await slot(a, "changes")
        assert (seen.kind, seen.database, seen.failover) == (SlotKind.LOGICAL, "app", copies)
        await a.set_names('ANY 1 ("b.b00001@1")')
        if copies:
            waited = await shown(lab, a, direct="SHOW synchronized_standby_slots")
            assert waited == "pgherd_b"

            async def copied():
                # A copy becomes usable once its reader has got on as far as the standby, and its
                # worker looks again: that rests for up to 30 s, unless it is told to reload.
                await a.acting.rows("SELECT pg_log_standby_snapshot()")
                await read_changes(lab, a)
                await b.reload()
                await asyncio.sleep(0.3)
                found = {one.name: one for one in (await b.look()).slots}.get("changes")
                return found is not None and found.synced and not found.temporary

            await wait_until("a usable copy of the slot", copied, deadline_s=60)
            await a.set_names('"pgherd-closed"')
            assert await shown(lab, a, direct="SHOW synchronized_standby_slots") == "pgherd_b"
        else:
            assert [one.name for one in (await b.look()).slots] == []
        await slots.drop(a, "changes")
        assert "changes" not in {one.name for one in (await a.look()).slots}

    play(story())


async def read_changes(lab, server: PostgresServer) -> None:
    dsn = lab.dsn(server).replace("dbname=postgres", "dbname=app")
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as link:
        await link.execute("SELECT pg_logical_slot_get_changes('changes', NULL, NULL)")


def test_a_weaker_commit_never_passes_a_closed_gate(lab, play, wait_until):
    """It counts with open names only, without a restart, and ALTER SYSTEM does not bring it."""

    async def story():
        a = await lab.primary("a")
        b = await lab.replica("b", a)
        names = 'ANY 1 ("b.b00001@1")'
        assert await shown(lab, a) == "on"
        await a.set_names(names, "local")
        assert await shown(lab, a) == "local"
        # Nobody confirms, and a commit is acknowledged all the same: that is what was asked for.
        await b.stop("fast")
        assert await shown(lab, a, direct="SELECT txid_current()")
        waits = await a.commit_waits_probe()
        await waits.release()
        await a.set_names('"pgherd-closed"')
        assert await shown(lab, a) == "on"
        await a.set_names(names, "remote_apply")
        assert await shown(lab, a) == "remote_apply"
        await a.set_names(names)
        assert await shown(lab, a) == "on"
        assert await a.check_settings() == ""
        await a.acting.rows("ALTER SYSTEM SET synchronous_commit = off")
        assert "synchronous_commit is set in postgresql.auto.conf" in await a.check_settings()
        await a.reload()
        assert await shown(lab, a) == "on"
        assert await a.check_settings() == ""
        # Another agent takes the running server over: what is stronger counts until it is told.
        await a.set_names(names, "off")
        assert processes.belongs(a.pid, a.data_dir)
        assert await a.adopt()
        assert "synchronous_commit" not in a.live
        await a.reload()
        assert await shown(lab, a) == "on"

    play(story())
