"""From a parse tree to what a statement is by its text alone.

Theory of operation. A text is a read when it is one SELECT (or VALUES, TABLE, COPY ... TO STDOUT,
EXPLAIN of these) that is made of nothing but what `grammar` knows. Everything else has a reason why
not. On the way the names are collected that a database has to explain: functions, operators,
relations. A walk goes on after the first doubt, as what comes later may be a plain write, which no
hint moves. It keeps its own stack, so that a deep statement costs memory and not this process.

Pure. What names mean is `vocabulary`'s, the texts' own trees are somebody's parser's.
"""

from __future__ import annotations

from typing import Any

from pgherd.route import notable
from pgherd.route.grammar import CHANGELESS, GRAMMAR, NODES, STATEMENTS
from pgherd.route.statement import Begins, Kind, Shape, Tree, Unparsed

Node = dict[str, Any]
Scope = frozenset[str]
"""The names of WITH queries that a FROM may mean."""

NO_SCOPE: Scope = frozenset()
READING = ("TRANS_STMT_BEGIN", "TRANS_STMT_START")


def shape_of(tree: Tree | Unparsed) -> Shape:
    """What a text is."""
    if isinstance(tree, Unparsed):
        return Shape(Kind.DOUBT, f"the parser does not take it: {tree.why}", changes=True)
    if not tree:
        return Shape(Kind.DOUBT, "an empty statement")
    shapes = [_statement(one.get("stmt") or {}) for one in tree]
    if len(shapes) == 1:
        return shapes[0]
    worst = Kind.WRITE if any(one.kind is Kind.WRITE for one in shapes) else Kind.DOUBT
    changes = any(one.changes for one in shapes)
    return Shape(worst, f"{len(shapes)} statements at once", changes=changes)


def _statement(wrapped: Node) -> Shape:
    name, body = _unwrapped(wrapped)
    match name:
        case "SelectStmt":
            return _walked(wrapped)
        case "ExplainStmt":
            return _explained(body)
        case "CopyStmt":
            return _copied(body)
        case "TransactionStmt":
            return _transaction(body)
        case "VariableShowStmt":
            return Shape(Kind.DOUBT, "SHOW tells of the server that runs it")
    return _writing(name)


def _writing(name: str) -> Shape:
    """A statement that is no query."""
    word = STATEMENTS.get(name)
    if word is None:
        word = "an unknown statement" if not name else f"DDL ({name.removesuffix('Stmt')})"
    return Shape(Kind.WRITE, f"{word} is for the primary", changes=name not in CHANGELESS)


def _explained(body: Node) -> Shape:
    """EXPLAIN is what it explains; whether it runs it depends on literals, which nobody reads."""
    shape = _statement(body.get("query") or {})
    if shape.kind is Kind.READ:
        return shape
    return Shape(shape.kind, f"EXPLAIN: {shape.why}", changes=shape.changes)


def _copied(body: Node) -> Shape:
    if body.get("is_from"):
        return Shape(Kind.WRITE, "COPY FROM writes")
    if body.get("filename") or body.get("is_program"):
        return Shape(Kind.WRITE, "COPY to a file or program of the server")
    query = body.get("query")
    if query is not None:
        name, _ = _unwrapped(query)
        return _walked(query) if name == "SelectStmt" else _writing(name)
    return _walked({"RangeVar": body.get("relation") or {}})


def _transaction(body: Node) -> Shape:
    kind = body.get("kind", "")
    if kind not in READING:
        return Shape(Kind.WRITE, "it belongs to a transaction of the primary")
    options = {
        one["DefElem"].get("defname"): one["DefElem"].get("arg", {}).get("A_Const", {})
        for one in body.get("options", [])
    }
    is_reading = bool(options.get("transaction_read_only", {}).get("ival", {}).get("ival"))
    level = options.get("transaction_isolation", {}).get("sval", {}).get("sval", "")
    if not is_reading:
        return Shape(Kind.WRITE, "a transaction that may write", begins=Begins.WRITING)
    if level == "serializable":
        why = "no replica has serializable transactions"
        return Shape(Kind.WRITE, why, begins=Begins.WRITING)
    return Shape(Kind.READ, begins=Begins.READING)


def _unwrapped(wrapped: Node) -> tuple[str, Node]:
    """The type and the fields of a node; an empty one stands for nothing."""
    for name, body in wrapped.items():
        return name, body if isinstance(body, dict) else {}
    return "", {}


def _walked(wrapped: Node) -> Shape:
    walk = _Walk()
    walk.run(wrapped)
    kind = Kind.WRITE if walk.write else Kind.DOUBT if walk.doubt else Kind.READ
    return Shape(
        kind,
        walk.write or walk.doubt,
        functions=frozenset(walk.functions),
        operators=frozenset(walk.operators),
        relations=frozenset(walk.relations),
        attributes=frozenset(walk.attributes),
    )


