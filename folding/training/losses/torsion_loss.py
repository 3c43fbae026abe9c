"""Torsion angles: how far their unit vectors are from the true ones.

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
    """Mean squared distance [B] of unit vectors, 0 to 4, plus 0.02 of how far their lengths are from 1; algorithm 27.

    `vectors_BLT2` are (sine, cosine) as the network gives them, of any length. Of a torsion that is the same after
    half a turn the nearer of the two counts. `backbone_only` leaves the chi angles out of both terms.
    """
    vectors_BLT2 = at_least_float32(vectors_BLT2)
    # The root's slope at a vector of length 0 would be infinite.
    length_BLT = (vectors_BLT2.square().sum(-1) + _EPSILON).sqrt()
    unit_BLT2 = vectors_BLT2 / length_BLT.unsqueeze(-1)
    error_BLT = torch.minimum(
        (unit_BLT2 - targets.torsions_BLT2).square().sum(-1),
        (unit_BLT2 - targets.alternative_torsions_BLT2).square().sum(-1),
    )
    torsion_mask_BLT = targets.torsion_mask_BLT
    # All vectors have a length, those of torsions that are unseen or that the residue lacks too.
    norm_mask_BLT = targets.mask_BL.unsqueeze(-1).expand_as(torsion_mask_BLT)
    if backbone_only:
        chosen = slice(NUM_BACKBONE_TORSIONS)
        error_BLT, torsion_mask_BLT = error_BLT[:, :, chosen], torsion_mask_BLT[:, :, chosen]
        length_BLT, norm_mask_BLT = length_BLT[:, :, chosen], norm_mask_BLT[:, :, chosen]
    off_unit_B = masked_mean((length_BLT - 1).abs(), norm_mask_BLT, (1, 2))
    return masked_mean(error_BLT, torsion_mask_BLT, (1, 2)) + NORM_WEIGHT * off_unit_B
