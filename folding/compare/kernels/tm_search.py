"""The superposition of paired C-alphas with the greatest TM-score: the search of the TM-score program, compiled.

Zhang & Skolnick 2004 (Proteins 57:702), as TM-align uses it (2005, Nucleic Acids Res. 33:2302): begin at fragments of
N, N/2, N/4, N/8, N/16 and 4 pairs, superpose, take the pairs closer than a radius, and repeat until they stay the
same. One pass over the pairs gives the score and the sums of the next superposition together, in float32 on centred
coordinates; the superposition itself is float64. A search leaves off where it reaches a selection that it has been at.

Points are stored by axis, [3, N] float32, and the first `count` columns count.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from foldatlas.folding.compare.kernels.compilation import inner, kernel
from foldatlas.folding.compare.kernels.quaternion_fit import Sums, Transform, fit

Points = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]

SEEN_SLOTS: Final = 1 << 12
_MAX_SEEN: Final = SEEN_SLOTS * 3 // 4
_MAX_ITERATIONS: Final = 20
_MAX_FRAGMENT_LENGTHS: Final = 6
_CLIMB_SLOTS: Final = _MAX_ITERATIONS + 1
_MIN_FRAGMENT: Final = 4
_MIN_SELECTED: Final = 3
_WIDER: Final = 0.5  # angstrom, by which a radius grows that selects fewer
NO_CUTOFF: Final = 1e9  # angstrom


@kernel
def final_d0(length: int) -> float:
    """Return the TM-score's distance scale in angstrom for a chain of `length` residues, 0.5 at least."""
    if length <= 21:
        return 0.5
    return max(0.5, 1.24 * (length - 15.0) ** (1.0 / 3.0) - 1.8)


@inner
def search_d0(length: int) -> float:
    """Return the wider scale by which TM-align searches, in angstrom, for the shorter chain's length."""
    if length <= 19:
        return 0.168 + 0.8
    return 1.24 * (length - 15.0) ** (1.0 / 3.0) - 1.8 + 0.8


@inner
def search_radius(d0: float) -> float:
    """Return `d0` as a radius of selection, 4.5 to 8 angstrom."""
    return min(max(d0, 4.5), 8.0)


@inner
def distance_cutoff(length: int) -> float:
    """Return the distance in angstrom beyond which a pair does not count as aligned, for the shorter chain's length."""
    return 1.5 * length**0.3 + 3.5


@inner
def range_sums(x: Points, y: Points, x_start: int, y_start: int, count: int) -> Sums:
    """Return the sums (quaternion_fit) of `count` pairs, column `x_start` on of `x` with column `y_start` on of `y`."""
    zero = np.float32(0.0)
    g, x0, x1, x2, y0, y1, y2 = zero, zero, zero, zero, zero, zero, zero
    s00, s01, s02, s10, s11, s12, s20, s21, s22 = zero, zero, zero, zero, zero, zero, zero, zero, zero
    first_x, first_y = np.uint64(x_start), np.uint64(y_start)
    for k in range(np.uint64(count)):
        i, j = first_x + k, first_y + k
        a0, a1, a2 = x[0, i], x[1, i], x[2, i]
        b0, b1, b2 = y[0, j], y[1, j], y[2, j]
        g += a0 * a0 + a1 * a1 + a2 * a2 + b0 * b0 + b1 * b1 + b2 * b2
        x0 += a0
        x1 += a1
        x2 += a2
        y0 += b0
        y1 += b1
        y2 += b2
        s00 += a0 * b0
        s01 += a0 * b1
        s02 += a0 * b2
        s10 += a1 * b0
        s11 += a1 * b1
        s12 += a1 * b2
        s20 += a2 * b0
        s21 += a2 * b1
        s22 += a2 * b2
    return _doubles(np.float32(count), g, x0, x1, x2, y0, y1, y2, s00, s01, s02, s10, s11, s12, s20, s21, s22)


@inner
def _doubles(n, g, x0, x1, x2, y0, y1, y2, s00, s01, s02, s10, s11, s12, s20, s21, s22):  # type: ignore[no-untyped-def]
    return (
        np.float64(n),
        np.float64(g),
        np.float64(x0),
        np.float64(x1),
        np.float64(x2),
        np.float64(y0),
        np.float64(y1),
        np.float64(y2),
        np.float64(s00),
        np.float64(s01),
        np.float64(s02),
        np.float64(s10),
        np.float64(s11),
        np.float64(s12),
        np.float64(s20),
        np.float64(s21),
        np.float64(s22),
    )


