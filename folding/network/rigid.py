"""Rigid transformations: a rotation, followed by a translation.

Jumper et al. 2021, supplement 1.1 (frames) and algorithm 23 (quaternion updates).

Shapes: `...` any leading axes; those of rotation and translation broadcast.
"""

from dataclasses import dataclass

import torch
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
    a, b, c, d = quaternion.unbind(-1)
    rows = (
        (a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)),
        (2 * (b * c + a * d), a * a - b * b + c * c - d * d, 2 * (c * d - a * b)),
        (2 * (b * d - a * c), 2 * (c * d + a * b), a * a - b * b - c * c + d * d),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def update_quaternion(quaternion: Tensor, vector: Tensor) -> Tensor:
    """Return the product of `quaternion` [..., 4] and (1, `vector`), normalised; `vector` is [..., 3]."""
    a, b, c, d = quaternion.unbind(-1)
    x, y, z = vector.unbind(-1)
    product = torch.stack(
        (
            a - b * x - c * y - d * z,
            b + a * x + c * z - d * y,
            c + a * y + d * x - b * z,
            d + a * z + b * y - c * x,
        ),
        dim=-1,
    )
    return product / torch.linalg.vector_norm(product, dim=-1, keepdim=True)
