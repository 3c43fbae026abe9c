"""Views of the Parquet files of an atlas, stored in its index.

An index has no absolute paths, because atlases move. A client states where the atlas is, once:

    SET VARIABLE atlas = files_at('/data/atlas');

The variable is a struct of the folder and the lists of files by table, from the index's table `files`. Files are never
found by a glob: leftovers of interrupted work would match.
"""

from typing import Any, Final

from foldatlas.atlas.sql.text import literal
from foldatlas.schemas.tables import OPTIONAL_TABLES, TABLES

PARQUET_VIEWS: Final = ("sequences", "structures", *OPTIONAL_TABLES)
ROWS: Final = "structure_rows"  # all rows of structures files, with the column filename
VARIABLE: Final = "atlas"
PROLOGUE: Final = f"SET VARIABLE {VARIABLE} = files_at('/path/of/the/atlas')"

_HINT: Final = f"the variable {VARIABLE} is not set: run {PROLOGUE};"
_LISTS: Final = ", ".join(
    f"{table} := coalesce(list(regexp_replace(prefix, '([*?\\[])', '[\\1]', 'g') || path ORDER BY path) "
    f"FILTER (WHERE table_name = {literal(table)}), []::VARCHAR[])"
    for table in PARQUET_VIEWS
)
FILES_AT: Final = {
    "files_at(folder)": (
        f"(SELECT struct_pack(folder := any_value(prefix), {_LISTS}) "
        "FROM (SELECT *, rtrim(folder, '/') || '/' AS prefix FROM files))"
    )
}


def variable_field(name: str) -> str:
    """Return SQL of a field of the variable; without the variable it raises an error that says how to set it."""
    return f"coalesce(struct_extract(getvariable('{VARIABLE}'), {literal(name)}), error({literal(_HINT)}))"


def has_parquet_views(connection: Any) -> bool:
    """Return whether the index stores views of Parquet files: not one that an earlier program built."""
    found = connection.execute("SELECT count(*) FROM duckdb_functions() WHERE function_name = 'files_at'")
    return bool(found.fetchall()[0][0])


def place_sql(columns: str, wanted: str) -> str:
    """Return SQL of rows of structures by place: `wanted` gives structure ids, and only their files are opened.

    The index has the file of each structure. A filter on `filename` that comes from a join prunes files in DuckDB 1.4
    to 2.0; a look-up in `structures` by a join does not.
    """
    return (
        f"WITH wanted AS MATERIALIZED (SELECT structure_id, {variable_field('folder')} || structure_file::VARCHAR AS "
        f"filename FROM scores WHERE structure_id IN ({wanted})) "
        f"SELECT {columns} FROM {ROWS} JOIN wanted USING (filename, structure_id)"
    )


def view_sql(connection: Any, table: str) -> dict[str, str]:
    """Return SQL of the view of `table`, every structure once, and of views that it needs, by name in order.

    Rows count if the index takes them: not those of other files with the same structure. Without files, the view is
    empty, or there is none if the table is optional. The variable must be set on `connection`.
    """
    names = TABLES[table].names
    columns = ", ".join(f"rows.{name}" for name in names)
    [(num_files,)] = connection.execute("SELECT count(*) FROM files WHERE table_name = ?", [table]).fetchall()
    if not num_files and table in OPTIONAL_TABLES:
        return {}
    source = f"read_parquet({variable_field(table)}, filename = true) AS rows"
    if not num_files:
        typed = connection.from_arrow(TABLES[table].empty_table())
        nulls = ", ".join(f"NULL::{t} AS {n}" for n, t in zip(typed.columns, map(str, typed.types), strict=True))
        source = f"(SELECT {nulls}, NULL::VARCHAR AS filename WHERE false) AS rows"
    if table == "structures":
        return {
            ROWS: f"SELECT {columns}, rows.filename FROM {source}",
            table: (
                f"SELECT {columns} FROM {ROWS} AS rows JOIN scores ON rows.structure_id = scores.structure_id "
                f"AND rows.filename = {variable_field('folder')} || scores.structure_file::VARCHAR"
            ),
        }
    [(num_copies,)] = connection.execute(
        "SELECT count(*) FROM copies WHERE path IN (SELECT path FROM files WHERE table_name = ?)", [table]
    ).fetchall()
    counted = (
        " WHERE NOT EXISTS (FROM copies WHERE copies.structure_id = rows.structure_id "
        f"AND {variable_field('folder')} || copies.path = rows.filename)"
    )
    return {table: f"SELECT {columns} FROM {source}" + (counted if num_copies else "")}