@inner
def select_pass(
    x: Points,
    y: Points,
    x_start: int,
    y_start: int,
    count: int,
    transform: Transform,
    radius: float,
    d0: float,
    cutoff: float,
) -> tuple[float, Sums]:
    """Return the TM sum of the pairs under `transform`, those beyond `cutoff` left out, and the sums of the pairs
    closer than `radius`."""
    zero, one = np.float32(0.0), np.float32(1.0)
    r00, r01, r02 = np.float32(transform[0]), np.float32(transform[1]), np.float32(transform[2])
    r10, r11, r12 = np.float32(transform[3]), np.float32(transform[4]), np.float32(transform[5])
    r20, r21, r22 = np.float32(transform[6]), np.float32(transform[7]), np.float32(transform[8])
    t0, t1, t2 = np.float32(transform[9]), np.float32(transform[10]), np.float32(transform[11])
    limit, scale = np.float32(radius * radius), np.float32(1.0 / (d0 * d0))
    furthest = np.float32(cutoff * cutoff)
    score, n, g, x0, x1, x2, y0, y1, y2 = zero, zero, zero, zero, zero, zero, zero, zero, zero
    s00, s01, s02, s10, s11, s12, s20, s21, s22 = zero, zero, zero, zero, zero, zero, zero, zero, zero
    first_x, first_y = np.uint64(x_start), np.uint64(y_start)
    for k in range(np.uint64(count)):
        i, j = first_x + k, first_y + k
        a0, a1, a2 = x[0, i], x[1, i], x[2, i]
        b0, b1, b2 = y[0, j], y[1, j], y[2, j]
        e0 = r00 * a0 + r01 * a1 + r02 * a2 + t0 - b0
        e1 = r10 * a0 + r11 * a1 + r12 * a2 + t1 - b1
        e2 = r20 * a0 + r21 * a1 + r22 * a2 + t2 - b2
        square = e0 * e0 + e1 * e1 + e2 * e2
        score += one / (one + square * scale) if square <= furthest else zero
        w = one if square < limit else zero
        n += w
        g += w * (a0 * a0 + a1 * a1 + a2 * a2 + b0 * b0 + b1 * b1 + b2 * b2)
        a0, a1, a2 = w * a0, w * a1, w * a2
        x0 += a0
        x1 += a1
        x2 += a2
        y0 += w * b0
        y1 += w * b1
        y2 += w * b2
        s00 += a0 * b0
        s01 += a0 * b1
        s02 += a0 * b2
        s10 += a1 * b0
        s11 += a1 * b1
        s12 += a1 * b2
        s20 += a2 * b0
        s21 += a2 * b1
        s22 += a2 * b2
    return np.float64(score), _doubles(n, g, x0, x1, x2, y0, y1, y2, s00, s01, s02, s10, s11, s12, s20, s21, s22)


@inner
def select(
    x: Points,
    y: Points,
    x_start: int,
    y_start: int,
    count: int,
    transform: Transform,
    radius: float,
    d0: float,
    cutoff: float,
) -> tuple[float, Sums]:
    """As `select_pass`; a radius that selects fewer than three pairs grows by half an angstrom until it does."""
    score, sums = select_pass(x, y, x_start, y_start, count, transform, radius, d0, cutoff)
    while sums[0] < min(count, _MIN_SELECTED) and radius < NO_CUTOFF:
        radius += _WIDER if radius < 40.0 else radius
        _, sums = select_pass(x, y, x_start, y_start, count, transform, radius, d0, cutoff)
    return score, sums


@inner
def _fingerprint(sums: Sums) -> np.uint64:
    """Return a number of the selection: the same pairs are summed in the same order and give the same bits."""
    bits = np.array(sums).view(np.uint64)
    mixed = np.uint64(1469598103934665603)
    for k in range(len(bits)):
        mixed = (mixed ^ bits[k]) * np.uint64(1099511628211)
        mixed ^= mixed >> np.uint64(29)
    return mixed | np.uint64(1)  # 0 marks a free slot


@inner
def _is_new(seen: npt.NDArray[np.uint64], number: int, value: np.uint64) -> bool:
    """Add `value` to the hash table unless it is there or the table is full; return whether it was missing."""
    slot = (value >> np.uint64(20)) & np.uint64(SEEN_SLOTS - 1)
    while seen[slot] != np.uint64(0):
        if seen[slot] == value:
            return False
        slot = (slot + np.uint64(1)) & np.uint64(SEEN_SLOTS - 1)
    if number < _MAX_SEEN:
        seen[slot] = value
    return True


@kernel
def search(
    x: Points, y: Points, count: int, d0: float, cutoff: float, stride: int, seen: npt.NDArray[np.uint64]
) -> tuple[float, Transform]:
    """Return the greatest TM sum of the first `count` pairs, not divided by a length, and its transform.

    Fragments begin at every `stride`-th pair and at the last one possible. `seen` is room for SEEN_SLOTS numbers.
    """
    radius = search_radius(d0)
    shortest = min(_MIN_FRAGMENT, count)
    best = -1.0
    best_transform: Transform = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    seen[:] = np.uint64(0)
    number = 0
    for power in range(_MAX_FRAGMENT_LENGTHS):
        fragment = count >> power
        if power == _MAX_FRAGMENT_LENGTHS - 1 or fragment < shortest:
            fragment = shortest
        start = 0
        while True:
            sums = range_sums(x, y, start, start, fragment)
            for iteration in range(_MAX_ITERATIONS + 1):
                if not _is_new(seen, number, _fingerprint(sums)):
                    break
                number += 1
                transform = fit(sums)
                score, sums = select(
                    x, y, 0, 0, count, transform, radius + 1.0 if iteration else radius - 1.0, d0, cutoff
                )
                if score > best:
                    best, best_transform = score, transform
            if start >= count - fragment:
                break
            start = min(start + stride, count - fragment)
        if fragment == shortest:
            break
    return best, best_transform


@inner
def climb(
    x: Points, y: Points, count: int, start: Transform, d0: float, seen: npt.NDArray[np.uint64]
) -> tuple[float, Transform]:
    """Return the greatest TM sum of the first `count` pairs on the way from `start`, and its transform.

    A tenth of the time of `search`, for alignments that `start` itself gave.
    """
    radius = search_radius(d0)
    seen[:_CLIMB_SLOTS] = np.uint64(0)
    best, sums = select(x, y, 0, 0, count, start, radius, d0, NO_CUTOFF)
    best_transform = start
    for iteration in range(_MAX_ITERATIONS + 1):
        fingerprint = _fingerprint(sums)
        for k in range(iteration):
            if seen[k] == fingerprint:
                return best, best_transform
        seen[iteration] = fingerprint
        transform = fit(sums)
        score, sums = select(x, y, 0, 0, count, transform, radius + 1.0, d0, NO_CUTOFF)
        if score > best:
            best, best_transform = score, transform
    return best, best_transform
