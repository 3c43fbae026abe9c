"""The outputs of a forward pass that the losses read.

Shapes: B batch, L residues, A = 14 atoms, G = 8 rigid groups, N bins.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from foldatlas.folding.network.rigid import Rigid


@dataclass(frozen=True, slots=True)
class NetworkOutputs:
    """Outputs of the last trunk pass, with gradients, in float32; logits may have 16 bits.

    `frames` and `torsion_vectors` have one entry for each iteration of the structure module, in order. Of
    `group_frames` and `positions` only the last entry is read. Outputs of a loss with weight 0 may be None, or empty.
    """

    frames: Sequence[Rigid]  # [B, L]; the translation is the C-alpha in angstrom
    torsion_vectors: Sequence[Tensor]  # [B, L, 7, 2]; (sine, cosine) before normalisation
    group_frames: Sequence[Rigid]  # [B, L, G], angstrom; from the normalised torsions
    positions: Sequence[Tensor]  # [B, L, A, 3], angstrom; atoms in the order of records.ATOMS
    distogram_logits_BLLN: Tensor | None = None  # 64 bins, symmetric
    pae_logits_BLLN: Tensor | None = None  # 64 bins; [i, j] is the error of residue j in the frame of residue i
    plddt_logits_BLN: Tensor | None = None  # 50 bins, of the C-alpha
