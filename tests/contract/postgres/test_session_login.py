"""Logins through a proxy that ends SCRAM (`pool: session`), each compared with a direct one."""

from __future__ import annotations

import asyncio

import asyncpg
import psycopg
import pytest

ROLES = """
CREATE ROLE ann LOGIN PASSWORD 'right';
CREATE ROLE "Bob-Ünal" LOGIN PASSWORD 'right';
CREATE ROLE bare LOGIN;
CREATE ROLE expired LOGIN PASSWORD 'right' VALID UNTIL '2001-01-01';
CREATE ROLE closed NOLOGIN PASSWORD 'right';
SET password_encryption = 'md5';
CREATE ROLE old LOGIN PASSWORD 'right';
"""


async def roles(lab, server) -> None:
    """Have the roles that these tests log in as."""
    await server.set_names("")
    async with await psycopg.AsyncConnection.connect(lab.dsn(server), autocommit=True) as agent:
        await agent.execute(ROLES)


async def refusal(dsn: str) -> tuple[str | None, str]:
    """SQLSTATE and text of a login that must fail."""
    with pytest.raises(psycopg.OperationalError) as caught:
        await psycopg.AsyncConnection.connect(dsn)
    return caught.value.sqlstate, str(caught.value).rpartition("FATAL:")[2].strip()


def test_whoever_may_log_in_may_and_the_others_hear_what_postgresql_says(lab, play, way):
    """psycopg and asyncpg with a right password; a refusal has the words of a direct one."""

    async def story():
        server = await lab.primary("a")
        await roles(lab, server)
        async with way(server) as it:
            for user in ("ann", "Bob-Ünal"):
                async with await psycopg.AsyncConnection.connect(it.dsn(user, "right")) as one:
                    cursor = await one.execute("SELECT current_user")
                    assert await cursor.fetchone() == (user,)
            other = await asyncpg.connect(
                host="127.0.0.1", port=it.port, user="ann", password="right", database="postgres"
            )
            assert await other.fetchval("SELECT current_user") == "ann"
            await other.close()
            for user, password in (
                ("ann", "wrong"),
                ("nobody", "right"),
                ("bare", "right"),
                ("old", "wrong"),
                ("expired", "right"),
                ("closed", "right"),
            ):
                through = await refusal(it.dsn(user, password))
                assert through == await refusal(it.dsn(user, password, direct=True)), user
            _, said = await refusal(it.dsn("old", "right"))
            assert "password authentication failed" in said
            no_base = it.dsn("ann", "right", dbname="nowhere")
            assert "does not exist" in (await refusal(no_base))[1]
            with pytest.raises(asyncpg.InvalidPasswordError):
                await asyncpg.connect(
                    host="127.0.0.1", port=it.port, user="ann", password="x", database="postgres"
                )
            assert "user=old" in it.log
            assert "not kept as SCRAM-SHA-256" in it.log
            assert 'why="there is no such role"' in it.log
            assert 'why="the role has no password"' in it.log
            assert "right" not in it.log

    play(story())
