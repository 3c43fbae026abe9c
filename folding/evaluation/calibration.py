"""Calibration of pLDDT against lDDT and of pTM against TM-score. numpy only.

Predicted and true scores are fractions, 0 to 1. Rank correlation measures the ranking; the mean difference, the bins
and the expected calibration error (Naeini et al. 2015) measure the values themselves.

Shapes: N predicted scores.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.floating]
Doubles = npt.NDArray[np.float64]

NUM_BINS: Final = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """Scores predicted from `low` to below `high` (in the last bin up to 1): their number, and the means of predicted
    and true scores, None in an empty bin."""

    low: float
    high: float
    count: int
    mean_claimed: float | None
    mean_true: float | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration of `count` predicted scores; all values are None if there are none.

    mean_claimed                 mean of the predicted scores
    mean_true                    mean of the true scores
    mean_difference              mean of predicted minus true score
    rank_correlation             Spearman's, -1 to 1; None if one of the two is constant
    expected_calibration_error   mean over scores of | mean predicted - mean true | in their bin
    """

    count: int
    mean_claimed: float | None
    mean_true: float | None
    mean_difference: float | None
    rank_correlation: float | None
    expected_calibration_error: float | None
    bins: tuple[Bin, ...]


def calibration(claimed_N: Numbers, true_N: Numbers, num_bins: int = NUM_BINS) -> Calibration:
    """Compare predicted scores with true ones, both 0 to 1; pairs with a NaN are excluded.

    Raise ValueError for arrays of different shapes or predicted scores outside 0 to 1.
    """
    if claimed_N.shape != true_N.shape:
        raise ValueError(f"predicted and true scores must have one shape: {claimed_N.shape=}, {true_N.shape=}")
    known_N = np.isfinite(claimed_N) & np.isfinite(true_N)
    claimed_N, true_N = claimed_N[known_N].astype(np.float64), true_N[known_N].astype(np.float64)
    if len(claimed_N) and not (claimed_N.min() >= 0 and claimed_N.max() <= 1):
        raise ValueError(f"predicted scores must be 0 to 1, not {claimed_N.min():g} to {claimed_N.max():g}")
    edges = np.linspace(0, 1, num_bins + 1)
    bin_N = np.minimum((claimed_N * num_bins).astype(np.int64), num_bins - 1)
    bins, error = [], 0.0
    for number in range(num_bins):
        within_N = bin_N == number
        count = int(within_N.sum())
        claimed = float(claimed_N[within_N].mean()) if count else None
        true = float(true_N[within_N].mean()) if count else None
        bins.append(Bin(float(edges[number]), float(edges[number + 1]), count, claimed, true))
        if claimed is not None and true is not None:
            error += count * abs(claimed - true)
    if not len(claimed_N):
        return Calibration(0, None, None, None, None, None, tuple(bins))
    return Calibration(
        count=len(claimed_N),
        mean_claimed=float(claimed_N.mean()),
        mean_true=float(true_N.mean()),
        mean_difference=float(claimed_N.mean() - true_N.mean()),
        rank_correlation=rank_correlation(claimed_N, true_N),
        expected_calibration_error=error / len(claimed_N),
        bins=tuple(bins),
    )


def rank_correlation(one_N: Numbers, other_N: Numbers) -> float | None:
    """Return Spearman's rank correlation, -1 to 1, with mean ranks for ties; None if one is constant or empty."""
    if not len(one_N):
        return None
    one_N, other_N = _ranks(one_N), _ranks(other_N)
    one_N, other_N = one_N - one_N.mean(), other_N - other_N.mean()
    scale = float(np.sqrt((one_N**2).sum() * (other_N**2).sum()))
    return float((one_N * other_N).sum() / scale) if scale else None


def _ranks(values_N: Numbers) -> Doubles:
    _, inverse_N, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks_N: Doubles = (last - (counts - 1) / 2)[inverse_N]
    return ranks_N
