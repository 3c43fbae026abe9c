"""Frame-aligned point error (FAPE): how far atoms are from the truth, as seen from every residue.

Jumper et al. 2021, algorithm 28 and supplement 1.9.2. Unlike a distance error it tells a fold from its mirror image.

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
CLAMP: Final = 10.0  # angstrom; errors above count as this much, and have no gradient
NO_CLAMP: Final = float("inf")
_EPSILON: Final = 1e-4  # square angstrom

Clamp = Tensor | Sequence[tuple[float, float]]
"""Limits of the error in angstrom: one for each protein [B] (NO_CLAMP for none), or a mixture of (limit, share)."""

# The groups of omega and phi hold no heavy atom and have no true frame.
_SEEN_GROUPS: Final = (0, *range(tables.PSI_GROUP, 8))


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
    """FAPE [B], in units of 10 angstrom, over frames [B, F] and points; algorithm 28.

    Lengths in angstrom. Pairs count where frame and point are seen and `pair_mask_FP` is True. A mixture of clamps is
    the expected value of drawing one of them. A perfect prediction scores 0.001, the root of epsilon over Z.
    """
    error_BFP = (aligned_distance_squared(frames, points_BP3, true_frames, true_points_BP3) + _EPSILON).sqrt()
    mask_BFP = frame_mask_BF.unsqueeze(2) & point_mask_BP.unsqueeze(1)
    if pair_mask_FP is not None:
        mask_BFP = mask_BFP & pair_mask_FP
    if isinstance(clamp, Tensor):
        clamped_BFP = torch.minimum(error_BFP, clamp.to(error_BFP)[:, None, None])
        return masked_mean(clamped_BFP, mask_BFP, (1, 2)) / LENGTH_SCALE
    total_B = error_BFP.new_zeros(error_BFP.shape[0])
    for limit, share in clamp:
        total_B = total_B + share * masked_mean(error_BFP.clamp(max=limit), mask_BFP, (1, 2))
    return total_B / LENGTH_SCALE


def backbone_frame_aligned_error(
    frames: Rigid, targets: Targets, clamp: Clamp = ((CLAMP, 1.0),), max_separation: int | None = None
) -> Tensor:
    """FAPE [B] of the C-alphas in the backbone frames [B, L]; algorithm 20, line 17.

    With `max_separation` only of those at most so many residues along the chain: a *local* FAPE, which a small
    network can lower long before it knows the fold.
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
    """FAPE [B] of all atoms in all rigid groups [B, L, G] under the names that fit best; algorithm 20, line 28.

    `renamed` comes from renaming.rename for these positions. Frames and atoms make 84 L^2 pairs.
    """
    groups = list(_SEEN_GROUPS)
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
    """Squared distance [B, F, P] between each point and the true one when their frames [B, F] are superposed."""
    local = _local(frames, points_BP3)
    true_local = _local(true_frames, true_points_BP3)
    x, y, z = ((here - there).square() for here, there in zip(local, true_local, strict=True))
    return x + y + z


def _local(frames: Rigid, points_BP3: Tensor) -> list[Tensor]:
    """Coordinates x, y, z, each [B, F, P], of the points in every frame.

    Written out by coordinate: nothing of [B, F, P, 3, 3] is made, and no matrix product in a short format.
    """
    rotation, translation = at_least_float32(frames.rotation), at_least_float32(frames.translation)
    points_BP3 = at_least_float32(points_BP3)
    x, y, z = (points_BP3[..., axis].unsqueeze(1) - translation[..., axis].unsqueeze(2) for axis in range(3))
    rows = rotation.unsqueeze(2)  # [B, F, 1, 3, 3]; its transpose turns back
    return [x * rows[..., 0, axis] + y * rows[..., 1, axis] + z * rows[..., 2, axis] for axis in range(3)]


def _flat(frames: Rigid, groups: list[int]) -> Rigid:
    """Some of the groups [B, L, G] of all residues as frames [B, F]."""
    return Rigid(frames.rotation[:, :, groups].flatten(1, 2), frames.translation[:, :, groups].flatten(1, 2))
