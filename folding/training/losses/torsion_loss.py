"""Torsion angle loss: squared distance between predicted and true unit vectors.

Jumper et al. 2021, algorithm 27 and supplement 1.9.1.

Shapes: B batch, L residues, T = 7 torsions.
"""

from typing import Final

import torch
from torch import Tensor

from foldatlas.folding.training.losses.loss_math import at_least_float32, masked_mean
from foldatlas.folding.training.losses.targets import Targets

NORM_WEIGHT: Final = 0.02
NUM_BACKBONE_TORSIONS: Final = 3
_EPSILON: Final = 1e-8


def torsion_loss(vectors_BLT2: Tensor, targets: Targets, backbone_only: bool = False) -> Tensor:
    """Return the mean squared distance [B] of unit vectors, 0 to 4, plus 0.02 times | length - 1 |; algorithm 27.

    `vectors_BLT2` are (sine, cosine) before normalisation. For torsions with a period of 180 degrees, the smaller of
    the two distances is used. `backbone_only` excludes the chi angles from both terms.
    """
    vectors_BLT2 = at_least_float32(vectors_BLT2)
    # The derivative of the root would be infinite for a vector of length 0.
    length_BLT = (vectors_BLT2.square().sum(-1) + _EPSILON).sqrt()
    unit_BLT2 = vectors_BLT2 / length_BLT.unsqueeze(-1)
    error_BLT = torch.minimum(
        (unit_BLT2 - targets.torsions_BLT2).square().sum(-1),
        (unit_BLT2 - targets.alternative_torsions_BLT2).square().sum(-1),
    )
    torsion_mask_BLT = targets.torsion_mask_BLT
    # The norm term includes the vectors of unobserved torsions, and of torsions that the residue does not have.
    norm_mask_BLT = targets.mask_BL.unsqueeze(-1).expand_as(torsion_mask_BLT)
    if backbone_only:
        chosen = slice(NUM_BACKBONE_TORSIONS)
        error_BLT, torsion_mask_BLT = error_BLT[:, :, chosen], torsion_mask_BLT[:, :, chosen]
        length_BLT, norm_mask_BLT = length_BLT[:, :, chosen], norm_mask_BLT[:, :, chosen]
    off_unit_B = masked_mean((length_BLT - 1).abs(), norm_mask_BLT, (1, 2))
    return masked_mean(error_BLT, torsion_mask_BLT, (1, 2)) + NORM_WEIGHT * off_unit_B
