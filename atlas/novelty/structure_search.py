"""Search structures against a reference: for each query, the entry with the greatest TM-score.

Three stages, each slower and more accurate than the one before, which selects its candidates:

    scan    Smith-Waterman alignment of the 3Di states of every entry (`folding.compare.state_scan`)
    bound   TM-score of one superposition from that alignment, a lower bound of the entry's TM-score
            (`folding.compare.tm_align.lower_bounds`)
    align   TM-align (Zhang & Skolnick 2005) of the entries whose bound is near the greatest one

The TM-score of an entry of m residues, normalised by a query of n residues, is at most m / n: an entry whose m / n is
below the best score is skipped without loss. `STAGES` has the limits of each stage; docs/novelty.md has the measured
recall. numba's kernels are imported when a search begins. Results do not depend on the number of threads.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from foldatlas.atlas.novelty.hits import VERDICT_TM, Method, NoHit, NotSearched, Query, SearchResult, StructureHit
from foldatlas.atlas.novelty.settings import Mode, SearchSettings
from foldatlas.atlas.reference.chains import MIN_RESIDUES
from foldatlas.atlas.reference.reader import Reference
from foldatlas.schemas.errors import UsageError

if TYPE_CHECKING:
    from foldatlas.folding.compare.tm_align import Alignments, Chains

Codes = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

_SCORES_BYTES: Final = 64 << 20  # scores of a scan in memory: one byte for each query and entry
_SHORT: Final = 80  # residues; many chains score alike with shorter queries, so more are aligned, which is fast
_ALIGNED_AT_ONCE: Final = 16  # entries between two comparisons with the best score
_UNCERTAIN: Final = 0.05  # below VERDICT_TM: where the best score is there, more effort may settle the verdict
_REFERENCE_LENGTH: Final = 240  # residues of a query for which `Stages.candidates` is stated


@dataclass(frozen=True, slots=True)
class Stages:
    """Limits of each stage. Pairs hold the value for queries of fewer than _SHORT residues, and for others."""

    candidates: int  # selected by the scan, for a query of _REFERENCE_LENGTH; for shorter ones more in proportion
    max_candidates: int
    fraction: tuple[float, float]  # entries with a bound below this fraction of the greatest are not aligned
    aligned: tuple[int, int]  # maximum number of aligned entries
    aligned_again: int  # the best of these, with more effort, where the best score is just below VERDICT_TM


STAGES: Final[dict[Mode, Stages]] = {
    "default": Stages(800, 4_000, (0.6, 0.6), (160, 24), 4),
    "sensitive": Stages(4_000, 20_000, (0.5, 0.5), (400, 80), 128),
    "exhaustive": Stages(1 << 62, 1 << 62, (0.0, 0.0), (1 << 62, 1 << 62), 128),
}


@dataclass(frozen=True, slots=True)
class StructureSearch:
    """Results in the order of the queries, thread seconds per stage, and number of pairs that reached each stage."""

    results: tuple[SearchResult, ...]
    seconds: dict[str, float]
    counts: dict[str, int]


@dataclass(slots=True, eq=False)
class PreparedQuery:
    """A query's residues with a C-alpha, their indices in the whole query, and its seconds and pairs by stage."""

    query: Query
    c_alphas: npt.NDArray[np.float32]
    states: Codes
    residues: Rows
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    counts: Counter[str] = field(default_factory=Counter)


