"""Residues of low confidence, counted from stored pLDDT when indexing, since scores files do not have them.

A structure's residues are below 50, from 50 to 70, above 70 (`num_confident`, in its scores), or have no pLDDT: only
those below 50 and those with a value are counted here. Files are never changed, so the counts of files that the index
to be replaced has already are taken from it, as fractions; only the column `plddt` of the other files is read.
"""

from typing import Any, Final

import pyarrow as pa

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.sql.text import escape_glob
from foldatlas.schemas.tables import PLDDT_SCALE

MAX_VERY_LOW_PLDDT: Final = 50

# Columns of `scores` -> what fills them.
COLUMNS: Final = {
    "fraction_low": "coalesce(low_residues.fraction_low, "
    "(low_residues.num_plddt - low_residues.num_very_low - scores.num_confident) / scores.length)",
    "fraction_very_low": "coalesce(low_residues.fraction_very_low, "
    "CASE WHEN low_residues.num_plddt > 0 THEN low_residues.num_very_low / scores.length END)",
}
JOIN: Final = (
    "LEFT JOIN low_residues ON low_residues.number = shard_files.number "
    "AND low_residues.structure_row = scores.structure_row"
)


def count_low_residues(connection: Any, folder: AtlasFolder, previous: str | None = None) -> None:
    """Create the temporary table `low_residues`, by number of the shard in `shard_files` and row of its structure.

    `previous` is the name under which an index with the fractions of some of these files is attached.
    """
    connection.execute(
        "CREATE TEMP TABLE low_residues (number BIGINT, structure_row INTEGER, num_plddt INTEGER, "
        "num_very_low INTEGER, fraction_low FLOAT, fraction_very_low FLOAT)"
    )
    if previous is not None:
        connection.execute(
            "INSERT INTO low_residues BY NAME SELECT number, structure_row, fraction_low, fraction_very_low "
            f"FROM {previous}.scores AS earlier "
            "JOIN (SELECT structure_file::VARCHAR AS structure_file, number FROM shard_files) AS shard_files "
            "ON shard_files.structure_file = earlier.structure_file::VARCHAR"
        )
    files = connection.execute(
        "SELECT number, structure_file::VARCHAR, structures FROM shard_files "
        "WHERE number NOT IN (SELECT number FROM low_residues) ORDER BY number"
    ).fetchall()
    if folder.is_local:
        _count_local(connection, [path for _, _, path in files])
        return
    for number, name, _ in files:
        plddt = folder.read_table(name, ["plddt"])
        rows = plddt.append_column("structure_row", pa.array(range(plddt.num_rows), pa.int32()))
        connection.register("plddt_of_file", rows)
        connection.execute(f"{_INSERT} SELECT {number} AS number, structure_row, {_COUNTS} FROM plddt_of_file")
        connection.unregister("plddt_of_file")


_INSERT: Final = "INSERT INTO low_residues BY NAME"
_COUNTS: Final = (
    "list_count(plddt) AS num_plddt, coalesce(list_sum(list_transform(plddt, lambda value: "
    f"(value < {MAX_VERY_LOW_PLDDT * PLDDT_SCALE})::UTINYINT)), 0) AS num_very_low"
)


def _count_local(connection: Any, paths: list[str]) -> None:
    """Count the residues in local structures files, in parallel."""
    if paths:
        connection.execute("SET VARIABLE plddt_files = ?", [[escape_glob(path) for path in paths]])
        connection.execute(
            f"{_INSERT} SELECT number, file_row_number::INTEGER AS structure_row, {_COUNTS} "
            "FROM read_parquet(getvariable('plddt_files'), filename = true, file_row_number = true) AS stored "
            "JOIN shard_files ON shard_files.structures = stored.filename"
        )
