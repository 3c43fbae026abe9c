"""Slices of an axis, so that temporaries between two layers are smaller than the pair representation.

In all updates of the trunk but one product, the update of a pair depends only on its row (or column). So a few rows are
processed at a time and written back in place: temporaries stay in the processor's cache, and about two pair
representations are in memory for any length. planning/cost.py chooses the number of rows.
"""

from collections.abc import Iterator
from typing import Final

# Many kernels index with 32 bits, so no tensor that a kernel reads or writes has more elements.
MAX_ELEMENTS: Final = 2**31 - 1


def slices(length: int, size: int) -> Iterator[slice]:
    """Yield consecutive slices of at most `size` that cover 0 to `length`."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def largest_slice(other_elements: int) -> int:
    """Return the largest slice of an axis for one kernel call, given the number of elements of the other axes."""
    return max(1, MAX_ELEMENTS // other_elements)
