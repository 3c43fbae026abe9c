"""Functions that the losses share: masked means, precision, distances, tables on the device.

Shapes: `...` any axes.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# Square angstrom; added to a squared distance before the root, whose derivative is infinite at 0.
DISTANCE_EPSILON: Final = 1e-8


def masked_mean(values: Tensor, mask: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Return the mean of `values` over `dims` where `mask` is True; 0, with gradient 0, if it is False everywhere.

    `mask` broadcasts to `values`.
    """
    mask = mask.expand(values.shape)
    total = torch.where(mask, values, 0).sum(dims)
    return total / mask.sum(dims).clamp(min=1)


def at_least_float32(values: Tensor) -> Tensor:
    """Return `values`, converted to float32 if they have 16 bits.

    A loss is a sum of many small terms, and the spacing of bfloat16 values at 50 angstrom is a quarter of an angstrom.
    """
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def distances(points_BP3: Tensor) -> Tensor:
    """Return distances [B, P, P] between the points of each protein, in their unit; differentiable at distance 0.

    No matrix product is used: hardware may compute it with reduced precision (TF32).
    """
    points_BP3 = at_least_float32(points_BP3)
    difference_BPP3 = points_BP3.unsqueeze(2) - points_BP3.unsqueeze(1)
    return (difference_BPP3.square().sum(-1) + DISTANCE_EPSILON).sqrt()


def on_device(table: npt.NDArray[np.generic], device: torch.device) -> Tensor:
    """Return a small table of constants as a tensor on `device`, copied asynchronously."""
    return torch.from_numpy(table).to(device, non_blocking=True)
