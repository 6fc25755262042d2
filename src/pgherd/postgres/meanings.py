"""What names mean in a database, read from its catalogs for those who split reads from writes.

Owns the questions. A function is as volatile as the worst of its name; an aggregate, whose own
volatility says nothing, as the functions that it is made of. Of a view there is the definition, of
a table the conditions of its policies. What is called without being named (casts, comparisons,
checks of domains) makes the whole database doubtful when it is volatile: see docs/adr/0065. The
sessions are opened for one question each, and see pg_catalog before anything else.
"""

from __future__ import annotations

import contextlib

import msgspec

from pgherd.model.errors import PostgresError
from pgherd.postgres.session import Login, Session
from pgherd.route import notable
from pgherd.route.meanings import Function, Meanings, Names, Relation

READ_S = 2.0
STATEMENT_MS = 1_500
DEFINITIONS_BYTES_MAX = 64 * 1024
ANSWER_BYTES_MAX = 512 * 1024

FUNCTIONS_SQL = """
SELECT p.proname::text, bool_or(worst.is_volatile),
       bool_or(worst.is_volatile AND p.pronargs > 0 AND argument.takes_row)
  FROM pg_catalog.pg_proc p
 CROSS JOIN LATERAL (
       SELECT p.provolatile = 'v' OR p.prokind = 'a' AND EXISTS (
              SELECT FROM pg_catalog.pg_aggregate a
                     JOIN pg_catalog.pg_proc part ON part.oid IN (
                          a.aggtransfn::oid, a.aggfinalfn::oid, a.aggcombinefn::oid,
                          a.aggserialfn::oid, a.aggdeserialfn::oid, a.aggmtransfn::oid,
                          a.aggminvtransfn::oid, a.aggmfinalfn::oid)
               WHERE a.aggfnoid = p.oid AND part.provolatile = 'v') AS is_volatile) worst
 CROSS JOIN LATERAL (
       SELECT coalesce((SELECT t.typtype IN ('c', 'd', 'p') FROM pg_catalog.pg_type t
                         WHERE t.oid = p.proargtypes[0]), false) AS takes_row) argument
 WHERE p.proname = ANY($1::text[]::name[])
 GROUP BY 1
"""

OPERATORS_SQL = """
SELECT o.oprname::text, bool_or(p.provolatile = 'v')
  FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode
 WHERE o.oprname = ANY($1::text[]::name[])
 GROUP BY 1
"""

RELATIONS_SQL = """
SELECT c.relname::text, c.relkind::text, c.relpersistence::text,
       CASE WHEN c.relkind = 'v' THEN coalesce(pg_catalog.pg_get_viewdef(c.oid), '') END,
       to_json(ARRAY(SELECT pg_catalog.pg_get_expr(polqual, polrelid) FROM pg_catalog.pg_policy
                      WHERE c.relrowsecurity AND polrelid = c.oid AND polcmd IN ('r', '*')
                        AND polqual IS NOT NULL)),
       (WITH RECURSIVE parts(part) AS (
               SELECT c.oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i
                                    JOIN parts ON i.inhparent = parts.part)
        SELECT coalesce(max(k.relkind::text) FILTER (WHERE k.relkind = 'f'),
                        max(k.relpersistence::text) FILTER (WHERE k.relpersistence = 'u'), '')
          FROM parts JOIN pg_catalog.pg_class k ON k.oid = parts.part)
  FROM pg_catalog.pg_class c
 WHERE c.relname = ANY($1::text[]::name[]) AND c.relpersistence <> 't'
   AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
 ORDER BY 1
"""

