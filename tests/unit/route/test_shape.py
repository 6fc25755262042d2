"""What a statement is by its text: only what is known to be a read is one."""

from __future__ import annotations

import pytest

from pgherd.relay.parsing import parse
from pgherd.route.shape import shape_of
from pgherd.route.statement import Begins, Kind, Shape, Unparsed


def of(text: str) -> Shape:
    return shape_of(parse(text))


def test_names_are_collected_wherever_they_stand():
    shape = of(
        "WITH q AS (SELECT f1(t.c1) FROM s.r1 t) SELECT (x).c2, y @@ z, f2(1) OVER (ORDER BY f3(1)"
        " USING >>>) FROM q, r2, LATERAL f4(1) WHERE a = ANY (SELECT 1 FROM r3) LIMIT f5(1)"
    )
    assert shape == Shape(
        Kind.READ,
        functions=frozenset({"f1", "f2", "f3", "f4", "f5"}),
        operators=frozenset({"@@", ">>>", "="}),
        relations=frozenset({"r1", "r2", "r3"}),
        attributes=frozenset({"c1", "c2"}),
    )


@pytest.mark.parametrize(
    ("text", "relations"),
    [
        ("WITH a AS (SELECT 1) SELECT * FROM a", set()),
        ("WITH a AS (SELECT * FROM a) SELECT * FROM a", {"a"}),
        ("WITH RECURSIVE a AS (SELECT * FROM a) SELECT * FROM a", set()),
        ("WITH a AS (SELECT 1), b AS (SELECT * FROM a) SELECT * FROM b", set()),
        ("WITH b AS (SELECT * FROM a), a AS (SELECT 1) SELECT * FROM b", {"a"}),
        ("WITH a AS (SELECT 1) SELECT * FROM s.a", {"a"}),
        ("SELECT * FROM (WITH a AS (SELECT 1) SELECT * FROM a) x, a", {"a"}),
        ("WITH a AS (SELECT 1) SELECT 1 UNION SELECT * FROM a", set()),
    ],
)
def test_a_query_of_with_is_no_relation_where_it_is_seen(text, relations):
    assert of(text).relations == relations


def test_a_node_or_field_that_is_not_known_makes_doubtful():
    """A newer parser's nodes are no reads until the grammar knows them; a write inside is seen."""
    value = {"ResTarget": {"val": {"NewExpr": {"arg": {}}}}}
    assert shape_of([{"stmt": {"SelectStmt": {"targetList": [value]}}}]).kind is Kind.DOUBT
    assert shape_of([{"stmt": {"SelectStmt": {"newClause": {}}}}]).kind is Kind.DOUBT
    hidden = {"ResTarget": {"val": {"NewExpr": {"arg": [{"UpdateStmt": {"relation": {}}}]}}}}
    shape = shape_of([{"stmt": {"SelectStmt": {"targetList": [hidden]}}}])
    assert (shape.kind, shape.why) == (Kind.WRITE, "UPDATE within a query")
    locking = {"SelectStmt": {"lockingClause": [{}]}}
    wrapped = {"ResTarget": {"val": {"NewExpr": {"query": locking}}}}
    assert shape_of([{"stmt": {"SelectStmt": {"targetList": [wrapped]}}}]).kind is Kind.WRITE


def test_a_write_behind_a_doubt_is_a_write():
    """So no hint sends it to a replica."""
    assert of("SELECT pg_backend_pid() FROM t FOR UPDATE").kind is Kind.WRITE
    assert of("SELECT pg_backend_pid(), nextval('s')").kind is Kind.WRITE
    assert of("SHOW x; INSERT INTO t VALUES (1)").kind is Kind.WRITE
    assert of("SELECT 1; SHOW x").kind is Kind.DOUBT


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("SELECT 1", False),
        ("INSERT INTO t VALUES (1)", False),
        ("SET x = 1", False),
        ("COMMIT", False),
        ("CREATE VIEW v AS SELECT 1", True),
        ("ALTER FUNCTION f() VOLATILE", True),
        ("DROP TABLE t", True),
        ("GRANT SELECT ON t TO u", True),
        ("DO 'BEGIN END'", True),
        ("CALL p()", True),
        ("INSERT INTO t VALUES (1); DROP TABLE t", True),
        ("EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1", True),
        ("what is that", True),
    ],
)
def test_what_may_change_the_meaning_of_names_is_known(text, changes):
    assert of(text).changes is changes


def test_transactions_say_what_they_are():
    assert of("BEGIN READ ONLY").begins is Begins.READING
    assert of("BEGIN").begins is Begins.WRITING
    assert of("BEGIN READ ONLY, ISOLATION LEVEL SERIALIZABLE").begins is Begins.WRITING
    assert of("COMMIT").begins is Begins.NOTHING


@pytest.mark.parametrize(
    "text",
    [
        "SELECT " + "1+" * 8000 + "1",
        "SELECT " + "NOT " * 4000 + "true",
        "SELECT " + "ARRAY[" * 2600 + "]" * 2600,
        " UNION ".join(["SELECT 1"] * 1500),
        "SELECT " + "9" * 5000,
        "SELECT 1\0; DELETE FROM t",
        "SELECT '\udcff'",
    ],
)
def test_no_text_breaks_the_parser(text):
    """Deep, long and broken texts are values too, and never reads that were read in part."""
    tree = parse(text)
    assert isinstance(tree, Unparsed) or shape_of(tree).kind is Kind.READ
    if "\0" in text:
        assert isinstance(tree, Unparsed)


@pytest.mark.parametrize(
    "text", ["SELECT 'secret", "SELECT 1 'secret'", "secret", "SELECT secret(1", "'\udcff secret'"]
)
def test_a_reason_never_quotes_the_text(text):
    assert "secret" not in of(text).why
