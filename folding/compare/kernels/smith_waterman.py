"""Local alignment of 3Di sequences with affine gaps: Smith & Waterman 1981, Gotoh 1982, on antidiagonals.

A gap of k residues costs `gap_open + (k - 1) * gap_extend`, as in MMseqs2 and biotite. Integers throughout.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from foldatlas.folding.compare.kernels.compilation import kernel

Codes = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.int8]
Integers = npt.NDArray[np.int32]

GAP_OPEN: Final = 10
GAP_EXTEND: Final = 1
NUM_ROWS: Final = 7  # of working memory

_PAIR: Final = np.int32(1)
_UP: Final = np.int32(2)
_LEFT: Final = np.int32(3)
_SOURCE: Final = np.int32(3)  # bits that say where a cell came from; 0 begins an alignment
_UP_GOES_ON: Final = np.int32(4)
_LEFT_GOES_ON: Final = np.int32(8)
_NEVER: Final = np.int32(-(1 << 29))


@kernel
def align_states(
    scores: Scores,
    n: int,
    m: int,
    gap_open: int,
    gap_extend: int,
    rows: Integers,
    origins: Codes,
    partners: Integers,
) -> int:
    """Write the best local alignment to `partners[:n]`, the target's residue or -1, and return its score.

    `scores` are the pairs' as `alignment_by_distance.fill_scores` lays them out; `rows` is room for NUM_ROWS rows of
    n + 1 numbers and `origins` for
    (n + m + 1) (n + 1). Among cells of equal score the
    alignment ends at the first of the first antidiagonal.
    """
    zero, opening, going_on = np.int32(0), np.int32(gap_open), np.int32(gap_extend)
    width = np.uint64(n + 1)
    before, last, this = rows[0], rows[1], rows[2]
    up_last, up_this, left_last, left_this = rows[3], rows[4], rows[5], rows[6]
    best, best_row, best_diagonal = zero, 0, 0
    rows[:] = zero
    rows[3:] = _NEVER
    u1 = np.uint64(1)
    for diagonal in range(2, n + m + 1):
        low, high = max(1, diagonal - m), min(n, diagonal - 1)
        base = np.uint64(diagonal) * width
        top = zero
        for k in range(np.uint64(high - low + 1)):
            i = np.uint64(low) + k
            pair = before[i - u1] + np.int32(scores[base + i])
            up_new, up_old = last[i - u1] - opening, up_last[i - u1] - going_on
            left_new, left_old = last[i] - opening, left_last[i] - going_on
            up, left = max(up_new, up_old), max(left_new, left_old)
            side = max(up, left)
            value = max(max(pair, side), zero)
            source = _PAIR if pair >= side else (_UP if up >= left else _LEFT)
            source = source if value > zero else zero
            up_on = _UP_GOES_ON if up_old > up_new else zero
            left_on = _LEFT_GOES_ON if left_old > left_new else zero
            origins[base + i] = np.uint8(source + up_on + left_on)
            this[i], up_this[i], left_this[i] = value, up, left
            top = max(top, value)
        if top > best:
            best, best_row, best_diagonal = top, low, diagonal
            while this[best_row] < top:
                best_row += 1
        this[0] = zero
        up_this[0] = left_this[0] = _NEVER
        if diagonal <= n:
            this[diagonal] = zero
            up_this[diagonal] = left_this[diagonal] = _NEVER
        before, last, this = last, this, before
        up_last, up_this = up_this, up_last
        left_last, left_this = left_this, left_last

    partners[:n] = -1
    if best == zero:
        return 0
    row, column = best_row, best_diagonal - best_row
    mode = zero  # in which of the three a walk is: 0, or _UP or _LEFT within a gap
    while True:
        origin = np.int32(origins[(row + column) * (n + 1) + row])
        if mode == zero:
            mode = origin & _SOURCE
            if mode == zero:
                break
            if mode == _PAIR:
                row -= 1
                column -= 1
                partners[row] = column
                mode = zero
                if row == 0 or column == 0:
                    break
        elif mode == _UP:
            row -= 1
            mode = _UP if origin & _UP_GOES_ON else zero
        else:
            column -= 1
            mode = _LEFT if origin & _LEFT_GOES_ON else zero
    return int(best)
