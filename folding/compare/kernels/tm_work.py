"""Working memory of TM-align for one pair of chains, and what is laid out in it first.

Secondary structure is assigned as TM-align does (Zhang & Skolnick 2005).
"""

from collections import namedtuple
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from foldatlas.folding.compare.kernels.alignment_by_distance import CODES
from foldatlas.folding.compare.kernels.compilation import inner, kernel
from foldatlas.folding.compare.kernels.smith_waterman import NUM_ROWS
from foldatlas.folding.compare.kernels.three_di_tables import SUBSTITUTION_SCORES
from foldatlas.folding.compare.kernels.tm_search import SEEN_SLOTS

Points = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int32]

NUM_RANKS: Final = 128
_RANK_COLUMNS: Final = 4 + 12  # a score and room, a transform

# Working memory of one pair; x is the query, y the target, both [3, length] about their centres.
Work = namedtuple(
    "Work",
    "x y y_last_first moved pair_x pair_y x_states y_states x_secondary y_secondary "
    "values rows origins state_scores secondary_scores partners best_partners seen alignments ranks "
    "state_table secondary_table x_index y_index",
)

COIL, HELIX, TURN, STRAND = 0, 1, 2, 3  # secondary structure, as TM-align assigns it


def work_for(n: int, m: int) -> Any:
    """Return working memory for chains of up to `n` and `m` residues: some 4 bytes times n m, and 3 MB."""
    shortest, cells = min(n, m), (n + m + 1) * (n + 1)
    state_table = np.zeros((CODES, CODES), dtype=np.int8)
    state_table[: len(SUBSTITUTION_SCORES), : len(SUBSTITUTION_SCORES)] = SUBSTITUTION_SCORES
    return Work(
        x=np.empty((3, n), np.float32),
        y=np.empty((3, m), np.float32),
        y_last_first=np.empty((3, m), np.float32),
        moved=np.empty((3, n), np.float32),
        pair_x=np.empty((3, shortest), np.float32),
        pair_y=np.empty((3, shortest), np.float32),
        x_states=np.empty(n, np.uint8),
        y_states=np.empty(m, np.uint8),
        x_secondary=np.empty(n, np.uint8),
        y_secondary=np.empty(m, np.uint8),
        values=np.empty((5, n + 1), np.float32),
        rows=np.empty((NUM_ROWS, n + 1), np.int32),
        origins=np.empty(cells, np.uint8),
        state_scores=np.empty(cells, np.int8),
        secondary_scores=np.empty(cells, np.int8),
        partners=np.empty(n, np.int32),
        best_partners=np.empty(n, np.int32),
        seen=np.empty(SEEN_SLOTS, np.uint64),
        alignments=np.empty(1 << 10, np.uint64),
        ranks=np.empty((NUM_RANKS, _RANK_COLUMNS), np.float64),
        state_table=state_table.ravel(),
        secondary_table=np.eye(CODES, dtype=np.int8).ravel(),
        x_index=np.empty(n, np.int32),
        y_index=np.empty(m, np.int32),
    )


@inner
def load(c_alphas: Points, states: Codes, points: Points, codes: Codes, index: Integers, centre: Doubles) -> int:
    """Copy a chain [L, 3] by axis and about its centre; return how many residues it has.

    Residues whose C-alpha is not finite are left out; `index` says which one each of the others was.
    """
    count = 0
    centre[:] = 0.0
    for i in range(len(c_alphas)):
        if np.isfinite(c_alphas[i, 0]) and np.isfinite(c_alphas[i, 1]) and np.isfinite(c_alphas[i, 2]):
            for axis in range(3):
                centre[axis] += c_alphas[i, axis]
            codes[count], index[count] = states[i], i
            count += 1
    for axis in range(3):
        centre[axis] /= max(count, 1)
        for k in range(count):
            points[axis, k] = c_alphas[index[k], axis] - centre[axis]
    return count


@kernel
def assign_secondary(points: Points, count: int, codes: Codes) -> None:
    """Write COIL, HELIX, TURN or STRAND of each residue, by the six distances among it and two on either side."""
    for i in range(count):
        codes[i] = COIL
    for i in range(2, count - 2):
        d13, d14, d15 = _distance(points, i - 2, i), _distance(points, i - 2, i + 1), _distance(points, i - 2, i + 2)
        d24, d25, d35 = _distance(points, i - 1, i + 1), _distance(points, i - 1, i + 2), _distance(points, i, i + 2)
        if _all_near(d15, d14, d25, d13, d24, d35, 6.37, 5.18, 5.45, 2.1):
            codes[i] = HELIX
        elif _all_near(d15, d14, d25, d13, d24, d35, 13.0, 10.4, 6.1, 1.42):
            codes[i] = STRAND
        elif d15 < 8.0:
            codes[i] = TURN


@inner
def _distance(points: Points, i: int, j: int) -> float:
    return np.sqrt(
        (points[0, i] - points[0, j]) ** 2 + (points[1, i] - points[1, j]) ** 2 + (points[2, i] - points[2, j]) ** 2
    )


@inner
def _all_near(
    d15: float,
    d14: float,
    d25: float,
    d13: float,
    d24: float,
    d35: float,
    over_four: float,
    over_three: float,
    over_two: float,
    tolerance: float,
) -> bool:
    return (
        abs(d15 - over_four) < tolerance
        and abs(d14 - over_three) < tolerance
        and abs(d25 - over_three) < tolerance
        and abs(d13 - over_two) < tolerance
        and abs(d24 - over_two) < tolerance
        and abs(d35 - over_two) < tolerance
    )


@inner
def prepare(work: Any, n: int, m: int) -> None:
    """Lay out what both the bound and the alignment need of a loaded pair."""
    for j in range(m):
        for axis in range(3):
            work.y_last_first[axis, j] = work.y[axis, m - 1 - j]


@inner
def gather(work: Any, n: int, partners: Integers) -> int:
    """Copy the aligned pairs to work.pair_x and work.pair_y and return how many they are."""
    count = 0
    for i in range(n):
        j = partners[i]
        if j >= 0:
            for axis in range(3):
                work.pair_x[axis, count] = work.x[axis, i]
                work.pair_y[axis, count] = work.y[axis, j]
            count += 1
    return count
