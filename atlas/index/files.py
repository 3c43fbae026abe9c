"""The files that plans and manifest list, as tables of a database that is being built, and SQL that reads them.

`files` is a table of the index. The temporary tables `listed` and `sources` have what the index is built from, by plan;
rows may be deleted from `listed` so that `parquet_reader` reads less.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import pyarrow as pa

from foldatlas.atlas.index.lineage import Lineage
from foldatlas.atlas.sql.text import escape_glob
from foldatlas.atlas.storage.scratch import LocalCopies
from foldatlas.schemas.formats import table_schema
from foldatlas.schemas.manifest import Plan, ShardEntry
from foldatlas.schemas.tables import FORMAT_VERSION

MEMORY_LIMIT: Final = "50%"  # of this machine or container; beyond it, sorting uses temporary files


def create_presence(connection: Any, plans: list[Plan], lineage: Lineage) -> None:
    """Add the column `is_present` to the temporary table `sources`: whether a plan read a current version of it."""
    present = lineage.present
    numbers = [
        {"plan_number": number, "source": source.uri}
        for number, plan in enumerate(plans)
        for source in plan.sources
        if (plan.name, source.uri) in present
    ]
    create_temporary(connection, "present", numbers, {"plan_number": pa.int32(), "source": pa.string()})
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE sources AS SELECT sources.*, present.source IS NOT NULL AS is_present "
        "FROM sources LEFT JOIN present USING (plan_number, source)"
    )


def list_files(
    connection: Any, copies: LocalCopies, plans: list[Plan], entries: list[ShardEntry], run_of: Mapping[str, str]
) -> None:
    """Create the table `files`, and the temporary tables `listed` and `sources` of files and sources by plan.

    `run_of` is the run that wrote each file, by path.
    """
    number = {plan.name: order for order, plan in enumerate(plans)}
    rows: list[dict[str, Any]] = []

    def add(table: str, plan: str, shard: str | None, run: str | None, files: Iterable[Any]) -> None:
        rows.extend(
            {
                "table_name": table,
                "plan": plan,
                "shard": shard,
                "path": file.path,
                "num_rows": file.rows,
                "bytes": file.bytes,
                "sha256": file.sha256,
                "absolute": str(copies.path(file.path)),
                "plan_number": number[plan],
                "run_id": run,
            }
            for file in files
        )

    for plan in plans:
        add("records", plan.name, None, None, plan.records)
        add("sequences", plan.name, None, None, plan.sequences)
    for entry in entries:
        for table, file in entry.files.items():
            add(table, entry.plan, entry.shard, run_of.get(file.path), [file])
    texts = ("table_name", "plan", "shard", "path", "sha256", "absolute", "run_id")
    types = {
        **dict.fromkeys(texts, pa.string()),
        "num_rows": pa.int64(),
        "bytes": pa.int64(),
        "plan_number": pa.int32(),
    }
    create_temporary(connection, "listed", rows, types)
    connection.execute("CREATE TABLE files AS SELECT * EXCLUDE (absolute, plan_number, run_id) FROM listed")
    sources = [
        {
            "plan_number": number[plan.name],
            "max_length": plan.max_length,
            "source": source.uri,
            "sha256": source.sha256,
        }
        for plan in plans
        for source in plan.sources
    ]
    types = {"plan_number": pa.int32(), "max_length": pa.int64(), "source": pa.string(), "sha256": pa.string()}
    create_temporary(connection, "sources", sources, types)


def create_temporary(connection: Any, name: str, rows: list[dict[str, Any]], types: dict[str, pa.DataType]) -> None:
    """Create a temporary table with the given rows."""
    connection.register("given", pa.Table.from_pylist(rows, schema=pa.schema(list(types.items()))))
    connection.execute(f"CREATE TEMP TABLE {name} AS SELECT * FROM given")
    connection.unregister("given")


def parquet_reader(connection: Any, copies: LocalCopies, table: str, version: int = FORMAT_VERSION) -> str:
    """Return SQL that reads all listed files of `table`, with the column `filename`; without files, an empty table.

    `version` is the format of the atlas, on which the columns of an empty table depend.
    """
    names = connection.execute("SELECT path FROM listed WHERE table_name = ? ORDER BY ALL", [table]).fetchall()
    paths = copies.have(name for (name,) in names)
    if not paths:
        connection.register(f"no_{table}", table_schema(table, version).empty_table())
        return f"(SELECT *, '' AS filename FROM no_{table})"
    variable = f"{table}_files"
    connection.execute(f"SET VARIABLE {variable} = ?", [[escape_glob(path) for path in paths]])
    return f"read_parquet(getvariable('{variable}'), filename = true)"
