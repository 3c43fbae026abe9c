"""Whether a confidence keeps its word: pLDDT against lDDT, pTM against TM-score. numpy only.

Both are fractions, 0 to 1, on the same scale: what was claimed and what came true. Rank correlation says whether the
better are told from the worse; the mean difference, the bins and the expected calibration error (Naeini et al. 2015)
whether the numbers themselves are right.

Shapes: N claims.
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
    """Claims from `low` to below `high` (the last bin: to 1): how many, their mean, and the mean of what came true;
    None for both where there are none."""

    low: float
    high: float
    count: int
    mean_claimed: float | None
    mean_true: float | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """`count` claims. `rank_correlation` is Spearman's, -1 to 1, None where one side is constant; `mean_difference`
    the mean of claim less truth; `expected_calibration_error` the mean over claims of the distance between the means
    of the claim's bin. All None for no claims."""

    count: int
    mean_claimed: float | None
    mean_true: float | None
    mean_difference: float | None
    rank_correlation: float | None
    expected_calibration_error: float | None
    bins: tuple[Bin, ...]


def calibration(claimed_N: Numbers, true_N: Numbers, num_bins: int = NUM_BINS) -> Calibration:
    """Compares claims with what came true, both 0 to 1; pairs with a NaN are left out.

    Raises ValueError for arrays of different shapes or claims outside 0 to 1.
    """
    if claimed_N.shape != true_N.shape:
        raise ValueError(f"each claim needs its truth: {claimed_N.shape=}, {true_N.shape=}")
    known_N = np.isfinite(claimed_N) & np.isfinite(true_N)
    claimed_N, true_N = claimed_N[known_N].astype(np.float64), true_N[known_N].astype(np.float64)
    if len(claimed_N) and not (claimed_N.min() >= 0 and claimed_N.max() <= 1):
        raise ValueError(f"claims must be 0 to 1, not {claimed_N.min():g} to {claimed_N.max():g}")
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
    """Spearman's rank correlation, -1 to 1: equal values share the mean of their ranks. None where one is constant
    or there is nothing."""
    if not len(one_N):
        return None
    one_N, other_N = _ranks(one_N), _ranks(other_N)
    one_N, other_N = one_N - one_N.mean(), other_N - other_N.mean()
    scale = float(np.sqrt((one_N**2).sum() * (other_N**2).sum()))
    return float((one_N * other_N).sum() / scale) if scale else None


def _ranks(values_N: Numbers) -> Doubles:
    _, place_N, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks_N: Doubles = (last - (counts - 1) / 2)[place_N]
    return ranks_N
