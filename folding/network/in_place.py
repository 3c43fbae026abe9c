"""Arithmetic that overwrites its first operand, unless a gradient may need its old value.

Folding records no gradients, so it never copies a pair representation; training runs the same code, with copies. When
gradients are recorded, all rows of a pair representation are one chunk (planning/chunks.py).

Shapes: B batch, L residues, R rows of a chunk, Z pair channels.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


def needs_gradient(*tensors: Tensor) -> bool:
    """Return whether gradients will be computed through any of `tensors`, so that none may be overwritten."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def add(x: Tensor, y: Tensor) -> Tensor:
    """Return `x` + `y`; in place in `x` unless a gradient needs it."""
    return x + y if needs_gradient(x, y) else x.add_(y)


def multiply(x: Tensor, y: Tensor) -> Tensor:
    """Return `x` * `y`; in place in `x` unless a gradient needs it."""
    return x * y if needs_gradient(x, y) else x.mul_(y)


def square(x: Tensor) -> Tensor:
    """Return `x` squared; in place unless a gradient needs `x`."""
    return x.square() if needs_gradient(x) else x.square_()


def joined(parts: Iterable[Tensor], length: int, axis: int) -> Tensor:
    """Concatenate consecutive parts along `axis`, whose total length is `length`.

    Each part is copied when it is generated, so that only one exists at a time; a single part is returned as it is.
    """
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
    """Return `pair_BLLZ` with an update [B, R, L, Z] added to each chunk of rows; in place unless a gradient needs it.

    Each update is added before the next one is generated.
    """
    for chunk, update_BRLZ in updates:
        if needs_gradient(pair_BLLZ, update_BRLZ):
            assert update_BRLZ.shape[1] == pair_BLLZ.shape[1], "with gradients, all rows are one chunk"
            return pair_BLLZ + update_BRLZ
        pair_BLLZ[:, chunk] += update_BRLZ
    return pair_BLLZ
