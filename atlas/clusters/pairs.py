"""Pairs of structures of one fold: candidates, checked by the TM-score that a superposition reaches.

Each step depends on the two chains of a pair alone, so pairs that were found once stay true when an atlas grows:

1. the shorter has at least 0.8 of the longer's residues;
2. their descriptors (descriptors.py) are near;
3. the lower bound of their TM-score (tm_align.py) is at least MIN_BOUND;
4. TM-align reaches MIN_TM, normalised by the longer. A lower bound of so much settles it without.

The longer chain is aligned to the shorter one, so that a pair has one score.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from foldatlas.atlas.clusters.descriptors import Descriptors, near

if TYPE_CHECKING:
    from foldatlas.folding.compare.tm_align import Chains

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

MIN_LENGTH_RATIO: Final = 0.8
MIN_TM: Final = 0.5  # two chains mostly share a fold (Xu & Zhang 2010, Bioinformatics 26:889)
MIN_BOUND: Final = 0.45


class Pairs(NamedTuple):
    """Pairs of one fold: rows of the longer and the shorter chain, and the TM-score by the longer that was reached."""

    longer_E: Rows
    shorter_E: Rows
    tm_E: Floats

    @classmethod
    def empty(cls) -> "Pairs":
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))

    def select(self, which: Any) -> "Pairs":
        """Return some of the pairs: a slice, a mask, or indices."""
        return Pairs(self.longer_E[which], self.shorter_E[which], self.tm_E[which])

    def followed_by(self, other: "Pairs") -> "Pairs":
        """Return these pairs and then those of `other`."""
        return Pairs(
            np.concatenate([self.longer_E, other.longer_E]),
            np.concatenate([self.shorter_E, other.shorter_E]),
            np.concatenate([self.tm_E, other.tm_E]),
        )


@dataclass
class PairCounts:
    """How many pairs reached each step."""

    in_ratio: int = 0
    candidates: int = 0
    aligned: int = 0


def window_end(lengths_N: npt.NDArray[np.integer], row: int) -> int:
    """Return the end of the rows that `row` is compared with: they follow it, in an order of falling lengths."""
    shortest = -(-int(lengths_N[row]) * 4 // 5)  # ceil(0.8 length), in integers
    return int(np.searchsorted(-np.asarray(lengths_N), -shortest, side="right"))


def find_pairs(
    chains: "Chains",
    descriptors_KD: Descriptors,
    num_longer: int,
    is_new_K: Mask,
    *,
    threads: int = 1,
    counts: PairCounts | None = None,
    advance: Callable[[int], None] = lambda rows: None,
    check: Callable[[], None] = lambda: None,
) -> Pairs:
    """Return the pairs of which the longer is one of the first `num_longer` chains, and of which one or both are new.

    `chains` are in the order of falling lengths, and hold all that `window_end` of the first `num_longer` asks for.
    `check` is called before each of them and may raise, `advance` with 1 after. Pairs are sorted by their rows. The
    result does not depend on `threads`.
    """
    from foldatlas.folding.compare.tm_align import lower_bounds, tm_align_many

    counts = counts if counts is not None else PairCounts()
    lengths = np.diff(chains.offsets_K1)
    new_rows = np.flatnonzero(is_new_K)
    found = [Pairs.empty()]
    for row in range(num_longer):
        check()
        last = window_end(lengths, row)
        candidates = near(descriptors_KD, row, row + 1, last, int(lengths[row]))
        if is_new_K[row]:
            counts.in_ratio += last - row - 1
        else:  # it was compared with what is not new before
            candidates = candidates[is_new_K[candidates]]
            counts.in_ratio += int(np.diff(np.searchsorted(new_rows, [row + 1, last]))[0])
        if len(candidates):
            span = slice(*chains.offsets_K1[row : row + 2])
            query = chains.c_alphas_T3[span], chains.states_T[span]
            scores = lower_bounds(*query, chains, candidates, threads)
            is_open = (scores >= MIN_BOUND) & (scores < MIN_TM)
            counts.candidates += len(candidates)
            counts.aligned += int(is_open.sum())
            if is_open.any():
                scores[is_open] = tm_align_many(*query, chains, candidates[is_open], threads).tm_query_P
            is_pair = scores >= MIN_TM
            shorter = candidates[is_pair]
            found.append(Pairs(np.full(len(shorter), row), shorter, scores[is_pair].astype(np.float32)))
        advance(1)
    return Pairs(*(np.concatenate(column) for column in zip(*found, strict=True)))
