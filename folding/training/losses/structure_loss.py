"""The weighted sum of all losses of the folding head, and the published weights.

Jumper et al. 2021, supplement 1.9, equation 7. Lin et al. 2023 train ESMFold with the same losses, without that of the
multiple sequence alignment.

Shapes: B batch, L residues.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import torch
from torch import Tensor

from foldatlas.folding.training.losses.ambiguous_atoms import rename
from foldatlas.folding.training.losses.confidence_losses import aligned_error_loss, plddt_loss
from foldatlas.folding.training.losses.distogram_loss import distogram_loss
from foldatlas.folding.training.losses.fape import (
    CLAMP,
    NO_CLAMP,
    Clamp,
    backbone_frame_aligned_error,
    side_chain_frame_aligned_error,
)
from foldatlas.folding.training.losses.lddt_loss import smooth_lddt_loss
from foldatlas.folding.training.losses.outputs import NetworkOutputs
from foldatlas.folding.training.losses.targets import Targets
from foldatlas.folding.training.losses.torsion_loss import torsion_loss
from foldatlas.folding.training.losses.violations import violations

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weight of each loss, 0 or more; a loss of weight 0 is not computed.

    Losses marked "every iteration" are means over the iterations of the structure module; others are of the last one.
    """

    side_chain_fape: float = 0.0  # all atoms in all rigid groups, always clamped at 10 angstrom
    backbone_fape: float = 0.0  # every iteration
    local_fape: float = 0.0  # every iteration; backbone FAPE within `local_separation` residues
    smooth_lddt: float = 0.0  # every iteration
    torsion: float = 0.0  # every iteration
    distogram: float = 0.0
    plddt: float = 0.0
    aligned_error: float = 0.0
    violation: float = 0.0
    backbone_clamps: tuple[tuple[float, float], ...] = ((CLAMP, 1.0),)  # (angstrom, fraction) of backbone_fape
    local_separation: int = 8
    backbone_torsions_only: bool = False


# Equation 7, first stage: 0.5 FAPE + 0.5 auxiliary (backbone FAPE and torsions of each iteration) + 0.3 distogram +
# 0.01 confidence, without 2.0 for the alignment. A tenth of the mini-batches has no clamp on the backbone (supplement
# 1.11.5); here each sum has a tenth of both, which has the same mean.
ALPHAFOLD2: Final = LossWeights(
    side_chain_fape=0.5,
    backbone_fape=0.5,
    torsion=0.5,
    distogram=0.3,
    plddt=0.01,
    backbone_clamps=((CLAMP, 0.9), (NO_CLAMP, 0.1)),
)
# Equation 7, fine-tuning: violations 1.0. The weight of the PAE head, 0.1, is that of AlphaFold 2's released
# configuration (`predicted_aligned_error.weight` of the `_ptm` models). Its head for experimentally resolved atoms,
# 0.01, is not part of ESMFold.
ALPHAFOLD2_FINE_TUNING: Final = LossWeights(
    side_chain_fape=0.5,
    backbone_fape=0.5,
    torsion=0.5,
    distogram=0.3,
    plddt=0.01,
    aligned_error=0.1,
    violation=1.0,
    backbone_clamps=((CLAMP, 0.9), (NO_CLAMP, 0.1)),
)
# Ours, for networks of about a million parameters: FAPE decreases only after many steps, local FAPE and smooth lDDT
# from the first step. No side chains.
SMALL: Final = LossWeights(
    backbone_fape=0.5,
    local_fape=0.5,
    smooth_lddt=1.0,
    torsion=0.1,
    distogram=0.5,
    plddt=0.02,
    aligned_error=0.02,
    backbone_clamps=((CLAMP, 0.5), (60.0, 0.5)),
    backbone_torsions_only=True,
)
PRESETS: Final = {"alphafold2": ALPHAFOLD2, "alphafold2-fine-tuning": ALPHAFOLD2_FINE_TUNING, "small": SMALL}


def structure_loss(
    outputs: NetworkOutputs, targets: Targets, weights: LossWeights, clamp_B: Tensor | None = None
) -> dict[str, Tensor]:
    """Return every loss with non-zero weight, unweighted, by name, and their weighted sum `total`; each [B].

    `clamp_B` in angstrom (NO_CLAMP for none) replaces `weights.backbone_clamps`, for training loops that draw a clamp
    for each protein. Proteins without observed atoms only have the losses that need no experiment: the norm of the
    torsion vectors, and violations. Raise ValueError if the output of a loss with non-zero weight is missing.
    """
    clamp: Clamp = weights.backbone_clamps if clamp_B is None else clamp_B
    last = outputs.frames[-1]

    def backbone_fape(max_separation: int | None, limits: Clamp) -> Tensor:
        return _mean(backbone_frame_aligned_error(frames, targets, limits, max_separation) for frames in outputs.frames)

    def side_chain_fape() -> Tensor:
        groups = _last(outputs.group_frames, "side_chain_fape", "group_frames")
        positions_BLA3 = _last(outputs.positions, "side_chain_fape", "positions")
        return side_chain_frame_aligned_error(groups, positions_BLA3, targets, rename(positions_BLA3, targets))

    def smooth_lddt() -> Tensor:
        truth = targets.alpha_BL3, targets.alpha_mask_BL
        return _mean(smooth_lddt_loss(frames.translation, *truth) for frames in outputs.frames)

    def torsion() -> Tensor:
        _last(outputs.torsion_vectors, "torsion", "torsion_vectors")
        only = weights.backbone_torsions_only
        return _mean(torsion_loss(vectors, targets, only) for vectors in outputs.torsion_vectors)

    def violation() -> Tensor:
        positions_BLA3 = _last(outputs.positions, "violation", "positions")
        return violations(positions_BLA3, targets.aatype_BL, targets.mask_BL, targets.bonded_BL).total_B

    def logits(value: Tensor | None, loss: str, output: str) -> Tensor:
        return _last([] if value is None else [value], loss, output)

    losses: dict[str, Callable[[], Tensor]] = {
        "side_chain_fape": side_chain_fape,
        "backbone_fape": lambda: backbone_fape(None, clamp),
        "local_fape": lambda: backbone_fape(weights.local_separation, ((CLAMP, 1.0),)),
        "smooth_lddt": smooth_lddt,
        "torsion": torsion,
        "distogram": lambda: distogram_loss(
            logits(outputs.distogram_logits_BLLN, "distogram", "distogram_logits_BLLN"), targets
        ),
        "plddt": lambda: plddt_loss(logits(outputs.plddt_logits_BLN, "plddt", "plddt_logits_BLN"), last, targets),
        "aligned_error": lambda: aligned_error_loss(
            logits(outputs.pae_logits_BLLN, "aligned_error", "pae_logits_BLLN"), last, targets
        ),
        "violation": violation,
    }
    # Autocast would compute some of these operations with 16 bits.
    with torch.autocast(last.translation.device.type, enabled=False):
        found = {name: loss() for name, loss in losses.items() if getattr(weights, name) != 0}
    total_B = last.translation.new_zeros(targets.aatype_BL.shape[0])
    for name, loss_B in found.items():
        total_B = total_B + getattr(weights, name) * loss_B
    return {**found, "total": total_B}


def _mean(losses: Iterable[Tensor]) -> Tensor:
    """Return the mean [B] over iterations of losses [B]."""
    return torch.stack(list(losses)).mean(dim=0)


def _last(values: Sequence[T], loss: str, output: str) -> T:
    if not values:
        raise ValueError(f"the loss {loss!r} has a weight, but NetworkOutputs.{output} is empty: set its weight to 0")
    return values[-1]
