"""Frame-aligned point error (FAPE): the distance of atoms from their true positions in the frame of each residue.

Jumper et al. 2021, algorithm 28 and supplement 1.9.2. Unlike errors of distances, it is different for a mirror image.

Shapes: B batch, F frames, P points, L residues, A = 14 atoms, G = 8 rigid groups.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from foldatlas.folding.network.rigid import Rigid
from foldatlas.folding.training.losses import side_chains as tables
from foldatlas.folding.training.losses.ambiguous_atoms import Renamed
from foldatlas.folding.training.losses.loss_math import at_least_float32, masked_mean
from foldatlas.folding.training.losses.targets import Targets

LENGTH_SCALE: Final = 10.0  # angstrom; Z of algorithm 28
CLAMP: Final = 10.0  # angstrom; greater errors are set to this value, and have no gradient
NO_CLAMP: Final = float("inf")
_EPSILON: Final = 1e-4  # square angstrom

Clamp = Tensor | Sequence[tuple[float, float]]
"""Limits of the error in angstrom: one for each protein [B] (NO_CLAMP for none), or a mixture of (limit, fraction)."""

# The groups of omega and phi have no heavy atom, and so no true frame.
_GROUPS_WITH_ATOMS: Final = (0, *range(tables.PSI_GROUP, 8))


def frame_aligned_error(
    frames: Rigid,
    points_BP3: Tensor,
    true_frames: Rigid,
    true_points_BP3: Tensor,
    frame_mask_BF: Tensor,
    point_mask_BP: Tensor,
    clamp: Clamp = ((CLAMP, 1.0),),
    pair_mask_FP: Tensor | None = None,
) -> Tensor:
    """Return the FAPE [B], in units of 10 angstrom, over frames [B, F] and points; algorithm 28.

    All lengths are in angstrom. Pairs in which frame and point are observed and `pair_mask_FP` is True are included. A
    mixture of clamps gives the expected value of drawing one of them. A perfect prediction has 0.001, the root of
    epsilon divided by Z.
    """
    error_BFP = (aligned_distance_squared(frames, points_BP3, true_frames, true_points_BP3) + _EPSILON).sqrt()
    mask_BFP = frame_mask_BF.unsqueeze(2) & point_mask_BP.unsqueeze(1)
    if pair_mask_FP is not None:
        mask_BFP = mask_BFP & pair_mask_FP
    if isinstance(clamp, Tensor):
        clamped_BFP = torch.minimum(error_BFP, clamp.to(error_BFP)[:, None, None])
        return masked_mean(clamped_BFP, mask_BFP, (1, 2)) / LENGTH_SCALE
    total_B = error_BFP.new_zeros(error_BFP.shape[0])
    for limit, fraction in clamp:
        total_B = total_B + fraction * masked_mean(error_BFP.clamp(max=limit), mask_BFP, (1, 2))
    return total_B / LENGTH_SCALE


def backbone_frame_aligned_error(
    frames: Rigid, targets: Targets, clamp: Clamp = ((CLAMP, 1.0),), max_separation: int | None = None
) -> Tensor:
    """Return the FAPE [B] of C-alphas in the backbone frames [B, L]; algorithm 20, line 17.

    With `max_separation`, only pairs of residues at most that far apart in the sequence are included: a local FAPE,
    which a small network can reduce long before it predicts the fold.
    """
    pair_mask_LL = None
    if max_separation is not None:
        index_L = torch.arange(targets.aatype_BL.shape[1], device=targets.aatype_BL.device)
        pair_mask_LL = (index_L.unsqueeze(1) - index_L).abs() <= max_separation
    return frame_aligned_error(
        frames,
        frames.translation,
        targets.backbone,
        targets.alpha_BL3,
        targets.backbone_mask_BL,
        targets.alpha_mask_BL,
        clamp,
        pair_mask_LL,
    )


def side_chain_frame_aligned_error(
    group_frames: Rigid,
    positions_BLA3: Tensor,
    targets: Targets,
    renamed: Renamed,
    clamp: Clamp = ((CLAMP, 1.0),),
) -> Tensor:
    """Return the FAPE [B] of all atoms in all rigid groups [B, L, G]; algorithm 20, line 28.

    `renamed` is the result of ambiguous_atoms.rename for these positions. There are 84 L^2 pairs of frames and atoms.
    """
    groups = list(_GROUPS_WITH_ATOMS)
    return frame_aligned_error(
        _flat(group_frames, groups),
        positions_BLA3.flatten(1, 2),
        _flat(renamed.groups, groups),
        renamed.positions_BLA3.flatten(1, 2),
        targets.group_mask_BLG[:, :, groups].flatten(1),
        renamed.observed_BLA.flatten(1),
        clamp,
    )


def aligned_distance_squared(frames: Rigid, points_BP3: Tensor, true_frames: Rigid, true_points_BP3: Tensor) -> Tensor:
    """Return squared distances [B, F, P] of each point from the true point when their frames [B, F] are superposed."""
    local = _local(frames, points_BP3)
    true_local = _local(true_frames, true_points_BP3)
    x, y, z = ((found - true).square() for found, true in zip(local, true_local, strict=True))
    return x + y + z


def _local(frames: Rigid, points_BP3: Tensor) -> list[Tensor]:
    """Return the coordinates x, y, z, each [B, F, P], of the points in every frame.

    Written out by coordinate, so that there is no tensor [B, F, P, 3, 3] and no matrix product with reduced precision.
    """
    rotation, translation = at_least_float32(frames.rotation), at_least_float32(frames.translation)
    points_BP3 = at_least_float32(points_BP3)
    x, y, z = (points_BP3[..., axis].unsqueeze(1) - translation[..., axis].unsqueeze(2) for axis in range(3))
    rows = rotation.unsqueeze(2)  # [B, F, 1, 3, 3]; the transpose is the inverse rotation
    return [x * rows[..., 0, axis] + y * rows[..., 1, axis] + z * rows[..., 2, axis] for axis in range(3)]


def _flat(frames: Rigid, groups: list[int]) -> Rigid:
    """Return the chosen `groups` of all residues [B, L, G] as frames [B, F]."""
    return Rigid(frames.rotation[:, :, groups].flatten(1, 2), frames.translation[:, :, groups].flatten(1, 2))
