"""Structures searched against a reference database: for each query the entry of the greatest TM-score.

A cascade, each stage of which hands the best on to a dearer one:

    scan    Smith-Waterman of 3Di states with every entry (`folding.compare.state_scan`)
    bound   a superposition from that alignment: a TM-score that is reached, so never above the greatest
            (`folding.compare.tm_align.lower_bounds`)
    align   TM-align of entries whose bound is near the best one

An entry of m residues cannot score more than m / n by a query of n, so one whose m / n is below the best score is left
out without a loss. `_STAGES` has the numbers; docs/novelty.md says what they miss. numba's kernels are imported when a
search begins. Queries are divided among threads; results do not depend on how many there are.
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

_SCORES_BYTES: Final = 64 << 20  # of a scan: queries times entries that are held at a time
_SHORT: Final = 80  # residues: below, many chains score alike, so more are looked at, which takes little
_ALIGNED_AT_ONCE: Final = 16  # before the best score is looked at again
_REFERENCE_LENGTH: Final = 240  # residues of a query that gets the number of candidates of _STAGES


@dataclass(frozen=True, slots=True)
class Stages:
    """How much each stage hands on: pairs of values are for queries below _SHORT residues, and for others."""

    candidates: int  # of the scan, for a query of _REFERENCE_LENGTH; of shorter ones more in proportion
    most_candidates: int
    fraction: tuple[float, float]  # of the greatest bound, below which an entry is not aligned
    aligned: tuple[int, int]  # at most


_STAGES: Final[dict[Mode, Stages]] = {
    "default": Stages(800, 4_000, (0.6, 0.8), (250, 50)),
    "sensitive": Stages(4_000, 20_000, (0.5, 0.7), (500, 150)),
    "exhaustive": Stages(1 << 62, 1 << 62, (0.0, 0.0), (1 << 62, 1 << 62)),
}


@dataclass(frozen=True, slots=True)
class StructureSearch:
    """Results in the order of the queries; seconds that threads spent in each stage; pairs that reached each."""

    results: tuple[SearchResult, ...]
    seconds: dict[str, float]
    counts: dict[str, int]


@dataclass(slots=True, eq=False)
class _Searched:
    """A query's residues with a C-alpha, where each stands in the whole query, and what its search took."""

    query: Query
    c_alphas: npt.NDArray[np.float32]
    states: Codes
    places: Rows
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
    """Return the best hit of each query among the entries that came after version `since` (0: among all).

    Many queries at a time take less than one by one. Raise UsageError for a database of sequences, and for a number of
    threads below 1.
    """
    if reference.kind != "structures":
        raise UsageError(f"{reference.root} is a database of {reference.kind}: name one of structures")
    if threads < 1:
        raise UsageError(f"a search has 1 thread or more, not {threads}")
    from foldatlas.folding.compare.tm_align import Chains

    chains = Chains(reference.c_alphas, reference.states, reference.offsets)
    rows = np.array(reference.new_rows(since), dtype=np.int64)
    results: list[SearchResult] = [NotSearched("too_short")] * len(queries)
    seconds: defaultdict[str, float] = defaultdict(float)
    counts: Counter[str] = Counter()
    begun = perf_counter()
    searched = {number: made for number, query in enumerate(queries) if (made := _prepared(query)) is not None}
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


def _prepared(query: Query) -> _Searched | None:
    """Return the residues that take part, None for too few. As in a reference, states are of these residues alone."""
    from foldatlas.folding.compare.three_di import three_di_states

    places = np.flatnonzero(query.has_c_alpha_L)
    if len(places) < MIN_RESIDUES:
        return None
    backbone = query.backbone_L43[places]
    states = three_di_states(*(backbone[:, atom] for atom in range(4)))
    return _Searched(query, np.ascontiguousarray(backbone[:, 1], dtype=np.float32), states, places)


def _search_some(
    reference: Reference,
    chains: "Chains",
    rows: Rows,
    some: list[_Searched],
    settings: SearchSettings,
    threads: int,
) -> list[SearchResult]:
    if not len(rows):
        return [NoHit()] * len(some)
    stages = _STAGES[settings.mode]
    scores = None
    if any(_candidates_wanted(one, stages) < len(rows) for one in some):
        from foldatlas.folding.compare.state_scan import state_scores

        begun = perf_counter()
        scores = state_scores([one.states for one in some], chains, rows, threads)
        spent = (perf_counter() - begun) * threads / len(some)
        for one in some:
            one.seconds["scan"] += spent
            one.counts["scan"] += len(rows)
    across = min(threads, len(some))  # whole queries in parallel, else the pairs of one

    def search(number: int) -> SearchResult:
        one = some[number]
        candidates = rows if scores is None else _best_scores(one, chains, rows, scores[number], stages)
        return _search_one(reference, chains, candidates, one, settings, 1 if across > 1 else threads)

    if across == 1:
        return [search(number) for number in range(len(some))]
    with ThreadPoolExecutor(across) as pool:
        return list(pool.map(search, range(len(some))))


