"""Structures searched against a reference database: for each query the entry of the greatest TM-score.

numba's kernels are imported when a search begins. Results do not depend on the number of threads.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from foldatlas.atlas.novelty.hits import NoHit, NotSearched, Query, SearchResult, StructureHit
from foldatlas.atlas.novelty.settings import SearchSettings
from foldatlas.atlas.reference.chains import MIN_RESIDUES
from foldatlas.atlas.reference.reader import Reference
from foldatlas.schemas.errors import UsageError

if TYPE_CHECKING:
    from foldatlas.folding.compare.tm_align import Chains

Codes = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]

_ASCII: Final = "ascii"


@dataclass(frozen=True, slots=True)
class StructureSearch:
    """Results in the order of the queries, seconds of wall time by stage, and how many pairs reached each stage."""

    results: tuple[SearchResult, ...]
    seconds: dict[str, float]
    counts: dict[str, int]


def search_structures(
    reference: Reference,
    queries: Sequence[Query],
    settings: SearchSettings,
    *,
    since: int = 0,
    threads: int = 1,
    scratch: Path,
    database: Path | None = None,
) -> StructureSearch:
    """Return the best hit of each query among the entries that came after version `since` (0: among all).

    `scratch` is a folder for files of the search, which are deleted at its end. `database` is the MMseqs2 database of
    those entries (`Reference.database_of`), for callers that search it often; by default one is written to `scratch`.
    Raise UsageError for a database of sequences, and for a number of threads below 1.
    """
    if reference.kind != "structures":
        raise UsageError(f"{reference.root} is a database of {reference.kind}: name one of structures")
    if threads < 1:
        raise UsageError(f"a search has 1 thread or more, not {threads}")
    from foldatlas.folding.compare.tm_align import Chains

    chains = Chains(reference.c_alphas, reference.states, reference.offsets)
    rows = np.array(reference.new_rows(since), dtype=np.int64)
    seconds = defaultdict[str, float](float)
    counts: Counter[str] = Counter()
    results: list[SearchResult] = []
    for query in queries:
        begun = perf_counter()
        if query.has_c_alpha_L.sum() < MIN_RESIDUES:
            results.append(NotSearched("too_short"))
        else:
            counts["align"] += len(rows)
            results.append(_exhaustive(reference, chains, rows, query, threads))
        seconds["align"] += perf_counter() - begun
    return StructureSearch(tuple(results), dict(seconds), dict(counts))


def _exhaustive(reference: Reference, chains: "Chains", rows: Rows, query: Query, threads: int) -> SearchResult:
    from foldatlas.folding.compare.three_di import three_di_states
    from foldatlas.folding.compare.tm_align import tm_align_many

    if not len(rows):
        return NoHit()
    kept = query.has_c_alpha_L
    states = np.zeros(len(kept), np.uint8)
    states[kept] = three_di_states(*(query.backbone_L43[kept, atom] for atom in range(4)))
    found = tm_align_many(query.backbone_L43[:, 1], states, chains, rows, threads)
    best = int(np.argmax(found.tm_query_P))
    if found.tm_query_P[best] <= 0.0:
        return NoHit()
    return _hit(reference, int(rows[best]), query, found, best)


def _hit(reference: Reference, row: int, query: Query, found: Any, place: int) -> StructureHit:
    from foldatlas.folding.compare.tm_align import score_pairs

    sequence, target = reference.chain(row)
    partners = found.partners_PL[place]
    aligned = np.flatnonzero(partners >= 0)
    own = np.frombuffer(query.sequence.encode(_ASCII, "replace"), dtype=np.uint8)
    theirs = np.frombuffer(sequence.encode(_ASCII), dtype=np.uint8)
    confident = query.is_confident_L
    tm_confident = None
    if confident.any():
        both = np.flatnonzero(confident & (partners >= 0))
        tm_confident = 0.0
        if len(both):
            points = query.backbone_L43[both, 1]
            tm_confident = score_pairs(points, np.asarray(target[partners[both]]), int(confident.sum()))
    return StructureHit(
        row=row,
        tm_query=float(found.tm_query_P[place]),
        tm_target=float(found.tm_target_P[place]),
        tm_confident=tm_confident,
        aligned_length=int(found.aligned_P[place]),
        rmsd=float(found.rmsd_P[place]),
        identity=float((own[aligned] == theirs[partners[aligned]]).mean()),
        method="align",
        rotation=found.rotation_P233[place, 0],
        translation=found.translation_P23[place, 0],
        partners_L=partners,
    )
