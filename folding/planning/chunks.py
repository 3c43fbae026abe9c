"""Cutting an axis, so that what lies between two layers is never as large as the pair representation.

What a pair becomes depends on its row (or column) alone in all updates of the trunk but one product, so rows are
worked on a few at a time and written back in place: the temporaries stay in a processor's cache, and memory holds
about two pair representations whatever the length. foldatlas.folding.planning.cost says how many rows are right.
"""

from collections.abc import Iterator
from typing import Final

# Kernels index with 32 bits unless they were written otherwise: no tensor that one reads or writes is larger.
MAX_ELEMENTS: Final = 2**31 - 1


def slices(length: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` that cover `length`."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def largest_slice(other_elements: int) -> int:
    """How much of an axis a kernel may see at once, where the tensor's other axes have `other_elements` elements."""
    return max(1, MAX_ELEMENTS // other_elements)
