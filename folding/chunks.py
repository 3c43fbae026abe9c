"""Cutting an axis, so that what lies between two layers is never as large as the pair representation.

What a pair becomes depends on its row (or column) alone in all updates of the trunk but one product, so rows are
worked on a few at a time and written back in place: the temporaries stay in a processor's cache, and memory holds
about two pair representations whatever the length. foldatlas.folding.cost says how many rows are right.

Where gradients are recorded nothing may be overwritten: then all rows are one chunk, and the result a new tensor.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import torch
from torch import Tensor

# Kernels index with 32 bits unless they were written otherwise: no tensor that one reads or writes is larger.
MAX_ELEMENTS: Final = 2**31 - 1


def slices(length: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` that cover `length`."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def joined(parts: Iterable[Tensor], length: int, axis: int) -> Tensor:
    """Consecutive parts of a tensor whose `axis` has `length`. Each is copied when it comes; a whole one is no copy."""
    whole: Tensor | None = None
    done = 0
    for part in parts:
        if part.shape[axis] == length:
            return part
        if whole is None:
            whole = part.new_empty(*part.shape[:axis], length, *part.shape[axis + 1 :])
        whole.narrow(axis, done, part.shape[axis]).copy_(part)
        done += part.shape[axis]
    assert whole is not None
    assert done == length
    return whole


def add_updates(pair_BLLZ: Tensor, updates: Iterable[tuple[slice, Tensor]]) -> Tensor:
    """`pair_BLLZ` with an update [B, R, L, Z] added to each chunk of its rows, in place when no gradient is recorded.

    An update is asked for after the one before it was added.
    """
    for chunk, update_BRLZ in updates:
        if torch.is_grad_enabled():
            assert update_BRLZ.shape[1] == pair_BLLZ.shape[1], "with gradients, all rows are one chunk"
            return pair_BLLZ + update_BRLZ
        pair_BLLZ[:, chunk] += update_BRLZ
    return pair_BLLZ


def largest_slice(other_elements: int) -> int:
    """How much of an axis a kernel may see at once, where the tensor's other axes have `other_elements` elements."""
    return max(1, MAX_ELEMENTS // other_elements)
