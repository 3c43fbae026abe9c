"""Proteins by name, by sequence and by filter; clusters and novelty. All values are as in the index; NULL is None."""

import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from foldatlas.atlas.parquet.structures import StructureLocation
from foldatlas.atlas.serve.current import Served
from foldatlas.atlas.serve.filters import Key, Matching, ProteinFilter
from foldatlas.atlas.serve.pages import filtered_rows, rows_of
from foldatlas.atlas.sql.records_by_name import find_records
from foldatlas.schemas.errors import FoldAtlasError

# Columns of `proteins` that are served; the others say where a structure is stored.
COLUMNS: Final = (
    "id", "source", "description", "structure_id", "length", "sequence_crc64", "mgyp", "is_fragment", "mean_plddt",
    "plddt_std", "num_confident", "fraction_confident", "fraction_very_high", "fraction_low", "fraction_very_low",
    "ptm", "num_unknown", "radius_of_gyration", "helix_fraction", "strand_fraction", "tm_query", "tm_target",
    "nearest_structure", "novelty_source", "identity_max", "nearest_sequence", "cluster90", "cluster30",
    "cluster_structure", "is_representative30", "model", "run_id",
)  # fmt: skip
LEVELS: Final = ("identity90", "identity30", "structure")
ROWS_PER_STEP: Final = 2_000  # proteins of a download that are read at a time

_OF_PROTEIN: Final = ("id", "source", "description", "structure_id", "length", "mean_plddt", "ptm")
_PLACES: Final = ("structure_file", "structure_row")
_PLACE: Final = "structure_file::VARCHAR AS structure_file, structure_row"
_FOLDED: Final = "(FROM records WHERE state = 'folded' AND NOT superseded)"  # sorted by id
_MGYP: Final = re.compile(r"MGYP0*(\d{1,15})", re.IGNORECASE)
_HASH: Final = re.compile(r"[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}")


class NotFoundError(FoldAtlasError):
    """No protein, cluster or output has this name."""


class AmbiguousError(FoldAtlasError):
    """A name means several structures. `structure_ids` lists them."""

    def __init__(self, message: str, structure_ids: Sequence[uuid.UUID]):
        super().__init__(message)
        self.structure_ids = list(structure_ids)


@dataclass(frozen=True, slots=True)
class Protein:
    """A record with a structure: what a structure's file needs."""

    id: str
    source: str
    description: str
    structure_id: uuid.UUID
    length: int
    mean_plddt: float | None
    ptm: float | None
    file: str
    row: int

    @property
    def location(self) -> StructureLocation:
        return StructureLocation(self.structure_id.bytes, self.file, self.row)


def find_proteins(served: Served, name: str) -> list[Protein]:
    """Return all records with a structure that `name` means: an id, source:id, a structure_id or an MGYP accession."""
    found = _by(served, "structure_id = ?", [uuid.UUID(name)], served.folded_records) if _HASH.fullmatch(name) else []
    if not found:
        found = _by(served, "id = ?", [name])
    if not found and (accession := _MGYP.fullmatch(name)):
        found = _by(served, "mgyp = ?", [int(accession[1])])
    if not found:  # source:id, and further titles of records of NCBI's nr
        cursor = served.new_cursor()
        find_records(cursor, [name])
        ids = cursor.execute(
            "SELECT DISTINCT id, source, structure_id FROM found WHERE state = 'folded' ORDER BY ALL LIMIT 100"
        ).fetchall()
        for identity, source, structure in ids:
            found += _by(served, "id = ? AND source = ? AND structure_id = ?",
                         [identity, source, structure])  # fmt: skip
    return found


def one_protein(served: Served, name: str) -> Protein:
    """Return the first record of the structure that `name` means. Raise NotFoundError, AmbiguousError."""
    found = find_proteins(served, name)
    if not found:
        raise NotFoundError(f"no protein with a structure is called {shown(name)}{_why_not(served, name)}")
    structures = sorted({protein.structure_id for protein in found})
    if len(structures) > 1:
        raise AmbiguousError(f"{shown(name)} means {len(structures)} structures: give one by structure_id", structures)
    return found[0]


def protein_rows(served: Served, names: Iterable[Protein]) -> list[dict[str, Any]]:
    """Return the rows of `proteins` of records."""
    proteins = list(names)
    structures = {protein.structure_id for protein in proteins}
    if not structures:
        return []
    rows = {_key(row): row for row in rows_of(served, structures, COLUMNS)}
    return [rows[Key(protein.structure_id, protein.id, protein.source)] for protein in proteins]


def page(
    served: Served, wanted: ProteinFilter | Matching, after: Key | None, size: int
) -> tuple[list[dict[str, Any]], Key | None]:
    """Return at most `size` rows of `proteins` that meet a filter, and the key of the last if there are more."""
    rows = filtered_rows(served, wanted, after, size + 1, COLUMNS)
    more = len(rows) > size
    return rows[:size], _key(rows[size - 1]) if more else None


