"""Texts share a key only if they are the same but for literals, and hints are found in comments
alone."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from pgherd.relay.parsing import parse
from pgherd.route.lexis import Hint, hint_in, key_of
from pgherd.route.shape import shape_of
from pgherd.route.statement import Unparsed

SECRET = b"0123456789abcdef"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT 1", "SELECT 20000"),
        ("SELECT 'a'", "SELECT 'it''s; -- no /* comment'"),
        ("SELECT 1.5, .5", "SELECT 2e10, 3."),
        ("SELECT 3000000000", "SELECT 99999999999999999999"),
        ("SELECT a FROM t1 WHERE b = $1 AND c = 'x'", "SELECT a FROM t1 WHERE b = $1 AND c = ''"),
    ],
)
def test_literals_of_a_kind_are_one_key(one, other):
    assert key_of(one.encode(), SECRET) == key_of(other.encode(), SECRET)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT 1", "SELECT  1"),
        ("SELECT 1", "SELECT '1'"),
        ("SELECT 1", "SELECT 3000000000"),
        ("SELECT a1", "SELECT a2"),
        ('SELECT "1"', 'SELECT "2"'),
        ("SELECT $1", "SELECT $2"),
        ("SELECT 1::float(24)", "SELECT 1::float(99)"),
        ("SELECT 1::FLOAT (24)", "SELECT 1::FLOAT (99)"),
        ("COPY t TO ''", "COPY t TO 'file'"),
        ("SELECT E'a'", "SELECT E'b'"),
        ("SELECT b'0'", "SELECT b'1'"),
        ("SELECT U&'a'", "SELECT U&'b'"),
        ("SELECT $$1$$", "SELECT $$2$$"),
        ("SELECT 1 -- 1", "SELECT 1 -- 2"),
        ("/* 1 */ SELECT", "/* 2 */ SELECT"),
        ("SELECT 'a\\'", "SELECT 'b\\'"),
        ("SELECT 'a", "SELECT 'b"),
        ("SELECT 1a", "SELECT 2a"),
        ("SELECT 0x10", "SELECT 0x11"),
        ("SELECT 'a' 'b'", "SELECT 'a'\n'b'"),
        ("SELECT \x01", "SELECT 1"),
    ],
)
def test_what_reads_otherwise_is_another_key(one, other):
    assert key_of(one.encode(), SECRET) != key_of(other.encode(), SECRET)


def test_a_key_is_nothing_without_its_secret():
    assert key_of(b"SELECT 1", SECRET) != key_of(b"SELECT 1", b"another")
    assert key_of(b"SELECT 'secret'", SECRET) == key_of(b"SELECT 'other'", SECRET)


PIECES = [
    "SELECT", "select", "nextval", "FROM", "t", "a", "1", "23", "4000000000", "1.5", ".5", "1e3",
    "''", "'a'", "'it''s'", "'--'", "'/*'", "E'", "e'x'", "x'1f'", "b'1'", "n'x'", "U&'x'", "'",
    '"a"', '"', "--", "/*", "*/", "$1", "$a$", "$$", "\\", ".", ",", "(", ")", "[", "]", "::", "=",
    "-", "+", "*", "/", ";", "float", "FLOAT", "int", "\n", " ", " ", " ", "date", "interval", "e",
    "0x1", "1_0", "é", "u", "&", "for update", "in", "insert into t values",
]  # fmt: skip

GRAMMATICAL = [
    "SELECT {} FROM t WHERE a = {}", "SELECT {}::float({})", "SELECT date {}", "SELECT f({}, {})",
    "SELECT a[{}:{}], -{}", "INSERT INTO t VALUES ({})", "SELECT x LIKE {} ESCAPE {}",
    "SELECT {} {}", "SELECT {}\n{}", "SELECT {}a", "SELECT e{}", "SELECT interval {} day({})",
    "SELECT 1 LIMIT {}", "SELECT t.{}", "FETCH {} FROM c", "EXPLAIN (ANALYZE {}) SELECT {}",
    "SELECT {}::varchar({})", "COPY t TO {}", "SELECT '{{}}'::int[{}]", "SELECT ({}).b{}",
]  # fmt: skip

LITERALS = ["1", "99", "4000000000", "1.5", "''", "'x'", "'on'", "'a''b'", "1e3", "0", ".5", "$1"]


def texts() -> st.SearchStrategy[str]:
    filled = st.tuples(
        st.sampled_from(GRAMMATICAL), st.lists(st.sampled_from(LITERALS), min_size=4)
    )
    return st.one_of(
        st.lists(st.sampled_from(PIECES), max_size=9).map("".join),
        st.lists(st.sampled_from(PIECES), max_size=9).map(" ".join),
        filled.map(lambda pair: pair[0].format(*pair[1])),
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(texts(), min_size=40, max_size=80))
def test_statements_of_one_key_are_the_same_statement(many):
    """Whatever shares a key has the same shape: what is remembered of one is true of the other. A
    text that is refused is never remembered under a key of others (`classifier`).
    """
    shapes = {}
    for text in many:
        tree = parse(text)
        if isinstance(tree, Unparsed):
            continue
        shape = shape_of(tree)
        known = shapes.setdefault(key_of(text.encode(), SECRET), (shape, text))
        assert known[0] == shape, (known[1], text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("/* pgherd: replica */ SELECT 1", Hint.REPLICA),
        ("SELECT 1 /*pgherd:primary*/", Hint.PRIMARY),
        ("SELECT 1 /* pgherd: REPLICA */", Hint.REPLICA),
        ("/* pgherd: replica */ SELECT 1 /* pgherd: primary */", Hint.PRIMARY),
        ("/* pgherd: nonsense */ SELECT 1", Hint.PRIMARY),
        ("SELECT '/* pgherd: replica */'", Hint.NONE),
        ("SELECT e'\\' /* pgherd: replica */ '", Hint.NONE),
        ('SELECT "/* pgherd: replica */"', Hint.NONE),
        ("SELECT $a$ /* pgherd: replica */ $a$", Hint.NONE),
        ("-- /* pgherd: replica */\nSELECT 1", Hint.NONE),
        ("/* /* pgherd: replica */ */ SELECT 1", Hint.NONE),
        ("/* and pgherd: replica */ SELECT 1", Hint.NONE),
        ("SELECT 1 /* pgherd: replica", Hint.NONE),
    ],
)
def test_hints_are_whole_comments(text, hint):
    assert hint_in(text.encode()) is hint
