"""What all losses share: means where something was observed, precision, tables on the device.

Shapes: `...` any axes.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# Added to a squared distance before its root, whose slope is infinite at 0; in square angstrom.
DISTANCE_EPSILON: Final = 1e-8


def masked_mean(values: Tensor, mask: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Mean of `values` over `dims` where `mask` is True; 0, with gradient 0, where nothing is.

    `mask` broadcasts to `values`.
    """
    mask = mask.expand(values.shape)
    total = torch.where(mask, values, 0).sum(dims)
    return total / mask.sum(dims).clamp(min=1)


def at_least_float32(values: Tensor) -> Tensor:
    """`values`, in float32 where they come in 16 bits.

    A loss adds up many small terms, and one step of bfloat16 at 50 angstrom is a quarter of an angstrom.
    """
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def distances(points_BP3: Tensor) -> Tensor:
    """Distances [B, P, P] between the points of each protein, in their unit; differentiable where points meet.

    No matrix product is used: with the hardware's short formats it would lose the digits that a loss is made of.
    """
    points_BP3 = at_least_float32(points_BP3)
    difference_BPP3 = points_BP3.unsqueeze(2) - points_BP3.unsqueeze(1)
    return (difference_BPP3.square().sum(-1) + DISTANCE_EPSILON).sqrt()


def on_device(table: npt.NDArray[np.generic], device: torch.device) -> Tensor:
    """A small table of constants as a tensor; its copy is queued and waits for nothing."""
    return torch.from_numpy(table).to(device, non_blocking=True)
