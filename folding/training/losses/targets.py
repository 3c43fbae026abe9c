"""Training targets: frames, torsions and distances of an experimental structure.

Jumper et al. 2021, supplement 1.8.1 and algorithm 21 (frames from atoms), table 2 (torsions), table 3 and 1.8.5
(ambiguous atom names). Frames follow the convention of residue_constants.py, so that network/atoms.py places ideal
atoms at their experimental positions.

Shapes: B batch, L residues, A = 14 atoms, G = 8 rigid groups, T = 7 torsions. A mask is True where all atoms that
define the value are observed; values elsewhere are finite and have no meaning.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from foldatlas.folding.network.residue_constants import ATOM_EXISTS_RA
from foldatlas.folding.network.rigid import Rigid
from foldatlas.folding.training.losses import side_chains as tables
from foldatlas.folding.training.losses.loss_math import at_least_float32, on_device
from foldatlas.schemas.records import STANDARD_RESIDUES

# Angstrom. A peptide bond has 1.33, with C-alphas 3.8 apart (2.9 if it is cis). Consecutive residues that are further
# apart have unobserved residues between them.
MAX_PEPTIDE_BOND: Final = 2.0
MAX_ALPHA_STEP: Final = 4.5
# Angstrom. Three atoms closer to a line than this define no plane.
_MIN_HEIGHT: Final = 0.05
_LENGTH_EPSILON: Final = 1e-12
_GLYCINE: Final = STANDARD_RESIDUES.index("G")


@dataclass(frozen=True, slots=True)
class Targets:
    """An experimental structure. Positions in angstrom, torsions as (sine, cosine) of omega, phi, psi, chi1 to chi4.

    `alternative_*` have the ambiguous side-chain atoms (aspartate, glutamate, phenylalanine, tyrosine) under exchanged
    names, and are the same elsewhere. The groups of omega and phi have no heavy atom, so their mask is False.
    """

    aatype_BL: Tensor  # 0 to 20
    mask_BL: Tensor  # True at residues of the protein, observed or not
    bonded_BL: Tensor  # True if the previous residue is bonded to this one, judged by the observed distances
    positions_BLA3: Tensor
    observed_BLA: Tensor
    alternative_positions_BLA3: Tensor
    alternative_observed_BLA: Tensor
    backbone: Rigid  # [B, L]
    backbone_mask_BL: Tensor
    groups: Rigid  # [B, L, G]
    alternative_groups: Rigid
    group_mask_BLG: Tensor
    torsions_BLT2: Tensor
    alternative_torsions_BLT2: Tensor
    torsion_mask_BLT: Tensor
    beta_BL3: Tensor  # the C-beta; the C-alpha of glycine
    beta_mask_BL: Tensor

    @property
    def alpha_BL3(self) -> Tensor:
        return self.positions_BLA3[:, :, tables.CA]

    @property
    def alpha_mask_BL(self) -> Tensor:
        return self.observed_BLA[:, :, tables.CA]


def make_targets(positions_BLA3: Tensor, observed_BLA: Tensor, aatype_BL: Tensor, mask_BL: Tensor) -> Targets:
    """Return the targets of an experimental structure.

    `positions_BLA3` are in angstrom, in the order of records.ATOMS; where `observed_BLA` is False they are ignored and
    may be NaN. `aatype_BL` is 0 to 20; `mask_BL` is False at padding. Runs on the device of its inputs.
    """
    device = aatype_BL.device
    observed_BLA = observed_BLA.bool() & on_device(ATOM_EXISTS_RA, device)[aatype_BL] & mask_BL.unsqueeze(-1)
    positions_BLA3 = at_least_float32(positions_BLA3)
    positions_BLA3 = torch.where(observed_BLA.unsqueeze(-1), positions_BLA3, 0)
    bonded_BL = _bonded_to_previous(positions_BLA3, observed_BLA, mask_BL)
    torsions_BLT2, torsion_mask_BLT = _torsions(positions_BLA3, observed_BLA, aatype_BL, bonded_BL)
    groups, group_mask_BLG = _groups(positions_BLA3, observed_BLA, aatype_BL)
    symmetric_BLT = on_device(tables.SYMMETRIC_RT, device)[aatype_BL]
    swap_BLA = on_device(tables.SWAP_RA, device)[aatype_BL]
    is_glycine_BL = aatype_BL == _GLYCINE
    alpha_or_beta_BL = torch.where(is_glycine_BL, tables.CA, tables.CB)
    return Targets(
        aatype_BL=aatype_BL,
        mask_BL=mask_BL,
        bonded_BL=bonded_BL,
        positions_BLA3=positions_BLA3,
        observed_BLA=observed_BLA,
        alternative_positions_BLA3=positions_BLA3.take_along_dim(swap_BLA.unsqueeze(-1), dim=2),
        alternative_observed_BLA=observed_BLA.take_along_dim(swap_BLA, dim=2),
        backbone=Rigid(groups.rotation[:, :, 0], groups.translation[:, :, 0]),
        backbone_mask_BL=group_mask_BLG[:, :, 0],
        groups=groups,
        alternative_groups=_rotated_by_180(groups, symmetric_BLT),
        group_mask_BLG=group_mask_BLG,
        torsions_BLT2=torsions_BLT2,
        alternative_torsions_BLT2=torch.where(symmetric_BLT.unsqueeze(-1), -torsions_BLT2, torsions_BLT2),
        torsion_mask_BLT=torsion_mask_BLT,
        beta_BL3=positions_BLA3.take_along_dim(alpha_or_beta_BL[..., None, None], dim=2).squeeze(2),
        beta_mask_BL=observed_BLA.take_along_dim(alpha_or_beta_BL.unsqueeze(-1), dim=2).squeeze(2),
    )


def frames_from_points(axis_start: Tensor, axis_end: Tensor, in_plane: Tensor, origin: Tensor) -> tuple[Rigid, Tensor]:
    """Algorithm 21: return frames [...] at `origin` with x from `axis_start` to `axis_end` and y towards `in_plane`.

    Points are [..., 3]. The second value is True where they define a plane; elsewhere the frame is the identity.
    """
    axis, towards = axis_end - axis_start, in_plane - origin
    x, length = _unit(axis)
    y, height = _unit(towards - x * (x * towards).sum(-1, keepdim=True))
    rotation = torch.stack((x, y, torch.linalg.cross(x, y)), dim=-1)
    is_plane = (length > _MIN_HEIGHT) & (height > _MIN_HEIGHT)
    identity = torch.eye(3, dtype=rotation.dtype, device=rotation.device)
    rotation = torch.where(is_plane[..., None, None], rotation, identity)
    return Rigid(rotation, torch.where(is_plane.unsqueeze(-1), origin, 0)), is_plane


def _unit(vector: Tensor) -> tuple[Tensor, Tensor]:
    """Return normalised vectors [..., 3], and their original lengths [...]."""
    length = (vector.square().sum(-1) + _LENGTH_EPSILON).sqrt()
    return vector / length.unsqueeze(-1), length


def _previous(values: Tensor) -> Tensor:
    """Return for each residue [B, L, ...] the value of the previous one; zero (False) for the first."""
    return torch.cat((torch.zeros_like(values[:, :1]), values[:, :-1]), dim=1)


def _bonded_to_previous(positions_BLA3: Tensor, observed_BLA: Tensor, mask_BL: Tensor) -> Tensor:
    previous_BLA3, previous_observed_BLA = _previous(positions_BLA3), _previous(observed_BLA)
    apart_BL = torch.zeros_like(mask_BL)
    for previous, own, limit in ((tables.C, tables.N, MAX_PEPTIDE_BOND), (tables.CA, tables.CA, MAX_ALPHA_STEP)):
        distance_BL = torch.linalg.vector_norm(positions_BLA3[:, :, own] - previous_BLA3[:, :, previous], dim=-1)
        both_observed_BL = observed_BLA[:, :, own] & previous_observed_BLA[:, :, previous]
        apart_BL |= both_observed_BL & (distance_BL > limit)
    return mask_BL & _previous(mask_BL) & ~apart_BL


def _torsions(
    positions_BLA3: Tensor, observed_BLA: Tensor, aatype_BL: Tensor, bonded_BL: Tensor
) -> tuple[Tensor, Tensor]:
    """Return (sine, cosine) [B, L, T, 2] and their mask [B, L, T]. Unobserved torsions have angle 0."""
    device = aatype_BL.device
    atoms_BLT4 = on_device(tables.TORSION_ATOMS_RT4, device)[aatype_BL]
    exists_BLT = on_device(tables.TORSION_EXISTS_RT, device)[aatype_BL].clone()
    exists_BLT[:, :, [tables.OMEGA, tables.PHI]] &= bonded_BL.unsqueeze(-1)
    flat_BLK = atoms_BLT4.flatten(2)
    two_residues = torch.cat((_previous(positions_BLA3), positions_BLA3), dim=2)
    points_BLT43 = two_residues.take_along_dim(flat_BLK.unsqueeze(-1), dim=2).unflatten(2, (-1, 4))
    two_observed = torch.cat((_previous(observed_BLA), observed_BLA), dim=2)
    seen_BLT = two_observed.take_along_dim(flat_BLK, dim=2).unflatten(2, (-1, 4)).all(dim=-1)
    first, axis_start, axis_end, last = points_BLT43.unbind(dim=-2)
    # The angle is 0 if the last atom is on the same side of the axis as the first, so y points towards the first.
    towards_first = first - axis_start + axis_end
    frames, is_plane_BLT = frames_from_points(axis_start, axis_end, towards_first, axis_end)
    _, cosine, sine = frames.apply_inverse(last).unbind(dim=-1)
    vector_BLT2, height_BLT = _unit(torch.stack((sine, cosine), dim=-1))
    # Psi is measured with the oxygen, which is opposite to the next nitrogen.
    flip_T = torch.ones(vector_BLT2.shape[2], device=device, dtype=vector_BLT2.dtype)
    flip_T[tables.PSI] = -1
    vector_BLT2 = vector_BLT2 * flip_T.unsqueeze(-1)
    mask_BLT = exists_BLT & seen_BLT & is_plane_BLT & (height_BLT > _MIN_HEIGHT)
    angle_zero = vector_BLT2.new_tensor([0.0, 1.0])
    return torch.where(mask_BLT.unsqueeze(-1), vector_BLT2, angle_zero), mask_BLT


def _groups(positions_BLA3: Tensor, observed_BLA: Tensor, aatype_BL: Tensor) -> tuple[Rigid, Tensor]:
    """Return the rigid groups [B, L, G] and their mask [B, L, G]."""
    atoms_BLG4 = on_device(tables.GROUP_ATOMS_RG4, aatype_BL.device)[aatype_BL]
    exists_BLG = on_device(tables.GROUP_EXISTS_RG, aatype_BL.device)[aatype_BL]
    flat_BLK = atoms_BLG4.flatten(2)
    points_BLG43 = positions_BLA3.take_along_dim(flat_BLK.unsqueeze(-1), dim=2).unflatten(2, (-1, 4))
    seen_BLG = observed_BLA.take_along_dim(flat_BLK, dim=2).unflatten(2, (-1, 4)).all(dim=-1)
    axis_start, axis_end, in_plane, origin = points_BLG43.unbind(dim=-2)
    frames, is_plane_BLG = frames_from_points(axis_start, axis_end, in_plane, origin)
    return frames, exists_BLG & seen_BLG & is_plane_BLG


def _rotated_by_180(groups: Rigid, symmetric_BLT: Tensor) -> Rigid:
    """Return `groups` [B, L, G], with those of symmetric torsions rotated by 180 degrees about their x axis."""
    symmetric_BLG = torch.cat((torch.zeros_like(symmetric_BLT[:, :, :1]), symmetric_BLT), dim=-1)
    rotated = groups.rotation * groups.rotation.new_tensor([1.0, -1.0, -1.0])  # the columns are the axes x, y, z
    return Rigid(torch.where(symmetric_BLG[..., None, None], rotated, groups.rotation), groups.translation)
