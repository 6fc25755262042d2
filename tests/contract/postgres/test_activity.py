"""Long transactions of a real server: open ones and prepared ones, and none of the agent's own."""

from __future__ import annotations

import psycopg
import pytest

from pgherd.postgres.activity import long_transactions

pytestmark = pytest.mark.cluster


def test_open_and_prepared_transactions_are_found(lab, play):
    """As long as they are open, and only those that have been for long enough."""

    async def story():
        server = await lab.primary("a", parameters={"max_prepared_transactions": "2"})
        alone = "-c synchronous_commit=local"
        async with await psycopg.AsyncConnection.connect(lab.dsn(server), options=alone) as client:
            await client.execute("CREATE TABLE t (i int)")
            await client.execute("PREPARE TRANSACTION 'half'")
            await client.commit()
            await client.execute("SELECT 1")
            found = {one.state: one for one in await long_transactions(server, 0)}
            assert set(found) == {"idle in transaction", "prepared"}
            opened = found["idle in transaction"]
            assert (opened.pid, opened.database) == (client.info.backend_pid, client.info.dbname)
            assert opened.user == client.info.user
            assert await long_transactions(server, 3600) == ()
            await client.rollback()
            assert [one.state for one in await long_transactions(server, 0)] == ["prepared"]

    play(story())
