"""The part of PostgreSQL's grammar that a read is made of, as the parser's JSON writes it.

Pure, and only a table. A node that is not here, or a field that is not here in its node, makes a
statement doubtful: so a construct that a newer parser learns goes to the primary until somebody has
looked at it. Fields are those of PostgreSQL's `parsenodes.h` and `primnodes.h` (version 17).
"""

from __future__ import annotations

NODES = "*"
"""The field holds a node with its type's name around it, or a list of such."""

SCALAR = ""
"""The field holds nothing that would be run: words, numbers, names."""

Fields = dict[str, str]


def _fields(scalars: str = "", nodes: str = "", **bare: str) -> Fields:
    """bare: fields whose node is written without its type's name."""
    found = dict.fromkeys(("location", *scalars.split()), SCALAR)
    found |= dict.fromkeys(nodes.split(), NODES)
    return found | bare


GRAMMAR: dict[str, Fields] = {
    "SelectStmt": _fields(
        "withClause groupDistinct limitOption op all",
        "distinctClause targetList fromClause whereClause groupClause havingClause windowClause"
        " valuesLists sortClause limitOffset limitCount",
        larg="SelectStmt",
        rarg="SelectStmt",
    ),
    "CommonTableExpr": _fields(
        "ctename aliascolnames ctematerialized",
        "ctequery",
        search_clause="CTESearchClause",
        cycle_clause="CTECycleClause",
    ),
    "CTESearchClause": _fields("search_col_list search_breadth_first search_seq_column"),
    "CTECycleClause": _fields(
        "cycle_col_list cycle_mark_column cycle_path_column", "cycle_mark_value cycle_mark_default"
    ),
    # --- what is read from ----------------------------------------------------------------------
    "RangeVar": _fields("catalogname schemaname relname inh relpersistence alias"),
    "RangeSubselect": _fields("lateral alias", "subquery"),
    "RangeFunction": _fields("lateral ordinality is_rowsfrom alias", "functions coldeflist"),
    "RangeTableSample": _fields("method", "relation args repeatable"),
    "RangeTableFunc": _fields("lateral alias", "docexpr rowexpr namespaces columns"),
    "RangeTableFuncCol": _fields(
        "colname for_ordinality is_not_null", "colexpr coldefexpr", typeName="TypeName"
    ),
    "ColumnDef": _fields("colname is_local", typeName="TypeName", collClause="CollateClause"),
    "JoinExpr": _fields("jointype isNatural usingClause join_using_alias alias", "larg rarg quals"),
    # --- expressions ----------------------------------------------------------------------------
    "ResTarget": _fields("name", "indirection val"),
    "ColumnRef": _fields("fields"),
    "ParamRef": _fields("number"),
    "A_Const": _fields("ival fval boolval sval bsval isnull"),
    "A_Star": _fields(),
    "String": _fields("sval"),
    "Integer": _fields("ival"),
    "List": _fields("", "items"),
    "A_Expr": _fields("kind name", "lexpr rexpr"),
    "BoolExpr": _fields("boolop", "args"),
    "TypeCast": _fields("", "arg", typeName="TypeName"),
    "TypeName": _fields("names setof typemod", "typmods arrayBounds"),
    "CollateClause": _fields("collname", "arg"),
    "FuncCall": _fields(
        "funcname agg_within_group agg_star agg_distinct func_variadic funcformat",
        "args agg_order agg_filter",
        over="WindowDef",
    ),
    "NamedArgExpr": _fields("name argnumber", "arg"),
    "A_Indirection": _fields("", "arg indirection"),
    "A_Indices": _fields("is_slice", "lidx uidx"),
    "A_ArrayExpr": _fields("", "elements"),
    "RowExpr": _fields("row_format", "args"),
    "SubLink": _fields("subLinkType operName", "testexpr subselect"),
    "NullTest": _fields("nulltesttype argisrow", "arg"),
    "BooleanTest": _fields("booltesttype", "arg"),
    "CaseExpr": _fields("", "arg args defresult"),
    "CaseWhen": _fields("", "expr result"),
    "CoalesceExpr": _fields("", "args"),
    "MinMaxExpr": _fields("op", "args"),
    "SQLValueFunction": _fields("op typmod"),
    "SortBy": _fields("sortby_dir sortby_nulls useOp", "node"),
    "WindowDef": _fields(
        "name refname frameOptions", "partitionClause orderClause startOffset endOffset"
    ),
    "GroupingFunc": _fields("", "args"),
    "GroupingSet": _fields("kind", "content"),
    # --- XML and JSON ---------------------------------------------------------------------------
    "XmlExpr": _fields("op name xmloption indent", "named_args args"),
    "XmlSerialize": _fields("xmloption indent", "expr", typeName="TypeName"),
    "JsonValueExpr": _fields("format", "raw_expr"),
    "JsonOutput": _fields("returning", typeName="TypeName"),
    "JsonKeyValue": _fields("", "key", value="JsonValueExpr"),
    "JsonArgument": _fields("name", val="JsonValueExpr"),
    "JsonBehavior": _fields("btype", "expr"),
    "JsonObjectConstructor": _fields("absent_on_null unique", "exprs", output="JsonOutput"),
    "JsonArrayConstructor": _fields("absent_on_null", "exprs", output="JsonOutput"),
    "JsonArrayQueryConstructor": _fields("format absent_on_null", "query", output="JsonOutput"),
    "JsonAggConstructor": _fields(
        "", "agg_filter agg_order", output="JsonOutput", over="WindowDef"
    ),
    "JsonObjectAgg": _fields(
        "absent_on_null unique", constructor="JsonAggConstructor", arg="JsonKeyValue"
    ),
    "JsonArrayAgg": _fields(
        "absent_on_null", constructor="JsonAggConstructor", arg="JsonValueExpr"
    ),
    "JsonIsPredicate": _fields("format item_type unique_keys", "expr"),
    "JsonParseExpr": _fields("unique_keys", expr="JsonValueExpr", output="JsonOutput"),
    "JsonScalarExpr": _fields("", "expr", output="JsonOutput"),
    "JsonSerializeExpr": _fields("", expr="JsonValueExpr", output="JsonOutput"),
    "JsonFuncExpr": _fields(
        "op column_name wrapper quotes",
        "pathspec passing",
        context_item="JsonValueExpr",
        output="JsonOutput",
        on_empty="JsonBehavior",
        on_error="JsonBehavior",
    ),
    "JsonTable": _fields(
        "alias lateral",
        "passing columns",
        context_item="JsonValueExpr",
        pathspec="JsonTablePathSpec",
        on_error="JsonBehavior",
    ),
    "JsonTablePathSpec": _fields("name name_location", "string"),
    "JsonTableColumn": _fields(
        "coltype name format wrapper quotes",
        "columns",
        typeName="TypeName",
        pathspec="JsonTablePathSpec",
        on_empty="JsonBehavior",
        on_error="JsonBehavior",
    ),
}

