"""Store the macros over structures, and the views of Parquet files, in an index."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from foldatlas.atlas.macros.parquet_views import FILES_AT, PARQUET_VIEWS, VARIABLE, view_sql
from foldatlas.atlas.macros.structure_macros import HELPERS, SCALARS
from foldatlas.atlas.macros.structure_macros import TABLES as TABLE_MACROS
from foldatlas.atlas.sql.text import escape_glob, literal
from foldatlas.schemas.sql_functions import MACROS
from foldatlas.schemas.tables import TABLES


def create_structure_sql(connection: Any, work: Path) -> None:
    """Create or replace the macros and the views of Parquet files in the index that `connection` writes.

    DuckDB stores a view or a macro that reads files only if it can read their columns, so files without rows are
    written into the folder `work`. What is stored has no path.
    """
    for signature, sql in {**FILES_AT, **HELPERS, **SCALARS}.items():
        connection.execute(f"CREATE OR REPLACE MACRO {signature} AS {sql}")
    lists = {}
    for table in PARQUET_VIEWS:
        file = work / f"no-{table}.parquet"
        pq.write_table(TABLES[table].empty_table(), file)
        lists[table] = [escape_glob(file)]
    connection.execute(f"SET VARIABLE {VARIABLE} = ?", [{"folder": "/", **lists}])
    for table in PARQUET_VIEWS:
        for view, sql in view_sql(connection, table).items():
            connection.execute(f"CREATE OR REPLACE VIEW {view} AS {sql}")
    for signature, sql in TABLE_MACROS.items():
        connection.execute(f"CREATE OR REPLACE MACRO {signature} AS TABLE {sql}")
    connection.execute(f"RESET VARIABLE {VARIABLE}")
    of_tables = {signature.partition("(")[0] for signature in TABLE_MACROS}
    for macro in MACROS:
        kind = "MACRO TABLE" if macro.name in of_tables else "MACRO"
        connection.execute(f"COMMENT ON {kind} {macro.name} IS {literal(macro.comment)}")
