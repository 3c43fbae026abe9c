"""Renaming of symmetric side-chain atoms of the experiment to the names that fit the prediction better.

Jumper et al. 2021, algorithm 26. The two oxygens of aspartate and glutamate, and the two halves of the rings of
phenylalanine and tyrosine, have arbitrary names. A prediction is compared with the naming whose distances to all
unambiguous atoms are closer to the predicted ones.

Shapes: B batch, L residues, A = 14 atoms, G = 8 rigid groups, K = 4 ambiguous atoms.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from foldatlas.folding.network.rigid import Rigid
from foldatlas.folding.training.losses import side_chains as tables
from foldatlas.folding.training.losses.loss_math import at_least_float32, on_device
from foldatlas.folding.training.losses.targets import Targets

_EPSILON: Final = 1e-10  # square angstrom, as in AlphaFold 2's code


@dataclass(frozen=True, slots=True)
class Renamed:
    """The experimental structure under the names that fit the prediction better."""

    positions_BLA3: Tensor  # angstrom
    observed_BLA: Tensor
    groups: Rigid  # [B, L, G]
    is_alternative_BL: Tensor  # True where the alternative names were chosen


@torch.no_grad()
def rename(positions_BLA3: Tensor, targets: Targets) -> Renamed:
    """Choose the names for the predicted `positions_BLA3` in angstrom. The choice has no gradient.

    Only atoms that are observed under both names are compared; AlphaFold 2's code also compares with the position of an
    unobserved partner. Residues without such atoms keep their names. The memory is 4 * 16 bytes for each pair of a
    residue and an atom.
    """
    positions_BLA3 = at_least_float32(positions_BLA3)
    atoms_BLK = on_device(tables.AMBIGUOUS_ATOMS_R4, targets.aatype_BL.device)[targets.aatype_BL]
    is_ambiguous_BLK = atoms_BLK >= 0
    atoms_BLK = atoms_BLK.clamp(min=0)
    is_unambiguous_BLA = on_device(tables.SWAP_RA, atoms_BLK.device)[targets.aatype_BL] == torch.arange(
        tables.SWAP_RA.shape[1], device=atoms_BLK.device
    )
    counts_BLK = is_ambiguous_BLK & (targets.observed_BLA & targets.alternative_observed_BLA).take_along_dim(
        atoms_BLK, dim=2
    )
    other_mask = (targets.observed_BLA & is_unambiguous_BLA).flatten(1)[:, None, None, :]

    def error_BL(true_BLA3: Tensor) -> Tensor:
        difference = (predicted - _distances_to(true_BLA3, targets.positions_BLA3, atoms_BLK)).abs()
        return (difference * (other_mask & counts_BLK.unsqueeze(-1))).sum(dim=(-1, -2))

    predicted = _distances_to(positions_BLA3, positions_BLA3, atoms_BLK)
    is_alternative_BL = error_BL(targets.alternative_positions_BLA3) < error_BL(targets.positions_BLA3)
    per_atom = is_alternative_BL[..., None, None]
    return Renamed(
        positions_BLA3=torch.where(per_atom, targets.alternative_positions_BLA3, targets.positions_BLA3),
        observed_BLA=torch.where(
            is_alternative_BL.unsqueeze(-1), targets.alternative_observed_BLA, targets.observed_BLA
        ),
        groups=Rigid(
            torch.where(per_atom.unsqueeze(-1), targets.alternative_groups.rotation, targets.groups.rotation),
            targets.groups.translation,
        ),
        is_alternative_BL=is_alternative_BL,
    )


def _distances_to(from_BLA3: Tensor, to_BLA3: Tensor, atoms_BLK: Tensor) -> Tensor:
    """Return distances [B, L, K, L A] from `atoms_BLK` of each residue to all atoms of the protein."""
    from_BLK3 = from_BLA3.take_along_dim(atoms_BLK.unsqueeze(-1), dim=2)
    squared = torch.full((), _EPSILON, dtype=from_BLA3.dtype, device=from_BLA3.device)
    for axis in range(3):  # one axis at a time needs a third of the memory
        squared = squared + (from_BLK3[..., axis].unsqueeze(-1) - to_BLA3[..., axis].flatten(1)[:, None, None]).square()
    return squared.sqrt()
