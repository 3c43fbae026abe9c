"""The table of differences between two atlases."""

from enum import StrEnum
from typing import Any, Final

import pyarrow as pa

from foldatlas.atlas.sql.query import Result, read_only


class Change(StrEnum):
    """The kinds of differences, in the order in which they are listed."""

    SETTINGS = "settings"
    NEW = "new"
    LOST = "lost"
    SEQUENCE = "sequence"
    OUTCOME = "outcome"
    SCORE = "score"
    COORDINATES = "coordinates"
    PROVENANCE = "provenance"
    NOVELTY = "novelty"
    CLUSTER = "cluster"
    REPRESENTATIVE = "representative"


MEANINGS: Final = {
    Change.SETTINGS: "a setting, reference or kind of result that differs between the atlases",
    Change.NEW: "an id that only the second atlas has",
    Change.LOST: "an id that only the first atlas has",
    Change.SEQUENCE: "an id in both, of different sequences",
    Change.OUTCOME: "an id in both, of the same sequences, with another outcome or number of records",
    Change.SCORE: "a structure in both, with another confidence",
    Change.COORDINATES: "a structure in both, with other coordinates or missing atoms",
    Change.PROVENANCE: "an imported structure in both, of another model, version, licence or origin",
    Change.NOVELTY: "a structure in both, with another nearest known structure or sequence, or similarity to it",
    Change.CLUSTER: "a structure in both, in a cluster with other members",
    Change.REPRESENTATIVE: "a cluster of the same structures, with another representative",
}

SCHEMA: Final = pa.schema(
    [
        pa.field("change", pa.string(), metadata={"meaning": "kind of difference: " + ", ".join(Change)}),
        pa.field("id", pa.string(), metadata={"meaning": "id of the record, or the first id of the structure"}),
        pa.field("structure_id", pa.uuid(), metadata={"meaning": "the structure, where one is meant"}),
        pa.field("column", pa.string(), metadata={"meaning": "what differs: a column of proteins, or a measure"}),
        pa.field("before", pa.string(), metadata={"meaning": "its value in the first atlas"}),
        pa.field("after", pa.string(), metadata={"meaning": "its value in the second atlas"}),
        pa.field("amount", pa.float64(), metadata={"meaning": "after minus before of numbers; RMSD in angstrom"}),
    ]
)


class Differences:
    """The differences between two atlases, in the table `differences` of a DuckDB connection."""

    def __init__(self, connection: Any):
        self._connection = connection

    def counts(self) -> dict[Change, int]:
        """Return the number of differences of each kind that occurs, in the order of `Change`."""
        found = dict(self._connection.execute("SELECT change, count(*) FROM differences GROUP BY change").fetchall())
        return {change: found[change] for change in Change if change in found}

    def result(self, change: Change | None = None, limit: int | None = None) -> Result:
        """Return the differences (schema SCHEMA), sorted by kind and id; of one kind, at most `limit`, if given."""
        order = " ".join(f"WHEN '{kind}' THEN {number}" for number, kind in enumerate(Change))
        chosen = f"WHERE change = '{change}' " if change is not None else ""
        first = f" LIMIT {limit}" if limit is not None else ""
        return read_only(
            self._connection,
            f'SELECT * FROM differences {chosen}ORDER BY CASE change {order} END, id, structure_id, "column"{first}',
        )
