"""Distogram loss: cross entropy of the binned distances between C-betas.

Jumper et al. 2021, supplement 1.9.8, equation 41.

Shapes: B batch, L residues, N bins.
"""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from foldatlas.folding.training.losses.loss_math import at_least_float32, masked_mean
from foldatlas.folding.training.losses.targets import Targets

NUM_BINS: Final = 64
FIRST_EDGE: Final = 2.3125  # angstrom; the first bin has all smaller distances
LAST_EDGE: Final = 21.6875  # the last bin has all greater distances


def distogram_loss(logits_BLLN: Tensor, targets: Targets) -> Tensor:
    """Return the mean cross entropy [B] in nats over all pairs of observed C-betas, pairs [i, i] included.

    There are 64 bins: 62 of 0.3125 angstrom from 2.3125 to 21.6875, and an open bin at each end.
    """
    return cross_entropy(logits_BLLN, distance_bins(targets.beta_BL3), targets.beta_mask_BL)


@torch.no_grad()
def distance_bins(beta_BL3: Tensor) -> Tensor:
    """Return the bin [B, L, L], 0 to 63, of the distance of each pair in angstrom."""
    beta_BL3 = at_least_float32(beta_BL3)
    edges = torch.linspace(FIRST_EDGE, LAST_EDGE, NUM_BINS - 1, dtype=beta_BL3.dtype, device=beta_BL3.device)
    squared_BLL = (beta_BL3.unsqueeze(2) - beta_BL3.unsqueeze(1)).square().sum(-1)
    return torch.bucketize(squared_BLL, edges.square())


def cross_entropy(logits_BLLN: Tensor, bins_BLL: Tensor, mask_BL: Tensor) -> Tensor:
    """Return the mean cross entropy [B] in nats over pairs of residues where `mask_BL` is True for both."""
    entropy_BLL = F.cross_entropy(at_least_float32(logits_BLLN).movedim(-1, 1), bins_BLL, reduction="none")
    return masked_mean(entropy_BLL, mask_BL.unsqueeze(1) & mask_BL.unsqueeze(2), (1, 2))
