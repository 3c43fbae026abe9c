"""TM-align of one pair of chains, compiled: the seeds, their refinement, both scores; and a quick lower bound.

The recipe is TM-align's (Zhang & Skolnick 2005) with other seeds. An alignment from each of

    3Di             Smith-Waterman of the structural alphabet (van Kempen et al. 2024)
    gapless         the best offsets of one chain against the other, by TM sum after one superposition
    secondary       global alignment of secondary structure
    fragments       superpositions of local fragments, ranked by the TM sum of the offset they lie on
    both            secondary structure, and 3Di, beside distances under the best superposition so far

is superposed and aligned again by distance, with a gap of -0.6 and of 0, while the score rises. Seeds that begin far
below the best so far are dropped, and so is what leads to an alignment that was refined before. The best alignment is
refined once more with a search in place of a climb, and searched for each normalisation.

Float32 but for superpositions, the scores and the transform that are returned: those are float64.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from foldatlas.folding.compare.kernels.alignment_by_distance import align_by_distance, fill_scores, transform_points
from foldatlas.folding.compare.kernels.compilation import exact, inner
from foldatlas.folding.compare.kernels.quaternion_fit import Transform, fit
from foldatlas.folding.compare.kernels.smith_waterman import GAP_EXTEND, GAP_OPEN, align_states
from foldatlas.folding.compare.kernels.tm_effort import SHORT, Effort
from foldatlas.folding.compare.kernels.tm_search import (
    NO_CUTOFF,
    climb,
    distance_cutoff,
    final_d0,
    range_sums,
    search,
    search_d0,
    search_radius,
    select,
)
from foldatlas.folding.compare.kernels.tm_work import assign_secondary, gather, prepare

Points = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.int8]
Integers = npt.NDArray[np.int32]

_GAP: Final = -0.6
_SHORT_SEARCH: Final = 40  # pairs from one fragment of a search to the next
_FINAL_SEARCH: Final = 8
_PROBES: Final = 16  # slots of the table of alignments that are looked at
_GAPLESS_KEPT: Final = 3
_FRAGMENT: Final = 20  # residues
_BONUS_GAP: Final = -1.0
_SECONDARY_BONUS: Final = 0.5
_STATE_BONUS: Final = 0.1  # of a score in half bits
_WIDER_D0: Final = 1.5  # angstrom, beside secondary structure, as in TM-align
_SAME_PLACE: Final = 25.0  # square angstrom: fragments that move the ends and the middle no further apart are one


@inner
def align_3di(work: Any, n: int, m: int) -> int:
    """Fill work.state_scores and align the 3Di states locally into work.partners; return the score in half bits."""
    reversed_states = work.y_states[:m][::-1].copy()
    fill_scores(work.x_states, reversed_states, n, m, work.state_table, work.state_scores)
    return align_states(work.state_scores, n, m, GAP_OPEN, GAP_EXTEND, work.rows, work.origins, work.partners)


@inner
def _align_moved(work: Any, n: int, m: int, transform: Transform, d0: float, gap: float) -> int:
    transform_points(work.x, n, transform, work.moved)
    align_by_distance(work.moved, work.y_last_first, n, m, d0, gap, work.values, work.origins, work.partners)
    return gather(work, n, work.partners)


@inner
def _align_with_bonus(
    work: Any, n: int, m: int, transform: Transform, d0: float, scores: Scores, weight: float, bonus: float
) -> None:
    transform_points(work.x, n, transform, work.moved)
    align_by_distance(
        work.moved, work.y_last_first, n, m, d0, _BONUS_GAP, work.values, work.origins, work.partners,
        scores, weight, bonus,
    )  # fmt: skip


@inner
def _is_first(work: Any, n: int, kind: int) -> bool:
    """Add the alignment in work.partners to those that were gone on from with the gap `kind`; return whether it is new.

    A full table takes nothing: the alignment is then refined again.
    """
    mixed = np.uint64(1469598103934665603) + np.uint64(kind)
    for i in range(n):
        mixed = (mixed ^ np.uint64(work.partners[i] + 1)) * np.uint64(1099511628211)
    mixed = (mixed ^ (mixed >> np.uint64(31))) | np.uint64(1)  # 0 marks a free slot
    mask = np.uint64(len(work.alignments) - 1)
    for probe in range(_PROBES):
        slot = ((mixed >> np.uint64(12)) + np.uint64(probe)) & mask
        if work.alignments[slot] == mixed:
            return False
        if work.alignments[slot] == np.uint64(0):
            work.alignments[slot] = mixed
            return True
    return True


@inner
def _keep_best(work: Any, n: int, score: float, transform: Transform, sums: Doubles, best_transform: Doubles) -> None:
    """Keep the alignment in work.partners if its TM sum is the greatest so far."""
    if score > sums[0]:
        sums[0] = score
        work.best_partners[:n] = work.partners[:n]
        for k in range(12):
            best_transform[k] = transform[k]


@inner
def _refine(
    work: Any,
    n: int,
    m: int,
    transform: Transform,
    sums: Doubles,
    best_transform: Doubles,
    d0: float,
    effort: Effort,
    is_last: bool,
) -> None:
    """Align by distance and superpose again from `transform` on, and keep what is best in `sums` and the partners.

    Superposed by a climb, with `is_last` by a search. Alignments that an earlier seed led to are left.
    """
    start = transform
    for kind in range(2):
        gap = _GAP if kind == 0 else 0.0
        transform, last = start, -1.0
        for _ in range(effort.iterations):
            count = _align_moved(work, n, m, transform, d0, gap)
            if count < 1 or not (is_last or _is_first(work, n, kind)):
                break
            if is_last:
                score, transform = search(work.pair_x, work.pair_y, count, d0, NO_CUTOFF, _SHORT_SEARCH, work.seen)
            else:
                score, transform = climb(work.pair_x, work.pair_y, count, transform, d0, work.seen)
            _keep_best(work, n, score, transform, sums, best_transform)
            if abs(score - last) < 1e-4 * score:
                break
            last = score


@inner
def _try(work: Any, n: int, m: int, sums: Doubles, best_transform: Doubles, d0: float, effort: Effort) -> None:
    """Superpose the alignment in work.partners, keep it if it is the best, and refine it unless it is far below."""
    count = gather(work, n, work.partners)
    if count < 1:
        return
    score, transform = search(work.pair_x, work.pair_y, count, d0, NO_CUTOFF, _SHORT_SEARCH, work.seen)
    _keep_best(work, n, score, transform, sums, best_transform)
    if score >= effort.dropped * sums[0]:
        _refine(work, n, m, transform, sums, best_transform, d0, effort, False)


@inner
def _rank(ranks: Doubles, number: int, limit: int, score: float, transform: Transform, reach: float) -> int:
    """Add a superposition to the best `limit`, unless one of them puts the query at the same place; return how many.

    Places are compared by where the query's centre and three points at `reach` angstrom from it come to.
    """
    if number == limit and score <= ranks[number - 1, 0]:
        return number
    for k in range(number):
        square = 0.0
        for axis in range(3):
            square += (ranks[k, 4 + 9 + axis] - transform[9 + axis]) ** 2
        turned = 0.0
        for k2 in range(9):
            turned += (ranks[k, 4 + k2] - transform[k2]) ** 2
        if square + turned * reach * reach / 3.0 < _SAME_PLACE:
            if score <= ranks[k, 0]:
                return number
            for later in range(k, number - 1):
                ranks[later] = ranks[later + 1]
            number -= 1
            break
    place = min(number, limit - 1)
    while place > 0 and ranks[place - 1, 0] < score:
        ranks[place] = ranks[place - 1]
        place -= 1
    ranks[place, 0] = score
    for k in range(12):
        ranks[place, 4 + k] = transform[k]
    return min(number + 1, limit)


@inner
def _rank_gapless(work: Any, n: int, m: int, d0: float, reach: float) -> int:
    radius, number = search_radius(d0), 0
    overlap = max(min(5, min(n, m)), min(n, m) // 2)
    for offset in range(overlap - n, m - overlap + 1):
        x_start, y_start = max(0, -offset), max(0, offset)
        count = min(n - x_start, m - y_start)
        transform = fit(range_sums(work.x, work.y, x_start, y_start, count))
        score, sums = select(work.x, work.y, x_start, y_start, count, transform, radius, d0, NO_CUTOFF)
        again = fit(sums)
        better, _ = select(work.x, work.y, x_start, y_start, count, again, radius, d0, NO_CUTOFF)
        if better > score:
            score, transform = better, again
        number = _rank(work.ranks, number, _GAPLESS_KEPT, score, transform, reach)
    return number


@inner
def _rank_fragments(work: Any, n: int, m: int, d0: float, reach: float, effort: Effort) -> int:
    radius, number = search_radius(d0), 0
    fragment = min(_FRAGMENT, max(4, min(n, m) // 3))
    if min(n, m) < fragment:
        return 0
    shortest = min(n, m)
    size = 0 if shortest < SHORT else 1
    kept = min(effort.max_fragments[size], effort.fragments[size] * max(n, m) // shortest)
    step = effort.step[size]
    while ((n - fragment) // step + 1) * ((m - fragment) // step + 1) > effort.max_pairs:
        step += 1
    for i in range(0, n - fragment + 1, step):
        for j in range(0, m - fragment + 1, step):
            transform = fit(range_sums(work.x, work.y, i, j, fragment))
            x_start, y_start = i - min(i, j), j - min(i, j)
            count = min(n - x_start, m - y_start)
            score, _ = select(work.x, work.y, x_start, y_start, count, transform, radius, d0, NO_CUTOFF)
            number = _rank(work.ranks, number, kept, score, transform, reach)
    return number


@inner
def _refine_ranked(
    work: Any, n: int, m: int, number: int, sums: Doubles, best_transform: Doubles, d0: float, effort: Effort
) -> None:
    ranked = work.ranks[:number].copy()
    for k in range(number):
        transform = _stored(ranked[k, 4:])
        count = _align_moved(work, n, m, transform, d0, 0.0)
        if count < 1:
            continue
        score, transform = climb(work.pair_x, work.pair_y, count, transform, d0, work.seen)
        _keep_best(work, n, score, transform, sums, best_transform)
        if score >= effort.dropped * sums[0]:
            _refine(work, n, m, transform, sums, best_transform, d0, effort, False)


@inner
def _stored(values: Doubles) -> Transform:
    v = values
    return (v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10], v[11])


@inner
def align_pair(work: Any, n: int, m: int, effort: Effort) -> None:
    """Write the best alignment of a loaded pair to work.best_partners."""
    shortest = min(n, m)
    d0 = search_d0(shortest)
    sums, best = np.full(1, -1.0), np.zeros(12)
    best[0] = best[4] = best[8] = 1.0
    work.best_partners[:n] = -1
    work.alignments[:] = np.uint64(0)
    prepare(work, n, m)
    reach = 0.0
    for i in range(n):
        for axis in range(3):
            reach += work.x[axis, i] ** 2
    reach = np.sqrt(reach / n)

    align_3di(work, n, m)
    _try(work, n, m, sums, best, d0, effort)

    assign_secondary(work.x, n, work.x_secondary)
    assign_secondary(work.y, m, work.y_secondary)
    reversed_secondary = work.y_secondary[:m][::-1].copy()
    fill_scores(work.x_secondary, reversed_secondary, n, m, work.secondary_table, work.secondary_scores)
    _align_with_bonus(work, n, m, _stored(best), d0, work.secondary_scores, 0.0, 1.0)
    _try(work, n, m, sums, best, d0, effort)

    _refine_ranked(work, n, m, _rank_gapless(work, n, m, d0, reach), sums, best, d0, effort)
    _refine_ranked(work, n, m, _rank_fragments(work, n, m, d0, reach, effort), sums, best, d0, effort)

    _align_with_bonus(work, n, m, _stored(best), d0 + _WIDER_D0, work.secondary_scores, 1.0, _SECONDARY_BONUS)
    _try(work, n, m, sums, best, d0, effort)
    _align_with_bonus(work, n, m, _stored(best), d0 + _WIDER_D0, work.state_scores, 1.0, _STATE_BONUS)
    _try(work, n, m, sums, best, d0, effort)
    _refine(work, n, m, _stored(best), sums, best, d0, effort, True)


@exact
def exact_sum(
    work: Any, n: int, partners: Integers, transform: Transform, d0: float, cutoff: float
) -> tuple[float, float]:
    """Return the TM sum and the sum of squared distances, float64, of the pairs within `cutoff` under `transform`."""
    score, squares = 0.0, 0.0
    for i in range(n):
        j = partners[i]
        if j >= 0:
            square = _square(work, i, j, transform)
            if square > cutoff * cutoff:
                continue
            score += 1.0 / (1.0 + square / (d0 * d0))
            squares += square
    return score, squares


@exact
def _square(work: Any, i: int, j: int, t: Transform) -> float:
    a0, a1, a2 = np.float64(work.x[0, i]), np.float64(work.x[1, i]), np.float64(work.x[2, i])
    e0 = t[0] * a0 + t[1] * a1 + t[2] * a2 + t[9] - work.y[0, j]
    e1 = t[3] * a0 + t[4] * a1 + t[5] * a2 + t[10] - work.y[1, j]
    e2 = t[6] * a0 + t[7] * a1 + t[8] * a2 + t[11] - work.y[2, j]
    return e0 * e0 + e1 * e1 + e2 * e2


@inner
def drop_distant(work: Any, n: int, shortest: int) -> int:
    """Superpose work.best_partners, drop its pairs beyond `distance_cutoff`, and return how many stay."""
    cutoff = distance_cutoff(shortest)
    count = gather(work, n, work.best_partners)
    if count == 0:
        return 0
    _, transform = search(work.pair_x, work.pair_y, count, search_d0(shortest), cutoff, _FINAL_SEARCH, work.seen)
    kept = 0
    for i in range(n):
        if work.best_partners[i] >= 0:
            if _square(work, i, work.best_partners[i], transform) > cutoff * cutoff:
                work.best_partners[i] = -1
            else:
                kept += 1
    return kept


@inner
def lower_bound(work: Any, n: int, m: int) -> tuple[float, Transform]:
    """Return a TM-score normalised by the query's length that `align_pair` seldom falls short of, and its transform.

    3Di alignment, superposition search, one alignment by distance, and a search again: a real superposition of a real
    alignment, so the greatest TM-score of the pair is no less.
    """
    prepare(work, n, m)
    align_3di(work, n, m)
    return bound_from_states(work, n, m)


@inner
def bound_from_states(work: Any, n: int, m: int) -> tuple[float, Transform]:
    """Return `lower_bound` of a prepared pair whose 3Di alignment is in work.partners."""
    shortest = min(n, m)
    d0, own_d0 = search_d0(shortest), final_d0(n)
    count = gather(work, n, work.partners)
    if count == 0:
        return 0.0, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    _, transform = search(work.pair_x, work.pair_y, count, d0, NO_CUTOFF, _SHORT_SEARCH, work.seen)
    count = _align_moved(work, n, m, transform, d0, _GAP)
    _, transform = search(work.pair_x, work.pair_y, count, own_d0, NO_CUTOFF, _SHORT_SEARCH, work.seen)
    score, _ = exact_sum(work, n, work.partners, transform, own_d0, distance_cutoff(shortest))
    return score / n, transform