class _Walk:
    """One statement's nodes, each looked at once. write, doubt: the first reason of its kind."""

    def __init__(self) -> None:
        self.write = ""
        self.doubt = ""
        self.functions: set[str] = set()
        self.operators: set[str] = set()
        self.relations: set[str] = set()
        self.attributes: set[str] = set()
        self._todo: list[tuple[str, Node, Scope]] = []

    def run(self, wrapped: Node) -> None:
        """Look at a node and all that is in it."""
        self._push(wrapped, NO_SCOPE)
        while self._todo:
            name, body, scope = self._todo.pop()
            self._look(name, body, scope)

    def _push(self, value: Any, scope: Scope) -> None:
        """Nodes with their types' names around them."""
        for one in value if isinstance(value, list) else (value,):
            if isinstance(one, dict) and one:
                name, body = _unwrapped(one)
                self._todo.append((name, body, scope))

    def _look(self, name: str, body: Node, scope: Scope) -> None:
        known = GRAMMAR.get(name)
        if known is None:
            self._strange(name, body, scope)
            return
        scope = self._noted(name, body, scope)
        for field, value in body.items():
            kind = known.get(field)
            if kind is None:
                self._unknown_field(name, field, value, scope)
            elif kind == NODES:
                self._push(value, scope)
            elif kind:
                self._todo.append((kind, value, scope))

    def _noted(self, name: str, body: Node, scope: Scope) -> Scope:
        """Take a node's names down. Returns what names of WITH hold inside of it."""
        match name:
            case "SelectStmt":
                return self._with(body, scope)
            case "FuncCall":
                self._function(_last(body.get("funcname")))
            case "A_Expr" if not body.get("kind", "").startswith(("AEXPR_BETWEEN", "AEXPR_NOT_B")):
                self.operators.add(_last(body.get("name")))
            case "SubLink" if body.get("operName"):
                self.operators.add(_last(body["operName"]))
            case "SortBy" if body.get("useOp"):
                self.operators.add(_last(body["useOp"]))
            case "ColumnRef" if len(body.get("fields", ())) > 1:
                self.attributes.add(_last(body["fields"]))
            case "A_Indirection":
                steps = [_unwrapped(one) for one in body.get("indirection", [])]
                self.attributes.update(
                    step.get("sval", "") for kind, step in steps if kind == "String"
                )
            case "RangeVar":
                relation = body.get("relname", "")
                if body.get("schemaname") or relation not in scope:
                    self.relations.add(relation)
            case "RangeTableSample" if _last(body.get("method")) not in notable.SAMPLING:
                self._doubt(f"TABLESAMPLE {_last(body.get('method'))}() is not PostgreSQL's own")
        self.attributes.discard("")
        return scope

    def _function(self, name: str) -> None:
        self.functions.add(name)
        if notable.keeps(name):
            self._write(f"{name}() writes, or keeps something in its session")
        elif doubt := notable.doubt(name):
            self._doubt(doubt)

    def _with(self, body: Node, scope: Scope) -> Scope:
        """Look at the queries of WITH, each with the names that it may mean: those before it, and
        all with RECURSIVE.
        """
        clause = body.get("withClause")
        if not clause:
            return scope
        queries = [one.get("CommonTableExpr", {}) for one in clause.get("ctes", [])]
        names = frozenset(one.get("ctename", "") for one in queries)
        inner = scope | names if clause.get("recursive") else scope
        for query in queries:
            self._todo.append(("CommonTableExpr", query, inner))
            inner |= {query.get("ctename", "")}
        return scope | names

    def _strange(self, name: str, body: Node, scope: Scope) -> None:
        """A node that no read is known to have."""
        if name.endswith("Stmt"):
            word = STATEMENTS.get(name, name.removesuffix("Stmt"))
            self._write(f"{word} within a query")
            return
        self._doubt(f"{name} is not known to be part of a read")
        self._rummage(body, scope)

    def _unknown_field(self, name: str, field: str, value: Any, scope: Scope) -> None:
        match field:
            case "lockingClause":
                self._write("it locks rows (FOR UPDATE or SHARE)")
            case "intoClause":
                self._write("SELECT INTO makes a table")
            case _:
                self._doubt(f"{field} of {name} is not known to be part of a read")
                self._rummage(value, scope)

    def _rummage(self, value: Any, scope: Scope) -> None:
        """Look for statements in what is not understood: one of them may be a write."""
        todo = [value]
        while todo:
            one = todo.pop()
            if isinstance(one, list):
                todo += one
            elif isinstance(one, dict):
                for key, inner in one.items():
                    if key.endswith("Stmt") and isinstance(inner, dict):
                        self._todo.append((key, inner, scope))
                    else:
                        todo.append(inner)

    def _write(self, why: str) -> None:
        self.write = self.write or why

    def _doubt(self, why: str) -> None:
        self.doubt = self.doubt or why


def _last(names: Any) -> str:
    """The last part of a dotted name, which is what counts in any schema."""
    if not names:
        return ""
    _, body = _unwrapped(names[-1])
    return str(body.get("sval", ""))
