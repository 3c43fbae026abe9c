"""The proteins of the latest map, with positions and columns to colour them by, for files of other programs."""

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from foldatlas.atlas.reader import Atlas
from foldatlas.schemas.errors import UsageError

# Columns of `proteins` in the files, after identifier, x and y; texts of ids are categories.
COLUMNS: Final = (
    "length", "mean_plddt", "fraction_very_low", "ptm", "radius_of_gyration", "helix_fraction", "strand_fraction",
    "tm_query", "nearest_structure", "identity_max", "nearest_sequence", "cluster30", "cluster_structure",
    "is_representative30", "is_fragment", "description", "source", "structure_id",
)  # fmt: skip
CONFIDENCE: Final = "confidence"  # a category of its own: the classes of the AlphaFold Database

_CONFIDENCE: Final = (
    "CASE WHEN mean_plddt > 90 THEN 'very high' WHEN mean_plddt > 70 THEN 'confident' "
    "WHEN mean_plddt > 50 THEN 'low' WHEN mean_plddt <= 50 THEN 'very low' ELSE 'unknown' END"
)
# An id that several proteins have is written as source:id, and one that a source has twice with its structure_id.
_IDENTIFIER: Final = (
    "CASE WHEN count(*) OVER (PARTITION BY id) = 1 THEN id "
    "WHEN count(*) OVER (PARTITION BY source, id) = 1 THEN source || ':' || id "
    "ELSE source || ':' || id || ':' || structure_id::VARCHAR || ':' || "
    "row_number() OVER (PARTITION BY source, id, structure_id) END"
)


def points(atlas: Atlas, where: str | None = None) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Return schema and batches of the proteins of the latest map that meet `where`, a condition on `proteins`.

    Columns: identifier (distinct), x, y, confidence, COLUMNS; ids of structures are texts. Raise QueryError for a
    wrong condition, UsageError if no protein meets it or the atlas has no map.
    """
    condition = "" if where is None else f" WHERE {atlas.condition(where)}"
    ids = ("cluster30", "cluster_structure", "structure_id")
    columns = ", ".join(f"{name}::VARCHAR AS {name}" if name in ids else name for name in COLUMNS)
    sql = (
        f"SELECT {_IDENTIFIER} AS identifier, x, y, {_CONFIDENCE} AS {CONFIDENCE}, {columns} "
        f"FROM (SELECT * FROM proteins{condition}) AS chosen JOIN projection USING (structure_id) "
        "ORDER BY id, source, structure_id"
    )
    reader = atlas.query(sql).batches()
    first = next((batch for batch in reader if batch.num_rows), None)
    if first is None:
        raise UsageError(
            f"{atlas.folder.uri} has no protein to write" + (" that meets the condition" if where else " in a map")
        )

    def batches() -> Iterator[pa.RecordBatch]:
        yield first
        yield from reader

    return reader.schema, batches()
