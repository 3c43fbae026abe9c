"""The nearest known structure of a protein, superposed: the C-alphas of the stored target in the protein's frame.

A structure that was searched itself has the transform and the alignment of its search. A member of a cluster inherits
the target of the cluster's representative but no alignment: its residues are paired with the representative's where
their sequences match (at 90 % identity, nearly everywhere), these with the target's by the representative's alignment,
and the pairs are superposed here (Kabsch 1978).

Shapes: N pairs of residues, M residues of the target.
"""

import threading
from difflib import SequenceMatcher
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from foldatlas.atlas.novelty.hits import VERDICT_TM
from foldatlas.atlas.novelty.rows import aligned_pairs, alignment_blocks
from foldatlas.atlas.novelty.search_run import KIND
from foldatlas.atlas.novelty.stored_hits import StoredHits, in_frame
from foldatlas.atlas.novelty.targets import Target
from foldatlas.atlas.parquet.coordinates import StoredStructure
from foldatlas.atlas.parquet.structures import StructureLocation
from foldatlas.atlas.serve.catalogue import NotFoundError, Protein
from foldatlas.atlas.serve.current import Served
from foldatlas.atlas.stages.run import StageRun
from foldatlas.folding.compare.superposition import superpose
from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.novelty_tables import HIT, NOT_SEARCHED, REASONS
from foldatlas.schemas.records import ATOMS, BACKBONE
from foldatlas.schemas.tables import COORDINATE_SCALE

SEARCHED: Final = "search"  # the transform is the search's
INHERITED: Final = "representative"  # computed here, by the alignment of the cluster's representative

_MAX_RUNS: Final = 4  # runs whose documents are kept
_MIN_PAIRS: Final = 3  # fewer do not determine a superposition
_NEAR: Final = 8.0  # angstrom: pairs that are further apart are left out of the next superposition
_ROUNDS: Final = 5

Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class NearestKnown:
    """Finds the nearest known structures of proteins. One for all threads of a server."""

    def __init__(self) -> None:
        self._runs: dict[str, StoredHits] = {}
        self._lock = threading.Lock()

    def find(self, served: Served, protein: Protein, structure: StoredStructure) -> dict[str, Any]:
        """Return the target of a protein's best hit, superposed, with the scores of the hit, as a result of the API.

        Raise NotFoundError, with the reason, where there is none. Raise DamagedAtlasError.
        """
        hit = _latest(served, protein)
        source = hit["novelty_source"]
        is_own = source == protein.structure_id
        try:
            hits = self._hits(served, hit["run"])
            target = hits.target(hit["target"])
            location = _location(served, source)
            row = hits.row(source.bytes, location.file)
        except (OSError, pa.ArrowException) as error:
            raise DamagedAtlasError(f"the results of search {hit['run']} cannot be read ({error})") from error
        if target is None or target.c_alphas_L3 is None or row is None or row["rotation"] is None:
            raise NotFoundError(f"the coordinates of {hit['target']} were not stored with the search")
        if is_own:
            alignment = np.array(row["alignment"], np.int64).reshape(-1, 3)
            values = {name: row[name] for name in ("rmsd", "aligned_length", "identity")}
            placed = in_frame(target.c_alphas_L3, row["rotation"], row["translation"])
        else:
            [representative] = served.atlas.structures([location])
            placed, alignment, values = _inherited(structure, representative, target, row["alignment"])
        return {
            "structure_id": protein.structure_id,
            "target": target.name,
            "title": target.title,
            "licence": target.licence,
            "length": len(target.sequence),
            "sequence": target.sequence,
            "reference": hit["reference"],
            "version": target.version,
            "is_demonstration": hit["demo"],
            "tm_query": hit["tm_query"],
            "tm_target": hit["tm_target"],
            "tm_confident": hit["tm_confident"] if is_own else None,
            **values,
            "placed_by": SEARCHED if is_own else INHERITED,
            "novelty_source": source,
            "alignment": alignment.tolist(),
            "c_alphas": _rounded(placed),
        }

    def _hits(self, served: Served, run: str) -> StoredHits:
        with self._lock:
            if run not in self._runs:
                opened = StoredHits(StageRun.open(served.atlas.folder, KIND, run))
                if len(self._runs) >= _MAX_RUNS:
                    self._runs.pop(next(iter(self._runs)))
                self._runs[run] = opened
            return self._runs[run]


