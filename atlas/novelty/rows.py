"""Results of a search as rows of a run's files, and the better of a new result and an earlier row."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from foldatlas.atlas.novelty.hits import NoHit, NotSearched, SearchResult, StructureHit
from foldatlas.atlas.novelty.sequence_search import SequenceHit
from foldatlas.schemas.novelty_tables import HIT, NO_HIT, NOT_SEARCHED

Row = dict[str, Any]  # a row of a table of hits, without its structure_id

_SCORE = {"structures": "tm_query", "sequences": "identity_max"}
_DETAIL_LENGTH = 200  # characters


def structure_row(result: SearchResult, names: "pa.StringArray") -> Row:
    """Return the row of a search of structures. `names` are the reference's."""
    match result:
        case NotSearched(reason=reason):
            return not_searched(reason)
        case NoHit():
            return {"state": NO_HIT, "tm_query": 0.0, "tm_target": 0.0}
        case StructureHit():
            return {
                "state": HIT,
                "target": names[result.row].as_py(),
                "tm_query": result.tm_query,
                "tm_target": result.tm_target,
                "tm_confident": result.tm_confident,
                "aligned_length": result.aligned_length,
                "rmsd": result.rmsd,
                "identity": result.identity,
                "method": result.method,
                "rotation": result.rotation.ravel().tolist(),
                "translation": result.translation.tolist(),
                "alignment": alignment_blocks(result.partners_L),
            }


def sequence_row(hit: SequenceHit | None) -> Row:
    """Return the row of a search of sequences."""
    if hit is None:
        return {"state": NO_HIT, "identity_max": 0.0}
    return {
        "state": HIT,
        "target": hit.target,
        "identity_max": hit.identity,
        "coverage": hit.coverage,
        "target_coverage": hit.target_coverage,
        "bits": hit.bits,
        "evalue": hit.evalue,
    }


def not_searched(reason: str, detail: str | None = None) -> Row:
    """Return the row of a structure that was not searched, and why."""
    words = " ".join(detail.split())[:_DETAIL_LENGTH] if detail else None
    return {"state": NOT_SEARCHED, "reason": reason, "detail": words}


def better(row: Row, earlier: Row | None, search: str) -> Row:
    """Return the better of a row of newer entries and the `earlier` row of older ones; of equal ones the earlier."""
    if earlier is None or row["state"] == NOT_SEARCHED:
        return row
    score = _SCORE[search]
    return row if row["state"] == HIT and row[score] > (earlier[score] or 0.0) else earlier


def rows_table(identities: Sequence[bytes], rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return rows, one for each structure_id, as a table of `schema`."""
    given = pa.array(identities, pa.binary(16))
    columns: list[Any] = [pa.ExtensionArray.from_storage(pa.uuid(), given)]
    columns += [pa.array([row.get(field.name) for row in rows], field.type) for field in list(schema)[1:]]
    return pa.Table.from_arrays(columns, schema=schema)


def alignment_blocks(partners_L: npt.NDArray[np.int32]) -> list[int]:
    """Return an alignment, given as each residue's partner or -1, as blocks without gaps: first residue, first partner
    and length of each, end to end."""
    residues = np.flatnonzero(partners_L >= 0)
    if not len(residues):
        return []
    partners = partners_L[residues]
    breaks = np.flatnonzero((np.diff(residues) != 1) | (np.diff(partners) != 1)) + 1
    begins = np.concatenate([[0], breaks])
    lengths = np.diff(np.concatenate([begins, [len(residues)]]))
    return [int(value) for value in np.stack([residues[begins], partners[begins], lengths], axis=1).ravel()]


def aligned_pairs(blocks: Sequence[int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the aligned residues, and their partners, of `alignment_blocks`. Raise ValueError for other numbers."""
    triples = np.asarray(blocks, np.int64)
    if triples.size % 3 or (triples < 0).any():
        raise ValueError("an alignment is blocks of three numbers of at least 0")
    first, partner, length = triples.reshape(-1, 3).T
    inside = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    return np.repeat(first, length) + inside, np.repeat(partner, length) + inside
