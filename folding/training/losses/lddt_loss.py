"""lDDT of C-alphas, the fraction of distances below 15 angstrom that are preserved, and a smooth form as a loss.

Mariani et al. 2013 (lDDT); Jumper et al. 2021, supplement 1.9.6 (C-alphas, cutoff 15 angstrom); Abramson et al. 2024,
algorithm 27 (smooth form). Both need no superposition.

Shapes: B batch, L residues.
"""

from typing import Final

import torch
from torch import Tensor

from foldatlas.folding.training.losses.loss_math import distances, masked_mean

CUTOFF: Final = 15.0  # angstrom
TOLERANCES: Final = (0.5, 1.0, 2.0, 4.0)  # angstrom


def smooth_lddt_loss(alpha_BL3: Tensor, true_alpha_BL3: Tensor, mask_BL: Tensor) -> Tensor:
    """Return 1 - smooth lDDT [B], 0 to 1; Abramson et al. 2024, algorithm 27.

    C-alphas are in angstrom; `mask_BL` is True where the true one is observed. Each tolerance is a sigmoid with scale 1
    angstrom, so that a perfect prediction has a loss of 0.20, and large errors still have a gradient.
    """
    error_BLL = (distances(alpha_BL3) - distances(true_alpha_BL3)).abs()
    kept_BLL = torch.stack([torch.sigmoid(limit - error_BLL) for limit in TOLERANCES]).mean(dim=0)
    pairs_BLL = near_pairs(true_alpha_BL3, mask_BL)
    # The mean of 1 - x, not 1 minus the mean: without any near pair the loss is 0.
    return masked_mean(1 - kept_BLL, pairs_BLL, (1, 2))


@torch.no_grad()
def alpha_lddt(alpha_BL3: Tensor, true_alpha_BL3: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lDDT [B, L] of each C-alpha, 0 to 1, without gradient, and True [B, L] where it has neighbours."""
    error_BLL = (distances(alpha_BL3) - distances(true_alpha_BL3)).abs()
    kept_BLL = torch.stack([error_BLL < limit for limit in TOLERANCES]).to(error_BLL.dtype).mean(dim=0)
    pairs_BLL = near_pairs(true_alpha_BL3, mask_BL)
    return masked_mean(kept_BLL, pairs_BLL, (2,)), pairs_BLL.any(dim=2)


def near_pairs(true_alpha_BL3: Tensor, mask_BL: Tensor) -> Tensor:
    """Return True [B, L, L] for pairs of different residues whose true distance is below 15 angstrom."""
    different_LL = ~torch.eye(mask_BL.shape[1], dtype=torch.bool, device=mask_BL.device)
    both_BLL = mask_BL.unsqueeze(1) & mask_BL.unsqueeze(2)
    return both_BLL & different_LL & (distances(true_alpha_BL3) < CUTOFF)
