"""Reads see what was written before them, however far the standby is behind; without the mode they
do not, so these checks can fail."""

from __future__ import annotations

import psycopg
import pytest
from tests.contract.postgres.test_route_auto import HERE, last, pair, value

from pgherd.route.mark import ReadYourWrites, parse_mark

ONE_VERSION = pytest.mark.parametrize("lab", ["18"], indirect=True)
PAIRS = 2_000
PAIRS_FULL = 100_000
PAUSE_EVERY = 20
READ = "SELECT count(*) FROM t"
WROTE = "INSERT INTO t VALUES (1)"


async def misses(them, session, pairs: int) -> tuple[int, int]:
    """Write and read so often, with replay stopped half of the time; how many reads did not see
    the write, and how many a replica answered.
    """
    await session.execute("DELETE FROM t")
    await them.caught_up()
    missed = on_replica = 0
    try:
        for number in range(pairs):
            if number % PAUSE_EVERY == 0:
                is_pause = number // PAUSE_EVERY % 2 == 0
                change = "pause" if is_pause else "resume"
                await them.standby.execute(f"SELECT pg_wal_replay_{change}()")
            await session.execute(WROTE)
            missed += await value(session, READ) != number + 1
            on_replica += (await last(session))[1] == "replica"
    finally:
        await them.standby.execute("SELECT pg_wal_replay_resume()")
    return missed, on_replica


@ONE_VERSION
def test_a_session_sees_what_it_wrote(lab, play, way):
    """2,000 pairs of a write and a read: none is missed, and replicas answer what they can."""

    async def story():
        mode = {"read_your_writes": ReadYourWrites.SESSION, "read_your_writes_wait_ms": 4}
        async with pair(lab, way, **mode) as them:
            ann = await them.connect(prepare_threshold=None)
            await them.told_of(ann, READ, HERE)
            added = "'INSERT INTO t VALUES (1) RETURNING i'"
            await ann.execute(f"CREATE FUNCTION adds() RETURNS int LANGUAGE sql AS {added}")
            await them.told_of(ann, READ, HERE, "SELECT adds()")
            missed, on_replica = await misses(them, ann, PAIRS)
            assert missed == 0
            assert on_replica > PAIRS / 10
            await them.caught_up()
            before = await value(ann, READ)
            await them.standby.execute("SELECT pg_wal_replay_pause()")
            try:
                await ann.execute("BEGIN")
                await ann.execute(WROTE)
                await ann.execute("COMMIT")
                assert await value(ann, READ) == before + 1
                assert "read-your-writes: b has not replayed" in (await last(ann))[3]
                await value(ann, "SELECT adds()")  # a function that writes
                assert await value(ann, READ) == before + 2
                async with ann.pipeline() as line:
                    await ann.execute(WROTE)
                    await line.sync()
                    read = await ann.execute(READ)
                    await line.sync()
                assert (await read.fetchone())[0] == before + 3
                await ann.execute("BEGIN READ ONLY")
                assert await value(ann, READ) == before + 3
                await ann.execute("COMMIT")
                await ann.execute("SET synchronous_commit = off")
                await ann.execute(WROTE)
                assert await value(ann, READ) == before + 4
                other = await them.connect(prepare_threshold=None)
                assert await value(other, READ) == before  # others see what their replica has
                await other.close()
            finally:
                await them.standby.execute("SELECT pg_wal_replay_resume()")
            await ann.close()

    play(story())


@ONE_VERSION
@pytest.mark.full
@pytest.mark.timeout(7200)
def test_a_session_never_misses_what_it_wrote(lab, play, way):
    """100,000 pairs."""

    async def story():
        mode = {"read_your_writes": ReadYourWrites.SESSION, "read_your_writes_wait_ms": 1}
        async with pair(lab, way, **mode) as them:
            ann = await them.connect(prepare_threshold=None)
            await them.told_of(ann, READ)
            for _ in range(PAIRS_FULL // PAIRS):
                await them.it.told()  # what the proxy knows of the primary has an end
                missed, on_replica = await misses(them, ann, PAIRS)
                assert missed == 0
                assert on_replica > PAIRS / 10
            await ann.close()

    play(story())


@ONE_VERSION
def test_without_it_writes_are_missed(lab, play, way):
    """The same pairs with the mode off: some reads do not see the write."""

    async def story():
        async with pair(lab, way) as them:
            ann = await them.connect(prepare_threshold=None)
            await them.told_of(ann, READ)
            missed, on_replica = await misses(them, ann, 4 * PAUSE_EVERY)
            assert missed >= PAUSE_EVERY
            assert on_replica > missed
            await ann.close()

    play(story())


@ONE_VERSION
def test_a_token_carries_it_to_another_session(lab, play, way):
    """What one session wrote another one sees that names its token, and only then. With a token of
    another term a read goes to the primary, which has what was acknowledged, and gets a new one.
    """

    async def story():
        mode = {"read_your_writes": ReadYourWrites.TOKEN, "read_your_writes_wait_ms": 10}
        async with pair(lab, way, **mode) as them:
            ann, bob = [await them.connect(prepare_threshold=None) for _ in range(2)]
            assert await value(ann, "SHOW pgherd.lsn_token") == ""
            await them.told_of(ann, READ)
            await them.standby.execute("SELECT pg_wal_replay_pause()")
            try:
                await ann.execute(WROTE)
                token = await value(ann, "SHOW pgherd.lsn_token")
                assert parse_mark(token).term == 1
                assert await value(ann, READ) == 0  # not by itself: that is mode session
                assert await value(bob, READ) == 0
                await bob.execute(f"SET pgherd.min_lsn = '{token}'")
                assert await value(bob, "SHOW pgherd.min_lsn") == token
                assert await value(bob, READ) == 1
                assert "has not replayed" in (await last(bob))[3]
                await bob.execute("RESET pgherd.min_lsn")
                assert await value(bob, READ) == 0
                for wrong in ("nonsense", "1:0", "0/1", "1:0/g"):
                    with pytest.raises(psycopg.errors.InvalidParameterValue) as caught:
                        await bob.execute(f"SET pgherd.min_lsn = '{wrong}'")
                    assert "lsn_token" in caught.value.diag.message_hint
                await bob.execute(f"SET pgherd.min_lsn = '{token}'")
            finally:
                await them.standby.execute("SELECT pg_wal_replay_resume()")
            await them.caught_up()
            assert await value(bob, READ) == 1
            assert (await last(bob))[1] == "replica"
            await them.it.told(term=2)  # the standby's WAL is not known to have its epoch yet
            assert await value(bob, READ) == 1
            assert "of another term" in (await last(bob))[3]
            assert parse_mark(await value(bob, "SHOW pgherd.lsn_token")).term == 2
            assert await value(bob, READ) == 1
            assert "not known to follow term 2" in (await last(bob))[3]
            them.it.epoch = 2
            await them.it.told(term=2)
            await them.caught_up()
            assert await value(bob, READ) == 1
            assert (await last(bob))[1] == "replica"
            await bob.execute("SET pgherd.min_lsn = '7:0/1'")  # of a term that is still to come
            assert await value(bob, READ) == 1
            assert (await last(bob))[1] == "primary"
            await ann.close()
            await bob.close()

    play(story())
