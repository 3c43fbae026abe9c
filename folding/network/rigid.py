"""Rigid transformations: a rotation, followed by a translation.

Jumper et al. 2021, supplement 1.1 (frames) and algorithm 23 (quaternion updates).

Shapes: `...` any leading axes; those of rotation and translation broadcast.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Rigid:
    """x -> rotation x + translation; rotation [..., 3, 3], translation [..., 3] in the unit of the points."""

    rotation: Tensor
    translation: Tensor

    def apply(self, points: Tensor) -> Tensor:
        """Transform points [..., 3] from the local to the global frame."""
        return rotate(self.rotation, points) + self.translation

    def apply_inverse(self, points: Tensor) -> Tensor:
        """Transform points [..., 3] from the global to the local frame."""
        return rotate(self.rotation.transpose(-1, -2), points - self.translation)

    def compose(self, inner: "Rigid") -> "Rigid":
        """Return the transformation that applies `inner` first, then this one."""
        return Rigid(self.rotation @ inner.rotation, self.apply(inner.translation))

    def unsqueeze(self, num_axes: int) -> "Rigid":
        """Return it with `num_axes` new axes of size 1 after the leading ones, to broadcast over points."""
        leading = self.translation.shape[:-1]
        ones = (1,) * num_axes
        return Rigid(self.rotation.reshape(*leading, *ones, 3, 3), self.translation.reshape(*leading, *ones, 3))


def rotate(rotation: Tensor, points: Tensor) -> Tensor:
    """Rotate points [..., 3] by matrices [..., 3, 3]."""
    # A sum of three scaled columns: faster than batched products of 3 x 3 matrices.
    x, y, z = points.unsqueeze(-2).unbind(-1)
    return rotation[..., 0] * x + rotation[..., 1] * y + rotation[..., 2] * z


def quaternion_to_rotation(quaternion: Tensor) -> Tensor:
    """Return the rotation matrices [..., 3, 3] of unit quaternions [..., 4], real part first."""
    squares = _products(quaternion, quaternion)
    return (squares @ _constant(_ROTATION, quaternion.device, quaternion.dtype)).unflatten(-1, (3, 3))


def update_quaternion(quaternion: Tensor, vector: Tensor) -> Tensor:
    """Return the product of `quaternion` [..., 4] and (1, `vector`), normalised; `vector` is [..., 3]."""
    factor = F.pad(vector, (1, 0), value=1.0)
    product = _products(quaternion, factor) @ _constant(_PRODUCT, quaternion.device, quaternion.dtype)
    return product / torch.linalg.vector_norm(product, dim=-1, keepdim=True)


# Both are sums of products of two components, so each is one matrix product: a GPU launches three kernels, not forty.
# Entries are (result, first component, second component, coefficient), components in the order a, b, c, d.
_ROTATION: Final = tuple(
    (3 * row + column, i, j, coefficient)
    for row, column, terms in (
        (0, 0, ((0, 0, 1), (1, 1, 1), (2, 2, -1), (3, 3, -1))),
        (0, 1, ((1, 2, 2), (0, 3, -2))),
        (0, 2, ((1, 3, 2), (0, 2, 2))),
        (1, 0, ((1, 2, 2), (0, 3, 2))),
        (1, 1, ((0, 0, 1), (1, 1, -1), (2, 2, 1), (3, 3, -1))),
        (1, 2, ((2, 3, 2), (0, 1, -2))),
        (2, 0, ((1, 3, 2), (0, 2, -2))),
        (2, 1, ((2, 3, 2), (0, 1, 2))),
        (2, 2, ((0, 0, 1), (1, 1, -1), (2, 2, -1), (3, 3, 1))),
    )
    for i, j, coefficient in terms
)
_PRODUCT: Final = (
    *((0, 0, 0, 1), (0, 1, 1, -1), (0, 2, 2, -1), (0, 3, 3, -1)),
    *((1, 1, 0, 1), (1, 0, 1, 1), (1, 2, 3, 1), (1, 3, 2, -1)),
    *((2, 2, 0, 1), (2, 0, 2, 1), (2, 3, 1, 1), (2, 1, 3, -1)),
    *((3, 3, 0, 1), (3, 0, 3, 1), (3, 1, 2, 1), (3, 2, 1, -1)),
)


def _products(first: Tensor, second: Tensor) -> Tensor:
    """Return the products [..., 16] of each two components."""
    return (first.unsqueeze(-1) * second.unsqueeze(-2)).flatten(-2)


@cache
def _constant(entries: tuple[tuple[int, int, int, int], ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the matrix [16, results] of the entries. It is made once, not in inference mode: training reads it too."""
    with torch.inference_mode(False):
        matrix = torch.zeros(16, 1 + max(entry[0] for entry in entries), dtype=dtype)
        for result, i, j, coefficient in entries:
            matrix[4 * i + j, result] = coefficient
        return matrix.to(device)
