"""What SQL sees of an atlas: tables, views and their columns, macros and functions, with type, unit and meaning."""

import re
from typing import Any, Final

import pyarrow as pa

from foldatlas.schemas import cluster_tables, novelty_tables, projection_tables
from foldatlas.schemas.formats import IMPORTED_FORMAT, PROVENANCE, table_schema
from foldatlas.schemas.sql_functions import PROGRAM_FUNCTIONS, SCALAR_MACROS, TABLE_MACROS
from foldatlas.schemas.sql_names import COLUMNS, TABLES_OF_THE_INDEX
from foldatlas.schemas.tables import TABLES

SCHEMA: Final = pa.schema([(n, pa.string()) for n in ("kind", "table", "name", "type", "unit", "range", "meaning")])

_SCHEMAS: Final[dict[str, pa.Schema]] = {
    **TABLES,
    "records": table_schema("records", IMPORTED_FORMAT),
    PROVENANCE: table_schema(PROVENANCE, IMPORTED_FORMAT),
    "cluster_members": cluster_tables.MEMBERS,
    "novelty": novelty_tables.STRUCTURE_HITS,
    "sequence_novelty": novelty_tables.SEQUENCE_HITS,
    "targets": novelty_tables.TARGETS,
    "projection": projection_tables.PROJECTION,
}
_COMMENT: Final = re.compile(r"(?P<meaning>.*?)(?:; unit: (?P<unit>.*?))?(?:; range: (?P<span>.*?))?", re.DOTALL)
_CATALOG: Final = (
    "SELECT c.table_name, c.column_name, c.data_type, c.comment, v.view_name IS NOT NULL, t.comment, v.comment "
    "FROM duckdb_columns() AS c "
    "LEFT JOIN duckdb_tables() AS t ON t.table_oid = c.table_oid AND t.database_oid = c.database_oid "
    "LEFT JOIN duckdb_views() AS v ON v.view_oid = c.table_oid AND v.database_oid = c.database_oid "
    "WHERE NOT c.internal AND c.database_name = current_database() "
    "ORDER BY c.table_name <> 'proteins', v.view_name IS NULL, c.table_name, c.column_index"
)


def described_columns(connection: Any) -> list[tuple[str, ...]]:
    """Return table, column, type, kind of the table, unit, range and meaning of each column of the index."""
    rows = connection.execute(_CATALOG).fetchall()
    of_proteins = {column: comment for table, column, _, comment, *_ in rows if table == "proteins"}
    return [
        (table, column, str(sql_type), "view" if is_view else "table",
         *_described(table, column, comment, of_proteins.get(column)))
        for table, column, sql_type, comment, is_view, *_ in rows
    ]  # fmt: skip


def sql_schema(connection: Any) -> pa.Table:
    """Return a table of columns, macros and functions, with the schema SCHEMA."""
    tables: dict[str, tuple[str, str]] = {}
    for table, _, _, _, is_view, of_table, of_view in connection.execute(_CATALOG).fetchall():
        meaning = of_view or of_table or TABLES_OF_THE_INDEX.get(table, "")
        tables[table] = ("view" if is_view else "table", meaning)
    rows: list[tuple[str, ...]] = [(kind, table, "", "", "", "", meaning) for table, (kind, meaning) in tables.items()]
    rows += [("column", table, *rest[:2], *rest[3:]) for table, *rest in described_columns(connection)]
    for kind, functions in (
        ("macro", SCALAR_MACROS),
        ("table macro", TABLE_MACROS),
        ("function", PROGRAM_FUNCTIONS),
    ):
        rows += [
            (kind, "", function.call, function.returns, function.unit, "", function.meaning) for function in functions
        ]
    return pa.Table.from_arrays([pa.array(column, pa.string()) for column in zip(*rows, strict=True)], schema=SCHEMA)


def _described(table: str, column: str, comment: str | None, of_proteins: str | None) -> tuple[str, str, str]:
    """Return unit, range and meaning: of the comment in the index, else of the schemas, else of `proteins`."""
    own = COLUMNS.get(table, {}).get(column)
    if not comment and own:
        return "", "", own
    if comment := comment or (of_proteins if table not in _SCHEMAS or column not in _SCHEMAS[table].names else None):
        parts = _COMMENT.fullmatch(comment)
        assert parts is not None
        return parts["unit"] or "", parts["span"] or "", parts["meaning"]
    for name in (table, *_SCHEMAS):
        if name in _SCHEMAS and column in _SCHEMAS[name].names:
            metadata: dict[bytes, bytes] = _SCHEMAS[name].field(column).metadata or {}
            said = {key.decode(): value.decode() for key, value in metadata.items()}
            return said.get("unit", ""), said.get("range", ""), said["meaning"]
    return "", "", COLUMNS[""].get(column, "")
