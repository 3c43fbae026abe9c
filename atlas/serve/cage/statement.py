"""The parsed statement: a single SELECT of tables of the atlas, and of table functions that read nothing else.

DuckDB's own parser gives the tree (`json_serialize_sql`), so what is checked is what DuckDB runs. Everything that is
not known is refused: kinds of nodes and of tables, names of tables, table functions. Of scalar functions those are
refused that concern the server or the session.
"""

import json
import re
from collections.abc import Collection, Iterator
from typing import Any, Final

from foldatlas.atlas.sql.text import first_line
from foldatlas.schemas.errors import QueryError
from foldatlas.schemas.sql_functions import TABLE_MACROS

# A name in WITH counts as a table everywhere in the statement, so it must not be one that DuckDB takes for a file.
_IDENTIFIER: Final = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
MAX_LENGTH: Final = 100_000  # characters of a statement
_NODES: Final = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_TABLES: Final = {
    "BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EMPTY", "EXPRESSION_LIST", "PIVOT", "SHOW_REF",
}  # fmt: skip
_SHOWN: Final = {"DESCRIBE", "SUMMARY"}
_TABLE_FUNCTIONS: Final = {
    "unnest", "range", "generate_series", "generate_subscripts", "repeat", "repeat_row", "json_each", "json_tree",
    "novel_at", "novel_sequences_at", *(macro.name for macro in TABLE_MACROS),
}  # fmt: skip
_REFUSED_FUNCTIONS: Final = {
    "getvariable", "current_setting", "getenv", "nextval", "currval", "write_log", "current_query", "sleep_ms",
    "current_connection_id", "in_search_path", "files_at", "json_execute_serialized_sql", "json_deserialize_sql",
    "query", "query_table", "read_text", "read_blob", "glob", "which_secret", "error",
}  # fmt: skip
# Classes of nodes of an expression whose meaning depends on no other columns than those that they name.
_EXPRESSIONS: Final = {
    "COLUMN_REF", "CONSTANT", "COMPARISON", "CONJUNCTION", "OPERATOR", "FUNCTION", "CAST", "TYPE", "CASE", "BETWEEN",
}  # fmt: skip
_REFUSED_PREFIXES: Final = ("pg_", "duckdb_", "pragma_", "read_", "_")


def check(connection: Any, sql: str, tables: Collection[str]) -> None:
    """Raise QueryError unless `sql` is a single SELECT of `tables` (lower case) and what it defines itself."""
    if len(sql) > MAX_LENGTH:
        raise QueryError(f"the statement has {len(sql):,} characters; the limit is {MAX_LENGTH:,}")
    if "\0" in sql:
        raise QueryError("the statement has a NUL character")
    parsed = _parsed(connection, sql)
    if parsed.get("error"):
        if parsed.get("error_type") == "not implemented":
            raise QueryError("only SELECT is allowed here (also WITH, FROM, VALUES, DESCRIBE and SUMMARIZE)")
        raise QueryError(first_line(Exception(str(parsed.get("error_message", "the statement cannot be parsed")))))
    if len(parsed["statements"]) != 1:
        raise QueryError(f"there are {len(parsed['statements'])} statements: give one SELECT")
    nodes = list(_nodes(parsed["statements"][0]))
    defined = {
        entry["key"].lower()
        for node in nodes
        if isinstance(map_of := node.get("cte_map"), dict)
        for entry in map_of.get("map", [])
    }
    if strange := sorted(name for name in defined if not _IDENTIFIER.fullmatch(name)):
        raise QueryError(f"{strange[0][:80]!r} is not a name for WITH here: use letters, digits and _")
    for node in nodes:
        _check_node(node, set(tables) | defined)


def columns_of(connection: Any, expression: str) -> set[str] | None:
    """Return the names of columns (lower case) that an expression on `proteins` has, None if that is not known: with
    subqueries, stars, and whatever is not in _EXPRESSIONS."""
    parsed = _parsed(connection, f"SELECT 1 FROM proteins WHERE {expression}")
    if parsed.get("error"):
        return None
    found = set()
    for node in _nodes(parsed["statements"][0]["node"]["where_clause"]):
        if node.get("class", "COLUMN_REF") not in _EXPRESSIONS or str(node.get("type", "")).endswith("_NODE"):
            return None
        if node.get("class") == "COLUMN_REF":
            *table, name = [str(part).lower() for part in node["column_names"]]
            if table not in ([], ["proteins"]):
                return None
            found.add(name)
    return found


def _parsed(connection: Any, sql: str) -> dict[str, Any]:
    """Return the tree that DuckDB's parser makes of a text."""
    [(text,)] = connection.execute("SELECT json_serialize_sql(?::VARCHAR, skip_null := true)", [sql]).fetchall()
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def _check_node(node: dict[str, Any], tables: Collection[str]) -> None:
    kind = str(node.get("type", ""))
    if kind.endswith("_NODE") and kind not in _NODES:
        raise QueryError("only SELECT is allowed here, also inside WITH")
    if node.get("class") == "PARAMETER":
        raise QueryError("a parameter has no value: give it in `params`")
    if node.get("class") == "FUNCTION":
        name = str(node.get("function_name", "")).lower()
        schema = str(node.get("schema", "")).lower()
        path = [str(part).lower() for part in (node.get("qualified_name") or {}).get("path", [])]
        if (
            name in _REFUSED_FUNCTIONS
            or name.startswith(_REFUSED_PREFIXES)
            or schema not in ("", "main")
            or len(path) > 1
        ):
            raise QueryError(f"the function {name} is not allowed here")
    for key in ("from_table", "left", "right", "source"):
        child = node.get(key)
        if isinstance(child, dict) and "class" not in child and not str(child.get("type", "")).endswith("_NODE"):
            _check_table(child)
    if kind == "BASE_TABLE":
        _check_name(node, tables)
    elif kind == "TABLE_FUNCTION":
        function = node.get("function") or {}
        name = str(function.get("function_name", "")).lower()
        if name not in _TABLE_FUNCTIONS:
            raise QueryError(f"the table function {name} is not allowed here")
    elif kind == "SHOW_REF" and (node.get("show_type") not in _SHOWN or "query" not in node):
        raise QueryError("SHOW is not allowed here: GET /v1/schema lists tables and columns")


def _check_table(table: dict[str, Any]) -> None:
    if table.get("type") not in _TABLES:
        raise QueryError(f"{str(table.get('type')).lower()} is not allowed in FROM here")


def _check_name(table: dict[str, Any], tables: Collection[str]) -> None:
    path = [str(part).lower() for part in (table.get("qualified_name") or {}).get("path", [])]
    parts = [str(table.get(key, "")).lower() for key in ("catalog_name", "schema_name", "table_name")]
    name = ".".join(part for part in parts if part)
    if name.removeprefix("main.") not in tables or "at_clause" in table or ".".join(path) not in ("", name):
        raise QueryError(f"there is no table {name[:80]!r}: GET /v1/schema lists tables and columns")


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a parsed statement, without recursion."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