def _candidates_wanted(one: _Searched, stages: Stages) -> int:
    return min(stages.most_candidates, max(1, stages.candidates * _REFERENCE_LENGTH // min(len(one.states), 240)))


def _best_scores(one: _Searched, chains: "Chains", rows: Rows, scores: Codes, stages: Stages) -> Rows:
    """Return the rows of the greatest scores, those that equal the last one included.

    Where scores that are as great as they get are too many, they are computed in full.
    """
    from foldatlas.folding.compare.state_scan import SATURATED, exact_state_scores

    wanted = _candidates_wanted(one, stages)
    if wanted >= len(rows):
        return rows
    begun = perf_counter()
    full = np.flatnonzero(scores == SATURATED)
    exact: npt.NDArray[np.integer] = scores
    if len(full) > wanted:
        rows = rows[full]
        exact = exact_state_scores([one.states], chains, rows)[0]
    least = np.partition(exact, len(exact) - wanted)[len(exact) - wanted]
    one.seconds["scan"] += perf_counter() - begun
    best: Rows = rows[exact >= least]
    return best


def _search_one(
    reference: Reference, chains: "Chains", rows: Rows, one: _Searched, settings: SearchSettings, threads: int
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
    order = _worth_aligning(one, bounds, _STAGES[settings.mode])
    reachable = (chains.offsets_K1[rows + 1] - chains.offsets_K1[rows]) / len(one.states)
    for start in range(0, len(order), _ALIGNED_AT_ONCE):
        some = order[start : start + _ALIGNED_AT_ONCE]
        some = some[reachable[some] >= best.score]
        if not len(some):
            continue
        found = best.offer(rows[some], one, chains, "align", threads)
        one.counts["align"] += len(some)
        better = some[bounds[some] > np.maximum(found, best.score)]
        if len(better):
            best.offer(rows[better], one, chains, "bound", threads)
        if settings.verdict_only and best.score >= VERDICT_TM:
            break
    return _finished(reference, one, best, begun)


def _worth_aligning(one: _Searched, bounds: Doubles, stages: Stages) -> Rows:
    """Return the places of bounds near the greatest, greatest first, of equal ones the first row first."""
    size = 0 if len(one.states) < _SHORT else 1
    order: Rows = np.argsort(-bounds, kind="stable")
    order = order[bounds[order] >= stages.fraction[size] * bounds.max()]
    return order[: stages.aligned[size]]


class _Best:
    """The alignment of the greatest score so far; of equal ones the one of the first row."""

    def __init__(self) -> None:
        self.score, self.row = 0.0, -1
        self.method: Method = "align"
        self.found: Alignments | None = None
        self.place = -1

    def offer(self, rows: Rows, one: _Searched, chains: "Chains", method: Method, threads: int) -> Doubles:
        """Align with `rows`, keep what is better, and return the scores."""
        from foldatlas.folding.compare.tm_align import tm_align_many

        found = tm_align_many(one.c_alphas, one.states, chains, rows, threads, quick=method == "bound")
        scores = found.tm_query_P
        place = min(np.flatnonzero(scores == scores.max()), key=lambda k: rows[k])
        score, row = float(scores[place]), int(rows[place])
        if score > 0.0 and (score, -row) > (self.score, -self.row):
            self.score, self.row, self.method, self.found, self.place = score, row, method, found, int(place)
        return scores


def _finished(reference: Reference, one: _Searched, best: _Best, begun: float) -> SearchResult:
    found = NoHit() if best.found is None else _hit(reference, one, best, best.found)
    one.seconds["align"] += perf_counter() - begun
    return found


def _hit(reference: Reference, one: _Searched, best: _Best, found: "Alignments") -> StructureHit:
    sequence, target = reference.chain(best.row)
    partners = np.full(len(one.query.sequence), -1, np.int32)
    partners[one.places] = found.partners_PL[best.place]
    aligned = np.flatnonzero(partners >= 0)
    own, theirs = (
        np.frombuffer(text.encode("latin-1", "replace"), np.uint8) for text in (one.query.sequence, sequence)
    )
    return StructureHit(
        row=best.row,
        tm_query=best.score,
        tm_target=float(found.tm_target_P[best.place]),
        tm_confident=_tm_confident(one.query, target, partners),
        aligned_length=len(aligned),
        rmsd=float(found.rmsd_P[best.place]),
        identity=float((own[aligned] == theirs[partners[aligned]]).mean()),
        method=best.method,
        rotation=found.rotation_P233[best.place, 0],
        translation=found.translation_P23[best.place, 0],
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
