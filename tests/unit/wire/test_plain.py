"""Proves which statements are taken for plain ones."""

from __future__ import annotations

import pytest

from pgherd.wire.plain import is_plain
from pgherd.wire.tracker import STATEMENT_BYTES_MAX

PLAIN = [
    b"SELECT 1",
    b"  select 'a;b', 'temp', \"a;b\" FROM t;  ",
    b"/* a hint */ -- another\n  SELECT 1",
    b"INSERT INTO t VALUES ('it''s', 1) RETURNING id;",
    b"WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a",
    b"BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE",
    b"START TRANSACTION",
    b"end",
    b"ROLLBACK TO SAVEPOINT a",
    b"FETCH 10 FROM c",
    b"DECLARE c CURSOR FOR SELECT 1",
    b"SELECT nextval('s')",
    b"EXPLAIN ANALYZE SELECT 1",
]
OTHERS = [
    b"",
    b";",
    b"SELECT 1; SELECT 2",
    b"SELECT 'a'; LISTEN b",
    b"SELECT 'a\\'; LISTEN b; --'",
    b"SELECT $a$;$a$",
    b"SET x = 1",
    b"/* SELECT */ SET x = 1",
    b"RESET ALL",
    b"DISCARD ALL",
    b"LISTEN a",
    b"START_REPLICATION SLOT s LOGICAL 0/0",
    b"COPY t FROM STDIN",
    b"CREATE TEMP TABLE a ()",
    b"SELECT 1 INTO TEMP a",
    b"PREPARE a AS SELECT 1",
    b"EXECUTE a",
    b"DEALLOCATE a",
    b"DO $$ BEGIN END $$",
    b"CALL p()",
    b"VACUUM",
    b"DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    b"SELECT set_config('work_mem', '1MB', true)",
    b"SELECT pg_advisory_lock(1)",
    b"SELECT currval('s')",
    b"SELECT lastval()",
    b"SELECT dblink_connect('a')",
    b"SELECT 1\0SELECT 2",
    b"SELECT '" + b"a" * STATEMENT_BYTES_MAX + b"'",
]


@pytest.mark.parametrize("text", PLAIN)
def test_what_leaves_nothing_is_plain(text: bytes) -> None:
    assert is_plain(text)


@pytest.mark.parametrize("text", OTHERS)
def test_all_else_is_not(text: bytes) -> None:
    assert not is_plain(text)
