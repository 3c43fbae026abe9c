"""Losses of the confidence heads: pLDDT and PAE against the true errors of the predicted structure.

Jumper et al. 2021, supplement 1.9.6 (pLDDT) and 1.9.7 (PAE, from which pTM is computed). The true errors have no
gradient, so these losses do not change the predicted structure to make its errors easier to predict.

Shapes: B batch, L residues, N bins.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from foldatlas.folding.network.confidence import MAX_PAE, NUM_PAE_BINS, NUM_PLDDT_BINS
from foldatlas.folding.network.rigid import Rigid
from foldatlas.folding.training.losses.fape import aligned_distance_squared
from foldatlas.folding.training.losses.lddt_loss import alpha_lddt
from foldatlas.folding.training.losses.loss_math import at_least_float32, masked_mean
from foldatlas.folding.training.losses.targets import Targets

PAE_BIN_WIDTH = MAX_PAE / (NUM_PAE_BINS - 2)  # angstrom


def plddt_loss(logits_BLN: Tensor, frames: Rigid, targets: Targets) -> Tensor:
    """Return the mean cross entropy [B] in nats with the true lDDT of each C-alpha, in 50 equal bins from 0 to 1.

    `frames` [B, L] are the predicted backbone frames. Residues without a neighbour within 15 angstrom are excluded.
    """
    lddt_BL, mask_BL = alpha_lddt(frames.translation, targets.alpha_BL3, targets.alpha_mask_BL)
    bins_BL = (lddt_BL * NUM_PLDDT_BINS).long().clamp(0, NUM_PLDDT_BINS - 1)
    entropy_BL = F.cross_entropy(at_least_float32(logits_BLN).movedim(-1, 1), bins_BL, reduction="none")
    return masked_mean(entropy_BL, mask_BL, (1,))


def aligned_error_loss(logits_BLLN: Tensor, frames: Rigid, targets: Targets) -> Tensor:
    """Return the mean cross entropy [B] in nats with the true aligned error, in 64 bins of 0.5 angstrom.

    Entry [i, j] is the distance of C-alpha j from the true one when the backbone frames of i are superposed. Pairs in
    which both residues are observed are included. Bin k has errors from k / 2 angstrom, the last all above 31.5, as in
    network/confidence.py; AlphaFold 2's code puts every error one bin higher, and its first bin is always empty.
    """
    bins_BLL = aligned_error_bins(frames, targets)
    entropy_BLL = F.cross_entropy(at_least_float32(logits_BLLN).movedim(-1, 1), bins_BLL, reduction="none")
    mask_BLL = targets.backbone_mask_BL.unsqueeze(2) & targets.alpha_mask_BL.unsqueeze(1)
    return masked_mean(entropy_BLL, mask_BLL, (1, 2))


@torch.no_grad()
def aligned_error_bins(frames: Rigid, targets: Targets) -> Tensor:
    """Return the bin [B, L, L], 0 to 63, of the true aligned error of each residue j in the frame of residue i."""
    error_BLL = aligned_distance_squared(frames, frames.translation, targets.backbone, targets.alpha_BL3).sqrt()
    return (error_BLL / PAE_BIN_WIDTH).clamp(max=NUM_PAE_BINS).long().clamp(0, NUM_PAE_BINS - 1)
