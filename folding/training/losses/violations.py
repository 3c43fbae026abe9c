"""Structural violations: bond lengths and angles between residues, clashes, and distances within residues.

Jumper et al. 2021, supplement 1.9.11, equations 44 to 47; the bounds are those of geometry_bounds.py. The experiment
is not used: any structure within the bounds has loss 0.

Shapes: B batch, L residues, A = 14 atoms.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from foldatlas.folding.network.residue_constants import ATOM_EXISTS_RA
from foldatlas.folding.training.losses import geometry_bounds as bounds
from foldatlas.folding.training.losses import side_chains as tables
from foldatlas.folding.training.losses.loss_math import DISTANCE_EPSILON, at_least_float32, masked_mean, on_device
from foldatlas.schemas.records import ATOMS, STANDARD_RESIDUES

_PROLINE: Final = STANDARD_RESIDUES.index("P")
_CYSTEINE: Final = STANDARD_RESIDUES.index("C")
_SG: Final = ATOMS["C"].index("SG")


@dataclass(frozen=True, slots=True)
class Violations:
    """Violations, each [B], 0 or more. Lengths in angstrom, angles as cosines."""

    bond_length_B: Tensor  # mean over peptide bonds
    bond_angle_B: Tensor  # sum of the means over CA-C-N and over C-N-CA
    clash_B: Tensor  # overlap with atoms of other residues: sum over the partners of an atom, mean over atoms
    within_residue_B: Tensor  # the same for distances outside their bounds, within residues

    @property
    def total_B(self) -> Tensor:
        """Sum of all violations, as in AlphaFold 2's code; the supplement does not divide clashes by the atom count."""
        return self.bond_length_B + self.bond_angle_B + self.clash_B + self.within_residue_B


def violations(positions_BLA3: Tensor, aatype_BL: Tensor, mask_BL: Tensor, bonded_BL: Tensor) -> Violations:
    """Return the violations of predicted atoms [B, L, A, 3] in angstrom.

    `mask_BL` is True at residues, `bonded_BL` if the previous residue is bonded to this one (Targets.bonded_BL). The
    memory for clashes is about 20 bytes for each pair of the 14 L atoms.
    """
    positions_BLA3 = at_least_float32(positions_BLA3)
    exists_BLA = on_device(ATOM_EXISTS_RA, aatype_BL.device)[aatype_BL] & mask_BL.unsqueeze(-1)
    bond_length_B, bond_angle_B = _peptide_bonds(positions_BLA3, aatype_BL, bonded_BL)
    return Violations(
        bond_length_B=bond_length_B,
        bond_angle_B=bond_angle_B,
        clash_B=_clashes(positions_BLA3, aatype_BL, exists_BLA, bonded_BL),
        within_residue_B=_within_residues(positions_BLA3, aatype_BL, exists_BLA),
    )


def _peptide_bonds(positions_BLA3: Tensor, aatype_BL: Tensor, bonded_BL: Tensor) -> tuple[Tensor, Tensor]:
    previous, own = positions_BLA3[:, :-1], positions_BLA3[:, 1:]
    bonded_BM = bonded_BL[:, 1:]  # M = L - 1 bonds
    ca_to_c, _ = _unit(previous[:, :, tables.C] - previous[:, :, tables.CA])
    c_to_n, length_BM = _unit(own[:, :, tables.N] - previous[:, :, tables.C])
    n_to_ca, _ = _unit(own[:, :, tables.CA] - own[:, :, tables.N])
    is_proline_BM = (aatype_BL[:, 1:] == _PROLINE).to(length_BM.dtype)
    ideal_BM, deviation_BM = (
        torch.lerp(torch.full_like(length_BM, any_residue), torch.full_like(length_BM, proline), is_proline_BM)
        for any_residue, proline in (bounds.PEPTIDE_LENGTH, bounds.PEPTIDE_DEVIATION)
    )
    length_error_BM = ((length_BM - ideal_BM).abs() - bounds.TOLERANCE * deviation_BM).relu()
    angle_B = torch.zeros_like(length_error_BM.sum(1))
    for incoming, outgoing, (cosine, deviation) in (
        (ca_to_c, c_to_n, bounds.COSINE_CA_C_N),
        (c_to_n, n_to_ca, bounds.COSINE_C_N_CA),
    ):
        found_BM = -(incoming * outgoing).sum(-1)
        error_BM = ((found_BM - cosine).abs() - bounds.TOLERANCE * deviation).relu()
        angle_B = angle_B + masked_mean(error_BM, bonded_BM, (1,))
    return masked_mean(length_error_BM, bonded_BM, (1,)), angle_B


