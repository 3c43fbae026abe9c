"""Arithmetic that overwrites its first operand, except where a gradient may need what it held.

Folding never takes gradients and so never copies a pair representation; training runs the same code and copies.
"""

import torch
from torch import Tensor


def add(x: Tensor, y: Tensor) -> Tensor:
    """`x` + `y`, in the memory of `x` where no gradients are recorded."""
    return x + y if torch.is_grad_enabled() else x.add_(y)


def multiply(x: Tensor, y: Tensor) -> Tensor:
    """`x` times `y`, in the memory of `x` where no gradients are recorded."""
    return x * y if torch.is_grad_enabled() else x.mul_(y)


def square(x: Tensor) -> Tensor:
    """`x` squared, in its own memory where no gradients are recorded."""
    return x.square() if torch.is_grad_enabled() else x.square_()
