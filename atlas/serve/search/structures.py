"""The structures of greatest TM-score to a structure: the stages of `atlas.novelty.structure_search`, with many hits.

    scan    Smith-Waterman alignment of the 3Di states of every structure; the best go on
    bound   TM-score of one superposition from that alignment, a lower bound
    align   TM-align (Zhang & Skolnick 2005), in the order of the bounds, until no more hits are likely

Candidates are chosen over all segments of a database together. TM-scores are normalised by the query's residues with a
C-alpha where not said otherwise.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from foldatlas.atlas.novelty.hits import Query
from foldatlas.atlas.novelty.rows import alignment_blocks
from foldatlas.atlas.novelty.structure_search import STAGES, PreparedQuery, best_scores, num_candidates, prepared
from foldatlas.atlas.serve.search.requests import Hit
from foldatlas.atlas.serve.search.segments import SegmentArrays

if TYPE_CHECKING:
    from foldatlas.folding.compare.tm_align import Alignments, Chains

Rows = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

SCANNED_AT_ONCE: Final = 50_000  # structures between two reports of progress
BOUNDED_AT_ONCE: Final = 256
ALIGNED_AT_ONCE: Final = 16
FRACTION: Final = 0.6  # of the least score of a hit: structures with a smaller bound are not aligned
ALIGNED_PER_HIT: Final = 2  # structures that are aligned at most, for each hit that is wanted
# How progress is divided among the stages, by the time that they take for 100,000 structures.
_SHARES: Final = {"scan": (0.0, 0.4), "bound": (0.4, 0.6), "align": (0.6, 1.0)}

Report = Callable[[str, float], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Candidates:
    """Rows of segments: `parts` has the number of each one's segment. `scores` are of the last stage."""

    parts: Rows
    rows: Rows
    scores: Doubles

    def taken(self, chosen: npt.NDArray[np.generic]) -> "_Candidates":
        return _Candidates(self.parts[chosen], self.rows[chosen], self.scores[chosen])

    @staticmethod
    def joined(several: "Iterable[_Candidates]") -> "_Candidates":
        found = list(several)
        return _Candidates(
            np.concatenate([one.parts for one in found]),
            np.concatenate([one.rows for one in found]),
            np.concatenate([one.scores for one in found]),
        )


def search_structures(
    segments: Sequence[SegmentArrays], query: Query, *, limit: int, min_tm: float, threads: int, on_progress: Report
) -> list[Hit] | None:
    """Return at most `limit` hits with a TM-score of at least `min_tm`, the greatest first, of equal ones by
    structure_id. Return None for a query of too few residues (`reference.chains.MIN_RESIDUES`)."""
    from foldatlas.folding.compare.tm_align import Chains

    one = prepared(query)
    if one is None:
        return None
    chains = [Chains(segment.c_alphas, segment.states, segment.offsets) for segment in segments]
    candidates = _scanned(one, chains, threads, on_progress)
    candidates = _bounded(one, chains, candidates, threads, on_progress)
    hits = _aligned(one, segments, chains, candidates, limit, min_tm, threads, on_progress)
    return sorted(hits, key=lambda hit: (-(hit.tm_query or 0.0), hit.structure_id))[:limit]


