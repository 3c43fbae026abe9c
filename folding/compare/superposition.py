"""Comparison of two structures of one sequence: superposition, RMSD, TM-score and GDT. numpy only, in float64.

Residue i of the prediction is paired with residue i of the reference, without alignment, as is right for a prediction
of a known sequence (docs/decisions/0012-measuring-structures.md).

Superposition: Kabsch 1978. TM-score and its search: Zhang & Skolnick 2004. GDT: Zemla 2003, by the same search.

Shapes: N pairs of points, B superpositions of a block, F = 17 features of a pair.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.floating]
Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

GDT_TS_CUTOFFS: Final = (1.0, 2.0, 4.0, 8.0)  # angstrom
GDT_HA_CUTOFFS: Final = (0.5, 1.0, 2.0, 4.0)

_MIN_D0: Final = 0.5  # angstrom; for short chains
_SEARCH_D0: Final = (4.5, 8.0)  # angstrom; limits of d0 where it is the search radius
_MAX_ITERATIONS: Final = 20
_MAX_FRAGMENT_LENGTHS: Final = 6
_MIN_FRAGMENT: Final = 4  # residues
_MIN_SELECTED: Final = 3  # points; fewer do not determine a superposition
_RADIUS_STEP: Final = 0.5  # angstrom; increment of a radius that selects fewer points
_BLOCK: Final = 1 << 20  # superpositions times residues per block: 8 MiB for each temporary array


def superpose(mobile_N3: Points, target_N3: Points) -> tuple[Doubles, Doubles]:
    """Return rotation [3, 3] and translation [3] that minimise the RMSD of `mobile_N3 @ rotation.T + translation` to
    `target_N3`. The rotation is proper, never a reflection.

    Raise ValueError for different shapes or no points.
    """
    features_FN = _features(*_checked(mobile_N3, target_N3))
    rotation_B33, translation_B3 = _fit(np.ones((1, len(mobile_N3))), features_FN)
    return rotation_B33[0], translation_B3[0]


def rmsd(mobile_N3: Points, target_N3: Points) -> float:
    """Return the root mean square distance after the best superposition, in the unit of the coordinates."""
    mobile_N3, target_N3 = _checked(mobile_N3, target_N3)
    rotation, translation = superpose(mobile_N3, target_N3)
    difference_N3 = mobile_N3 @ rotation.T + translation - target_N3
    return float(np.sqrt((difference_N3**2).sum(axis=1).mean()))


def tm_d0(length: int) -> float:
    """Return the distance scale d0 of the TM-score, in angstrom, for a reference of `length` residues; at least 0.5."""
    return max(_MIN_D0, 1.24 * max(length - 15, 0) ** (1 / 3) - 1.8)


def tm_score(predicted_N3: Points, reference_N3: Points, length: int | None = None) -> float:
    """Return the TM-score, 0 to 1, of C-alphas in angstrom with fixed pairing.

    It is the best over the superpositions that the program TM-score tries: they start from all fragments of N, N/2,
    N/4, N/8, N/16 and 4 residues, and each is refined up to 20 times on the pairs within d0 + 1 angstrom. `length`,
    used for d0 and as the divisor, is the reference's number of residues; None means the number of pairs.

    Raise ValueError for different shapes, no points, or a `length` below the number of pairs.
    """
    predicted_N3, reference_N3 = _checked(predicted_N3, reference_N3)
    length = len(reference_N3) if length is None else length
    if length < len(reference_N3):
        raise ValueError(f"{length=} is less than the {len(reference_N3)} pairs given")
    d0 = tm_d0(length)
    radius = min(max(d0, _SEARCH_D0[0]), _SEARCH_D0[1])
    return (
        max(
            float((1 / (1 + squares_BN / d0**2)).sum(axis=1).max())
            for squares_BN in _search(predicted_N3, reference_N3, radius - 1, radius + 1)
        )
        / length
    )


def fractions_within(
    predicted_N3: Points, reference_N3: Points, cutoffs: Sequence[float], length: int | None = None
) -> Doubles:
    """Return, for each of `cutoffs` (angstrom), the largest fraction of residues, 0 to 1, that a superposition brings
    within that distance of the reference.

    Each cutoff has its own search, as in LGA: the best superposition for 8 angstrom is rarely the best for 1. `length`
    is as in `tm_score`.
    """
    predicted_N3, reference_N3 = _checked(predicted_N3, reference_N3)
    squared = np.asarray(cutoffs, dtype=np.float64) ** 2
    best = np.zeros(len(squared))
    for cutoff in cutoffs:
        for squares_BN in _search(predicted_N3, reference_N3, cutoff, cutoff):
            for index, limit in enumerate(squared):
                best[index] = max(best[index], (squares_BN <= limit).sum(axis=1).max())
    return best / (len(reference_N3) if length is None else length)


def gdt_ts(predicted_N3: Points, reference_N3: Points, length: int | None = None) -> float:
    """Return the GDT total score, 0 to 1: the mean of `fractions_within` 1, 2, 4 and 8 angstrom."""
    return float(fractions_within(predicted_N3, reference_N3, GDT_TS_CUTOFFS, length).mean())


def gdt_ha(predicted_N3: Points, reference_N3: Points, length: int | None = None) -> float:
    """Return the GDT high-accuracy score, 0 to 1: the mean of `fractions_within` 0.5, 1, 2 and 4 angstrom."""
    return float(fractions_within(predicted_N3, reference_N3, GDT_HA_CUTOFFS, length).mean())


def _checked(mobile_N3: Points, target_N3: Points) -> tuple[Doubles, Doubles]:
    if mobile_N3.shape != target_N3.shape or mobile_N3.ndim != 2 or mobile_N3.shape[1] != 3 or not len(mobile_N3):
        raise ValueError(f"points must be two arrays of one shape [N, 3]: {mobile_N3.shape=}, {target_N3.shape=}")
    return mobile_N3.astype(np.float64), target_N3.astype(np.float64)


def _search(mobile_N3: Doubles, target_N3: Doubles, first: float, later: float) -> Iterator[Doubles]:
    """Yield the squared distances [B, N] under each superposition that the search tries.

    From every fragment of each length, the search superposes the selected pairs, selects the pairs that are then closer
    than a radius (`first` after the fragment, `later` in further iterations), and repeats until the selection does not
    change.
    """
    # Centred, because distances are differences of squared coordinates and would lose precision.
    features_FN = _features(mobile_N3 - mobile_N3.mean(axis=0), target_N3 - target_N3.mean(axis=0))
    length = len(mobile_N3)
    rows = max(1, _BLOCK // length)
    index_N = np.arange(length)
    for fragment in _fragment_lengths(length):
        for start in range(0, length - fragment + 1, rows):
            starts_B1 = np.arange(start, min(start + rows, length - fragment + 1))[:, np.newaxis]
            selected_BN = (index_N >= starts_B1) & (index_N < starts_B1 + fragment)
            for iteration in range(_MAX_ITERATIONS + 1):
                squares_BN = _squared_distances(selected_BN, features_FN)
                yield squares_BN
                closer_BN = _closer_than(squares_BN, later if iteration else first)
                if iteration:
                    moved_B = (closer_BN != selected_BN).any(axis=1)
                    closer_BN = closer_BN[moved_B]
                if not len(closer_BN):
                    break
                selected_BN = closer_BN


def _fragment_lengths(length: int) -> list[int]:
    """Return those of N, N/2, N/4, N/8 and N/16 that exceed 4, and then 4, or N if that is less."""
    shortest = min(_MIN_FRAGMENT, length)
    halves = [length >> power for power in range(_MAX_FRAGMENT_LENGTHS - 1)]
    return [half for half in halves if half > shortest] + [shortest]


def _features(mobile_N3: Doubles, target_N3: Doubles) -> Doubles:
    """Return the terms in which superpositions and squared distances are linear, [F, N].

    They are |p|^2 + |q|^2, 1, p, q and the products p_b q_a. With them the sums over a selection, and the distances of
    all pairs, are one matrix product each for all superpositions.
    """
    squares_N = (mobile_N3**2).sum(axis=1) + (target_N3**2).sum(axis=1)
    products_99N = mobile_N3.T[:, np.newaxis] * target_N3.T
    return np.concatenate(
        [squares_N[np.newaxis], np.ones((1, len(squares_N))), mobile_N3.T, target_N3.T, products_99N.reshape(9, -1)]
    )


def _fit(weights_BN: Doubles, features_FN: Doubles) -> tuple[Doubles, Doubles]:
    """Return rotations [B, 3, 3] and translations [B, 3] with the least weighted RMSD (Kabsch)."""
    sums_BF = weights_BN @ features_FN[1:].T
    number_B1 = sums_BF[:, :1]
    mobile_B3, target_B3 = sums_BF[:, 1:4] / number_B1, sums_BF[:, 4:7] / number_B1
    covariance_B33 = sums_BF[:, 7:].reshape(-1, 3, 3) - (
        number_B1[:, :, np.newaxis] * mobile_B3[:, :, np.newaxis] * target_B3[:, np.newaxis]
    )
    left_B33, _, right_B33 = np.linalg.svd(covariance_B33)
    # The best orthogonal matrix may be a reflection: then the axis of the smallest singular value is inverted.
    is_reflection_B = np.linalg.det(left_B33) * np.linalg.det(right_B33) < 0
    left_B33[is_reflection_B, :, 2] *= -1
    rotation_B33 = (left_B33 @ right_B33).transpose(0, 2, 1)
    return rotation_B33, target_B3 - (rotation_B33 @ mobile_B3[:, :, np.newaxis])[:, :, 0]


def _squared_distances(selected_BN: Mask, features_FN: Doubles) -> Doubles:
    """Return the squared distances [B, N] of all pairs when the selected pairs are superposed."""
    rotation_B33, translation_B3 = _fit(selected_BN.astype(np.float64), features_FN)
    number = len(rotation_B33)
    # |R p + t - q|^2 = |p|^2 + |q|^2 + |t|^2 + 2 R^T t . p - 2 t . q - 2 q . R p
    weights_BF = np.concatenate(
        [
            np.ones((number, 1)),
            (translation_B3**2).sum(axis=1, keepdims=True),
            2 * (translation_B3[:, np.newaxis] @ rotation_B33)[:, 0],
            -2 * translation_B3,
            -2 * rotation_B33.transpose(0, 2, 1).reshape(number, 9),
        ],
        axis=1,
    )
    return np.maximum(weights_BF @ features_FN, 0)


def _closer_than(squares_BN: Doubles, radius: float) -> Mask:
    """Return the pairs closer than `radius`, which is increased in steps until at least three are selected.

    If there are no more than three pairs, all are selected.
    """
    closer_BN = squares_BN < radius**2
    if squares_BN.shape[1] <= _MIN_SELECTED:
        return np.ones_like(closer_BN)
    few_B = np.flatnonzero(closer_BN.sum(axis=1) < _MIN_SELECTED)
    if len(few_B):
        few_BN = squares_BN[few_B]
        third_B1 = np.partition(few_BN, _MIN_SELECTED - 1, axis=1)[:, _MIN_SELECTED - 1 : _MIN_SELECTED]
        steps_B1 = np.floor((np.sqrt(third_B1) - radius) / _RADIUS_STEP) + 1
        # The second condition includes the third pair if rounding excludes it in the first.
        closer_BN[few_B] = (few_BN < (radius + steps_B1 * _RADIUS_STEP) ** 2) | (few_BN <= third_B1)
    return closer_BN