def search_structures(
    reference: Reference,
    queries: Sequence[Query],
    settings: SearchSettings,
    *,
    since: int = 0,
    threads: int = 1,
) -> StructureSearch:
    """Return the best hit of each query among the entries that were added after version `since` (0: all entries).

    One call with many queries is faster than a call for each. Raise UsageError for a reference of sequences, and if
    `threads` is below 1.
    """
    if reference.kind != "structures":
        raise UsageError(f"{reference.root} is a reference of {reference.kind}: give one of structures")
    if threads < 1:
        raise UsageError(f"threads must be 1 or more, it is {threads}")
    from foldatlas.folding.compare.tm_align import Chains

    chains = Chains(reference.c_alphas, reference.states, reference.offsets)
    rows = np.array(reference.new_rows(since), dtype=np.int64)
    results: list[SearchResult] = [NotSearched("too_short")] * len(queries)
    seconds: defaultdict[str, float] = defaultdict(float)
    counts: Counter[str] = Counter()
    begun = perf_counter()
    searched = {number: made for number, query in enumerate(queries) if (made := prepared(query)) is not None}
    seconds["encode"] = perf_counter() - begun
    counts["queries"] = len(searched)
    at_once = max(1, _SCORES_BYTES // max(1, len(rows)))
    numbers = list(searched)
    for start in range(0, len(numbers), at_once):
        some = numbers[start : start + at_once]
        for number, hit in zip(
            some, _search_some(reference, chains, rows, [searched[k] for k in some], settings, threads), strict=True
        ):
            results[number] = hit
            seconds |= {name: seconds[name] + value for name, value in searched[number].seconds.items()}
            counts += searched[number].counts
    return StructureSearch(tuple(results), dict(seconds), dict(counts))


def prepared(query: Query) -> PreparedQuery | None:
    """Return the residues with a C-alpha, and their 3Di states as in a reference; None if they are too few."""
    from foldatlas.folding.compare.three_di import three_di_states

    residues = np.flatnonzero(query.has_c_alpha_L)
    if len(residues) < MIN_RESIDUES:
        return None
    backbone = query.backbone_L43[residues]
    states = three_di_states(*(backbone[:, atom] for atom in range(4)))
    return PreparedQuery(query, np.ascontiguousarray(backbone[:, 1], dtype=np.float32), states, residues)


def _search_some(
    reference: Reference,
    chains: "Chains",
    rows: Rows,
    some: list[PreparedQuery],
    settings: SearchSettings,
    threads: int,
) -> list[SearchResult]:
    if not len(rows):
        return [NoHit()] * len(some)
    stages = STAGES[settings.mode]
    scores = None
    if any(num_candidates(one, stages) < len(rows) for one in some):
        from foldatlas.folding.compare.state_scan import state_scores

        begun = perf_counter()
        scores = state_scores([one.states for one in some], chains, rows, threads)
        spent = (perf_counter() - begun) * threads / len(some)
        for one in some:
            one.seconds["scan"] += spent
            one.counts["scan"] += len(rows)
    across = min(threads, len(some))  # queries in parallel; for a single query its pairs

    def search(number: int) -> SearchResult:
        one = some[number]
        candidates = rows if scores is None else best_scores(one, chains, rows, scores[number], stages)
        return _search_one(reference, chains, candidates, one, settings, 1 if across > 1 else threads)

    if across == 1:
        return [search(number) for number in range(len(some))]
    with ThreadPoolExecutor(across) as pool:
        return list(pool.map(search, range(len(some))))


def num_candidates(one: PreparedQuery, stages: Stages) -> int:
    return min(
        stages.max_candidates, max(1, stages.candidates * _REFERENCE_LENGTH // min(len(one.states), _REFERENCE_LENGTH))
    )


def best_scores(one: PreparedQuery, chains: "Chains", rows: Rows, scores: Codes, stages: Stages) -> Rows:
    """Return the rows with the greatest scores, including all that equal the last of them.

    If more entries than needed have the saturated score, exact scores are computed for these.
    """
    from foldatlas.folding.compare.state_scan import SATURATED, exact_state_scores

    wanted = num_candidates(one, stages)
    if wanted >= len(rows):
        return rows
    begun = perf_counter()
    saturated = np.flatnonzero(scores == SATURATED)
    exact: npt.NDArray[np.integer] = scores
    if len(saturated) > wanted:
        rows = rows[saturated]
        exact = exact_state_scores([one.states], chains, rows)[0]
    least = np.partition(exact, len(exact) - wanted)[len(exact) - wanted]
    one.seconds["scan"] += perf_counter() - begun
    best: Rows = rows[exact >= least]
    return best


def _search_one(
    reference: Reference, chains: "Chains", rows: Rows, one: PreparedQuery, settings: SearchSettings, threads: int
) -> SearchResult:
    """Return the best hit among candidates."""
    from foldatlas.folding.compare.tm_align import lower_bounds

    begun = perf_counter()
    bounds = lower_bounds(one.c_alphas, one.states, chains, rows, threads)
    one.seconds["bound"] += perf_counter() - begun
    one.counts["bound"] += len(rows)
    begun = perf_counter()
    best = _Best()
    if settings.verdict_only and bounds.max() >= VERDICT_TM:
        best.offer(rows[[bounds.argmax()]], one, chains, "bound", threads)
        if best.score >= VERDICT_TM:
            return _finished(reference, one, best, begun)
    stages = STAGES[settings.mode]
    order = _selected_by_bound(one, bounds, stages)
    scores = np.zeros(len(rows))
    reachable = (chains.offsets_K1[rows + 1] - chains.offsets_K1[rows]) / len(one.states)
    for start in range(0, len(order), _ALIGNED_AT_ONCE):
        some = order[start : start + _ALIGNED_AT_ONCE]
        some = some[reachable[some] >= best.score]
        if not len(some):
            continue
        found = scores[some] = best.offer(rows[some], one, chains, "align", threads)
        one.counts["align"] += len(some)
        better = some[bounds[some] > np.maximum(found, best.score)]
        if len(better):
            best.offer(rows[better], one, chains, "bound", threads)
        if settings.verdict_only and best.score >= VERDICT_TM:
            break
    if VERDICT_TM - _UNCERTAIN <= best.score < VERDICT_TM:
        again = np.argsort(-scores, kind="stable")[: stages.aligned_again]
        again = again[scores[again] > 0.0]
        if len(again):
            best.offer(rows[again], one, chains, "align", threads, thorough=True)
            one.counts["again"] += len(again)
    return _finished(reference, one, best, begun)


def _selected_by_bound(one: PreparedQuery, bounds: Doubles, stages: Stages) -> Rows:
    """Return the indices of the bounds near the greatest, in descending order; equal bounds in the order of rows."""
    size = 0 if len(one.states) < _SHORT else 1
    order: Rows = np.argsort(-bounds, kind="stable")
    order = order[bounds[order] >= stages.fraction[size] * bounds.max()]
    return order[: stages.aligned[size]]


class _Best:
    """The alignment with the greatest score so far; of equal scores, the one with the lower row."""

    def __init__(self) -> None:
        self.score, self.row = 0.0, -1
        self.method: Method = "align"
        self.found: Alignments | None = None
        self.index = -1

    def offer(
        self,
        rows: Rows,
        one: PreparedQuery,
        chains: "Chains",
        method: Method,
        threads: int,
        *,
        thorough: bool = False,
    ) -> Doubles:
        """Align with the entries `rows`, keep the best alignment if it is better, and return the TM-score of each."""
        from foldatlas.folding.compare.tm_align import tm_align_many

        found = tm_align_many(
            one.c_alphas, one.states, chains, rows, threads, quick=method == "bound", thorough=thorough
        )
        scores = found.tm_query_P
        index = min(np.flatnonzero(scores == scores.max()), key=lambda k: rows[k])
        score, row = float(scores[index]), int(rows[index])
        if score > 0.0 and (score, -row) > (self.score, -self.row):
            self.score, self.row, self.method, self.found, self.index = score, row, method, found, int(index)
        return scores


def _finished(reference: Reference, one: PreparedQuery, best: _Best, begun: float) -> SearchResult:
    found = NoHit() if best.found is None else _hit(reference, one, best, best.found)
    one.seconds["align"] += perf_counter() - begun
    return found


def _hit(reference: Reference, one: PreparedQuery, best: _Best, found: "Alignments") -> StructureHit:
    sequence, target = reference.chain(best.row)
    partners = np.full(len(one.query.sequence), -1, np.int32)
    partners[one.residues] = found.partners_PL[best.index]
    aligned = np.flatnonzero(partners >= 0)
    own, theirs = (
        np.frombuffer(text.encode("latin-1", "replace"), np.uint8) for text in (one.query.sequence, sequence)
    )
    return StructureHit(
        row=best.row,
        tm_query=best.score,
        tm_target=float(found.tm_target_P[best.index]),
        tm_confident=_tm_confident(one.query, target, partners),
        aligned_length=len(aligned),
        rmsd=float(found.rmsd_P[best.index]),
        identity=float((own[aligned] == theirs[partners[aligned]]).mean()),
        method=best.method,
        rotation=found.rotation_P233[best.index, 0],
        translation=found.translation_P23[best.index, 0],
        partners_L=partners,
    )


def _tm_confident(query: Query, target: npt.NDArray[np.float32], partners: npt.NDArray[np.int32]) -> float | None:
    from foldatlas.folding.compare.tm_align import score_pairs

    confident = query.is_confident_L
    if not confident.any():
        return None
    both = np.flatnonzero(confident & (partners >= 0))
    if not len(both):
        return 0.0
    return score_pairs(query.backbone_L43[both, 1], np.asarray(target[partners[both]]), int(confident.sum()))