def _scanned(one: PreparedQuery, chains: "Sequence[Chains]", threads: int, on_progress: Report) -> _Candidates:
    """Return the structures of the best 3Di alignments, with all that score as the last of them."""
    from foldatlas.folding.compare.state_scan import exact_state_scores, state_scores

    stages = STAGES["default"]
    wanted = num_candidates(one, stages)
    total = sum(map(len, chains))
    best = _Candidates(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    done = 0
    for part, some in enumerate(chains):
        for start in range(0, len(some), SCANNED_AT_ONCE):
            rows = np.arange(start, min(start + SCANNED_AT_ONCE, len(some)))
            scores = np.zeros(len(rows))
            if total > wanted:
                rows = best_scores(one, some, rows, state_scores([one.states], some, rows, threads)[0], stages)
                scores = exact_state_scores([one.states], some, rows)[0].astype(np.float64)
            new = _Candidates(np.full(len(rows), part), rows, scores)
            best = _Candidates.joined([best, new])
            if len(best.rows) > wanted and total > wanted:
                least = np.partition(best.scores, len(best.scores) - wanted)[len(best.scores) - wanted]
                best = best.taken(best.scores >= least)
            done += min(SCANNED_AT_ONCE, len(some) - start)
            _report(on_progress, "scan", done / total)
    return best


def _bounded(
    one: PreparedQuery, chains: "Sequence[Chains]", given: _Candidates, threads: int, on_progress: Report
) -> _Candidates:
    """Return the candidates with their bounds, the greatest first; of equal ones the first segment and row."""
    from foldatlas.folding.compare.tm_align import lower_bounds

    bounds = np.zeros(len(given.rows))
    done = 0
    for part in np.unique(given.parts):
        places = np.flatnonzero(given.parts == part)
        for start in range(0, len(places), BOUNDED_AT_ONCE):
            some = places[start : start + BOUNDED_AT_ONCE]
            bounds[some] = lower_bounds(one.c_alphas, one.states, chains[part], given.rows[some], threads)
            done += len(some)
            _report(on_progress, "bound", done / len(bounds))
    found = _Candidates(given.parts, given.rows, bounds)
    return found.taken(np.lexsort((given.rows, given.parts, -bounds)))


def _aligned(
    one: PreparedQuery,
    segments: Sequence[SegmentArrays],
    chains: "Sequence[Chains]",
    given: _Candidates,
    limit: int,
    min_tm: float,
    threads: int,
    on_progress: Report,
) -> list[Hit]:
    """Align the candidates until the bounds are below FRACTION of the least score that a hit can have."""
    hits: list[Hit] = []
    least_aligned = STAGES["default"].aligned[0 if len(one.states) < 80 else 1]
    most = min(len(given.rows), max(least_aligned, ALIGNED_PER_HIT * limit))
    for start in range(0, most, ALIGNED_AT_ONCE):
        scores = sorted((hit.tm_query or 0.0 for hit in hits), reverse=True)
        threshold = max(min_tm, scores[limit - 1] if len(scores) >= limit else 0.0)
        some = given.taken(np.arange(start, min(start + ALIGNED_AT_ONCE, most)))
        if some.scores[0] < FRACTION * threshold:
            break
        for part in np.unique(some.parts):
            mine = some.taken(some.parts == part)
            offsets = chains[part].offsets_K1
            reachable = (offsets[mine.rows + 1] - offsets[mine.rows]) / len(one.states)
            mine = mine.taken(reachable >= threshold)
            if len(mine.rows):
                found = _hits(one, segments[part], chains[part], mine, threads)
                hits += [hit for hit in found if (hit.tm_query or 0.0) >= min_tm]
        _report(on_progress, "align", min(1.0, (start + ALIGNED_AT_ONCE) / most))
    return hits


def _hits(one: PreparedQuery, segment: SegmentArrays, chains: "Chains", given: _Candidates, threads: int) -> list[Hit]:
    """Align with the candidates. Where the superposition of the bound has the greater score, it is the alignment."""
    from foldatlas.folding.compare.tm_align import tm_align_many

    found = tm_align_many(one.c_alphas, one.states, chains, given.rows, threads)
    hits = [_hit(one, segment, int(row), found, index) for index, row in enumerate(given.rows)]
    better = np.flatnonzero(given.scores > found.tm_query_P)
    if len(better):
        quick = tm_align_many(one.c_alphas, one.states, chains, given.rows[better], threads, quick=True)
        for index, place in enumerate(better.tolist()):
            if quick.tm_query_P[index] > found.tm_query_P[place]:
                hits[place] = _hit(one, segment, int(given.rows[place]), quick, index)
    return [hit for hit in hits if hit.aligned_length]


def _hit(one: PreparedQuery, segment: SegmentArrays, row: int, found: "Alignments", index: int) -> Hit:
    sequence = segment.sequence(row)
    partners = np.full(len(one.query.sequence), -1, np.int32)
    partners[one.residues] = found.partners_PL[index]
    aligned = np.flatnonzero(partners >= 0)
    theirs = partners[aligned]
    own_letters, letters = (np.frombuffer(text.encode("ascii"), np.uint8) for text in (one.query.sequence, sequence))
    blocks = np.array(alignment_blocks(partners), np.int64).reshape(-1, 3)
    blocks[:, :2] += 1
    return Hit(
        structure_id=segment.structure_id(row),
        identity=float((own_letters[aligned] == letters[theirs]).mean()) if len(aligned) else 0.0,
        coverage=len(aligned) / len(one.query.sequence),
        target_coverage=len(aligned) / len(sequence),
        query_start=int(aligned[0]) + 1 if len(aligned) else None,
        query_end=int(aligned[-1]) + 1 if len(aligned) else None,
        target_start=int(theirs[0]) + 1 if len(aligned) else None,
        target_end=int(theirs[-1]) + 1 if len(aligned) else None,
        tm_query=float(found.tm_query_P[index]),
        tm_target=float(found.tm_target_P[index]),
        rmsd=float(found.rmsd_P[index]),
        aligned_length=len(aligned),
        rotation=found.rotation_P233[index, 0].tolist(),
        translation=found.translation_P23[index, 0].tolist(),
        alignment=[(int(a), int(b), int(c)) for a, b, c in blocks],
    )


def _report(on_progress: Report, stage: str, fraction: float) -> None:
    begin, end = _SHARES[stage]
    on_progress(stage, begin + (end - begin) * fraction)