def _clashes(positions_BLA3: Tensor, aatype_BL: Tensor, exists_BLA: Tensor, bonded_BL: Tensor) -> Tensor:
    length, num_atoms = exists_BLA.shape[1:]
    device = aatype_BL.device
    radius_BP = on_device(bounds.radii(), device)[aatype_BL].flatten(1).to(positions_BLA3.dtype)
    limit_BPP = radius_BP.unsqueeze(2) + radius_BP.unsqueeze(1) - bounds.CLASH_TOLERANCE
    overlap_BPP = (limit_BPP - _distances(positions_BLA3.flatten(1, 2))).relu()
    residue_P = torch.arange(length, device=device).repeat_interleave(num_atoms)
    atom_P = torch.arange(num_atoms, device=device).repeat(length)
    # Bonds between residues are no clashes: C to the next N, and disulphides.
    next_PP = residue_P.unsqueeze(1) + 1 == residue_P
    c_to_n_PP = next_PP & (atom_P == tables.C).unsqueeze(1) & (atom_P == tables.N)
    peptide_BPP = c_to_n_PP & bonded_BL.repeat_interleave(num_atoms, dim=1).unsqueeze(1)
    sulphur_BP = (aatype_BL == _CYSTEINE).repeat_interleave(num_atoms, dim=1) & (atom_P == _SG)
    disulphide_BPP = sulphur_BP.unsqueeze(1) & sulphur_BP.unsqueeze(2)
    exists_BP = exists_BLA.flatten(1)
    apart_BPP = exists_BP.unsqueeze(1) & exists_BP.unsqueeze(2) & (residue_P.unsqueeze(1) != residue_P)
    counted_BPP = apart_BPP & ~(peptide_BPP | peptide_BPP.transpose(1, 2) | disulphide_BPP)
    return _per_atom(overlap_BPP, counted_BPP, exists_BP)


def _within_residues(positions_BLA3: Tensor, aatype_BL: Tensor, exists_BLA: Tensor) -> Tensor:
    lower_BLAA, upper_BLAA = (on_device(table, aatype_BL.device)[aatype_BL] for table in bounds.within_residue())
    distance_BLAA = _distances(positions_BLA3.flatten(0, 1)).unflatten(0, aatype_BL.shape)
    error_BLAA = (lower_BLAA - distance_BLAA).relu() + (distance_BLAA - upper_BLAA).relu()
    same_AA = torch.eye(exists_BLA.shape[2], dtype=torch.bool, device=aatype_BL.device)
    counted_BLAA = exists_BLA.unsqueeze(2) & exists_BLA.unsqueeze(3) & ~same_AA
    return _per_atom(error_BLAA, counted_BLAA, exists_BLA)


def _per_atom(error: Tensor, counted: Tensor, exists: Tensor) -> Tensor:
    """Return the sum of the `counted` errors, [B], divided by the number of existing atoms; 0 without atoms."""
    axes = tuple(range(1, error.ndim))
    return torch.where(counted, error, 0).sum(axes) / exists.flatten(1).sum(1).clamp(min=1)


def _unit(vector: Tensor) -> tuple[Tensor, Tensor]:
    """Return normalised vectors [..., 3], and their original lengths [...]."""
    length = (vector.square().sum(-1) + DISTANCE_EPSILON).sqrt()
    return vector / length.unsqueeze(-1), length


def _distances(points_BP3: Tensor) -> Tensor:
    """Return distances [B, P, P] between the points of each entry, computed one axis at a time to save memory."""
    squared = torch.full((), DISTANCE_EPSILON, dtype=points_BP3.dtype, device=points_BP3.device)
    for coordinate_BP in points_BP3.unbind(-1):
        squared = squared + (coordinate_BP.unsqueeze(2) - coordinate_BP.unsqueeze(1)).square()
    return squared.sqrt()
