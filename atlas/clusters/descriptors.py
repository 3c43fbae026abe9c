"""A few numbers for each chain that are near for chains of one fold: which pairs are worth a superposition.

A descriptor is the composition of 3Di states in each quarter of the chain, and the histogram of the distances between
evenly spaced residues. The distance of two is the sum of absolute differences. Everything compared is an integer, so
that candidates are the same on every machine. Weights were fitted by logistic regression to pairs of experimental
chains (docs/decisions/0032-clusters.md has what a threshold loses).
"""

import math
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]
Descriptors = npt.NDArray[np.int16]

VERSION: Final = 1  # of weights and limit: pairs of another one are not taken over

_QUARTERS: Final = 4
_NUM_STATES: Final = 20
_RESIDUES: Final = 64  # at most, whose distances are counted
_BIN: Final = 3.0  # angstrom
_NUM_BINS: Final = 24  # the last one has all greater distances, too
SIZE: Final = _QUARTERS * _NUM_STATES + _NUM_BINS

_SCALE: Final = 100
_COMPOSITION: Final = 25.7 * _SCALE
_HISTOGRAM: Final = 15.7 * _SCALE
_LENGTH: Final = 4.43 * _SCALE  # long chains of one fold have nearer descriptors
_LIMIT: Final = 44.0 * _SCALE


def describe(c_alphas_L3: Points, states_L: Codes) -> Descriptors:
    """Return the descriptor, [SIZE], of a chain of C-alphas in angstrom, all finite, and 3Di states 0 to 19."""
    length = len(states_L)
    quarter = np.arange(length) * _QUARTERS // length
    counts = np.bincount(quarter * _NUM_STATES + states_L, minlength=_QUARTERS * _NUM_STATES)
    taken = min(length, _RESIDUES)
    x, y, z = c_alphas_L3[np.arange(taken) * (length - 1) // max(1, taken - 1)].astype(np.float64).T
    first, second = _all_pairs(taken)
    squares = (x[first] - x[second]) ** 2 + (y[first] - y[second]) ** 2 + (z[first] - z[second]) ** 2
    bins = np.searchsorted((np.arange(1, _NUM_BINS) * _BIN) ** 2, squares, side="right")
    histogram = np.bincount(bins, minlength=_NUM_BINS)
    parts = (counts * (_COMPOSITION / length), histogram * (_HISTOGRAM / max(1, len(first))))
    return np.rint(np.concatenate(parts)).astype(np.int16)


@lru_cache(maxsize=_RESIDUES)
def _all_pairs(number: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    return np.triu_indices(number, 1)


def limit(length: int) -> int:
    """Return the greatest distance of candidates whose longer chain has `length` residues."""
    return math.floor(_LIMIT - _LENGTH * math.log(length))


def near(descriptors_KD: Descriptors, row: int, begin: int, end: int, length: int) -> npt.NDArray[np.int64]:
    """Return which of the rows `begin` to `end` are candidates of `row`, the longer one, of `length` residues."""
    differences = np.abs(descriptors_KD[begin:end] - descriptors_KD[row])
    distances = differences.sum(axis=1, dtype=np.int32)
    found: npt.NDArray[np.int64] = begin + np.flatnonzero(distances <= limit(length))
    return found
