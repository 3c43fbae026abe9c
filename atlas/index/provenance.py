"""The origin of imported structures, in the index: the table `provenance`, and columns of `scores`.

Only an atlas of format 2 has them. `provenance` has one row per structure, sorted by structure_id. What is often asked
for is in `scores` too, and so in `proteins`, because a join of all structures takes seconds.
"""

from typing import Any, Final

from foldatlas.atlas.index.files import parquet_reader
from foldatlas.atlas.storage.scratch import LocalCopies
from foldatlas.schemas.formats import IMPORTED_FORMAT, PROVENANCE, table_schema

COLUMNS: Final = ("model", "model_version", "licence", "origin", "plddt_source")  # of `scores`
JOIN: Final = "LEFT JOIN origins ON origins.shard = shard_files.shard AND origins.structure_id = scores.structure_id"
_NAMES: Final = table_schema(PROVENANCE, IMPORTED_FORMAT).names


def list_origins(connection: Any, copies: LocalCopies) -> None:
    """Create the temporary table `origins`: the rows of provenance files, with their shards. Before `scores`."""
    provenance = parquet_reader(connection, copies, PROVENANCE, IMPORTED_FORMAT)
    columns = ", ".join(f"provenance.{name}" for name in _NAMES)
    connection.execute(
        f"CREATE TEMP TABLE origins AS SELECT {columns}, listed.shard FROM {provenance} AS provenance "
        "JOIN listed ON listed.absolute = provenance.filename"
    )


def make_provenance(connection: Any) -> None:
    """Create the table `provenance`, or append rows to it, of the structures that the index takes. After `scores`."""
    columns = ", ".join(f"origins.{name}" for name in _NAMES)
    rows = (
        f"SELECT {columns} FROM origins JOIN shard_files ON shard_files.shard = origins.shard "
        "JOIN scores ON scores.structure_id = origins.structure_id "
        "AND scores.structure_file::VARCHAR = shard_files.structure_file::VARCHAR ORDER BY origins.structure_id"
    )
    connection.execute(f"CREATE TABLE IF NOT EXISTS provenance AS {rows} LIMIT 0")
    connection.execute(f"INSERT INTO provenance {rows}")
    connection.execute("DROP TABLE origins")
