"""Global alignment of two superposed chains by dynamic programming, as TM-align does it (Zhang & Skolnick 2005).

The score of a pair is 1 / (1 + d^2 / d0^2), d its distance under a superposition, plus a bonus by what the residues are
(secondary structure or 3Di state); opening a gap costs, going on with one does not, and the ends are free. As in
TM-align, a gap counts as opened where it follows a pair, and only the better of a cell's values is kept, which is not
quite Gotoh's optimum. Cells of one antidiagonal do not depend on one another, so each is a loop that is vectorised and
that computes its distances itself. Values are float32.

The targets are reversed (`target_last_first`), so that along an antidiagonal both chains are read forwards. A byte a
cell says where its value came from.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from foldatlas.folding.compare.kernels.compilation import inner, kernel
from foldatlas.folding.compare.kernels.quaternion_fit import Transform

Points = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.int8]
Integers = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

CODES: Final = 32  # columns of a table of bonuses
_PAIR: Final = np.uint8(0)
_UP: Final = np.uint8(1)  # the mobile residue has no partner
_LEFT: Final = np.uint8(2)


@inner
def transform_points(x: Points, count: int, transform: Transform, out: Points) -> None:
    """Write the first `count` columns of `x`, moved, to `out`."""
    r00, r01, r02 = np.float32(transform[0]), np.float32(transform[1]), np.float32(transform[2])
    r10, r11, r12 = np.float32(transform[3]), np.float32(transform[4]), np.float32(transform[5])
    r20, r21, r22 = np.float32(transform[6]), np.float32(transform[7]), np.float32(transform[8])
    t0, t1, t2 = np.float32(transform[9]), np.float32(transform[10]), np.float32(transform[11])
    for i in range(np.uint64(count)):
        a0, a1, a2 = x[0, i], x[1, i], x[2, i]
        out[0, i] = r00 * a0 + r01 * a1 + r02 * a2 + t0
        out[1, i] = r10 * a0 + r11 * a1 + r12 * a2 + t1
        out[2, i] = r20 * a0 + r21 * a1 + r22 * a2 + t2


@kernel
def align_by_distance(
    moved: Points,
    target_last_first: Points,
    n: int,
    m: int,
    d0: float,
    gap: float,
    values: Floats,
    origins: Codes,
    partners: Integers,
    scores: Scores | None = None,
    weight: float = 1.0,
    bonus: float = 0.0,
) -> None:
    """Write to `partners[:n]` the target's residue of each mobile residue, or -1.

    `gap` is 0 or negative. `values` is room for 5 rows of n + 1 numbers and `origins` for (n + m + 1) (n + 1). With
    `scores` (`fill_scores`) that of a pair is `weight` times the distance's plus `bonus` times its own. The branch is
    chosen when the kernel is compiled, by whether the argument is None.
    """
    one, scale, opening = np.float32(1.0), np.float32(1.0 / (d0 * d0)), np.float32(gap)
    factor, bonus_factor = np.float32(weight), np.float32(bonus)
    width = np.uint64(n + 1)
    before, last, this = values[0], values[1], values[2]
    last_open, this_open = values[3], values[4]
    values[:] = np.float32(0.0)
    u1 = np.uint64(1)
    for diagonal in range(2, n + m + 1):
        low, high = max(1, diagonal - m), min(n, diagonal - 1)
        base = np.uint64(diagonal) * width
        # Row i meets column diagonal - i, which stands at m - (diagonal - i) in the reversed target.
        shift = np.uint64(m - diagonal + low)
        for k in range(np.uint64(high - low + 1)):
            i = np.uint64(low) + k
            j = shift + k
            e0 = moved[0, i - u1] - target_last_first[0, j]
            e1 = moved[1, i - u1] - target_last_first[1, j]
            e2 = moved[2, i - u1] - target_last_first[2, j]
            if scores is None:
                pair = before[i - u1] + one / (one + (e0 * e0 + e1 * e1 + e2 * e2) * scale)
            else:
                extra = bonus_factor * np.float32(scores[base + i])
                pair = before[i - u1] + factor / (one + (e0 * e0 + e1 * e1 + e2 * e2) * scale) + extra
            up, left = last_open[i - u1], last_open[i]
            side = max(left, up)
            taken = pair >= side
            this[i] = pair if taken else side
            this_open[i] = pair + opening if taken else side
            origins[base + i] = _PAIR if taken else (_LEFT if left >= up else _UP)
        this[0] = this_open[0] = np.float32(0.0)
        if diagonal <= n:
            this[diagonal] = this_open[diagonal] = np.float32(0.0)
        before, last, this = last, this, before
        last_open, this_open = this_open, last_open
    trace_back(origins, n, m, partners)


@kernel
def fill_scores(codes: Codes, codes_last_first: Codes, n: int, m: int, table: Scores, scores: Scores) -> None:
    """Write `table[code, code]` of each pair of residues to `scores`, antidiagonal by antidiagonal.

    The first residue of row i and column j, both from 1, stands at (i + j) (n + 1) + i. `table` has CODES columns, end
    to end. Looked up apart from the alignments, which can then be vectorised.
    """
    u1 = np.uint64(1)
    for diagonal in range(2, n + m + 1):
        low, high = max(1, diagonal - m), min(n, diagonal - 1)
        base = np.uint64(diagonal) * np.uint64(n + 1)
        shift = np.uint64(m - diagonal + low)
        for k in range(np.uint64(high - low + 1)):
            i = np.uint64(low) + k
            scores[base + i] = table[
                np.uint64(codes[i - u1]) * np.uint64(CODES) + np.uint64(codes_last_first[shift + k])
            ]


@inner
def trace_back(origins: Codes, n: int, m: int, partners: Integers) -> None:
    """Follow `origins` from the last cell to an edge and write the partners, -1 where there is none."""
    for i in range(n):
        partners[i] = -1
    i, j = n, m
    while i > 0 and j > 0:
        origin = origins[(i + j) * (n + 1) + i]
        if origin == _PAIR:
            i -= 1
            j -= 1
            partners[i] = j
        elif origin == _LEFT:
            j -= 1
        else:
            i -= 1
