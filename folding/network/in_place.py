"""Arithmetic that overwrites its first operand, except where a gradient may need what it held.

Folding never takes gradients and so never copies a pair representation; training runs the same code and copies. Where
gradients are recorded all rows of a pair representation are one chunk (planning/chunks.py).

Shapes: B batch, L residues, R rows of a chunk, Z pair channels.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


def needs_gradient(*tensors: Tensor) -> bool:
    """Whether a gradient passes through what is made of `tensors`, so that none may be overwritten."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def add(x: Tensor, y: Tensor) -> Tensor:
    """`x` + `y`, in the memory of `x` where no gradients are recorded."""
    return x + y if needs_gradient(x, y) else x.add_(y)


def multiply(x: Tensor, y: Tensor) -> Tensor:
    """`x` times `y`, in the memory of `x` where no gradients are recorded."""
    return x * y if needs_gradient(x, y) else x.mul_(y)


def square(x: Tensor) -> Tensor:
    """`x` squared, in its own memory where no gradients are recorded."""
    return x.square() if needs_gradient(x) else x.square_()


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
        if needs_gradient(pair_BLLZ, update_BRLZ):
            assert update_BRLZ.shape[1] == pair_BLLZ.shape[1], "with gradients, all rows are one chunk"
            return pair_BLLZ + update_BRLZ
        pair_BLLZ[:, chunk] += update_BRLZ
    return pair_BLLZ