UNNAMED_SQL = """
SELECT * FROM (
  (SELECT format('the cast from %s to %s calls %s(), which is volatile', castsource::regtype,
                 casttarget::regtype, f.proname), ''
     FROM pg_catalog.pg_cast JOIN pg_catalog.pg_proc f ON f.oid = castfunc
    WHERE f.provolatile = 'v' LIMIT 1)
  UNION ALL
  (SELECT format('the type %s calls %s(), which is volatile', t.typname, f.proname), ''
     FROM pg_catalog.pg_type t JOIN pg_catalog.pg_proc f
          ON f.oid IN (t.typinput::oid, t.typoutput::oid, t.typreceive::oid, t.typsend::oid,
                       t.typmodin::oid, t.typmodout::oid, t.typsubscript::oid)
    WHERE t.typtype IN ('b', 'r', 'm') AND t.typcategory <> 'A' AND f.provolatile = 'v' LIMIT 1)
  UNION ALL
  (SELECT format('the operator class function %s() is volatile', f.proname), ''
     FROM pg_catalog.pg_amproc JOIN pg_catalog.pg_proc f ON f.oid = amproc::oid
    WHERE f.provolatile = 'v' LIMIT 1)
  UNION ALL
  (SELECT format('operator %s of an operator class is volatile', o.oprname), ''
     FROM pg_catalog.pg_amop JOIN pg_catalog.pg_operator o ON o.oid = amopopr
     JOIN pg_catalog.pg_proc f ON f.oid = o.oprcode
    WHERE f.provolatile = 'v' LIMIT 1)
  UNION ALL
  (SELECT format('operator %s is volatile, and is used where none is written', o.oprname), ''
     FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_proc f ON f.oid = o.oprcode
    WHERE f.provolatile = 'v' AND o.oprname IN ('=', '<>', '<', '<=', '>', '>=') LIMIT 1)
  UNION ALL
  (SELECT DISTINCT CASE WHEN f.provolatile = 'v'
                        THEN format('a check of the domain %s calls %s(), which is volatile',
                                    c.contypid::regtype, f.proname) ELSE '' END, f.proname::text
     FROM pg_catalog.pg_constraint c
          CROSS JOIN LATERAL pg_catalog.regexp_matches(
              c.conbin::text, ':(?:funcid|opfuncid) ([0-9]+)', 'g') AS used
          JOIN pg_catalog.pg_proc f ON f.oid = used[1]::oid
    WHERE c.contypid <> 0)) AS found (why, called)
"""


async def read_meanings(login: Login, database: str, names: Names) -> Meanings:
    """What these names mean in a database now. Raises PostgresError."""
    session = Session(
        msgspec.structs.replace(login, database=database), statement_timeout_ms=STATEMENT_MS
    )
    try:
        rows = await session.rows(FUNCTIONS_SQL, [sorted(names.functions)], timeout_s=READ_S)
        functions = {row[0]: Function(row[1], row[2]) for row in rows}
        rows = await session.rows(OPERATORS_SQL, [sorted(names.operators)], timeout_s=READ_S)
        operators = {row[0]: row[1] for row in rows}
        doubt = await _unnamed(session)
        asked, relations = frozenset[str](), dict[str, Relation]()
        with contextlib.suppress(PostgresError):  # a view that somebody has locked: asked again
            rows = await session.rows(RELATIONS_SQL, [sorted(names.relations)], timeout_s=READ_S)
            asked, relations = _relations(names.relations, rows)
    finally:
        await session.close()
    about = msgspec.structs.replace(names, relations=asked)
    return Meanings(about, functions, operators, relations, doubt)


async def _unnamed(session: Session) -> str:
    """Why nothing can be judged by its names here."""
    for why, called in await session.rows(UNNAMED_SQL, timeout_s=READ_S):
        if why:
            return str(why)
        if notable.keeps(called) or notable.doubt(called):
            return f"a check of a domain calls {called}()"
    return ""


def _relations(
    asked: frozenset[str], rows: list[tuple[object, ...]]
) -> tuple[frozenset[str], dict[str, Relation]]:
    """What is answered, as much as one answer holds, and the answers."""
    found: dict[str, Relation] = {}
    size = 0
    for row in rows:
        name, kind, persistence, view, conditions, part = row
        before = found.get(str(name), Relation())
        texts = {*before.texts, *([str(view)] if view is not None else [])}
        texts |= {f"SELECT ({one})" for one in conditions}  # type: ignore[attr-defined] # a list
        why = before.why or _why(str(kind), str(persistence), str(part))
        if sum(map(len, texts)) > DEFINITIONS_BYTES_MAX:
            texts, why = set(), "has definitions that are too long to be looked at"
        size += sum(map(len, texts)) - sum(map(len, before.texts))
        if size > ANSWER_BYTES_MAX:
            found.pop(str(name), None)
            return frozenset(found), found
        found[str(name)] = Relation(tuple(sorted(texts)), why)
    return asked, found


def _why(kind: str, persistence: str, part: str) -> str:
    """Why a replica cannot read a relation, or should not."""
    if persistence == "u" or part == "u":
        return "is unlogged, so no replica has it"
    if kind == "S":
        return "is a sequence, which a replica sees ahead of its time"
    if kind == "f" or part == "f":
        return "is read on a foreign server"
    return ""