STATEMENTS: dict[str, str] = {
    "InsertStmt": "INSERT",
    "UpdateStmt": "UPDATE",
    "DeleteStmt": "DELETE",
    "MergeStmt": "MERGE",
    "VariableSetStmt": "SET",
    "VariableShowStmt": "SHOW",
    "PrepareStmt": "PREPARE",
    "ExecuteStmt": "EXECUTE",
    "DeallocateStmt": "DEALLOCATE",
    "DeclareCursorStmt": "DECLARE CURSOR",
    "FetchStmt": "FETCH",
    "ClosePortalStmt": "CLOSE",
    "ListenStmt": "LISTEN",
    "UnlistenStmt": "UNLISTEN",
    "NotifyStmt": "NOTIFY",
    "LockStmt": "LOCK",
    "DiscardStmt": "DISCARD",
    "ConstraintsSetStmt": "SET CONSTRAINTS",
    "CheckPointStmt": "CHECKPOINT",
    "VacuumStmt": "VACUUM or ANALYZE",
    "LoadStmt": "LOAD",
    "DoStmt": "DO",
    "CallStmt": "CALL",
    "TruncateStmt": "TRUNCATE",
    "ClusterStmt": "CLUSTER",
    "ReindexStmt": "REINDEX",
    "RefreshMatViewStmt": "REFRESH MATERIALIZED VIEW",
    "CreateTableAsStmt": "CREATE TABLE AS",
}
"""Statements by their nodes, as people call them. Those that are not here change what names mean
(CREATE, ALTER, DROP, GRANT and the like)."""

CHANGELESS = frozenset(STATEMENTS) - {"DoStmt", "CallStmt", "CreateTableAsStmt", "DiscardStmt"}
"""Statements after which every name still means what it meant."""