def _latest(served: Served, protein: Protein) -> dict[str, Any]:
    """Return the row of the latest search of structures. Raise NotFoundError where it has no hit."""
    rows = served.rows(
        "SELECT novelty.*, runs.reference, runs.demo FROM novelty JOIN novelty_runs AS runs USING (run) "
        "WHERE runs.is_latest AND runs.search = 'structures' AND novelty.structure_id = ?",
        [protein.structure_id],
    )
    if not rows:
        raise NotFoundError(f"{protein.structure_id} was not searched: run `foldatlas novelty`")
    [row] = rows
    if row["state"] == NOT_SEARCHED:
        why = row["reason"] or ""
        raise NotFoundError(f"{protein.structure_id} was not searched: {REASONS.get(why, why)}")
    if row["state"] != HIT:
        raise NotFoundError(f"the search of {row['reference']} found no known structure like {protein.structure_id}")
    return row


def _location(served: Served, identity: Any) -> StructureLocation:
    [row] = served.rows(
        "SELECT structure_file::VARCHAR AS file, structure_row FROM scores WHERE structure_id = ?", [identity]
    )
    return StructureLocation(identity.bytes, row["file"], row["structure_row"])


def _inherited(
    structure: StoredStructure, representative: StoredStructure, target: Target, blocks: list[int]
) -> tuple[Doubles, Integers, dict[str, Any]]:
    """Return the target in the frame of a cluster's member, the blocks of aligned residues, and their agreement.

    Raise NotFoundError where fewer than three residues correspond.
    """
    assert target.c_alphas_L3 is not None, "of a search of structures"
    residues, partners = aligned_pairs(blocks)
    to_target = np.full(len(representative.sequence), -1, np.int64)
    to_target[residues] = partners
    pairs = np.full(len(structure.sequence), -1, np.int32)
    matcher = SequenceMatcher(None, structure.sequence, representative.sequence, autojunk=False)
    for first, second, size in matcher.get_matching_blocks():
        pairs[first : first + size] = to_target[second : second + size]
    c_alphas = c_alphas_of(structure)
    own = np.flatnonzero((pairs >= 0) & np.isfinite(c_alphas).all(axis=1))
    theirs = pairs[own].astype(np.int64)
    known = np.isfinite(target.c_alphas_L3[theirs]).all(axis=1)
    own, theirs = own[known], theirs[known]
    if len(own) < _MIN_PAIRS:
        raise NotFoundError(f"{target.name} is the hit of the cluster's representative, which differs too much here")
    mobile, fixed = c_alphas[own], target.c_alphas_L3[theirs].astype(np.float64)
    rotation, translation = _superpose_near(mobile, fixed)
    apart = np.linalg.norm(mobile @ rotation.T + translation - fixed, axis=1)
    same = sum(structure.sequence[i] == target.sequence[j] for i, j in zip(own, theirs, strict=True))
    aligned = np.full(len(structure.sequence), -1, np.int32)
    aligned[own] = theirs
    return (
        in_frame(target.c_alphas_L3, rotation, translation),
        np.array(alignment_blocks(aligned), np.int64).reshape(-1, 3),
        {
            "rmsd": round(float(np.sqrt((apart**2).mean())), 3),
            "aligned_length": len(own),
            "identity": round(same / len(own), 4),
        },
    )


def _superpose_near(mobile_N3: Doubles, fixed_N3: Doubles) -> tuple[Doubles, Doubles]:
    """Return a superposition of pairs that repeatedly leaves out those that are far apart."""
    rotation, translation = superpose(mobile_N3, fixed_N3)
    for _ in range(_ROUNDS):
        near = np.linalg.norm(mobile_N3 @ rotation.T + translation - fixed_N3, axis=1) < _NEAR
        if near.sum() < max(_MIN_PAIRS, VERDICT_TM * len(near)):
            break
        rotation, translation = superpose(mobile_N3[near], fixed_N3[near])
    return rotation, translation


def c_alphas_of(structure: StoredStructure) -> Doubles:
    """Return the C-alphas of a structure, float64 [L, 3] in angstrom, NaN where missing."""
    sizes = [len(ATOMS[letter]) for letter in structure.sequence]
    starts = np.cumsum([0, *sizes])[:-1]
    found: Doubles = structure.positions[starts + BACKBONE.index("CA")].astype(np.float64)
    return found


def _rounded(points_M3: Doubles) -> list[list[float] | None]:
    """Return points in units of the stored coordinates, None for a missing one."""
    values: list[list[float] | None] = (np.rint(points_M3 * COORDINATE_SCALE) / COORDINATE_SCALE).tolist()
    for row in np.flatnonzero(np.isnan(points_M3).any(axis=1)):
        values[row] = None
    return values