def steps(
    served: Served, wanted: ProteinFilter | Matching, after: Key | None, limit: int
) -> Iterator[list[tuple[dict[str, Any], Protein]]]:
    """Yield the rows of `proteins` that meet a filter, at most `limit`, with the location of each structure."""
    left = limit
    while left > 0:
        rows = filtered_rows(served, wanted, after, min(left, ROWS_PER_STEP), (*COLUMNS, *_PLACES))
        if not rows:
            return
        after = _key(rows[-1])
        left -= len(rows)
        yield [(row, _protein(row, row.pop("structure_file"), row.pop("structure_row"))) for row in rows]
        if len(rows) < ROWS_PER_STEP:
            return


def states(served: Served, names: Sequence[str]) -> dict[str, str]:
    """Return what became of records that have no structure, by name; names that no record has are "unknown"."""
    cursor = served.new_cursor()
    find_records(cursor, names)
    found = dict(
        cursor.execute(
            "SELECT wanted.name, min(found.state || ': ' || found.outcome) FROM wanted JOIN found USING (number) "
            "WHERE found.state <> 'folded' GROUP BY wanted.name"
        ).fetchall()
    )
    return {name: found.get(name, "unknown") for name in names}


def cluster(served: Served, level: str, representative: uuid.UUID) -> dict[str, Any]:
    """Return a cluster. Raise NotFoundError."""
    rows = served.rows("SELECT * FROM clusters WHERE level = ? AND cluster = ?", [level, representative])
    if not rows:
        raise NotFoundError(f"no cluster of the level {level} has the representative {representative}")
    return rows[0]


def clusters(
    served: Served, level: str, min_size: int, after: uuid.UUID | None, size: int
) -> tuple[list[dict[str, Any]], uuid.UUID | None]:
    """Return at most `size` clusters in the order of their representatives, and the last if there are more."""
    rows = served.rows(
        "SELECT * FROM clusters WHERE level = ? AND num_structures >= ? AND (? IS NULL OR cluster > ?) "
        f"ORDER BY cluster LIMIT {int(size) + 1}",
        [level, min_size, after, after],
    )
    return rows[:size], rows[size - 1]["cluster"] if len(rows) > size else None


def members(
    served: Served, level: str, representative: uuid.UUID, after: uuid.UUID | None, size: int
) -> tuple[list[dict[str, Any]], uuid.UUID | None]:
    """Return at most `size` members of a cluster in the order of structure_id, and the last if there are more."""
    rows = served.rows(
        "SELECT * FROM members WHERE level = ? AND cluster = ? AND (? IS NULL OR structure_id > ?) "
        f"ORDER BY structure_id LIMIT {int(size) + 1}",
        [level, representative, after, after],
    )
    return rows[:size], rows[size - 1]["structure_id"] if len(rows) > size else None


def novelty(served: Served, protein: Protein) -> dict[str, Any]:
    """Return the latest best hits of a protein among known structures and sequences; None where it was not searched."""
    found: dict[str, Any] = {"structure_id": protein.structure_id}
    for search, table in (("structures", "novelty"), ("sequences", "sequence_novelty")):
        rows = served.rows(
            f"SELECT hits.* EXCLUDE (run), runs.reference, runs.demo AS is_demonstration, targets.title, "
            f"targets.licence FROM {table} AS hits "
            "JOIN novelty_runs AS runs ON runs.run = hits.run AND runs.search = ? "
            "LEFT JOIN (SELECT DISTINCT ON (search, name) * FROM targets ORDER BY search, name, run DESC) AS targets "
            "ON targets.search = runs.search AND targets.name = hits.target "
            "WHERE runs.is_latest AND hits.structure_id = ?",
            [search, protein.structure_id],
        )
        found[search] = rows[0] if rows else None
    return found


def novelty_runs(served: Served) -> list[dict[str, Any]]:
    """Return the complete search runs, the latest first."""
    return served.rows(
        "SELECT run, search, completed, reference, version, entries, demo AS is_demonstration, licences, is_latest "
        "FROM novelty_runs ORDER BY completed DESC, run"
    )


def shown(name: str) -> str:
    """Return a name as a message may repeat it."""
    return repr(name if len(name) <= 80 else name[:77] + "...")


def _by(served: Served, condition: str, values: list[Any], records: str = _FOLDED) -> list[Protein]:
    """Return records with structures. Each table is asked by its own key: `proteins` joins before it looks."""
    found = served.rows(
        f"SELECT id, source, description, structure_id FROM {records} WHERE {condition} ORDER BY id, source LIMIT 1000",
        values,
    )
    places = {}
    for identity in {record["structure_id"] for record in found}:
        [places[identity]] = served.rows(
            f"SELECT length, mean_plddt, ptm, {_PLACE} FROM scores WHERE structure_id = ?", [identity]
        )
    return [
        _protein({**record, **place}, place["structure_file"], place["structure_row"])
        for record in found
        for place in [places[record["structure_id"]]]
    ]


def _protein(row: dict[str, Any], file: str, number: int) -> Protein:
    return Protein(**{name: row[name] for name in _OF_PROTEIN}, file=file, row=number)


def _key(row: dict[str, Any]) -> Key:
    return Key(row["structure_id"], row["id"], row["source"])


def _why_not(served: Served, name: str) -> str:
    state = states(served, [name])[name]
    return "" if state == "unknown" else f": its record is {state}"
