"""Atom positions from backbone frames and torsion angles.

Jumper et al. 2021, algorithm 24, with the constants of residue_constants.py.

Shapes: B batch, L residues, A = 14 atoms (records.ATOMS, padded), G = 8 rigid groups, 7 torsions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foldatlas.folding.network.residue_constants import (
    ATOM_EXISTS_RA,
    ATOM_GROUP_RA,
    ATOM_POSITION_RA3,
    DEFAULT_FRAME_RG44,
    UNKNOWN_AATYPE,
)
from foldatlas.folding.network.rigid import Rigid

_NUM_BACKBONE_FRAME_ATOMS = 3  # N, CA and C move with the backbone frame; O needs the psi torsion


class IdealResidues(nn.Module):
    """The constants of residue_constants.py on the network's device. They are not weights and are not saved."""

    exists_RA: Tensor
    group_RA: Tensor
    position_RA3: Tensor
    rotation_RG33: Tensor
    translation_RG3: Tensor

    def __init__(self) -> None:
        super().__init__()
        # On the CPU explicitly: a network is first built on the "meta" device, and these are not loaded afterwards.
        frame_RG44 = torch.tensor(DEFAULT_FRAME_RG44, device="cpu")
        tables = {
            "exists_RA": torch.tensor(ATOM_EXISTS_RA, device="cpu"),
            "group_RA": torch.tensor(ATOM_GROUP_RA, device="cpu"),
            "position_RA3": torch.tensor(ATOM_POSITION_RA3, device="cpu"),
            "rotation_RG33": frame_RG44[..., :3, :3].contiguous(),
            "translation_RG3": frame_RG44[..., :3, 3].contiguous(),
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def backbone(self, frames_BL: Rigid, aatype_BL: Tensor) -> Tensor:
        """Return N, CA and C, [B, L, 3, 3] (atom, coordinate) in angstrom, the unit of the frames' translation."""
        ideal_BL33 = self.position_RA3[aatype_BL, :_NUM_BACKBONE_FRAME_ATOMS]
        return frames_BL.unsqueeze(1).apply(ideal_BL33)

    def recycled_backbone(self, frames_BL: Rigid, aatype_BL: Tensor) -> Tensor:
        """Return the backbone for recycling: unknown residues are at the origin, as in training."""
        return self.backbone(frames_BL, aatype_BL) * (aatype_BL != UNKNOWN_AATYPE)[..., None, None]

    def atoms(self, frames_BL: Rigid, torsions_BL72: Tensor, aatype_BL: Tensor) -> Tensor:
        """Return all atoms, [B, L, A, 3] in angstrom, zero where a residue has no such atom.

        `torsions_BL72` are unit vectors (sine, cosine) of omega, phi, psi, chi1 to chi4. Unknown residues have the
        backbone of alanine.
        """
        return self.atoms_of_groups(self.groups(frames_BL, torsions_BL72, aatype_BL), aatype_BL)

    def atoms_of_groups(self, groups_BLG: Rigid, aatype_BL: Tensor) -> Tensor:
        """Return the same from the frame of each rigid group, [B, L, G]."""
        group_BLA = self.group_RA[aatype_BL]
        atom_frames_BLA = Rigid(
            groups_BLG.rotation.take_along_dim(group_BLA[..., None, None], dim=2),
            groups_BLG.translation.take_along_dim(group_BLA[..., None], dim=2),
        )
        positions_BLA3 = atom_frames_BLA.apply(self.position_RA3[aatype_BL])
        return positions_BLA3 * self.exists_RA[aatype_BL].unsqueeze(-1)

    def groups(self, frames_BL: Rigid, torsions_BL72: Tensor, aatype_BL: Tensor) -> Rigid:
        """Return the global frame of each rigid group, [B, L, G]; torsions as for `atoms`."""
        no_torsion = F.pad(torsions_BL72.new_ones(*aatype_BL.shape, 1, 1), (1, 0))
        rotation_BLG33 = _rotation_about_x(torch.cat((no_torsion, torsions_BL72), dim=-2))
        to_parent = Rigid(self.rotation_RG33[aatype_BL] @ rotation_BLG33, self.translation_RG3[aatype_BL])
        groups = [Rigid(to_parent.rotation[:, :, g], to_parent.translation[:, :, g]) for g in range(8)]
        for chi in (5, 6, 7):  # chi2 to chi4 move with the previous chi
            groups[chi] = groups[chi - 1].compose(groups[chi])
        to_backbone = Rigid(
            torch.stack([frame.rotation for frame in groups], dim=2),
            torch.stack([frame.translation for frame in groups], dim=2),
        )
        return frames_BL.unsqueeze(1).compose(to_backbone)


def _rotation_about_x(sine_cosine: Tensor) -> Tensor:
    """Return rotations [..., 3, 3] about the x axis by the angles of unit vectors [..., 2] (sine, cosine)."""
    sine, cosine = sine_cosine.unbind(dim=-1)
    zero, one = torch.zeros_like(sine), torch.ones_like(sine)
    rows = ((one, zero, zero), (zero, cosine, -sine), (zero, sine, cosine))
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
